# Tombstones: keys that have ended, kept for whoever restores an older ledger. A line each: digest, how, until.

most_tombstones=2000

# fetch_ends COUNT: sets $ends.
fetch_ends() {
  count=$1 ends=''
  is_number "$count" && [ "$count" -le "$most_tombstones" ] || stop 'the visit is garbled'
  while [ "$count" -gt 0 ]; do
    line row
    set -f
    set -- $row
    set +f
    [ $# -eq 3 ] && is_tombstone "$@" || stop 'the visit is garbled'
    ends=$ends$row$nl
    count=$((count - 1))
  done
}

is_tombstone() {
  is_hex "$1" 64 && is_number "$3" || return 1
  case $2 in removed | compromised | lost) ;; *) return 1 ;; esac
}

# bury BUNDLE: prepares what `settle` puts into place: the tombstones of $ends and those that are there, without
# those that are over and those of keys that BUNDLE trusts (again); BUNDLE may be empty. Keys that leaked come
# first: where there is no room, others are forgotten, and where only they are left, the visit is refused.
bury() {
  [ "$ends" ] || [ -e ended ] || [ -L ended ] || return 0
  there='' text='' seen=' ' tombstones=0
  if [ -L ended ] || { [ -e ended ] && [ ! -f ended ]; }; then stop "$base/ended is no plain file"; fi
  put "$work/ends" "$ends" || cannot_write
  bury_from "$1" leaked "$work/ends"
  if [ -f ended ]; then
    while IFS= read -r row; do there=$there$row$nl; done <ended
    bury_from "$1" leaked ended
  fi
  bury_from "$1" others "$work/ends"
  if [ -f ended ]; then bury_from "$1" others ended; fi
  [ "$text" != "$there" ] || return 0
  print_to "$work/ended" %s "$text" || cannot_write
  buried=1
}

# bury_from BUNDLE WHICH FILE: adds to $text those of the file that leaked, or the others.
bury_from() {
  while read -r key how until rest; do
    [ -z "$rest" ] && is_tombstone "$key" "$how" "$until" || continue
    case $how$2 in compromisedleaked | removedothers | lostothers) ;; *) continue ;; esac
    case $seen in *" $key "*) continue ;; esac
    [ "$until" -gt "$now" ] || continue
    if [ "$1" ] && [ -e "$1/keys/$key.pem" ]; then continue; fi
    if [ "$tombstones" -ge "$most_tombstones" ]; then
      [ "$2" = others ] || stop \
        "no room to remember that another key leaked: it remembers $most_tombstones, and none has ended yet"
      continue
    fi
    seen="$seen$key " text="$text$key $how $until$nl" tombstones=$((tombstones + 1))
  done <"$3"
}
