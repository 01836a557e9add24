# The visit: its first lines, and each order in turn.

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
  is_plain "$base" || stop 'the path of the base is not plain'
  line row
  set -f
  set -- $row
  set +f
  [ $# -eq 5 ] && is_number "$1" || stop 'the visit is garbled'
  lease=$1 generation=$2 counter=$3 head=$4 remembered=$5
  if [ "$generation" = - ]; then
    enter
    why=$(mktemp -d 2>&1) || {
      cause
      stop "there is no folder for temporary files: $cause"
    }
    scratch=$why work=$why
  else
    is_number "$generation" && is_number "$counter" && is_head "$head" || stop 'the visit is garbled'
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
      survey:3) order_survey "$@" ;;
      sign:2) order_sign "$@" ;;
      check:1) order_check "$@" ;;
      generate:3) order_generate "$@" ;;
      stage:7) order_stage "$@" ;;
      trust:15) order_trust "$@" ;;
      activate:7 | revert:7) order_activate "$@" ;;
      disarm:2) order_disarm "$@" ;;
      erase:2) order_erase "$@" ;;
      *) stop "the verb $verb is unknown here" ;;
    esac
  done
  if [ "$raise" ] || [ "$buried" ]; then
    settle
    durable .
  fi
  say finished
  finish
}

main
