# Databases of NSS: other programs keep them, so they are worked in where they are.

# see_nss DATABASE NICKNAME: sets $seen to how it is trusted and its certificates; empty: there is none.
see_nss() {
  seen='' trust=''
  tool certutil -L -d "sql:$1" || return 1
  IFS=$nl
  set -f
  for row in $why; do
    IFS=$blanks
    set -- "$1" "$2" $row
    if [ $# -eq 4 ] && [ "$3" = "$2" ]; then trust=$4; fi
  done
  set +f
  IFS=$blanks
  [ "$trust" ] || return 0
  tool certutil -L -d "sql:$1" -n "$2" -a || return 1
  bodies "$why"
  seen=$trust$nl$bodies
}

# check_nss: whether the database may be worked in; sets $password to the file with its password.
check_nss() {
  need_tool certutil
  need_tool pk12util
  is_nss "$database" || stop "$why"
  password=${password_path:-/dev/null}
  [ -f "$password" ] || [ "$password" = /dev/null ] || stop "there is no password in $password"
}

lay_nss() {
  check_nss
  open_nss
  job=''
  if [ "$holds" = anchors ]; then
    each_certificate "$content" lay_nss_anchor
    return
  fi
  bodies "$(cat "$source/cert.pem")"
  entry=$name expected=u,u,u$nl$bodies
  need_in_nss && bundle_key "$job/$entry.new" "$entry" "$work/secret"
  [ ! -s "$source/chain.pem" ] || each_certificate "$source/chain.pem" lay_nss_link
}

# is_nss FOLDER: whether it is a database that nobody else may write to: NSS loads the modules that it names. Tells
# what is wrong in $why.
is_nss() {
  is_sound "$1" || {
    describe "$culprit"
    why=$fault
    return 1
  }
  for row in cert9.db key4.db pkcs11.txt; do
    set -- "$1" $(stat -c '%f %u %a' "$1/$row" 2>/dev/null)
    case ${2-} in
      8???) ;;
      *) why="$1 holds no NSS database ($row): certutil -N makes one" && return 1 ;;
    esac
    case $4 in
      *[2367]? | *[2367]) why="$1/$row has mode $4, expected writable by its owner only" && return 1 ;;
    esac
    [ "$3" = 0 ] || [ -O "$1/$row" ] || {
      why="$1/$row has owner $3, expected root or the managing user as owner"
      return 1
    }
  done
}

