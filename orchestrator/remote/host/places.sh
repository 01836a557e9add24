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

# ancestors PATH: sets $ancestors to a plain path and all folders on the way to it, from the root down.
ancestors() {
  ancestors=/ rest=${1#/} path=''
  while [ "$rest" ]; do
    path=$path/${rest%%/*}
    ancestors="$ancestors $path"
    case $rest in */*) rest=${rest#*/} ;; *) rest='' ;; esac
  done
}

# inspect COMMAND: runs COMMAND for every place that is wrong, from the root down to the base's own folders.
inspect() {
  told=$1
  ancestors "$base"
  places=$(stat -c '%u %a %f %d %n' $ancestors "$base/server" "$base/server/credentials" "$base/server/disarmed" \
    "$base/agent" "$base/agent/bundles" 2>/dev/null)
  [ "$places" ] || stop 'stat does not work'
  # The base's characters were checked: nothing here is split or expanded by surprise.
  set -- $places
  while [ $# -ge 5 ]; do
    judge "$1" "$2" "$3" "$4" "$5"
    [ -z "$found" ] || "$told" "$5"
    shift 5
  done
}

# describe PLACE: sets $fault to what is wrong there.
describe() {
  case $found in
    missing | no\ * | a\ *) fault="$1 is $found, expected $wanted" ;;
    *) fault="$1 has $found, expected $wanted" ;;
  esac
}

refuse_place() {
  describe "$1"
  stop "$fault"
}

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
