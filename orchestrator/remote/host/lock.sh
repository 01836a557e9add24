# The lock: a folder that holds its owner's name, its end and the owner's work, all removed together. The fence,
# and how an order's changes become durable.

lock() {
  why=$(mkdir lock 2>&1) || {
    case $why in
      *'File exists'*) take_over ;;
      *) cannot_write ;;
    esac
  }
  held=1
  work=$here/lock/$marker
  why=$(mkdir "$work" "$work/1" 2>&1) || {
    case $why in *'No such file'*) stop 'another visit has just taken the lock' ;; esac
    cannot_write
  }
  born "$$"
  whereabouts
  put lock/owner "$marker $((now + lease)) $whereabouts $$ ${born:--}" || cannot_write
}

# whereabouts: sets $whereabouts to this start of the machine and the namespace of its processes; a - for what
# /proc does not tell.
whereabouts() {
  boot='' space=''
  { read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
  case $boot in *[!0-9a-f-]*) boot='' ;; esac
  space=$(readlink "/proc/$$/ns/pid" 2>/dev/null)
  space=${space#'pid:['}
  space=${space%']'}
  is_number "$space" || space=''
  whereabouts="${boot:--} ${space:--}"
}

# born PID: sets $born to the instant at which that process began, in ticks since the machine did; empty: /proc
# does not tell. It is 0 for one that has ended and is yet to be taken note of (proc(5): the third word is its
# state, the 22nd its start; the second may hold anything).
born() {
  born=''
  { read -r row <"/proc/$1/stat"; } 2>/dev/null || return 0
  set -f
  set -- ${row##*') '}
  set +f
  [ $# -ge 20 ] || return 0
  case $1 in Z | X) born=0 && return ;; esac
  shift 19
  if is_number "$1"; then born=$1; fi
}

# is_dead BOOT SPACE PID BORN: whether the process that took the lock has ended for sure.
is_dead() {
  [ $# -eq 4 ] && [ "$1" != - ] && [ "$4" != - ] || return 1
  whereabouts
  [ "$boot" ] || return 1
  [ "$boot" = "$1" ] || return 0
  [ "$2" != - ] && [ "$space" = "$2" ] || return 1
  [ -e "/proc/$3" ] || return 0
  born "$3"
  [ "$born" ] && [ "$born" != "$4" ]
}

# is_alive BOOT SPACE PID BORN: whether that very process lives for sure.
is_alive() {
  [ $# -eq 4 ] && is_number "$3" && [ "$3" -gt 1 ] && is_number "$4" && [ "$4" -gt 0 ] || return 1
  whereabouts
  [ "$boot $space" = "$1 $2" ] || return 1
  born "$3"
  [ "$born" = "$4" ]
}

# enroll: notes the process that calls it, a command of the playbook in a moment, for the next visit: should this one
# be killed, nobody else would end it.
enroll() {
  { read -r self _ </proc/self/stat; } 2>/dev/null || return 0
  born "$self"
  whereabouts
  put "$work/command" "$whereabouts $self ${born:--}"
}

# end_command FILE: ends the process noted there, and its group.
end_command() {
  noted=''
  { read -r noted <"$1"; } 2>/dev/null
  set -f
  set -- $noted
  set +f
  is_alive "$@" || return 0
  kill -s KILL -- "-$3" 2>/dev/null || kill -s KILL "$3" 2>/dev/null || ! is_alive "$@" ||
    stop "process $3 of a visit that is over still runs, and cannot be ended"
}

# is_lock: whether lock holds what a visit puts there and nothing else; sets $owner, $until and $process. They
# are empty where the owner was cut off, or is about to write its name.
is_lock() {
  owner='' until='' process='' folder=''
  is_folder lock || return 1
  for entry in lock/* lock/.[!.]* lock/..?*; do
    if [ "$entry" = lock/owner ]; then
      if [ -L "$entry" ] || { [ -e "$entry" ] && [ ! -f "$entry" ]; }; then return 1; fi
    elif [ -e "$entry" ] || [ -L "$entry" ]; then
      is_hex "${entry#lock/}" 32 && is_folder "$entry" && [ -z "$folder" ] || return 1
      folder=$entry
    fi
  done
  text=$(dd if=lock/owner bs=200 count=1 2>/dev/null)
  [ "$text" ] || return 0
  owner=${text%% *} until=${text#* }
  case $until in *' '*) process=${until#* } until=${until%% *} ;; esac
  case $process in *[!0-9a-f\ -]*) return 1 ;; esac
  is_hex "$owner" 32 && is_number "$until"
}

take_over() {
  is_lock || {
    [ -e lock ] || [ -L lock ] || stop 'another visit has just held the lock'
    stop "$base/lock is not keyrelay's"
  }
  if [ -z "$owner" ]; then
    until=$(stat -c %Y lock 2>/dev/null) || stop 'another visit has just held the lock'
    until=$((until + 60))
  fi
  # An end that no lease reaches is of a clock that was wrong, or of nobody: it would never come.
  if [ "$now" -lt "$until" ] && [ "$until" -le $((now + longest)) ] && ! is_dead $process; then
    holder="visit ${owner:-unknown}"
    set -- $process
    [ $# -lt 3 ] || holder="process $3 of $holder"
    stop "$holder holds the lock until $(date -u -d "@$until" +%Y-%m-%dT%H:%M:%SZ)"
  fi
  dead=lock.dead.$marker
  why=$(mv -T lock "$dead" 2>&1) || stop 'another visit has just taken the lock'
  moved=''
  { read -r moved _ <"$dead/owner"; } 2>/dev/null
  if [ "$moved" != "$owner" ]; then
    mv -T "$dead" lock 2>/dev/null
    stop 'another visit has just taken the lock'
  fi
  why=$(mkdir lock 2>&1) || stop 'another visit has just taken the lock'
  held=1
  for dead in lock.dead.*; do
    is_hex "${dead#lock.dead.}" 32 && is_folder "$dead" || continue
    for command in "$dead"/*/command; do
      if [ -f "$command" ]; then end_command "$command"; fi
    done
    for key in "$dead"/*/*/key.pem "$dead"/*/*/key4.db "$dead"/*/secret "$dead"/*/secret.pem; do
      if [ -f "$key" ]; then wipe "$key"; fi
    done
    rm -rf "$dead"
  done
}

# The fence: written by settle, or at the end of a visit that changed nothing else. Fences of before have no digest.

check_fence() {
  was=-
  if [ -e fence ] || [ -L fence ]; then
    held_generation='' held_counter='' held_head=''
    { read -r held_generation held_counter held_head <fence; } 2>/dev/null
    held_head=${held_head:--}
    is_number "$held_generation" && is_number "$held_counter" && is_head "$held_head" || stop "$base/fence is damaged"
    was=$held_generation.$held_counter.$held_head
    lower "$held_generation" "$held_counter" "$generation" "$counter" || {
      [ "$held_generation $held_counter" = "$generation $counter" ] || stop_fenced \
        "fenced: a controller at $held_generation.$held_counter was here, this one is at $generation.$counter"
      [ "$held_head" = "$head" ] || [ "$held_head" = - ] || [ "$head" = - ] ||
        stop_fenced "fenced: a controller with another ledger was here, at $generation.$counter too"
      return 0
    }
  fi
  case $remembered in
    '*' | "$was") ;;
    *)
      was=${was%.*} asked=${remembered%.*}
      # Where nobody else was here it was put back or set up anew; its next survey tells what it has.
      if [ "$was" = - ] ||
        { [ "$asked" != - ] && lower "${was%.*}" "${was#*.}" "${asked%.*}" "${asked#*.}"; }; then
        stop "$base is not as it was when it was asked: fence $was, expected $asked"
      fi
      stop_fenced "fenced: another controller was here since it was asked: $was, expected $asked"
      ;;
  esac
  put "$work/fence" "$generation $counter $head" || cannot_write
  raise=1
}

# settle FILE…: makes durable what an order has prepared, and the fence, before the order's first change.
settle() {
  if [ "$raise" ]; then set -- "$@" "$work/fence"; fi
  if [ "$buried" ]; then set -- "$@" "$work/ended"; fi
  if [ $# -gt 0 ]; then why=$(sync "$@" 2>&1) || cannot_write; fi
  [ -d "$work" ] || stop 'the lock was lost: the visit took longer than its lease'
  if [ "$raise" ]; then
    why=$(mv -T "$work/fence" fence 2>&1) || cannot_write
    raise=''
  fi
  if [ "$buried" ]; then
    why=$(mv -T "$work/ended" ended 2>&1) || cannot_write
    buried=''
  fi
  touched=1 made=''
}

# move FROM TO: one rename, while the lock is still ours.
move() {
  [ -d "$work" ] || stop 'the lock was lost: the visit took longer than its lease'
  why=$(mv -T "$1" "$2" 2>&1) || cannot_write
}

durable() { why=$(sync "$@" 2>&1) || cannot_write; }

done_with() {
  touched=''
  say "done $1"
}