# open_nss: refuses a password that does not open the database; one without keys is opened as well.
open_nss() {
  set -- -K -d "sql:$database" -f "$password"
  for row in "$database"/*-journal; do
    # A change that was cut short is taken back only by who opens the database for writing.
    if [ -e "$row" ]; then set -- "$@" -X; fi
  done
  tool certutil "$@" || case $why in
    *'no keys found'*) ;;
    *)
      cause
      stop "certutil cannot open the NSS database $database: $cause"
      ;;
  esac
}

lay_nss_anchor() {
  expected=C,,$nl$body$nl
  need_in_nss && why=$(dd if="$pem" of="$job/$entry.new" 2>&1)
}

# A certificate of the chain; one that the database has from somebody else serves as well, and stays theirs.
lay_nss_link() {
  case $nl$own in
    *"${nl}nss $database $entry - "*)
      if is_filled_alike; then
        listed="${listed}nss $database $entry - ${password_path:--}$nl"
        return 0
      fi
      ;;
  esac
  expected=,,$nl$body$nl
  need_in_nss && why=$(dd if="$pem" of="$job/$entry.new" 2>&1)
}

# claim_in_nss: refuses an entry that is not ours to write to; sets $seen.
claim_in_nss() {
  see_nss "$database" "$entry" || {
    cause
    stop "certutil cannot read the NSS database $database: $cause"
  }
  # A server could not give it back.
  [ -z "$seen" ] || is_ours "nss $database $entry" || case $role:$adopt in
    agent:?*) ;;
    agent:) stop "the entry $entry in $database is not keyrelay's: remove it, or let the store adopt it (adopt: yes)" ;;
    *) stop "the entry $entry in $database is not keyrelay's: rename or remove it" ;;
  esac
  # What is replaced or emptied later goes by its name.
  if [ "$holds" = anchors ] || is_ours "nss $database $entry"; then return 0; fi
  keys_named "$database" "$entry" "$password" || {
    cause
    stop "certutil cannot read the keys of the NSS database $database: $cause"
  }
  [ -z "$keys_there" ] ||
    stop "$database has a private key $entry that is not keyrelay's: remove it (certutil -F -k), or rename the entry"
}

# keys_named DATABASE NICKNAME PASSWORD: sets $keys_there to the ids of the private keys of that name, which may have
# lost their certificate.
keys_named() {
  keys_there=''
  tool certutil -K -d "sql:$1" -f "$3" || case $why in *'no keys found'*) why='' ;; *) return 1 ;; esac
  IFS=$nl
  set -f
  for row in $why; do
    case $row in '<'*'>'*) ;; *) continue ;; esac
    IFS=$blanks
    # Its number, the kind of key, its id, its name, which may have blanks and the token's name before it.
    set -- "$1" "$2" "$3" ${row#*>}
    [ $# -gt 5 ] || continue
    named=${row#*"$5"}
    named=${named#"${named%%[! ]*}"}
    case $named in "$2" | "NSS Certificate DB:$2" | "NSS FIPS 140-2 Certificate DB:$2") keys_there="$keys_there $5" ;; esac
  done
  set +f
  IFS=$blanks
}

# need_in_nss: whether the entry is not as it is expected; then it is among the work to do there.
need_in_nss() {
  claim_in_nss
  sum_of "$expected"
  listed="${listed}nss $database $entry $sum ${password_path:--}$nl"
  [ "$seen" != "$expected" ] || return 1
  begin_job
  if [ "$seen" ] || is_ours "nss $database $entry"; then leave_entry "$entry"; fi
  printf '%s\n' "$expected" >"$job/$entry.expected"
  printf '%s %s\n' "${expected%%"$nl"*}" "$entry" >>"$job/coming"
}

# begin_job: sets $job to the folder of what is to be done in $database.
begin_job() {
  job=''
  IFS=$nl
  for row in $databases; do
    IFS=$blanks
    set -- $row
    if [ "$1" = "$database" ]; then job=$2; fi
  done
  IFS=$blanks
  [ -z "$job" ] || return 0
  number=$((number + 1))
  job=$work/nss$number
  why=$(mkdir "$job" 2>&1) || cannot_write
  need_secret
  print_to "$job/leaving" %s '' && print_to "$job/coming" %s '' || cannot_write
  databases="$databases$database $job $password ${storing:-0}$nl"
}

# leave_nss DATABASE NICKNAME SUM PASSWORD
leave_nss() {
  if [ "$3" = - ] || [ ! -f "$1/cert9.db" ]; then return 0; fi
  database=$1 password=$4 kind=nss
  [ "$password" != - ] || password=/dev/null
  need_tool certutil
  is_nss "$database" || stop "$why"
  open_nss
  see_nss "$1" "$2" || stop "certutil cannot read the NSS database $1"
  [ -z "$seen" ] || refuse_changed "nss $1 $2" "$2 in $1"
  begin_job
  leave_entry "$2"
}

# leave_entry NICKNAME: goes from the database, if it is still $seen then.
leave_entry() {
  sum_of "$seen"
  printf '%s %s\n' "$sum" "$1" >>"$job/leaving"
}

# rehearse: does the work on copies of the databases, so that what NSS refuses or does otherwise is known before
# anything changes. It joins certificates of one subject under the name that one of them has already.
rehearse() {
  IFS=$nl
  for row in $databases; do
    IFS=$blanks
    set -- $row
    for file in cert9.db key4.db; do
      why=$(dd if="$1/$file" of="$2/$file" bs=65536 2>&1) || cannot_write
    done
    rehearsing=$1
    storing=${row#"$1 $2 $3 "}
    work_in_nss "$2" "$2" "$3" || stop "the NSS database $1 cannot be filled: $why"
    rehearsing='' storing=''
    wipe "$2/key4.db"
    rm -f "$2/key4.db" "$2/cert9.db"
  done
  IFS=$blanks
}

# work_in_nss DATABASE JOB PASSWORD: 1 where it failed, with $why.
work_in_nss() {
  while read -r sum_then entry; do
    see_nss "$1" "$entry" || return 1
    sum_of "$seen"
    [ "$sum" = "$sum_then" ] || {
      why="the entry $entry in $1 was changed by somebody else during the visit"
      return 1
    }
    remove_from_nss "$1" "$entry" "$3" || return 1
  done <"$2/leaving"
  while read -r trust_wanted entry; do
    case $passed in *"$nl$1 $entry$nl"*) continue ;; esac
    see_nss "$1" "$entry" || return 1
    [ -z "$seen" ] || {
      comes_second "the entry $entry in $1"
      return 1
    }
    [ "$rehearsing" ] || begin_entry "$1" "$entry" || return 1
    case $trust_wanted in
      u,u,u) tool pk12util -i "$2/$entry.new" -d "sql:$1" -w "$work/secret" -k "$3" ;;
      *) tool certutil -A -d "sql:$1" -n "$entry" -t "$trust_wanted" -i "$2/$entry.new" -f "$3" ;;
    esac || return 1
    see_nss "$1" "$entry" || return 1
    [ "$seen" != "$(cat "$2/$entry.expected")$nl" ] || continue
    why="a certificate of the subject of $entry is there under another name"
    [ "$rehearsing" ] && [ "$trust_wanted" = ,, ] && [ -z "$seen" ] || return 1
    leave_to_theirs "$rehearsing" "$entry"
  done <"$2/coming"
}

# begin_entry DATABASE NICKNAME: what comes is ours from now on.
begin_entry() {
  holds_lock || return 1
  is_ours "nss $1 $2" || {
    text=$nl$listed
    text=${text#*"${nl}nss $1 $2 "}
    { printf 'nss %s %s %s\n' "$1" "$2" "${text%%"$nl"*}" >>"$role/stored"; } 2>/dev/null && why=$(sync "$role/stored" 2>&1)
  }
}

# leave_to_theirs DATABASE NICKNAME: leaves it to the entry of somebody else's that has that certificate.
leave_to_theirs() {
  passed=$passed$1' '$2$nl
  rest=${listed#*"nss $1 $2 "}
  listed="${listed%%"nss $1 $2 "*}nss $1 $2 - ${rest#* }"
}

# remove_from_nss DATABASE NICKNAME PASSWORD: its certificates, and keys even where a certificate is gone.
remove_from_nss() {
  keys_named "$1" "$2" "$3" || return 1
  for row in $keys_there; do tool certutil -F -d "sql:$1" -k "$row" -f "$3" || return 1; done
  tries=0
  while see_nss "$1" "$2" || return 1; do
    [ "$seen" ] || return 0
    tries=$((tries + 1))
    [ "$tries" -le 10 ] && tool certutil -D -d "sql:$1" -n "$2" -f "$3" || return 1
  done
}
