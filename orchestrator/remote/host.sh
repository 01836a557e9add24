# What a host runs at every visit, whatever the visit is for: read by `sh -c` from standard input, which goes
# on with the frames that wire.py makes (docs/reference/host-protocol.md tells their grammar).
#
# Runs under dash, busybox ash and bash alike and needs coreutils or busybox, and openssl. Values arrive as
# lines or counted bytes, are checked again here, and are only ever used quoted. Private keys go from dd to
# a file, never through a variable. No value comes out of a pipeline: its first program could fail unseen.
#
# An order reads all of its frames and prepares everything in the lock's folder before `settle`; until then
# `stop` means that nothing changed. After it, every step is a rename.
set +efx -u
unset -f cat cd chmod command date dd id kill ln mkdir mktemp mv od openssl printf read readlink rm rmdir \
  setsid sh sha256sum stat sync timeout 2>/dev/null
unset CDPATH ENV
LC_ALL=C
export LC_ALL
umask 077
nl='
'
blanks=" 	$nl"
longest=3600
IFS=$blanks
base='' here='' work='' scratch='' held='' made='' raise='' touched='' guarded='' writing='' device='' group=''
server='' nonce='' fleet='' why='' number=0
# Children find an empty standard input and an unheard standard output; only `line` reads 3, `say` writes 4.
exec 3<&0 </dev/null 4>&1 >/dev/null

say() { printf '%s\n' "$1" >&4; }

stop() {
  if [ "$touched" ]; then say "failed $1"; else say "refused $1"; fi
  finish
}

finish() {
  release
  trap - EXIT
  say "keyrelay $marker end"
  exit 0
}

release() {
  IFS=$blanks
  if [ "$group" ]; then kill -s KILL -- "-$group" 2>/dev/null; fi
  if [ "$scratch" ]; then rm -rf "$scratch"; fi
  if [ "$held" ]; then
    cd "$here" || return
    owner=''
    { read -r owner _ <lock/owner; } 2>/dev/null
    case $owner in "$marker" | '') rm -rf lock ;; esac
    held=''
  fi
  if [ "$made" ]; then rmdir "$base" 2>/dev/null; fi
}

# The cause in what a failed program wrote to $why: its first line without program and file.
cause() {
  cause=${why%%"$nl"*}
  cause=${cause##*: }
}

line() { IFS= read -r "$1" <&3 || stop 'the visit was cut off'; }

frames_end() {
  line dot
  [ "$dot" = . ] || stop 'the visit is garbled'
}

is_hex() {
  case $1 in *[!0-9a-f]*) return 1 ;; esac
  [ "${#1}" -eq "$2" ]
}

is_number() {
  case $1 in '' | *[!0-9]* | 0?*) return 1 ;; esac
  [ "${#1}" -le 16 ]
}

# is_position WORD: <number>.<number>, the name of a bundle.
is_position() {
  case $1 in *.*) is_number "${1%%.*}" && is_number "${1#*.}" ;; *) return 1 ;; esac
}

# lower A B C D: whether the pair (A, B) comes before (C, D).
lower() { [ "$1" -lt "$3" ] || { [ "$1" -eq "$3" ] && [ "$2" -lt "$4" ]; }; }

is_folder() { [ -d "$1" ] && [ ! -L "$1" ]; }

# put FILE TEXT: writes a line or several; on failure $why tells the system's reason.
put() {
  { printf '%s\n' "$2" >"$1"; } 2>/dev/null && return
  why=$(dd if=/dev/zero of="$1" bs=65536 count=1 2>&1) && why='it could not be written at first'
  return 1
}

cannot_write() {
  cause
  stop "cannot write in $base: $cause"
}

need_openssl() { command -v openssl >/dev/null || stop 'openssl is not installed, or not in the PATH of this login'; }

# fetch COUNT FILE: a frame, <n>b for n bytes or <n>l for n lines, into a new file.
fetch() {
  amount=${1%[bl]}
  is_number "$amount" || stop 'the visit is garbled'
  case $1 in
    0?)
      { printf '' >"$2"; } 2>/dev/null || cannot_write
      ;;
    *b)
      why=$(dd bs="$amount" count=1 iflag=fullblock of="$2" <&3 2>&1) || cannot_write
      ;;
    *l)
      text=''
      while [ "$amount" -gt 0 ]; do
        line row
        text=$text$row$nl
        amount=$((amount - 1))
      done
      put "$2" "${text%"$nl"}" || cannot_write
      ;;
    *) stop 'the visit is garbled' ;;
  esac
}

