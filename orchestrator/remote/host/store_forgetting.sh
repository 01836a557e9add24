# Forgetting: a key that is erased goes from the server's stores, and nothing else does while another one is in use. A
# store that has another key keeps it, and the manifest stays in place, so that the next visit mends each on its own.

# forget_in_stores THEN: for the credentials of $ids, where a store may have one of them.
forget_in_stores() {
  stores_due='' state='' filled_with=''
  { read -r state filled_with row <server/stored; } 2>/dev/null
  case "$state:$ids " in
    filled:*" $filled_with "* | partly:*)
      if [ "$to" ] && [ -s server/stores ]; then
        one_by_one prepare_forgetting "$1"
      else
        mend_stores server /dev/null '' "$1"
      fi
      ;;
    *)
      # A visit that was killed may have left what it replaced.
      role=server
      clear_rooms
      "$1"
      ;;
  esac
}

# prepare_forgetting: as prepare_stores, for what is in place without what has a key that goes.
prepare_forgetting() {
  role=server stores_due='' kept_publics=$nl lost_publics=$nl passwords=$nl
  begin_stores server/stores "$to"
  read_publics
  each_store "$manifest" note_password || passwords=$nl
  IFS=$nl
  for listing in ${own#*"$nl"}; do
    IFS=$blanks
    set -- $listing
    storing="$1 $2"
    case $1 in java | nss) storing="$storing $3" ;; esac
    case $passed_rows in
      *"$nl$storing$nl"*) ;;
      *) if has_lost_key "$@"; then continue; fi ;;
    esac
    listed=$listed$listing$nl
  done
  IFS=$blanks storing=''
  prepare_leaving
  rehearse
  set -- ${own%%"$nl"*}
  case "$ids " in *" $2 "*) filled="partly $to $3 $4" ;; *) filled="partly $2 $3 $4" ;; esac
  [ "$filled$nl$listed" = "partly ${own#* }" ] || stores_due=1
  [ -z "$stores_due" ] || write_prepared
}

# read_publics: sets $lost_publics to the public keys of the credentials in $ids, $kept_publics to those of all others.
read_publics() {
  for folder in server/credentials/* server/disarmed/*; do
    public=$(openssl pkey -in "$folder/key.pem" -passin pass: -pubout 2>/dev/null) || continue
    case "$ids " in
      *" ${folder##*/} "*) lost_publics=$lost_publics$public$nl ;;
      *) kept_publics=$kept_publics$public$nl ;;
    esac
  done
}

note_password() { [ "$kind" != pkcs12 ] || passwords="$passwords$file_path $password_path$nl"; }

# has_lost_key WORD…: whether what a line of `stored` names has a key that goes. Where the key is not among those that
# are here, or cannot be read, it is one that we put there before if it is still what we wrote.
has_lost_key() {
  case $1 in
    file) find_key_in_file "$2" || return 1 ;;
    java)
      [ -f "$2" ] || return 1
      need_tool keytool
      see_java "$2" "$3" "$5" || {
        cause
        stop "keytool cannot read $2: $cause"
      }
      [ "$seen_type" = key ] || return 1
      find_key_of_leaf
      sum_of "$seen"
      ;;
    nss)
      [ -f "$2/cert9.db" ] || return 1
      need_tool certutil
      is_nss "$2" || stop "$why"
      see_nss "$2" "$3" || stop "certutil cannot read the NSS database $2"
      case $seen in *u*,*,*"$nl"*) ;; *) return 1 ;; esac
      find_key_of_leaf
      sum_of "$seen"
      ;;
    *) return 1 ;;
  esac
  if [ "$public" ]; then
    case $kept_publics in *"$nl$public$nl"*) return 1 ;; esac
    case $lost_publics in *"$nl$public$nl"*) return 0 ;; esac
  fi
  case $nl$own in *"$nl$storing $sum$nl"* | *"$nl$storing $sum "*) ;; *) return 1 ;; esac
}

# find_key_in_file FILE: sets $public, and $sum to its digest; 1 where there is no key in it.
find_key_in_file() {
  [ -f "$1" ] && [ ! -L "$1" ] || return 1
  hashes "$1" || cannot_write "${1%/*}"
  sum=${hashes# }
  public=''
  if tool openssl pkey -in "$1" -passin pass: -pubout; then
    public=$why
    return
  fi
  # A PKCS #12 file is a sequence of version 3 and what PKCS #7 calls data (RFC 7292, section 4).
  tool openssl asn1parse -inform DER -in "$1" || return 1
  case $why in
    *SEQUENCE*INTEGER*:03*SEQUENCE*:pkcs7-data*) ;;
    *) return 1 ;;
  esac
  case $passwords in *"$nl$1 "*) ;; *) return 0 ;; esac
  opened_by=${passwords##*"$nl$1 "} bodies=''
  see_pkcs12 "$1" "${opened_by%%"$nl"*}" || return 0
  find_key_of_leaf
}

# find_key_of_leaf: sets $public to the key of the first certificate in $bodies.
find_key_of_leaf() {
  public=''
  put "$work/leaf" "${bodies%%"$nl"*}" || cannot_write
  why=$(openssl base64 -d -A -in "$work/leaf" -out "$work/leaf.der" 2>&1) || return 0
  public=$(openssl x509 -inform DER -in "$work/leaf.der" -noout -pubkey 2>/dev/null) || public=''
}
