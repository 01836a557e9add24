# Rooms: folders beside the places of stores, for what is to come there and for what a way back has to find again.

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

# give_back WORDS PATH: as find_kept, for what is ours for as long as the file at PATH is the one that is there now.
give_back() {
  find_kept "$1"
  [ -z "$kept" ] || { hashes "$2" && given="$given$1 new $(stat -c %i "$2")$hashes$nl"; }
}

# read_adopted: sets $adopted.
read_adopted() {
  adopted=''
  [ -f "$role/adopted" ] || return 0
  while IFS= read -r row; do adopted=$adopted$row$nl; done <"$role/adopted"
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