fetch_challenge() {
  line fleet
  line server
  line nonce
  case $server in '' | *[!A-Za-z0-9._-]*) stop 'the visit is garbled' ;; esac
  is_hex "$nonce" 64 || stop 'the visit is garbled'
  put "$1" "keyrelay proof 1$nl$fleet$nl$server$nl$nonce" || cannot_write
}

# Places: who may write where.

# judge UID MODE RAW DEVICE PATH: sets $found to what is wrong there, with $wanted, or to nothing.
judge() {
  found='' wanted=''
  case $3 in
    4???) ;;
    a???) found='a symbolic link' wanted='a folder' && return ;;
    *) found='no folder' wanted='a folder' && return ;;
  esac
  case $5 in
    "$base" | "$base"/*)
      [ -O "$5" ] || found="owner $1" wanted='the managing user as owner'
      case $5:$2 in
        "$base"/server*:700) ;;
        "$base"/server*) found="mode $2" wanted='mode 700' ;;
        *[2367]? | *[2367]) found="mode $2" wanted='writable by its owner only' ;;
      esac
      case $5 in
        "$base") device=$4 ;;
        *) [ "$4" = "$device" ] || found='another filesystem' wanted='the filesystem of the base' ;;
      esac
      ;;
    *)
      [ "$1" = 0 ] || [ -O "$5" ] || found="owner $1" wanted='root or the managing user as owner'
      case $2 in
        [1357]???) ;;
        *[2367]? | *[2367]) found="mode $2" wanted='writable by its owner only, or sticky' ;;
      esac
      ;;
  esac
}

# inspect COMMAND: runs COMMAND for every place that is wrong, from the root down to the base's own folders.
inspect() {
  told=$1
  set -- /
  rest=${base#/} path=''
  while [ "$rest" ]; do
    path=$path/${rest%%/*}
    set -- "$@" "$path"
    case $rest in */*) rest=${rest#*/} ;; *) rest='' ;; esac
  done
  set -- "$@" "$base/server" "$base/server/credentials" "$base/server/disarmed" "$base/agent" \
    "$base/agent/bundles"
  places=$(stat -c '%u %a %f %d %n' "$@" 2>/dev/null)
  [ "$places" ] || stop 'stat does not work'
  # The base's characters were checked: nothing here is split or expanded by surprise.
  set -- $places
  while [ $# -ge 5 ]; do
    judge "$1" "$2" "$3" "$4" "$5"
    [ -z "$found" ] || "$told" "$5"
    shift 5
  done
}

refuse_place() { stop "$1 has $found, expected $wanted"; }

# guard: refuses unsafe places. A base that was there must be judged once it has been entered: before, somebody
# else might still have made or replaced it.
guard() {
  [ -z "$guarded" ] || return 0
  inspect refuse_place
  [ ! -e "$base" ] || [ "$device" ] || stop "$base cannot be examined"
  [ -z "$here" ] || [ "$base" -ef . ] || stop "$base was replaced during the visit"
  guarded=1
}

enter() {
  if [ ! -e "$base" ] && [ ! -L "$base" ]; then
    [ "$writing" ] || return 1
    guard
    [ -d "${base%/*}/" ] || stop "${base%/*} does not exist"
    why=$(mkdir -m 755 "$base" 2>&1) || {
      cause
      stop "cannot make $base: $cause"
    }
    made=1
  fi
  cd -P "$base" 2>/dev/null || return 1
  here=$PWD
}

# The lock: a folder that holds its owner's name, its end and the owner's work, all removed together.

lock() {
  why=$(mkdir lock 2>&1) || {
    case $why in
      *'File exists'*) take_over ;;
      *) cannot_write ;;
    esac
  }
  held=1
  work=$here/lock/$marker
  why=$(mkdir "$work" "$work/1" 2>&1) || cannot_write
  put lock/owner "$marker $((now + lease))" || cannot_write
}

