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
unset -f cat cd chmod chown command date dd id kill ln mkdir mktemp mv od openssl printf read readlink rm rmdir \
  setsid sh sha256sum sleep stat sync timeout 2>/dev/null
unset CDPATH ENV
LC_ALL=C
export LC_ALL
umask 077
nl='
'
blanks=" 	$nl"
longest=3600
IFS=$blanks
base='' here='' work='' scratch='' held='' made='' raise='' buried='' touched='' guarded='' writing='' device='' group=''
roomed='' server='' nonce='' fleet='' why='' instead='' number=0
# Children find an empty standard input and an unheard standard output; only `line` reads 3, `say` writes 4.
exec 3<&0 </dev/null 4>&1 >/dev/null

say() { printf '%s\n' "$1" >&4; }

stop_fenced() {
  say "fenced $1"
  finish
}

# stop REASON: ends the visit, or goes on with what $instead names, once.
stop() {
  if [ "$instead" ]; then
    IFS=$blanks
    turn=$instead instead=''
    "$turn" "$1"
  fi
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
    if [ "$roomed" ]; then clear_rooms; fi
    for key in "$work"/*/key.pem "$work"/*/key4.db "$work/secret" "$work/secret.pem"; do
      if [ -f "$key" ]; then wipe "$key"; fi
    done
    owner=''
    { read -r owner _ <lock/owner; } 2>/dev/null
    case $owner in "$marker" | '') rm -rf lock ;; esac
    held=''
  fi
  if [ "$made" ]; then rmdir "$base/server" "$base/agent" "$base" 2>/dev/null; fi
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

# is_head WORD: the digest of a ledger entry, or - where none is known.
is_head() { [ "$1" = - ] || is_hex "$1" 64; }

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

# is_plain PATH: absolute, and nothing in it that a shell or a person could take for something else.
is_plain() {
  case $1 in
    *[!A-Za-z0-9._+@/-]* | [!/]* | */ | *//* | */./* | */../* | */. | */.. | '') return 1 ;;
  esac
}

is_folder() { [ -d "$1" ] && [ ! -L "$1" ]; }

# print_to FILE FORMAT TEXT: on failure $why tells the system's reason.
print_to() {
  { printf "$2" "$3" >"$1"; } 2>/dev/null && return
  why=$(dd if=/dev/zero of="$1" bs=65536 count=1 2>&1) && why='it could not be written at first'
  return 1
}

# put FILE TEXT: writes a line or several.
put() { print_to "$1" '%s\n' "$2"; }

# cannot_write [FOLDER]: by default, the base; a visit that only reads writes among the temporary files.
cannot_write() {
  cause
  if [ "$scratch" ]; then set -- "${scratch%/*}"; fi
  stop "cannot write in ${1:-$base}: $cause"
}

need_openssl() { command -v openssl >/dev/null || stop 'openssl is not installed, or not in the PATH of this login'; }

# fetch COUNT FILE: a frame, <n>b for n bytes or <n>l for n lines, into a new file.
fetch() {
  amount=${1%[bl]}
  is_number "$amount" || stop 'the visit is garbled'
  case $1 in
    0?)
      print_to "$2" %s '' || cannot_write
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

# is_large FILE…: whether one has 100 MB or more. Whoever owns a store's file can make it endless.
is_large() {
  for extent in $(stat -c %s "$@" 2>/dev/null); do [ "${#extent}" -le 8 ] || return 0; done
  return 1
}

# hashes FILE…: sets $hashes to their SHA-256, with blanks between; empty when one cannot be read.
hashes() {
  hashes=''
  if is_large "$@"; then
    why='it is larger than anything that is put here'
    return 1
  fi
  why=$(sha256sum "$@" 2>&1) || return 1
  set -- $why
  while [ $# -ge 2 ]; do
    hashes="$hashes $1"
    shift 2
  done
}
