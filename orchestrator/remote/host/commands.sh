# The playbook's commands: hooks, and the prove_command, by which the running service signs.

# fetch_command COUNT SECONDS NAME: its text into a file; a COUNT of - says that there is none.
fetch_command() {
  [ "$1" != - ] || return 0
  is_number "$2" && [ "$2" -ge 1 ] || stop 'the visit is garbled'
  fetch "$1" "$work/$3"
}

# run NAME SECONDS INPUT FORM: a command, as FORM says: $1 is its text, $2 takes its exit status, $3 its answer. When
# it is not well, $said tells how it ended.
run() {
  rm -f "$work/status" "$work/signature"
  session='' since=$(date +%s)
  command -v setsid >/dev/null && session=setsid
  (
    enroll
    cd / && umask 022 && PATH=${PATH-}:/usr/local/sbin:/usr/sbin:/sbin && exec $session timeout -k 5 "$2" \
      sh -c "$4" "$1" "$work/$1" "$work/status" "$work/signature"
  ) <"$3" 2>"$work/output" 3<&- 4>&- &
  group=$!
  wait "$group"
  ended=$?
  status=''
  { read -r status <"$work/status"; } 2>/dev/null
  # Only what a timeout or a signal ended has such a status. busybox's timeout ends one process only; the session's
  # number is that of its first process.
  [ "$status" ] && [ "$ended" -lt 124 ] || kill -s KILL -- "-$group" 2>/dev/null
  group=''
  case $status in
    0)
      [ "$ended" -ge 124 ] || return 0
      said="did not close its output within ${2}s"
      ;;
    '') if [ $(($(date +%s) - since)) -lt "$2" ]; then said='was killed'; else said="did not end within ${2}s"; fi ;;
    *) said="exited $status" ;;
  esac
  text=$(dd if="$work/output" bs=2000 count=1 2>/dev/null)
  IFS=$nl
  set -f
  set -- $text
  set +f
  IFS=$blanks
  mark=': '
  for row; do
    said=$said$mark$row
    mark=' / '
  done
  return 1
}

# run_hook NAME: within $limit seconds.
run_hook() { run "$1" "$limit" /dev/null 'sh "$1" >&2; printf "%s\n" "$?" >"$2"'; }

# ask SECONDS: has the service sign "$work/text" once; sets $signature.
ask() {
  run prove "$1" "$work/text" \
    '{ sh "$1"; printf "%s\n" "$?" >"$2"; } | dd bs=513 count=1 iflag=fullblock of="$3" 2>/dev/null'
  asked=$?
  size=$(stat -c %s "$work/signature" 2>/dev/null)
  if [ "${size:-0}" -gt 512 ]; then
    said='answers more than the 512 bytes that a signature has at most'
    return 1
  fi
  [ "$asked" = 0 ] || return 1
  said='answers nothing'
  [ "${size:-0}" -gt 0 ] && in_hex
}

# is_of ID: whether the service's answer was made with the key of that credential.
is_of() {
  why=$(openssl pkey -in "server/credentials/$1/key.pem" -passin pass: -pubout -out "$work/public" 2>&1) &&
    verify '' "$work/public" && [ "$verdict" = valid ]
}

# prove ID: asks, once a second at most, until the service signs with the key of ID. Sets $signature; when it does
# not come to that within $patience seconds, $said tells what it does.
prove() {
  left=$patience
  while :; do
    began=$(date +%s)
    if ask "$left"; then
      said=''
      ! is_of "$1" || return 0
    else
      said="the prove_command $said"
    fi
    [ "$left" -gt 1 ] || break
    sleep 1
    # A clock that is set back meanwhile makes nobody wait for longer.
    spent=$(($(date +%s) - began))
    [ "$spent" -ge 1 ] || spent=1
    left=$((left - spent))
    [ "$left" -gt 0 ] || break
  done
  [ -z "$said" ] || return 1
  said="after ${patience}s the service does not sign with the key of $1"
  for folder in server/credentials/*; do
    if is_of "${folder##*/}"; then said="after ${patience}s the service still signs with the key of ${folder##*/}"; fi
  done
  return 1
}