# is_lock: whether lock holds what a visit puts there and nothing else; sets $owner and $until. They are empty
# where the owner was cut off, or is about to write its name.
is_lock() {
  owner='' until='' folder=''
  is_folder lock || return 1
  for entry in lock/* lock/.[!.]* lock/..?*; do
    if [ "$entry" = lock/owner ]; then
      if [ -L "$entry" ] || { [ -e "$entry" ] && [ ! -f "$entry" ]; }; then return 1; fi
    elif [ -e "$entry" ] || [ -L "$entry" ]; then
      is_hex "${entry#lock/}" 32 && is_folder "$entry" && [ -z "$folder" ] || return 1
      folder=$entry
    fi
  done
  text=$(dd if=lock/owner bs=100 count=1 2>/dev/null)
  [ "$text" ] || return 0
  owner=${text%% *} until=${text#* }
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
  if [ "$now" -lt "$until" ] && [ "$until" -le $((now + longest)) ]; then
    stop "visit ${owner:-unknown} holds the lock until $(date -u -d "@$until" +%Y-%m-%dT%H:%M:%SZ)"
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
    for key in "$dead"/*/*/key.pem; do
      if [ -f "$key" ]; then wipe "$key"; fi
    done
    rm -rf "$dead"
  done
}

# The fence: written by settle, or at the end of a visit that changed nothing else.

check_fence() {
  if [ -e fence ] || [ -L fence ]; then
    held_generation='' held_counter=''
    { read -r held_generation held_counter <fence; } 2>/dev/null
    is_number "$held_generation" && is_number "$held_counter" || stop "$base/fence is damaged"
    lower "$held_generation" "$held_counter" "$generation" "$counter" || {
      [ "$held_generation $held_counter" = "$generation $counter" ] ||
        stop "fenced: a controller at $held_generation.$held_counter was here, this one is at $generation.$counter"
      return 0
    }
  fi
  put "$work/fence" "$generation $counter" || cannot_write
  raise=1
}

# settle FILE…: makes durable what an order has prepared, and the fence, before the order's first change.
settle() {
  if [ "$raise" ]; then set -- "$@" "$work/fence"; fi
  if [ $# -gt 0 ]; then why=$(sync "$@" 2>&1) || cannot_write; fi
  [ -d "$work" ] || stop 'the lock was lost: the visit took longer than its lease'
  if [ "$raise" ]; then
    why=$(mv -T "$work/fence" fence 2>&1) || cannot_write
    raise=''
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

# Signatures.

# sign KEY CHALLENGE: sets $signature, in hexadecimal. ECDSA and RSA (PKCS #1 v1.5) go with SHA-256 unless told
# otherwise.
sign() {
  why=$(openssl pkeyutl -sign -rawin -inkey "$1" -in "$2" -out "$work/signature" 2>&1) ||
    why=$(openssl dgst -sha256 -sign "$1" -out "$work/signature" "$2" 2>&1) || return 1
  signature=$(od -An -v -tx1 "$work/signature") || return 1
  set -- $signature
  IFS=''
  signature=$*
  IFS=$blanks
  [ "$signature" ]
}

sign_or_stop() {
  sign "$1" "$2" || {
    cause
    stop "openssl cannot sign with the key of $id: $cause"
  }
}

# verify NUMBER KEY: sets $verdict.
verify() {
  if why=$(openssl pkeyutl -verify -rawin -pubin -inkey "$2" -sigfile "$work/signature$1" \
    -in "$work/text$1" 2>&1); then accepted=1; else accepted=''; fi
  case $why in
    *'Signature Verified Successfully'*) [ "$accepted" ] && verdict=valid && return ;;
    *'Signature Verification Failure'*) verdict=invalid && return ;;
  esac
  if why=$(openssl dgst -sha256 -verify "$2" -signature "$work/signature$1" "$work/text$1" 2>&1); then
    accepted=1
  else
    accepted=''
  fi
  case $why in
    'Verified OK'*) [ "$accepted" ] && verdict=valid && return ;;
    *'Verification '[Ff]ailure* | *'Error '[Vv]erifying*) verdict=invalid && return ;;
  esac
  cause
  stop "openssl cannot verify with $2: $cause"
}

