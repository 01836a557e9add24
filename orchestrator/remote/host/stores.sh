# Stores: where else on the host a credential, anchors or a text must appear.
#
# <role>/stores is the manifest in place, <role>/stored lists what was written for it: that is ours to replace
# and to remove, and nothing else is. Both are there before the first store is touched, so what a visit that
# breaks off leaves behind is ours as well. `prepare_stores` looks at every store and makes what differs anew
# beside its place; whatever can be wrong is found there. `fill_stores` renames, and works in databases.

largest_manifest=200000 tool_limit=60 role='' sound=$nl

garbled_manifest() { stop "the manifest of the $role's stores is garbled"; }

# tool PROGRAM…: with a time limit; sets $why to what it says. Java would take options from the environment.
tool() {
  if why=$(
    unset JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS _JAVA_OPTIONS
    [ -z "$held" ] || enroll
    PATH=$tools
    exec timeout -k 5 "$tool_limit" "$@" 2>&1 3<&- 4>&- 6<&- 7<&-
  ); then return 0; else status=$?; fi
  [ "$status" -ne 124 ] || why="did not end within ${tool_limit}s"
  return 1
}

# has_tool PROGRAM: busybox finds also what may not be run.
has_tool() { program=$(PATH=$tools && command -v "$1") && [ -x "$program" ]; }

need_tool() { has_tool "$1" || stop "$1 is not installed: a store of kind $kind needs it"; }

# is_sound FOLDER: whether nobody else may change what lies in it or lead elsewhere on the way to it; sets $culprit,
# $found and $wanted otherwise.
is_sound() {
  case $sound in *"$nl$1$nl"*) return 0 ;; esac
  ancestors "$1"
  folder=$1
  set -- $(stat -c '%u %a %f %d %n' $ancestors 2>/dev/null)
  culprit='' bits=''
  while [ $# -ge 5 ]; do
    judge "$1" "$2" "$3" "$4" "$5"
    culprit=$5 bits=$2
    [ -z "$found" ] || is_staffs "$2" "$5" || return 1
    shift 5
  done
  if [ "$culprit" != "$folder" ]; then
    culprit=$folder found='no folder' wanted='a folder'
    return 1
  fi
  case $bits in
    *[2367]? | *[2367])
      is_staffs "$bits" "$folder" || {
        found="mode $bits" wanted='writable by its owner only'
        return 1
      }
      ;;
  esac
  sound=$sound$folder$nl
}

# is_staffs MODE FOLDER: Debian lets its group staff, which is as good as root, write below /usr/local.
is_staffs() {
  case $1:$2 in
    2775:/usr/local | 2775:/usr/local/share | 2775:/usr/local/share/ca-certificates)
      [ "$(stat -c '%u %G' "$2")" = '0 staff' ]
      ;;
    *) return 1 ;;
  esac
}

# is_ours WORDS: whether what a line of `stored` begins with these words names is ours, in either role.
is_ours() { case $ours in *"$nl$1 "*) ;; *) return 1 ;; esac }

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

# keep PATH: a file that a store adopts is given back where the server goes back; until its hook has run, it is kept.
keep() {
  [ "$role" = server ] || return 0
  why=$(ln "$1" "$fresh.old" 2>&1) || {
    cause
    stop "cannot keep $1 for a way back: $cause"
  }
  adopted="${adopted}file $1 $fresh.old$nl"
}

# find_kept WORDS: sets $kept to the file with what was adopted, by how its line in `adopted` begins; empty: none.
find_kept() {
  kept=''
  case $nl$adopted in
    *"$nl$1 "*)
      kept=$nl$adopted
      kept=${kept##*"$nl$1 "}
      kept=${kept%%"$nl"*}
      [ -f "$kept" ] && [ ! -L "$kept" ] || kept=''
      ;;
  esac
}

# has_access FILE: whether owner, group and mode are the store's; sets $found and $wanted otherwise.
has_access() {
  found=''
  set -- $(stat -c '%u %U %g %G %a' "$1" 2>/dev/null)
  [ $# -eq 5 ] || found='no access' wanted='access'
  case ${for_owner:-$me} in "${1-}" | "${2-}") ;; *) found="owner ${2-}" wanted="owner ${for_owner:-$me}" ;; esac
  case ${for_group:-${4-}} in "${3-}" | "${4-}") ;; *) found="group ${4-}" wanted="group $for_group" ;; esac
  [ "${5-}" = "$mode" ] || found="mode ${5-}" wanted="mode $mode"
  [ -z "$found" ]
}

