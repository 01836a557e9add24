# Stores: where else on the host a credential, anchors or a text must appear.
#
# <role>/stores is the manifest in place. `prepare_stores` looks at every store and makes what differs anew beside its
# place; whatever can be wrong is found there. `fill_stores` renames, and works in databases.
# Where there is no way back, each store is on its own: one that cannot be filled keeps no other from it.

largest_manifest=200000 role='' mending='' storing='' passed_stores='' passed_rows='' misses=''

garbled_manifest() { stop "the manifest of the $role's stores is garbled"; }

# find_coming PATH: sets $coming to the file that takes its place; empty: there is none.
find_coming() {
  coming=''
  IFS=$nl
  for row in $renames; do
    if [ "${row#* }" = "$1" ]; then coming=${row%% *}; fi
  done
  IFS=$blanks
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
  role=$1 stores_due=''
  [ -s "$2" ] || [ -e "$role/stored" ] || [ -e "$role/rooms" ] || return 0
  begin_stores "$2" "${3:--}"
  [ -s "$manifest" ] || [ "$own" ] || return 0
  if [ "$id_filled" != - ]; then
    source=server/credentials/$id_filled
    why=$(cat "$source/cert.pem" "$source/chain.pem" 2>&1 >"$work/fullchain") && hashes "$work/fullchain" ||
      cannot_write
    certificate_sum=${hashes# } chained=''
    [ ! -s "$source/chain.pem" ] || chained="-certfile $source/chain.pem"
  fi
  hashes "$manifest" || cannot_write
  filled="filled $id_filled $certificate_sum ${hashes# }"
  each_store "$manifest" lay_each || garbled_manifest
  [ "$passed_stores" ] || prepare_leaving
  rehearse
  [ "$misses" ] || [ "$filled$nl$listed" = "$own" ] || stores_due=1
  [ -z "$renames$leaving$databases$refresh" ] || stores_due=1
  [ -z "$stores_due" ] || write_prepared
}

# begin_stores MANIFEST CREDENTIAL
begin_stores() {
  manifest=$1 id_filled=$2 listed='' renames='' leaving='' databases='' refresh='' originals='' given='' passed=$nl
  system_files='' rehearsing='' certificate_sum=- adopting='' adopted=''
  me=$(id -u) tools=${PATH-}:/usr/local/sbin:/usr/sbin:/sbin
  case $role in server) make_folders 700 server ;; *) make_folders 755 agent ;; esac
  read_ours
  clear_rooms
  read_adopted
}

# write_prepared: what `stored` says while the stores are filled, and $filled with $listed for when they are.
write_prepared() {
  begin_rows
  before_filled=$id_filled
  # Until all is filled, some store may still hold the credential of before.
  case $own in *' '*) before_filled=${own#* } before_filled=${before_filled%% *} ;; esac
  put "$work/partly" "partly $before_filled ${filled#* * }${text%"$nl"}" || cannot_write
  text=$nl$listed
  put "$work/filled" "$filled${text%"$nl"}" || cannot_write
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

# mend_stores ROLE MANIFEST CREDENTIAL THEN: as prepare_stores, and goes on with THEN, in the end without each store
# that cannot be filled; they are in $misses.
mend_stores() {
  mended_role=$1 mended_manifest=$2 mended_with=$3
  one_by_one prepare_mending "$4"
}

prepare_mending() { prepare_stores "$mended_role" "$mended_manifest" "$mended_with"; }

# one_by_one PREPARE THEN: PREPARE begins anew without each store that it stops at.
one_by_one() {
  mending=1 passed_stores='' passed_rows=$nl misses='' prepare=$1 then=$2
  try_stores
}

try_stores() {
  instead=pass_over storing=''
  "$prepare"
  instead='' storing=''
  "$then"
  mending=''
}

# pass_over REASON: the store that cannot be filled, or what cannot be taken away. What is ours there stays so.
pass_over() {
  case $storing in
    '') stop "$1" ;;
    *[!0-9]*) passed_rows=$passed_rows$storing$nl ;;
    *) passed_stores="$passed_stores $storing " ;;
  esac
  why=$1
  missed
  try_stores
}