# fetch_claims COUNT: their texts and signatures into files, and `server key` lines into $wanted_edges.
fetch_claims() {
  claims=$1 wanted_edges=''
  is_number "$claims" && [ "$claims" -le 200 ] || stop 'the visit is garbled'
  claim=0
  while [ "$claim" -lt "$claims" ]; do
    claim=$((claim + 1))
    fetch_challenge "$work/text$claim"
    line key
    line signature
    is_hex "$key" 64 || stop 'the visit is garbled'
    # \0ooo for each byte, which printf turns into the byte without a program of its own.
    case $signature in *[!\\0-7]*) stop 'the visit is garbled' ;; esac
    { printf %b "$signature" >"$work/signature$claim"; } 2>/dev/null || cannot_write
    wanted_edges=$wanted_edges$server' '$key$nl
  done
}

# say_verdicts FOLDER: on the claims, by the bundle in FOLDER. One pass over its edges keeps those that a claim
# asks for; names are compared whole.
say_verdicts() {
  folder=$1
  kept=''
  while read -r server key expires; do
    case $nl$wanted_edges in *"$nl$server $key$nl"*) kept=$kept$server' '$key' '$expires$nl ;; esac
  done <"$folder/edges"
  claim=0
  IFS=$nl
  for edge in $wanted_edges; do
    claim=$((claim + 1))
    verdict=untrusted
    for row in $kept; do
      case $row in
        "$edge -") verdict=trusted ;;
        "$edge "*)
          expires=${row##* }
          verdict=expired
          if is_number "$expires" && [ "$now" -lt "$expires" ]; then verdict=trusted; fi
          ;;
      esac
    done
    if [ "$verdict" = trusted ]; then
      IFS=$blanks
      verify "$claim" "$folder/keys/${edge#* }.pem"
      IFS=$nl
    fi
    say "verdict $verdict"
  done
  IFS=$blanks
}

