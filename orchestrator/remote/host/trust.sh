# Trust bundles on an agent: installed, and checked by.

# digest FOLDER: sets $digest to the digest of the bundle's files as they are; fails when one is missing.
digest() {
  digest='' complete=1
  cd "$1" 2>/dev/null || return 1
  set --
  for file in delegations denied edges issuers/*.pem keys/*.pem trust.jwks trust.pem; do
    case $file in delegations | denied | */*) [ -e "$file" ] || continue ;; esac
    set -- "$@" "$file"
  done
  manifest=$(sha256sum "$@" 2>/dev/null) || complete=''
  cd "$here" || exit 1
  put "$work/manifest" "$manifest" || cannot_write
  digest=$(sha256sum "$work/manifest" 2>/dev/null) || return 1
  digest=${digest%% *}
  [ "$complete" ]
}

# split FILE FOLDER COUNT: the blocks of a PEM file into files of their own, whose names are sent.
split() {
  left=$3
  exec 5<"$1"
  while [ "$left" -gt 0 ]; do
    line key
    is_hex "$key" 64 || stop 'the visit is garbled'
    pem='' row=''
    while IFS= read -r row <&5; do
      pem=$pem$nl$row
      case $row in '-----END '*) break ;; esac
    done
    put "$2/$key.pem" "${pem#"$nl"}" || cannot_write
    left=$((left - 1))
  done
  exec 5<&-
}

order_trust() {
  trouble='' epoch=$1 sequence=$2 sent=$3 keys=${10} issuers=${11} claims=${12} ended=${13} given=${14} hooks=${15}
  position=$1.$2 place=agent/bundles/$1.$2
  is_number "$epoch" && is_number "$sequence" && is_hex "$sent" 64 && is_number "$keys" && is_number "$issuers" &&
    is_number "$hooks" || stop 'the visit is garbled'
  # Their names must fit the arguments of one sha256sum.
  [ "$keys" -le 10000 ] || stop "a bundle of $keys keys is too large: at most 10000"
  umask 022
  why=$(mkdir "$new/bundle" "$new/bundle/keys" 2>&1) || cannot_write
  fetch "$4" "$new/bundle/edges"
  fetch "$5" "$new/bundle/trust.jwks"
  fetch "$6" "$new/bundle/trust.pem"
  if [ "$issuers" -gt 0 ]; then
    fetch "$7" "$new/bundle/delegations"
    [ "$8" = 0b ] || fetch "$8" "$new/bundle/denied"
    fetch "$9" "$new/issuers"
    why=$(mkdir "$new/bundle/issuers" 2>&1) || cannot_write
  fi
  split "$new/bundle/trust.pem" "$new/bundle/keys" "$keys"
  [ "$issuers" -eq 0 ] || split "$new/issuers" "$new/bundle/issuers" "$issuers"
  umask 077
  fetch_claims "$claims"
  fetch_ends "$ended"
  fetch_manifest "$given" "$new.stores"
  fetch_hooks
  frames_end
  [ "$claims" -eq 0 ] || need_openssl
  bury "$new/bundle"
  digest "$new/bundle" && [ "$digest" = "$sent" ] || stop "what was written in $base is not what was sent"
  leads agent bundles
  before=$to
  if [ "$before" ]; then
    is_position "$before" ||
      stop "$base/agent/current leads to $before, which is no bundle"
    ! lower "$epoch" "$sequence" "${before%%.*}" "${before#*.}" ||
      stop "bundle $before is installed, $position would be a step back"
  fi
  if [ "$before" = "$position" ]; then
    digest agent/current && [ "$digest" = "$sent" ] || stop "another bundle is installed under the number $position"
    outcome=unchanged
    if [ -e agent/hook-pending ]; then change; fi
  else
    make_folders 755 agent agent/bundles
    install_bundle
  fi
  # No store keeps a bundle from coming into use, nor its programs from being told: a leaked key would stay trusted.
  copy_manifest agent/stores "$new.before"
  if is_same_manifest "$new.before" "$new.stores"; then
    mend_stores agent "$new.stores" '' fill_agent
  else
    instead=without_stores
    prepare_stores agent "$new.stores" ''
    instead=''
    fill_agent
  fi
}

