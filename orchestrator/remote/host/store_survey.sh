# The survey of stores: what the files and entries of the manifest in place really hold.

survey_stores() {
  role=$1 state='' filled_with='' filled_by=''
  if [ ! -e "$role/stored" ] && [ ! -e "$role/stores" ]; then return 0; fi
  tools=${PATH-}:/usr/local/sbin:/usr/sbin:/sbin
  read_stored "$role"
  own=$nl$stored
  { read -r state filled_with row filled_by <"$role/stored"; } 2>/dev/null
  [ "$state" = filled ] || filled_by=-
  say "stores $role ${filled_by:--} ${filled_with:--}"
  [ ! -f "$role/stores" ] || each_store "$role/stores" survey_store || {
    found='lines that are no manifest' wanted='a manifest'
    say_place "$role/stores"
  }
}

survey_store() {
  case $kind in
    pem)
      survey_file "$key_path"
      survey_file "$certificate_path" leaf
      survey_file "$chain_path"
      survey_file "$fullchain_path" leaf
      survey_file "$combined_path" leaf
      survey_file "$anchors_path"
      ;;
    template) survey_file "$file_path" ;;
    pkcs12) survey_file "$file_path" leaf ;;
    java)
      survey_entries "$keystore"
      case $own in
        *"${nl}keystore $keystore "*) [ ! -e "$keystore" ] || has_access "$keystore" || say_place "$keystore" ;;
      esac
      ;;
    nss) survey_entries "$database" ;;
    system) survey_system ;;
  esac
}

# say_held PLACE CERTIFICATES [leaf]: with `leaf`, the first of them is that of a credential.
say_held() {
  say "store $kind $state $1"
  what=${3:-certificate}
  for body in $2; do
    say "stored-$what $body"
    what=certificate
  done
}

# look_at FILE: sets $state to whether it is as it was written last.
look_at() {
  state=intact
  if [ ! -e "$1" ] && [ ! -L "$1" ]; then
    state=missing
  elif [ -L "$1" ] || [ ! -f "$1" ] || is_large "$1"; then
    state=changed
  elif ! hashes "$1"; then
    state=unreadable
  else
    case $own in *"${nl}file $1 ${hashes# }$nl"*) ;; *) state=changed ;; esac
    has_access "$1" || say_place "$1"
    is_sound "${1%/*}" || say_place "$culprit"
  fi
}

survey_file() {
  [ "$1" ] || return 0
  look_at "$1"
  bodies=''
  if is_large "$1"; then
    say_held "$1" '' "${2-}"
    return 0
  fi
  if [ "$kind" = pkcs12 ]; then
    case $state in missing | unreadable) ;; *) see_pkcs12 "$1" "$password_path" || state=unreadable ;; esac
  elif [ -f "$1" ] && [ ! -L "$1" ] && [ "$kind" = pem ]; then
    bodies "$(cat "$1" 2>/dev/null)"
  fi
  say_held "$1" "$bodies" "${2-}"
  case $1 in "$key_path" | "$combined_path") [ -f "$1" ] && [ ! -L "$1" ] || return 0 ;; *) return 0 ;; esac
  tool openssl pkey -in "$1" -passin pass: -pubout -out "$work/public" || return 0
  text=$(cat "$work/public")
  text=${text#*"$nl"} text=${text%"$nl"*}
  set -- $text
  IFS=''
  say "stored-key $*"
  IFS=$blanks
}

# survey_entries PLACE: those that the lines of `stored` tell of.
survey_entries() {
  told=$nl leaf=''
  [ "$holds" != credential ] || leaf=leaf
  IFS=$nl
  for row in $own; do
    IFS=$blanks
    case $row in "$kind $1 "*" - "*) continue ;; "$kind $1 "*) ;; *) continue ;; esac
    set -- "$1" $row
    # While stores are filled there is a line for what was there and one for what comes.
    case $told in *"$nl$4$nl"*) continue ;; esac
    told=$told$4$nl
    survey_entry "$1" "$4" "$6"
  done
  IFS=$blanks
}

# survey_entry PLACE ENTRY PASSWORD
survey_entry() {
  state=unreadable seen='' bodies=''
  if see_entry "$@"; then
    state=missing
    if [ "$seen" ]; then
      state=changed
      sum_of "$seen"
      case $own in *"$nl$kind $1 $2 $sum "*) state=intact ;; esac
    fi
  fi
  case $2 in "$name") say_held "$1 $2" "$bodies" "$leaf" ;; *) say_held "$1 $2" "$bodies" ;; esac
}

see_entry() {
  if [ "$kind" = java ]; then
    see_java "$@"
  else
    [ -e "$1/cert9.db" ] || return 0
    is_nss "$1" && see_nss "$1" "$2"
  fi
}

survey_system() {
  system_text='' mode=644
  find_system && system_text=$(cat "$system_bundle" 2>/dev/null)
  IFS=$nl
  for row in $own; do
    IFS=$blanks
    set -- $row
    case ${1-}:${2-} in file:*/"$name"-*) is_system_file "$2" || continue ;; *) continue ;; esac
    look_at "$2"
    bodies=''
    if [ -f "$2" ]; then
      [ "$state" != intact ] || is_in_bundle "$2" || state=missing
      bodies "$(cat "$2")"
    fi
    say_held "$2" "$bodies"
  done
  IFS=$blanks
}