# digest FOLDER: sets $digest to the digest of the bundle's files as they are; fails when one is missing.
digest() {
  digest='' complete=1
  cd "$1" 2>/dev/null || return 1
  set -- keys/*.pem
  [ -e "$1" ] || set --
  sha256sum edges "$@" trust.jwks trust.pem >"$work/manifest" 2>/dev/null || complete=''
  cd "$here" || exit 1
  digest=$(sha256sum "$work/manifest" 2>/dev/null) || return 1
  digest=${digest%% *}
  [ "$complete" ]
}

# The orders. Each gets the words of its line.

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

# make_folders MODE FOLDER…: those that are missing, parents first.
make_folders() {
  mode=$1
  shift
  for folder; do
    shift
    [ -d "$folder" ] || set -- "$@" "$folder"
  done
  [ $# -eq 0 ] || why=$(mkdir -m "$mode" "$@" 2>&1) || cannot_write
}

say_file() {
  [ -f "$2" ] || return 0
  {
    while row='' && { IFS= read -r row || [ "$row" ]; }; do say "$1 $row"; done <"$2"
  } 2>/dev/null
}

# hashes FILE…: sets $hashes to their SHA-256, with blanks between; empty when one cannot be read.
hashes() {
  hashes=''
  why=$(sha256sum "$@" 2>&1) || return 1
  set -- $why
  while [ $# -ge 2 ]; do
    hashes="$hashes $1"
    shift 2
  done
}

order_stage() {
  id=$1 place=server/credentials/$1 key_count=$2 key_hash=$3 sent=" $5 $7"
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
  if [ -e "$place/cert.pem" ] || { [ "$key_count" != - ] && [ -e "$place" ]; }; then
    if [ "$key_count" = - ]; then set --; else set -- "$key"; fi
    hashes "$@" "$place/cert.pem" "$place/chain.pem"
    [ "$hashes" = "$sent" ] || stop "another credential is here under the id $id"
    sign_or_stop "$key" "$new.text"
    say "signature $signature"
    done_with unchanged
    return
  fi
  hashes "$@"
  [ "$hashes" = "$sent" ] || stop "what was written in $base is not what was sent"
  if [ "$key_count" != - ]; then
    sign_or_stop "$new/key.pem" "$new.text"
    make_folders 700 server server/credentials
    settle "$@" "$new"
    move "$new" "$place"
    durable server/credentials server .
  else
    sign_or_stop "$key" "$new.text"
    settle "$@"
    # The certificate comes last: with it the credential is complete.
    move "$new/chain.pem" "$place/chain.pem"
    move "$new/cert.pem" "$place/cert.pem"
    durable "$place" .
  fi
  say "signature $signature"
  done_with changed
}

order_trust() {
  epoch=$1 sequence=$2 sent=$3 keys=$7 position=$1.$2 place=agent/bundles/$1.$2
  is_number "$epoch" && is_number "$sequence" && is_hex "$sent" 64 && is_number "$keys" ||
    stop 'the visit is garbled'
  # Their names must fit the arguments of one sha256sum.
  [ "$keys" -le 10000 ] || stop "a bundle of $keys keys is too large: at most 10000"
  umask 022
  why=$(mkdir "$new/bundle" "$new/bundle/keys" 2>&1) || cannot_write
  fetch "$4" "$new/bundle/edges"
  fetch "$5" "$new/bundle/trust.jwks"
  fetch "$6" "$new/bundle/trust.pem"
  exec 5<"$new/bundle/trust.pem"
  while [ "$keys" -gt 0 ]; do
    line key
    is_hex "$key" 64 || stop 'the visit is garbled'
    pem='' row=''
    while IFS= read -r row <&5; do
      pem=$pem$nl$row
      case $row in '-----END '*) break ;; esac
    done
    put "$new/bundle/keys/$key.pem" "${pem#"$nl"}" || cannot_write
    keys=$((keys - 1))
  done
  exec 5<&-
  umask 077
  fetch_claims "$8"
  frames_end
  [ "$claims" -eq 0 ] || need_openssl
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
  else
    make_folders 755 agent agent/bundles
    if [ "$7" -gt 200 ]; then
      # One flush of the filesystem is quicker than one for each file.
      set -- -f "$new/bundle"
    else
      set -- "$new/bundle/keys"/*
      [ -e "$1" ] || set --
      set -- "$@" "$new"/bundle/* "$new/bundle"
    fi
    settle "$@"
    if [ -e "$place" ] || [ -L "$place" ]; then move "$place" "$new/left"; fi
    move "$new/bundle" "$place"
    point agent "bundles/$position"
    durable agent/bundles agent .
    leads agent bundles
    [ "$to" = "$position" ] || stop "$base/agent/current leads to $to after the switch to $position"
    digest agent/current && [ "$digest" = "$sent" ] || stop "bundle $position changed while it was installed"
    outcome=changed
  fi
  say "position $position"
  say "digest $digest"
  say_verdicts "$place"
  # A reader that resolved `current` before the switch may still be in the bundle before this one.
  set --
  if [ "$outcome" = changed ]; then
    for folder in agent/bundles/*; do
      case ${folder##*/} in "$position" | "$before") continue ;; esac
      if is_position "${folder##*/}" && is_folder "$folder"; then set -- "$@" "$folder"; fi
    done
    [ $# -eq 0 ] || rm -rf "$@"
  fi
  done_with "$outcome"
}

