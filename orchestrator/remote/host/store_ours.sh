# Ours: what <role>/stored says was written for the manifest. That is ours to replace and to remove, and nothing else
# is. It is there before the first store is touched, so what a visit that breaks off leaves behind is ours as well.

# is_ours WORDS: whether what a line of `stored` begins with these words names is ours, in either role.
is_ours() { case $ours in *"$nl$1 "*) ;; *) return 1 ;; esac }

# read_stored ROLE: sets $stored, where it makes no difference what is to be new.
read_stored() {
  stored=''
  [ -f "$1/stored" ] || return 0
  while IFS= read -r row; do stored=$stored${row#'new '*' '*' '}$nl; done <"$1/stored"
}

# read_owned ROLE: sets $owned to what is ours. A line with `new` names a file by inode and content that was to be put
# where nothing of ours was: if another one lies there, it is somebody else's, who came first.
read_owned() {
  owned=''
  [ -f "$1/stored" ] || return 0
  while IFS= read -r row; do
    case $row in
      'new '*)
        set -- $row
        [ "$(stat -c %i "$5" 2>/dev/null)" = "$2" ] && hashes "$5" && [ "$hashes" = " $3" ] || continue
        row=${row#"new $2 $3 "}
        ;;
    esac
    owned=$owned$row$nl
  done <"$1/stored"
}

# read_ours: sets $own to what is ours by the role's, $theirs by the other one's, and $ours by both.
read_ours() {
  if [ "$role" = server ]; then read_owned agent; else read_owned server; fi
  theirs=$nl$owned
  read_owned "$role"
  own=$owned ours=$theirs$owned
}

# begin_rows: sets $text to the lines of `stored` while the stores are filled: all of then and all of before. An
# entry of NSS that is not ours yet gets its line when nothing has been seen there.
begin_rows() {
  text=$nl
  IFS=$nl
  for listing in $listed; do
    IFS=$blanks
    set -- $listing
    case $1 in java | nss) known="$1 $2 $3" ;; *) known="$1 $2" ;; esac
    if ! is_ours "$known"; then
      find_coming "$2"
      [ "$coming" ] || continue
      hashes "$coming" || cannot_write "${2%/*}"
      listing="new $(stat -c %i "$coming")$hashes $listing"
    fi
    text=$text$listing$nl
  done
  IFS=$nl
  for listing in ${own#*"$nl"}; do
    IFS=$blanks
    set -- $listing
    case $1 in java) known="java $2 $3" ;; *) known="$1 $2" ;; esac
    case $nl$given in
      *"$nl$known new "*)
        mark=${given##*"$known "}
        listing="${mark%%"$nl"*} $listing"
        ;;
    esac
    text=$text$listing$nl
  done
  IFS=$blanks
}

# claim PATH: refuses a path that is not ours to write to; sets $adopting where it becomes ours.
claim() {
  adopting=''
  is_sound "${1%/*}" || refuse_place "$culprit"
  if [ -L "$1" ]; then stop "$1 is a symbolic link"; fi
  [ -e "$1" ] || return 0
  [ -f "$1" ] || stop "$1 is no plain file"
  is_ours "file $1" && return
  [ "$adopt" ] || stop "$1 is there and is not keyrelay's: move it away, or let the store adopt it (adopt: yes)"
  adopting=1
}

# refuse_changed WORDS PLACE: leaves alone the entry whose line of `stored` began so, if $seen is somebody else's.
refuse_changed() {
  sum_of "$seen"
  case $nl$own in *"$nl$1 $sum "*) return 0 ;; esac
  for folder in server/credentials/* server/disarmed/*; do
    bodies "$(cat "$folder/cert.pem" 2>/dev/null)"
    if [ "$bodies" ]; then case $seen in *"$nl$bodies"*) return 0 ;; esac fi
  done
  stop "the entry $2 was changed by somebody else: rename or remove it"
}

# holds_our_key FILE: whether it has the key of a credential that is here, in PEM.
holds_our_key() {
  ! is_large "$1" || return 1
  tool openssl pkey -in "$1" -passin pass: -pubout || return 1
  public=$why
  for key in server/credentials/*/key.pem server/disarmed/*/key.pem; do
    [ "$(openssl pkey -in "$key" -pubout 2>/dev/null)" != "$public" ] || return 0
  done
  return 1
}
