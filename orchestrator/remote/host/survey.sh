# The survey: what is there, in order or not.

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
      fence | ended | */hook-pending | server/*/*/*) wanted_kind=file wanted_mode=600 ;;
      */stored | */stores | */stores-before | */rooms | */adopted) wanted_kind=file wanted_mode=600 ;;
      server | server/*) wanted_kind=folder wanted_mode=700 ;;
      agent/*/*/keys/* | agent/*/*/issuers/*) wanted_kind=file wanted_mode=644 ;;
      agent/*/*/keys | agent/*/*/issuers) wanted_kind=folder wanted_mode=755 ;;
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
    if [ "$whole" ] && [ -f "$folder/chain.pem" ]; then say_file chain "$folder/chain.pem"; fi
  fi
  if [ -f "$folder/key.pem" ] && [ "$version" ]; then
    openssl pkey -in "$folder/key.pem" -passin pass: -pubout -out "$work/public" 2>/dev/null &&
      say_file key "$work/public"
  fi
}

# say_bundle FOLDER OTHER: what it says; of the public keys those that OTHER, another folder or -, has not.
say_bundle() {
  [ -d "$1" ] || return 0
  digest "$1" || :
  say "digest $digest"
  say_file edge "$1/edges"
  for file in "$1"/keys/*.pem; do
    if [ -f "$file" ] && [ ! -f "$2/keys/${file##*/}" ]; then say_file public "$file"; fi
  done
  say_file delegation "$1/delegations"
  say_file denied "$1/denied"
  for file in "$1"/issuers/*.pem; do
    if [ -f "$file" ]; then say_file issuer "$file"; fi
  done
}

# say_loaded BUNDLE: those of before that programs may use while a hook has yet to tell them of that one.
say_loaded() {
  { read -r _ heeded <agent/hook-pending; } 2>/dev/null || return 0
  is_position "$1" || return 0
  for folder in agent/bundles/*; do
    name=${folder##*/}
    is_position "$name" && lower "${name%%.*}" "${name#*.}" "${1%%.*}" "${1#*.}" && is_folder "$folder" || continue
    if is_position "$heeded" && lower "${name%%.*}" "${name#*.}" "${heeded%%.*}" "${heeded#*.}"; then continue; fi
    say "loaded bundles/$name"
    say_bundle "$folder" "agent/bundles/$1"
  done
}

# order_survey HOW COUNT COUNT: with `whole`, chains as well; what could not be put where the manifests say.
order_survey() {
  whole=''
  [ "$1" != whole ] || whole=1
  fetch_manifest "$2" "$work/server.asked"
  fetch_manifest "$3" "$work/agent.asked"
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
      say "unwritable $base"
    elif [ -d "${base%/*}/" ] && [ ! -w "${base%/*}/" ]; then
      say "unwritable ${base%/*}/"
    fi
    say_obstacles server
    say_obstacles agent
    done_with unchanged
    return
  fi
  [ -w . ] || say "unwritable $base"
  say_problems . fence ended server server/current server/hook-pending server/stored server/stores server/stores-before server/rooms \
    server/adopted agent/hook-pending agent/stored agent/stores agent/rooms server/credentials server/disarmed \
    server/credentials/* server/credentials/*/* server/disarmed/* server/disarmed/*/* \
    agent agent/current agent/bundles agent/bundles/* agent/bundles/*/*
  if [ -f fence ]; then say_file fence fence; fi
  if [ -f server/hook-pending ]; then say 'due hook'; fi
  if [ -f agent/hook-pending ]; then say 'untold hook'; fi
  if [ -f ended ]; then say_file ended ended; fi
  if [ -L server/current ]; then say "current $(readlink server/current)"; fi
  for folder in server/credentials/* server/disarmed/*; do
    if is_folder "$folder"; then say_credential "$folder"; fi
  done
  for folder in agent/bundles/*; do
    if is_folder "$folder/keys"; then say_problems "$folder"/keys/*; fi
    if is_folder "$folder/issuers"; then say_problems "$folder"/issuers/*; fi
  done
  if [ -L agent/current ]; then
    to=$(readlink agent/current)
    say "bundle $to"
    say_bundle "agent/$to" -
    say_loaded "${to#bundles/}"
  fi
  survey_stores server
  survey_stores agent
  say_obstacles server
  say_obstacles agent
  done_with unchanged
}