give_access() {
  if [ "$for_owner$for_group" ]; then
    why=$(chown "$for_owner${for_group:+:$for_group}" "$1" 2>&1) || {
      cause
      stop "cannot give $2 to ${for_owner:-its owner}${for_group:+ and group $for_group}: $cause"
    }
  fi
  why=$(chmod "$mode" "$1" 2>&1) || cannot_write "${2%/*}"
}

# fresh PATH: sets $fresh to a new name beside PATH, in a room: a folder that only we can enter.
fresh() {
  parent=${1%/*}
  room=$parent/.keyrelay.$marker
  case $nl$roomed in
    *"$nl$room$nl"*) ;;
    *)
      # Should this visit be killed, the next one finds what is left.
      { printf '%s\n' "$room" >>"$role/rooms"; } 2>/dev/null || cannot_write
      durable "$role/rooms"
      roomed=$roomed$room$nl
      is_folder "$room" || why=$(mkdir -m 700 "$room" 2>&1) || cannot_write "$parent"
      ;;
  esac
  number=$((number + 1))
  fresh=$room/$number
}

# clear_rooms: what this visit, or one that broke off, has left beside the role's stores. On a server it is
# overwritten: it may be a key. An agent's is not, since somebody may be reading the anchors of before. What was
# adopted stays until the hook has run.
clear_rooms() {
  roomed='' over=1
  [ -f "$role/rooms" ] || return 0
  read_adopted
  while IFS= read -r room; do
    parent=${room%/.keyrelay.*}
    is_folder "$room" && is_plain "$parent" && is_hex "${room#"$parent"/.keyrelay.}" 32 || continue
    is_sound "$parent" || { over='' && continue; }
    still=''
    for old in "$room"/*; do
      [ "$role" = server ] && [ -f "$old" ] && [ ! -L "$old" ] || continue
      case $adopted in *" $old$nl"*) still=1 over='' && continue ;; esac
      if [ "$(stat -c %h "$old")" = 1 ]; then chmod 600 "$old" && wipe "$old"; fi
      rm -f "$old"
    done
    [ "$still" ] || rm -rf "$room"
  done <"$role/rooms"
  [ -z "$over" ] || rm -f "$role/rooms"
}

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
  IFS=$blanks
  text=$text${own#*"$nl"}
}

# find_coming PATH: sets $coming to the file that takes its place; empty: there is none.
find_coming() {
  coming=''
  IFS=$nl
  for row in $renames; do
    if [ "${row#* }" = "$1" ]; then coming=${row%% *}; fi
  done
  IFS=$blanks
}

# read_adopted: sets $adopted.
read_adopted() {
  adopted=''
  [ -f "$role/adopted" ] || return 0
  while IFS= read -r row; do adopted=$adopted$row$nl; done <"$role/adopted"
}

# lay SOURCE PATH: PATH is to hold what the file SOURCE holds.
lay() {
  claim "$2"
  hashes "$1" || cannot_write
  sum=${hashes# }
  listed="${listed}file $2 $sum$nl"
  if [ -z "$adopting" ] && [ -e "$2" ] && hashes "$2" && [ "$hashes" = " $sum" ] && has_access "$2"; then return 0; fi
  fresh "$2"
  why=$(dd if="$1" of="$fresh" bs=65536 2>&1) || cannot_write "${2%/*}"
  hashes "$fresh" && [ "$hashes" = " $sum" ] || stop "what was written beside $2 is not what was sent"
  replace "$2"
}

# replace PATH: by $fresh, when the stores are filled and what is not ours is there as it is now.
replace() {
  give_access "$fresh" "$1"
  if [ ! -e "$1" ]; then
    originals="$originals$1 -$nl"
  elif [ "$adopting" ]; then
    hashes "$1" || cannot_write "${1%/*}"
    originals="$originals$1$hashes$nl"
    keep "$1"
  fi
  renames="$renames$fresh $1$nl"
}

# prepare_stores ROLE MANIFEST CREDENTIAL: MANIFEST is a file, empty where nothing is to be put anywhere. Sets
# $stores_due where something differs, and what fill_stores has to do.
prepare_stores() {
  role=$1 stores_due='' listed='' renames='' leaving='' databases='' refresh='' originals='' passed=$nl
  system_files='' rehearsing='' certificate_sum=- adopting='' adopted=''
  [ -s "$2" ] || [ -e "$role/stored" ] || [ -e "$role/rooms" ] || return 0
  manifest=$2 id_filled=${3:--} me=$(id -u) tools=${PATH-}:/usr/local/sbin:/usr/sbin:/sbin
  case $role in server) make_folders 700 server ;; *) make_folders 755 agent ;; esac
  if [ "$role" = server ]; then read_owned agent; else read_owned server; fi
  theirs=$nl$owned
  read_owned "$role"
  own=$owned ours=$theirs$owned
  clear_rooms
  read_adopted
  [ -s "$manifest" ] || [ "$own" ] || return 0
  if [ "$id_filled" != - ]; then
    source=server/credentials/$id_filled
    why=$(cat "$source/cert.pem" "$source/chain.pem" 2>&1 >"$work/fullchain") && hashes "$work/fullchain" ||
      cannot_write
    certificate_sum=${hashes# } chained=''
    [ ! -s "$source/chain.pem" ] || chained="-certfile $source/chain.pem"
  fi
  hashes "$manifest" || cannot_write
  filled="$id_filled $certificate_sum ${hashes# }"
  each_store "$manifest" lay_store || garbled_manifest
  prepare_leaving
  rehearse
  [ "filled $filled$nl$listed" = "$own" ] && [ -z "$renames$leaving$databases$refresh" ] || stores_due=1
  [ "$stores_due" ] || return 0
  begin_rows
  before_filled=$id_filled
  # Until all is filled, some store may still hold the credential of before.
  case $own in *' '*) before_filled=${own#* } before_filled=${before_filled%% *} ;; esac
  put "$work/partly" "partly $before_filled ${filled#* }${text%"$nl"}" || cannot_write
  text=$nl$listed
  put "$work/filled" "filled $filled${text%"$nl"}" || cannot_write
  why=$(dd if="$manifest" of="$work/stores" bs=65536 2>&1) || cannot_write
  IFS=$nl
  print_to "$work/adopted" %s "$adopted" || cannot_write
  set -- "$work/partly" "$work/filled" "$work/stores" "$work/adopted"
  for row in $renames; do set -- "$@" "${row%% *}"; done
  for row in $adopted; do
    row=${row##* }
    if [ -e "$row" ]; then set -- "$@" "$row" "${row%/*}"; fi
  done
  IFS=$blanks
  why=$(sync "$@" 2>&1) || cannot_write
}

# prepare_leaving: what was written before and is not named any more, unless the host's other role names it.
prepare_leaving() {
  locked=$nl$listed$theirs
  IFS=$nl
  for row in $own; do
    IFS=$blanks
    set -- $row
    case $1 in filled | partly | made) continue ;; java | nss) known="$1 $2 $3" ;; *) known="$1 $2" ;; esac
    case $nl$listed$theirs in *"$nl$known "*) continue ;; esac
    case $1 in
      file) leave "$2" ;;
      java) leave_java "$2" "$3" "$5" ;;
      keystore) leave_keystore "$2" "$4" ;;
      nss) leave_nss "$2" "$3" "$4" "$5" ;;
    esac
  done
  # A password goes when nothing is under it any more.
  IFS=$nl
  for row in $own; do
    IFS=$blanks
    set -- $row
    case $1:$locked in
      made:*"${nl}made $2 "* | made:*"${nl}file $2 "* | made:*" $2$nl"*) ;;
      made:*) leave "$2" ;;
    esac
  done
  IFS=$blanks
}

# leave PATH: takes it away, unless somebody else has put something there.
leave() {
  # The system may still have an anchor whose file is gone.
  is_system_file "$1" && refresh=1
  if [ -L "$1" ] || [ ! -f "$1" ]; then return 0; fi
  # After a visit that broke off there are lines of before and of then.
  case $nl$leaving in *"$nl$1 "*) return 0 ;; esac
  is_sound "${1%/*}" || refuse_place "$culprit"
  hashes "$1" || cannot_write "${1%/*}"
  case $nl$own in
    *"${nl}file $1$hashes$nl"* | *"${nl}made $1 "* | *"${nl}keystore $1 "*) ;;
    *) holds_our_key "$1" || stop "$1 was changed by somebody else: move it away" ;;
  esac
  fresh "$1"
  find_kept "file $1"
  leaving="$leaving$1 $fresh $kept$nl"
}

# holds_our_key FILE: whether it has the key of a credential that is here, in PEM.
holds_our_key() {
  public=$(openssl pkey -in "$1" -passin pass: -pubout 2>/dev/null) || return 1
  for key in server/credentials/*/key.pem server/disarmed/*/key.pem; do
    [ "$(openssl pkey -in "$key" -pubout 2>/dev/null)" != "$public" ] || return 0
  done
  return 1
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

# fill_stores: 1 where it failed, with $why.
fill_stores() {
  [ "$stores_due" ] || return 0
  [ -z "$adopted" ] || move "$work/adopted" "$role/adopted"
  move "$work/partly" "$role/stored"
  move "$work/stores" "$role/stores"
  durable "$role"
  IFS=$nl
  for row in $renames; do
    IFS=$blanks
    set -- $row
    swap "$1" "$2" || return 1
  done
  IFS=$nl
  for row in $leaving; do
    IFS=$blanks
    set -- $row
    if [ $# -eq 3 ]; then
      why=$(ln "$1" "$2" 2>&1 && mv -T "$3" "$1" 2>&1)
    else
      why=$(mv -T "$1" "$2" 2>&1)
    fi && why=$(sync "${1%/*}" 2>&1) || return 1
  done
  IFS=$nl
  for row in $databases; do
    IFS=$blanks
    set -- $row
    work_in_nss "$1" "$2" "$3" || return 1
  done
  IFS=$blanks
  [ -z "$refresh" ] || refresh_system || return 1
  if [ -s "$role/stores" ]; then
    move "$work/filled" "$role/stored"
  else
    why=$(rm -f "$role/stores" "$role/stored" 2>&1) || return 1
  fi
  forget_given || return 1
  durable "$role"
}

# forget_given: what is not ours any more needs not be kept; 1 where it failed, with $why.
forget_given() {
  text=''
  IFS=$nl
  for row in $adopted; do
    case $nl$listed in *"$nl${row% *} "*) text=$text$row$nl ;; esac
  done
  IFS=$blanks
  [ "$text" != "$adopted" ] || return 0
  print_to "$work/adopted" %s "$text" && move "$work/adopted" "$role/adopted"
}

# swap FRESH PATH: by one rename; what was there goes into the room, where it is overwritten in the end.
swap() {
  holds_lock || return 1
  case $nl$originals in
    *"$nl$2 -$nl"*)
      # A link is made by the first alone of all who have found nothing there.
      if why=$(ln -T "$1" "$2" 2>&1); then
        why=$(rm -f "$1" 2>&1 && sync "${2%/*}" 2>&1)
        return
      fi
      # A file system without links.
      [ ! -e "$2" ] && [ ! -L "$2" ] || {
        comes_second "$2"
        return 1
      }
      ;;
    *"$nl$2 "*)
      original=$nl$originals
      original=${original##*"$nl$2 "}
      hashes "$2" && [ "$hashes" = " ${original%%"$nl"*}" ] || {
        why="$2 was changed by somebody else during the visit"
        return 1
      }
      ;;
  esac
  if [ -f "$2" ] && [ ! -L "$2" ]; then ln -f "$2" "$1.old" 2>/dev/null; fi
  why=$(mv -T "$1" "$2" 2>&1 && sync "${2%/*}" 2>&1)
}

comes_second() { why="$1 was put there by somebody else during the visit"; }

holds_lock() {
  [ -d "$work" ] && return
  why='the lock was lost: the visit took longer than its lease'
  return 1
}

# say_stores: the digest of the manifest in place.
say_stores() {
  told=-
  if [ -s "$1/stores" ] && hashes "$1/stores"; then told=${hashes# }; fi
  say "stores $told"
}

# fetch_manifest COUNT: a frame into $new.stores.
fetch_manifest() {
  is_number "${1%[bl]}" && [ "${1%[bl]}" -le "$largest_manifest" ] || stop 'the visit is garbled'
  fetch "$1" "$new.stores"
}

# copy_manifest ROLE FILE: the one in place; an empty file where there is none.
copy_manifest() {
  if [ -f "$1/stores" ]; then
    why=$(dd if="$1/stores" of="$2" bs=65536 2>&1) || cannot_write
  else
    print_to "$2" %s '' || cannot_write
  fi
}

# prepare_forgetting: credentials of $ids are to go, so the server's stores are emptied if they may have one of them.
prepare_forgetting() {
  stores_due='' state='' filled_with=''
  { read -r state filled_with row <server/stored; } 2>/dev/null || return 0
  case "$state:$ids " in filled:*" $filled_with "* | partly:*) prepare_stores server /dev/null '' ;; esac
}

empty_stores() {
  [ "$stores_due" ] || return 0
  fill_stores || stop "the stores could not be emptied: $why"
  clear_rooms
}
