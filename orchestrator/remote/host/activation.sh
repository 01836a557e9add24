# Activation: the switch of server/current, its hook, and the way back.

# run_hook: sets $hook_status; when that is not 0, $hook_said tells how it ended.
run_hook() {
  rm -f "$work/status"
  session=''
  command -v setsid >/dev/null && session=setsid
  (
    enroll
    cd / && umask 022 && PATH=${PATH-}:/usr/local/sbin:/usr/sbin:/sbin && exec $session timeout -k 5 "$limit" \
      sh -c 'sh "$1"; printf "%s\n" "$?" >"$2"' hook "$work/hook" "$work/status"
  ) >"$work/output" 2>&1 3<&- 4>&- &
  group=$!
  wait "$group"
  hook_status=''
  { read -r hook_status <"$work/status"; } 2>/dev/null
  if [ "$hook_status" ]; then
    group=''
    [ "$hook_status" != 0 ] || return 0
    hook_said="exited $hook_status"
  else
    # busybox's timeout ends one process only; the session's number is that of its first process.
    kill -s KILL -- "-$group" 2>/dev/null
    group=''
    hook_said="did not end within ${limit}s"
  fi
  text=$(dd if="$work/output" bs=2000 count=1 2>/dev/null)
  IFS=$nl
  set -f
  set -- $text
  set +f
  IFS=$blanks
  mark=': '
  for row; do
    hook_said=$hook_said$mark$row
    mark=' / '
  done
  return 1
}

order_activate() {
  id=$1 hook=$2 limit=$3 failing=$4
  is_hex "$id" 32 || stop 'the visit is garbled'
  fetch_challenge "$new.text"
  if [ "$hook" != - ]; then
    is_number "$limit" || stop 'the visit is garbled'
    fetch "$hook" "$work/hook"
  fi
  frames_end
  need_openssl
  [ ! -e "server/disarmed/$id" ] || stop "credential $id is disarmed here"
  for file in key.pem cert.pem chain.pem; do
    [ -f "server/credentials/$id/$file" ] || stop "credential $id is not staged here"
  done
  leads server credentials
  before=$to
  if [ "$before" = "$id" ] && [ ! -e server/hook-pending ]; then
    sign_or_stop server/current/key.pem "$new.text"
    say "signature $signature"
    done_with unchanged
    return
  fi
  due='' earlier=''
  { read -r due earlier <server/hook-pending; } 2>/dev/null
  # A visit that broke off before its hook had switched already; the way back leads to where it came from.
  if [ "$before" = "$id" ] && [ "$due" = "$id" ] && is_hex "$earlier" 32 && [ -f "server/credentials/$earlier/key.pem" ]
  then
    before=$earlier
  fi
  settle
  # Should this visit break off before the hook has run, the next one knows.
  if [ "$hook" != - ]; then put server/hook-pending "$id ${before:--}" || cannot_write; fi
  [ "$to" = "$id" ] || point server "credentials/$id"
  durable server .
  leads server credentials
  [ "$to" = "$id" ] || stop "$base/server/current leads to $to after the switch to $id"
  if [ "$hook" != - ] && ! run_hook; then go_back "the hook $hook_said"; fi
  sign server/current/key.pem "$new.text" || {
    cause
    go_back "openssl cannot sign with the key of $id: $cause"
  }
  hook_ran
  say "signature $signature"
  done_with changed
}

hook_ran() {
  [ ! -e server/hook-pending ] || rm -f server/hook-pending
}

# go_back REASON: to the credential used before, and the hook for that one.
go_back() {
  if [ "$before" = "$id" ] || [ "$failing" = stay ]; then stop "$1; still on $id"; fi
  if [ "$before" ]; then
    point server "credentials/$before"
    again="back on $before"
  else
    why=$(rm -f server/current 2>&1) || cannot_write
    again='no credential is in use, as before'
  fi
  durable server
  if [ "$hook" = - ] || run_hook; then hook_ran; else again="$again, and there the hook $hook_said"; fi
  stop "$1; $again"
}