install_bundle() {
  if [ "$keys" -gt 200 ]; then
    # One flush of the filesystem is quicker than one for each file.
    set -- -f "$new/bundle"
  else
    set --
    for file in "$new"/bundle/*/* "$new"/bundle/* "$new/bundle"; do
      [ ! -e "$file" ] || set -- "$@" "$file"
    done
  fi
  change "$@"
  if [ -e "$place" ] || [ -L "$place" ]; then move "$place" "$new/left"; fi
  move "$new/bundle" "$place"
  point agent "bundles/$position"
  durable agent/bundles agent .
  leads agent bundles
  [ "$to" = "$position" ] || stop "$base/agent/current leads to $to after the switch to $position"
  digest agent/current && [ "$digest" = "$sent" ] || stop "bundle $position changed while it was installed"
  clear_bundles
}

# fill_agent: its stores, once the bundle is there, and what comes after them.
fill_agent() {
  if [ "$stores_due" ]; then
    [ "$outcome" = changed ] || change
    fill_stores || without_stores "$why"
    clear_rooms
  fi
  [ -z "$misses" ] || without_stores "$misses"
  run_hooks
  say "position $position"
  say "digest $digest"
  say_stores agent
  say_verdicts "$place"
  done_with "$outcome"
}

# change FILE…: from here on the bundle or the stores are not what they were.
change() {
  settle "$@"
  outcome=changed
  owe_hooks
}

# without_stores REASON: why they could not be filled.
without_stores() {
  trouble="the stores could not be filled: $1"
  run_hooks
  stop "bundle $position is in use, but $trouble"
}

# clear_bundles: all but those that somebody may be reading: the one in use, the one before it, which a reader has
# open that resolved `current` before the switch, and the one that a program uses which no hook has told of another.
clear_bundles() {
  set --
  for folder in agent/bundles/*; do
    case ${folder##*/} in "$position" | "$before" | "$heeded") continue ;; esac
    if is_position "${folder##*/}" && is_folder "$folder"; then set -- "$@" "$folder"; fi
  done
  [ $# -eq 0 ] || rm -rf "$@"
}

# fetch_hooks: $hooks of them, one for each playbook that asks for another one; sets $limits.
fetch_hooks() {
  limits=''
  while [ "$hooks" -gt 0 ]; do
    line row
    set -f
    set -- $row
    set +f
    [ $# -eq 2 ] && [ "$1" != - ] || stop 'the visit is garbled'
    limits="$limits $2"
    set -- "$1" "$2" $limits
    fetch_command "$1" "$2" "$order.hook.$(($# - 2))"
    hooks=$((hooks - 1))
  done
}

# owe_hooks: should this visit break off before they have run well, the next one knows. Sets $heeded.
owe_hooks() {
  heeded=''
  { read -r _ heeded <agent/hook-pending; } 2>/dev/null || heeded=$before
  [ "$limits" ] || return 0
  mark_untold
}

# mark_untold: the programs have yet to be told of the bundle, and use the one in $heeded.
mark_untold() {
  put agent/hook-pending "$position ${heeded:--}" || cannot_write
  durable agent/hook-pending agent
}

# run_hooks: what listens is told of the bundle. The bundle stays, whatever comes of it: it never goes back.
run_hooks() {
  [ -e agent/hook-pending ] || return 0
  nth=0
  for limit in $limits; do
    nth=$((nth + 1))
    run_hook "$order.hook.$nth" || {
      # A hook may reach the mark, and takes nothing back by taking it away.
      mark_untold
      stop "bundle $position is in use, but ${trouble:+$trouble, and }the hook $said"
    }
  done
  why=$(rm -f agent/hook-pending 2>&1) || cannot_write
  durable agent
}

order_check() {
  fetch_claims "$1"
  frames_end
  [ "$here" ] || stop "$base does not exist, or cannot be entered"
  guard
  need_openssl
  leads agent bundles
  [ "$to" ] || stop 'no bundle is in use'
  [ ! -e agent/hook-pending ] || stop "the hook for bundle $to has yet to run well"
  # No lock is held: a switch must not mix two bundles, so the link is followed once.
  digest "agent/bundles/$to" || [ "$digest" ] || stop "$base/agent/bundles/$to cannot be read"
  say "digest $digest"
  say_verdicts "agent/bundles/$to"
  done_with unchanged
}