# missed: takes $why into $misses where each store is on its own; else 1.
missed() {
  [ "$mending" ] || return 1
  misses=$misses${misses:+; and }$why
}

# refuse_misses SENTENCE
refuse_misses() { [ -z "$misses" ] || stop "$1: $misses"; }

lay_each() {
  case $passed_stores in *" $stores "*) return 0 ;; esac
  storing=$stores
  lay_store
  storing=''
}

# prepare_leaving: what was written before and is not named any more, unless the host's other role names it.
prepare_leaving() {
  locked=$nl$listed$theirs gone=''
  IFS=$nl
  for row in $own; do
    IFS=$blanks
    set -- $row
    case $1 in filled | partly | made) continue ;; java | nss) known="$1 $2 $3" ;; *) known="$1 $2" ;; esac
    # After a visit that broke off there are lines of before and of then.
    case $nl$listed$theirs$gone in *"$nl$known "*) continue ;; esac
    gone="$gone$known $nl"
    case $passed_rows in
      *"$nl$known$nl"*)
        locked=$locked$row$nl
        continue
        ;;
    esac
    storing=$known
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
    case $1:$locked$passed_rows in
      made:*"${nl}made $2$nl"* | made:*"${nl}made $2 "* | made:*"${nl}file $2 "* | made:*" $2$nl"*) ;;
      made:*)
        storing="made $2"
        leave "$2"
        ;;
    esac
  done
  IFS=$blanks storing=''
}

# leave PATH: takes it away, unless somebody else has put something there.
leave() {
  # The system may still have an anchor whose file is gone.
  is_system_file "$1" && refresh=1
  if [ -L "$1" ] || [ ! -f "$1" ]; then return 0; fi
  case $nl$leaving in *"$nl$1 "*) return 0 ;; esac
  is_sound "${1%/*}" || refuse_place "$culprit"
  hashes "$1" || cannot_write "${1%/*}"
  case $nl$own in
    *"${nl}file $1$hashes$nl"* | *"${nl}made $1 "* | *"${nl}keystore $1 "*) ;;
    *) holds_our_key "$1" || stop "$1 was changed by somebody else: move it away" ;;
  esac
  fresh "$1"
  give_back "file $1" "$1"
  leaving="$leaving$1 $fresh $kept$nl"
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
    swap "$1" "$2" || missed || return 1
  done
  IFS=$nl
  for row in $leaving; do
    IFS=$blanks
    set -- $row
    if [ $# -eq 3 ]; then
      why=$(ln "$1" "$2" 2>&1 && mv -T "$3" "$1" 2>&1)
    else
      why=$(mv -T "$1" "$2" 2>&1)
    fi && why=$(sync "${1%/*}" 2>&1) || missed || return 1
  done
  IFS=$nl
  for row in $databases; do
    IFS=$blanks
    set -- $row
    work_in_nss "$1" "$2" "$3" || missed || return 1
  done
  IFS=$blanks
  [ -z "$refresh" ] || refresh_system || missed || return 1
  if [ "$misses" ]; then
    durable "$role"
    return 0
  elif [ -s "$role/stores" ]; then
    move "$work/filled" "$role/stored"
  else
    why=$(rm -f "$role/stores" "$role/stored" 2>&1) || return 1
  fi
  forget_given || return 1
  durable "$role"
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

# fetch_manifest COUNT FILE: a frame into a file.
fetch_manifest() {
  is_number "${1%[bl]}" && [ "${1%[bl]}" -le "$largest_manifest" ] || stop 'the visit is garbled'
  fetch "$1" "$2"
}

# copy_manifest FILE COPY: an empty copy where there is no such file.
copy_manifest() {
  if [ -f "$1" ]; then
    why=$(dd if="$1" of="$2" bs=65536 2>&1) || cannot_write
  else
    print_to "$2" %s '' || cannot_write
  fi
}

# is_same_manifest FILE FILE
is_same_manifest() {
  hashes "$1" "$2" || cannot_write
  set -- $hashes
  [ "$1" = "$2" ]
}

empty_stores() {
  [ "$stores_due" ] || return 0
  fill_stores || stop "the stores could not be emptied: $why"
  clear_rooms
}
