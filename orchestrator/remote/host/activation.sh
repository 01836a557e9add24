# Activation: the switch of server/current, what comes of it, and the way back.

order_activate() {
  id=$1 hook=$2 limit=$3 prover=$4 patience=$5 failing=$6 given=$7
  is_hex "$id" 32 || stop 'the visit is garbled'
  fetch_challenge "$work/text"
  fetch_command "$hook" "$limit" hook
  fetch_command "$prover" "$patience" prove
  fetch_manifest "$given"
  frames_end
  need_openssl
  [ ! -e "server/disarmed/$id" ] || stop "credential $id is disarmed here"
  for file in key.pem cert.pem chain.pem; do
    [ -f "server/credentials/$id/$file" ] || stop "credential $id is not staged here"
  done
  leads server credentials
  before=$to
  prepare_stores server "$new.stores" "$id"
  if [ "$before" = "$id" ] && [ ! -e server/hook-pending ] && [ -z "$stores_due" ]; then
    sign_in_use || stop "$said"
    say "signature $signature"
    say_stores server
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
  copy_manifest server "$new.before"
  settle
  # Should this visit break off before the hook has run and the service has signed, the next one knows.
  if [ "$hook$prover" != -- ]; then put server/hook-pending "$id ${before:--}" || cannot_write; fi
  [ "$to" = "$id" ] || point server "credentials/$id"
  durable server .
  leads server credentials
  [ "$to" = "$id" ] || stop "$base/server/current leads to $to after the switch to $id"
  fill_stores || go_back "the stores could not be filled: $why"
  if [ "$hook" != - ] && ! run_hook; then go_back "the hook $said"; fi
  sign_in_use || go_back "$said"
  hook_ran
  clear_rooms
  say "signature $signature"
  say_stores server
  done_with changed
}

# sign_in_use: by the service where a command has it sign, else with the file; sets $signature, or $said.
sign_in_use() {
  if [ "$prover" != - ]; then
    prove "$id"
    return
  fi
  sign server/current/key.pem "$work/text" && return
  cause
  said="openssl cannot sign with the key of $id: $cause"
  return 1
}

hook_ran() {
  rm -f server/hook-pending server/adopted
}

# go_back REASON: to the credential used before, the stores filled with it, and the hook and the service's proof for it.
go_back() {
  if [ "$before" = "$id" ] || [ "$failing" = stay ]; then stop "$1; still on $id"; fi
  if [ "$before" ]; then
    point server "credentials/$before"
    again="back on $before"
  else
    why=$(rm -f server/current 2>&1) || cannot_write
    again='no credential is in use, as before'
    print_to "$new.before" %s '' || cannot_write
  fi
  durable server
  context="$1; $again, and there the stores could not be filled: "
  prepare_stores server "$new.before" "$before"
  context=''
  fill_stores || again="$again, and there the stores could not be filled: $why"
  if [ "$hook" != - ] && ! run_hook; then
    again="$again, and there the hook $said"
  elif [ "$prover" != - ] && [ "$before" ] && ! prove "$before"; then
    again="$again, and there $said"
  else
    hook_ran
  fi
  stop "$1; $again"
}
