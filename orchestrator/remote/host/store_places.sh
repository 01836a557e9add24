# The places of stores: who may change what lies there, and the programs that work in them.

tool_limit=60 sound=$nl

# tool PROGRAM…: with a time limit; sets $why to what it says. Java would take options from the environment.
tool() {
  if why=$(
    unset JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS _JAVA_OPTIONS
    [ -z "$held" ] || enroll
    PATH=$tools
    exec timeout -k 5 "$tool_limit" "$@" 2>&1 3<&- 4>&- 6<&- 7<&-
  ); then return 0; else status=$?; fi
  [ "$status" -ne 124 ] || why="did not end within ${tool_limit}s"
  return 1
}

# has_tool PROGRAM: busybox finds also what may not be run.
has_tool() { program=$(PATH=$tools && command -v "$1") && [ -x "$program" ]; }

need_tool() { has_tool "$1" || stop "$1 is not installed: a store of kind $kind needs it"; }

# is_sound FOLDER: whether nobody else may change what lies in it or lead elsewhere on the way to it; sets $culprit,
# $found and $wanted otherwise.
is_sound() {
  case $sound in *"$nl$1$nl"*) return 0 ;; esac
  ancestors "$1"
  folder=$1
  set -- $(stat -c '%u %a %f %d %n' $ancestors 2>/dev/null)
  culprit='' bits=''
  while [ $# -ge 5 ]; do
    judge "$1" "$2" "$3" "$4" "$5"
    culprit=$5 bits=$2
    [ -z "$found" ] || is_staffs "$2" "$5" || return 1
    shift 5
  done
  if [ "$culprit" != "$folder" ]; then
    culprit=$folder found=missing wanted='a folder'
    return 1
  fi
  case $bits in
    *[2367]? | *[2367])
      is_staffs "$bits" "$folder" || {
        found="mode $bits" wanted='writable by its owner only'
        return 1
      }
      ;;
  esac
  sound=$sound$folder$nl
}

# is_staffs MODE FOLDER: Debian lets its group staff, which is as good as root, write below /usr/local.
is_staffs() {
  case $1:$2 in
    2775:/usr/local | 2775:/usr/local/share | 2775:/usr/local/share/ca-certificates)
      [ "$(stat -c '%u %G' "$2")" = '0 staff' ]
      ;;
    *) return 1 ;;
  esac
}

# has_access FILE: whether owner, group and mode are the store's; sets $found and $wanted otherwise.
has_access() {
  found=''
  set -- $(stat -c '%u %U %g %G %a' "$1" 2>/dev/null)
  [ $# -eq 5 ] || found='no access' wanted='access'
  case ${for_owner:-$me} in "${1-}" | "${2-}") ;; *) found="owner ${2-}" wanted="owner ${for_owner:-$me}" ;; esac
  case ${for_group:-${4-}} in "${3-}" | "${4-}") ;; *) found="group ${4-}" wanted="group $for_group" ;; esac
  [ "${5-}" = "$mode" ] || found="mode ${5-}" wanted="mode $mode"
  [ -z "$found" ]
}

give_access() {
  if [ "$for_owner$for_group" ]; then
    why=$(chown "$for_owner${for_group:+:$for_group}" "$1" 2>&1) || {
      cause
      case $why in 'chown: invalid '[ug]* | 'chown: unknown '[ug]*) cause='the host has no such user or group' ;; esac
      stop "cannot give $2 to ${for_owner:-its owner}${for_group:+ and group $for_group}: $cause"
    }
  fi
  why=$(chmod "$mode" "$1" 2>&1) || cannot_write "${2%/*}"
}