# run_hook: sets $hook_status; when that is not 0, $hook_said tells how it ended.
run_hook() {
  rm -f "$work/status"
  session=''
  command -v setsid >/dev/null && session=setsid
  (
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
  settle
  # Should this visit break off before the hook has run, the next one knows.
  if [ "$hook" != - ]; then put server/hook-pending "$id" || cannot_write; fi
  [ "$before" = "$id" ] || point server "credentials/$id"
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
  frames_end
}

order_disarm() {
  in_use=$1
  [ "$in_use" = - ] || is_hex "$in_use" 32 || stop 'the visit is garbled'
  fetch_ids "$2"
  leads server credentials
  [ "$in_use" = - ] || [ "$in_use" = "$to" ] || stop "credential ${to:-none} is in use, expected $in_use"
  set --
  for id in $ids; do
    [ "$in_use" != "$id" ] || stop "credential $id is in use"
    [ -e "server/credentials/$id" ] || continue
    [ ! -e "server/disarmed/$id" ] || stop "credential $id is both staged and disarmed"
    set -- "$@" "$id"
  done
  if [ $# -eq 0 ] && { [ "$in_use" != - ] || [ -z "$to" ]; }; then
    done_with unchanged
    return
  fi
  make_folders 700 server server/credentials server/disarmed
  settle
  if [ "$in_use" = - ] && [ "$to" ]; then why=$(rm -f server/current 2>&1) || cannot_write; fi
  for id; do move "server/credentials/$id" "server/disarmed/$id"; done
  durable server/credentials server/disarmed server .
  done_with changed
}

order_erase() {
  fetch_ids "$1"
  leads server credentials
  set --
  for id in $ids; do
    [ "$to" != "$id" ] || stop "credential $id is in use"
    for folder in "server/credentials/$id" "server/disarmed/$id"; do
      if [ -e "$folder" ] || [ -L "$folder" ]; then set -- "$@" "$folder"; fi
    done
  done
  if [ $# -eq 0 ]; then
    done_with unchanged
    return
  fi
  settle
  for folder; do
    if [ -f "$folder/key.pem" ]; then wipe "$folder/key.pem" || stop "cannot overwrite $base/$folder/key.pem"; fi
  done
  why=$(rm -rf "$@" 2>&1) || cannot_write
  for folder in server/credentials server/disarmed; do
    if [ -d "$folder" ]; then durable "$folder"; fi
  done
  done_with changed
}

order_sign() {
  fetch_challenge "$work/text"
  frames_end
  [ "$here" ] || stop "$base does not exist, or cannot be entered"
  guard
  need_openssl
  leads server credentials
  id=$to
  [ "$id" ] || stop 'no credential is in use'
  sign_or_stop "server/credentials/$id/key.pem" "$work/text"
  say "credential $id"
  say "signature $signature"
  done_with unchanged
}

order_check() {
  fetch_claims "$1"
  frames_end
  [ "$here" ] || stop "$base does not exist, or cannot be entered"
  guard
  need_openssl
  leads agent bundles
  [ "$to" ] || stop 'no bundle is in use'
  # No lock is held: a switch must not mix two bundles, so the link is followed once.
  digest "agent/bundles/$to" || [ "$digest" ] || stop "$base/agent/bundles/$to cannot be read"
  say "digest $digest"
  say_verdicts "agent/bundles/$to"
  done_with unchanged
}

say_place() { say "problem $found;$wanted;$1"; }

# say_problems FILE…: those whose kind, mode or owner is not as it must be.
say_problems() {
  listing=$(stat -c '%f %a %u %n' "$@" 2>/dev/null)
  IFS=$nl
  set -f
  for row in $listing; do
    kind=${row%% *} row=${row#* }
    mode=${row%% *} row=${row#* }
    uid=${row%% *} path=${row#* }
    case $kind in 4???) kind=folder ;; 8???) kind=file ;; a???) kind=link ;; *) kind='special file' ;; esac
    case $path in
      .) wanted_kind=folder wanted_mode='7[0145][0145]' ;;
      server/current | agent/current) wanted_kind=link wanted_mode=777 ;;
      fence | server/hook-pending | server/*/*/*) wanted_kind=file wanted_mode=600 ;;
      server | server/*) wanted_kind=folder wanted_mode=700 ;;
      agent/*/*/keys/*) wanted_kind=file wanted_mode=644 ;;
      agent/*/*/keys) wanted_kind=folder wanted_mode=755 ;;
      agent/*/*/*) wanted_kind=file wanted_mode=644 ;;
      *) wanted_kind=folder wanted_mode=755 ;;
    esac
    found=''
    if [ "$kind" != "$wanted_kind" ]; then
      found="a $kind" wanted="a $wanted_kind"
    elif [ "$uid" != "$me" ]; then
      found="owner $uid" wanted="owner $me"
    elif [ "$kind" != link ]; then
      case $mode in $wanted_mode) ;; *) found="mode $mode" wanted="mode $wanted_mode" ;; esac
    fi
    [ -z "$found" ] || say_place "$path"
  done
  set +f
  IFS=$blanks
}

say_credential() {
  folder=$1
  case ${folder##*/} in
    *[!A-Za-z0-9._-]*)
      found='a folder of another name' wanted='credential ids'
      say_place "${folder%/*}"
      return
      ;;
  esac
  say "held $folder"
  if [ -f "$folder/cert.pem" ] && why=$(sha256sum "$folder/cert.pem" 2>/dev/null); then
    say "hash ${why%% *}"
    say_file certificate "$folder/cert.pem"
  fi
  if [ -f "$folder/key.pem" ] && [ "$version" ]; then
    openssl pkey -in "$folder/key.pem" -passin pass: -pubout -out "$work/public" 2>/dev/null &&
      say_file key "$work/public"
  fi
}

