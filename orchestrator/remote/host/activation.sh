# Activation: the switch of server/current, what comes of it, and the way back.

order_activate() {
  id=$1 hook=$2 limit=$3 prover=$4 patience=$5 failing=$6 given=$7
  is_hex "$id" 32 || stop 'the visit is garbled'
  fetch_challenge "$work/text"
  fetch_command "$hook" "$limit" hook
  fetch_command "$prover" "$patience" prove
  fetch_manifest "$given" "$new.stores"
  frames_end
  need_openssl
  [ ! -e "server/disarmed/$id" ] || stop "credential $id is disarmed here"
  for file in key.pem cert.pem chain.pem; do
    [ -f "server/credentials/$id/$file" ] || stop "credential $id is not staged here"
  done
  leads server credentials
  find_way_back
  # No way back: a leaked key's successor is put in use though a store is refused.
  if [ "$failing" = stay ] || { [ "$before" = "$id" ] && is_same_manifest "$new.before" "$new.stores"; }; then
    mend_stores server "$new.stores" "$id" activate
    return
  fi
  prepare_stores server "$new.stores" "$id"
  instead=''
  activate
}

activate() {
  if [ "$before" = "$id" ] && [ ! -e server/hook-pending ] && [ -z "$stores_due" ]; then
    refuse_misses 'the stores could not be filled'
    sign_in_use || stop "$said"
    say "signature $signature"
    say_stores server
    done_with unchanged
    return
  fi
  switch
  fill_stores || go_back "the stores could not be filled: $why"
  if [ "$hook" != - ] && ! run_hook hook; then go_back "the hook $said"; fi
  sign_in_use || go_back "$said"
  hook_ran
  clear_rooms
  [ -z "$misses" ] || stop "the stores could not be filled: $misses; still on $id"
  say "signature $signature"
  say_stores server
  done_with changed
}

# find_way_back: sets $before to the credential that it leads to, and puts the manifest of then into $new.before.
find_way_back() {
  before=$to due='' earlier='' manifest=server/stores
  { read -r due earlier <server/hook-pending; } 2>/dev/null
  # A visit that broke off before its hook had switched already; the way back leads to where it came from.
  if [ "$to" = "$id" ] && [ "$due" = "$id" ]; then
    if is_hex "$earlier" 32 && [ -f "server/credentials/$earlier/key.pem" ]; then before=$earlier; fi
    [ ! -f server/stores-before ] || manifest=server/stores-before
  fi
  copy_manifest "$manifest" "$new.before"
}

switch() {
  settle
  # Should this visit break off before the hook has run and the service has signed, the next one knows.
  if [ "$hook$prover" != -- ]; then
    copy_manifest "$new.before" "$work/before"
    move "$work/before" server/stores-before
    put server/hook-pending "$id ${before:--}" || cannot_write
  fi
  [ "$to" = "$id" ] || point server "credentials/$id"
  durable server .
  leads server credentials
  [ "$to" = "$id" ] || stop "$base/server/current leads to $to after the switch to $id"
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
  rm -f server/hook-pending server/stores-before server/adopted
}

# go_back REASON: to the credential and the manifest used before, and the hook and the service's proof for them.
go_back() {
  reason=$1${misses:+, and the stores could not be filled: $misses}
  if [ "$failing" = stay ]; then stop "$reason; still on $id"; fi
  if [ "$before" = "$id" ]; then
    # A change of the stores alone; without one, there is nothing else to go back to.
    ! is_same_manifest "$new.before" "$new.stores" || stop "$reason; still on $id"
    again="still on $id, with the stores of before"
  elif [ "$before" ]; then
    point server "credentials/$before"
    again="back on $before"
  else
    why=$(rm -f server/current 2>&1) || cannot_write
    again='no credential is in use, as before'
    print_to "$new.before" %s '' || cannot_write
  fi
  durable server
  instead=end_way_back
  prepare_stores server "$new.before" "$before"
  instead='' why=''
  fill_stores || end_way_back "$why"
  end_way_back ''
}

# end_way_back REASON: why the stores could not be filled, or empty. What reads none of them is served all the same.
end_way_back() {
  [ -z "$1" ] || again="$again, and there the stores could not be filled: $1"
  if [ "$hook" != - ] && ! run_hook hook; then
    again="$again, and there the hook $said"
  elif [ "$prover" != - ] && [ "$before" ] && ! prove "$before"; then
    again="$again, and there $said"
  elif [ -z "$1" ]; then
    hook_ran
  else
    rm -f server/hook-pending server/stores-before
  fi
  stop "$reason; $again"
}
