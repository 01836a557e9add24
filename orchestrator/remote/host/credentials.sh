# Credentials on a server: made there or staged, disarmed, erased; signing with the one in use.

not_emptied='the stores could not be emptied'

wipe() {
  size=$(stat -c %s "$1") || return
  if [ "$size" -gt 0 ]; then
    why=$(dd if=/dev/zero of="$1" bs="$size" count=1 conv=notrunc,fsync 2>&1)
  fi
}

# leads server credentials: sets $to to the folder that server/current leads to; empty: there is no link.
leads() {
  to=''
  if [ ! -L "$1/current" ]; then
    [ ! -e "$1/current" ] || stop "$base/$1/current is no symbolic link"
    return 0
  fi
  cd -P "$1/current" 2>/dev/null || stop "$base/$1/current leads nowhere"
  to=${PWD#"$here/$1/$2/"}
  cd "$here" || exit 1
  case $to in */* | '') stop "$base/$1/current leads out of $1/$2" ;; esac
}

# point FOLDER TARGET: switches FOLDER/current to TARGET by one rename.
point() {
  number=$((number + 1))
  why=$(ln -s "$2" "$work/link$number" 2>&1) || cannot_write
  move "$work/link$number" "$1/current"
}

order_generate() {
  id=$1 algorithm=$2 count=$3 place=server/credentials/$1
  is_hex "$id" 32 && is_number "$count" && [ "$count" -ge 1 ] || stop 'the visit is garbled'
  names='' common=''
  while [ "$count" -gt 0 ]; do
    line name
    case $name in '' | *[!A-Za-z0-9._-]*) stop 'the visit is garbled' ;; esac
    names=$names,DNS:$name
    common=${common:-$name}
    count=$((count - 1))
  done
  frames_end
  [ ! -e "server/disarmed/$id" ] || stop "credential $id is disarmed here"
  if [ -e "$place" ]; then
    is_folder "$place" && [ -f "$place/key.pem" ] && [ -f "$place/request.pem" ] ||
      stop "credential $id is here already, and its key was not made here"
    say_file request "$place/request.pem"
    done_with unchanged
    return
  fi
  need_openssl
  case $algorithm in
    ed25519) set -- -algorithm ed25519 ;;
    rsa-3072) set -- -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -pkeyopt rsa_keygen_pubexp:65537 ;;
    ecdsa-p256) set -- -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve ;;
    *) stop "this host makes no $algorithm keys" ;;
  esac
  why=$(openssl genpkey "$@" -out "$new/key.pem" 2>&1) || {
    cause
    stop "openssl cannot make a key: $cause"
  }
  # A common name has at most 64 characters (X.520); the alternative names count anyway.
  if [ "${#common}" -le 64 ]; then set --; else set -- -subj / && common=keyrelay; fi
  put "$new.request" "[req]${nl}prompt=no${nl}distinguished_name=name${nl}req_extensions=extensions${nl}\
[name]${nl}CN=$common${nl}[extensions]${nl}subjectAltName=${names#,}" || cannot_write
  why=$(openssl req -new -sha256 -config "$new.request" "$@" -key "$new/key.pem" \
    -out "$new/request.pem" 2>&1) || {
    cause
    stop "openssl cannot make a request: $cause"
  }
  [ -s "$new/key.pem" ] && [ -s "$new/request.pem" ] || stop 'openssl made no key'
  make_folders 700 server server/credentials
  settle "$new/key.pem" "$new/request.pem" "$new"
  move "$new" "$place"
  durable server/credentials server .
  say_file request "$place/request.pem"
  done_with changed
}

order_stage() {
  id=$1 place=server/credentials/$1 key_count=$2 key_hash=$3 certificates=" $5 $7" sent=" $5 $7"
  is_hex "$id" 32 && is_hex "$5" 64 && is_hex "$7" 64 || stop 'the visit is garbled'
  fetch_challenge "$new.text"
  if [ "$key_count" != - ]; then
    is_hex "$key_hash" 64 || stop 'the visit is garbled'
    sent=" $key_hash$sent"
    fetch "$key_count" "$new/key.pem"
  fi
  fetch "$4" "$new/cert.pem"
  fetch "$6" "$new/chain.pem"
  frames_end
  need_openssl
  [ ! -e "server/disarmed/$id" ] || stop "credential $id is disarmed here"
  key=$place/key.pem
  if [ "$key_count" = - ]; then
    is_folder "$place" && [ -f "$key" ] || stop "no key was made here for credential $id"
    set -- "$new/cert.pem" "$new/chain.pem"
  else
    set -- "$new/key.pem" "$new/cert.pem" "$new/chain.pem"
  fi
  hashes "$@"
  [ "$hashes" = "$sent" ] || stop "what was written in $base is not what was sent"
  if [ "$key_count" != - ] && [ ! -e "$place" ]; then
    sign_or_stop "$new/key.pem" "$new.text"
    make_folders 700 server server/credentials
    settle "$@" "$new"
    move "$new" "$place"
    durable server/credentials server .
  else
    if [ "$key_count" != - ]; then
      hashes "$key"
      [ "$hashes" = " $key_hash" ] || stop "another credential is here under the id $id"
    fi
    sign_or_stop "$key" "$new.text"
    hashes "$place/cert.pem" "$place/chain.pem"
    if [ "$hashes" = "$certificates" ]; then
      say "signature $signature"
      done_with unchanged
      return
    fi
    to=''
    if [ -e "$place/cert.pem" ]; then leads server credentials; fi
    settle "$new/cert.pem" "$new/chain.pem"
    # What signs may have read the certificate before this one, so its hook is due again.
    if [ "$to" = "$id" ]; then
      # A switch that broke off has left there where it came from: that stays the way back.
      due=''
      { read -r due _ <server/hook-pending; } 2>/dev/null
      [ "$due" = "$id" ] || put server/hook-pending "$id -" || cannot_write
    fi
    # The certificate comes last: with it the credential is complete.
    move "$new/chain.pem" "$place/chain.pem"
    move "$new/cert.pem" "$place/cert.pem"
    durable "$place" server .
  fi
  say "signature $signature"
  done_with changed
}

# fetch_ids COUNT: sets $ids.
fetch_ids() {
  count=$1 ids=''
  is_number "$count" || stop 'the visit is garbled'
  while [ "$count" -gt 0 ]; do
    line id
    is_hex "$id" 32 || stop 'the visit is garbled'
    ids="$ids $id"
    count=$((count - 1))
  done
}

order_disarm() {
  in_use=$1
  [ "$in_use" = - ] || is_hex "$in_use" 32 || stop 'the visit is garbled'
  fetch_ids "$2"
  frames_end
  leads server credentials
  [ "$in_use" = - ] || [ "$in_use" = "$to" ] || stop "credential ${to:-none} is in use, expected $in_use"
  doomed=''
  for id in $ids; do
    [ "$in_use" != "$id" ] || stop "credential $id is in use"
    [ -e "server/credentials/$id" ] || continue
    [ ! -e "server/disarmed/$id" ] || stop "credential $id is both staged and disarmed"
    doomed="$doomed $id"
  done
  stores_due=''
  if [ "$in_use" = - ]; then mend_stores server /dev/null '' disarm; else disarm; fi
}

# disarm: the credentials of $doomed. No store keeps a server that leaves from having no key in use any more.
disarm() {
  if [ -z "$doomed$stores_due" ] && { [ "$in_use" != - ] || [ -z "$to" ]; }; then
    refuse_misses "$not_emptied"
    done_with unchanged
    return
  fi
  make_folders 700 server server/credentials server/disarmed
  settle
  if [ "$in_use" = - ] && [ "$to" ]; then why=$(rm -f server/current 2>&1) || cannot_write; fi
  empty_stores
  for id in $doomed; do move "server/credentials/$id" "server/disarmed/$id"; done
  durable server/credentials server/disarmed server .
  refuse_misses "$not_emptied"
  done_with changed
}

order_erase() {
  fetch_ids "$1"
  fetch_ends "$2"
  frames_end
  bury ''
  leads server credentials
  doomed=''
  for id in $ids; do
    [ "$to" != "$id" ] || stop "credential $id is in use"
    for folder in "server/credentials/$id" "server/disarmed/$id"; do
      if [ -e "$folder" ] || [ -L "$folder" ]; then doomed="$doomed $folder"; fi
    done
  done
  forget_in_stores erase
}

# erase: the folders of $doomed, whatever somebody else has put in the place of a store.
erase() {
  set -- $doomed
  if [ $# -eq 0 ] && [ -z "$stores_due" ]; then
    refuse_misses "$not_emptied"
    done_with unchanged
    return
  fi
  settle
  empty_stores
  for folder; do
    if [ -f "$folder/key.pem" ]; then wipe "$folder/key.pem" || stop "cannot overwrite $base/$folder/key.pem"; fi
  done
  [ $# -eq 0 ] || why=$(rm -rf "$@" 2>&1) || cannot_write
  for folder in server/credentials server/disarmed; do
    if [ -d "$folder" ]; then durable "$folder"; fi
  done
  refuse_misses "$not_emptied"
  done_with changed
}

order_sign() {
  prover=$1
  fetch_challenge "$work/text"
  fetch_command "$prover" "$2" prove
  frames_end
  [ "$here" ] || stop "$base does not exist, or cannot be entered"
  guard
  need_openssl
  leads server credentials
  id=$to
  [ "$id" ] || stop 'no credential is in use'
  if [ "$prover" = - ]; then
    sign_or_stop "server/credentials/$id/key.pem" "$work/text"
  else
    ask "$2" || stop "the prove_command $said"
  fi
  say "credential $id"
  say "signature $signature"
  done_with unchanged
  # The answer is told all the same: the controller knows keys that are not here any more.
  [ "$prover" = - ] || is_of "$id" || stop "the service does not sign with the key of $id, which is in use"
}