order_survey() {
  frames_end
  me=$(id -u)
  user=$(id -un 2>/dev/null) || user=$me
  say "user $user"
  version=$(openssl version 2>/dev/null) || version=''
  say "openssl $version"
  inspect say_place
  if [ -z "$here" ]; then
    if [ -e "$base" ] || [ -L "$base" ]; then
      found='no access' wanted='access'
      say_place "$base"
    fi
    done_with unchanged
    return
  fi
  say_problems . fence server server/current server/hook-pending server/credentials server/disarmed \
    server/credentials/* server/credentials/*/* server/disarmed/* server/disarmed/*/* \
    agent agent/current agent/bundles agent/bundles/* agent/bundles/*/*
  if [ -f fence ]; then say_file fence fence; fi
  if [ -L server/current ]; then say "current $(readlink server/current)"; fi
  for folder in server/credentials/* server/disarmed/*; do
    if is_folder "$folder"; then say_credential "$folder"; fi
  done
  for folder in agent/bundles/*; do
    if is_folder "$folder/keys"; then say_problems "$folder"/keys/*; fi
  done
  if [ -L agent/current ]; then
    to=$(readlink agent/current)
    say "bundle $to"
    folder=agent/$to
    if [ -d "$folder" ]; then
      digest "$folder" || :
      say "digest $digest"
      say_file edge "$folder/edges"
      for file in "$folder"/keys/*.pem; do
        if [ -f "$file" ]; then say_file public "$file"; fi
      done
    fi
  fi
  done_with unchanged
}

# Called by the last line, so that a program that was cut on the way does nothing.
main() {
  marker=''
  read -r _ _ marker <&3
  is_hex "$marker" 32 || exit 1
  trap release EXIT
  trap 'exit 1' HUP INT TERM PIPE
  # Whatever was printed before may have ended in the middle of a line.
  say "${nl}keyrelay $marker begin"
  now=$(date +%s)
  is_number "$now" || stop 'date does not work'
  say "time $now"
  line base
  case $base in
    *[!A-Za-z0-9._+@/-]* | [!/]* | */ | *//* | */./* | */../* | */. | */.. | '')
      stop 'the path of the base is not plain'
      ;;
  esac
  line row
  set -f
  set -- $row
  set +f
  [ $# -eq 3 ] && is_number "$1" || stop 'the visit is garbled'
  lease=$1 generation=$2 counter=$3
  if [ "$generation" = - ]; then
    enter
    scratch=$(mktemp -d 2>/dev/null) || stop 'there is no folder for temporary files'
    work=$scratch
  else
    is_number "$generation" && is_number "$counter" || stop 'the visit is garbled'
    [ "$lease" -le "$longest" ] || stop "a lock for ${lease}s is too long: at most ${longest}s"
    writing=1
    entered=1
    enter || entered=''
    guard
    [ "$entered" ] || stop "$base cannot be entered"
    lock
    check_fence
  fi
  order=0
  while :; do
    line row
    set -f
    set -- $row
    set +f
    [ $# -gt 0 ] || stop 'the visit is garbled'
    verb=$1
    shift
    order=$((order + 1))
    new=$work/$order
    case $verb in
      survey | sign | check) ;;
      end) break ;;
      *)
        [ "$writing" ] || stop "a visit without a fence does not $verb"
        [ -d "$new" ] || why=$(mkdir "$new" 2>&1) || cannot_write
        ;;
    esac
    say "order $order $verb"
    case $verb:$# in
      survey:0) order_survey ;;
      sign:0) order_sign ;;
      check:1) order_check "$@" ;;
      generate:3) order_generate "$@" ;;
      stage:7) order_stage "$@" ;;
      trust:8) order_trust "$@" ;;
      activate:4 | revert:4) order_activate "$@" ;;
      disarm:2) order_disarm "$@" ;;
      erase:1) order_erase "$@" ;;
      *) stop "the verb $verb is unknown here" ;;
    esac
  done
  if [ "$raise" ]; then
    settle
    durable .
  fi
  say finished
  finish
}

main
