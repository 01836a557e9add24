# The kinds of store: what each has to hold, and how it is written.

lay_store() {
  case $kind:$holds in
    pem:credential)
      [ -z "$key_path" ] || lay "$source/key.pem" "$key_path"
      [ -z "$certificate_path" ] || lay "$source/cert.pem" "$certificate_path"
      [ -z "$chain_path" ] || lay "$source/chain.pem" "$chain_path"
      [ -z "$fullchain_path" ] || lay "$work/fullchain" "$fullchain_path"
      [ -z "$combined_path" ] || lay_combined
      ;;
    pem:anchors) lay "$content" "$anchors_path" ;;
    template:*) lay "$content" "$file_path" ;;
    pkcs12:*) lay_pkcs12 ;;
    java:*) lay_java ;;
    nss:*) lay_nss ;;
    system:*) lay_system ;;
  esac
}

# lay_combined: the key first, as those want it that ask for an order.
lay_combined() {
  why=$(cat "$source/key.pem" "$work/fullchain" 2>&1 >"$work/secret.pem") || cannot_write
  lay "$work/secret.pem" "$combined_path"
  wipe "$work/secret.pem"
}

# is_filled_alike: whether the stores were filled last with the very credential and certificate.
is_filled_alike() { case $own in "filled $id_filled $certificate_sum "*) ;; *) return 1 ;; esac }

# check_password: sets $password to its file, which may be missing.
check_password() {
  password=$password_path
  is_sound "${password%/*}" || refuse_place "$culprit"
  if [ -L "$password" ]; then stop "$password is a symbolic link"; fi
  [ -e "$password" ] || return 0
  [ -f "$password" ] || stop "$password is no plain file"
  case $holds:$(stat -c %a "$password") in
    credential:*[1-7]) stop "the password in $password is everybody's to read" ;;
  esac
}

# find_password: sets $password to a file that holds it: the host's, or a new one with a password at random.
find_password() {
  check_password
  for row in $renames; do
    # Another store of this manifest has just had it made.
    if [ "$row" = "$password" ]; then password=$made_before && return 0; fi
    made_before=$row
  done
  case $nl$listed in
    *"${nl}made $password "*) ;;
    *) if is_ours "made $password" || [ ! -e "$password" ]; then listed="${listed}made $password -$nl"; fi ;;
  esac
  [ ! -e "$password" ] || return 0
  fresh "$password"
  why=$(openssl rand -hex -out "$fresh" 24 2>&1) || cannot_write "${password%/*}"
  [ -s "$fresh" ] || stop "openssl made no password"
  # A group that is named shares it; nobody else reads it.
  store_mode=$mode
  if [ "$for_group" ]; then mode=${mode%?}0; else mode=600; fi
  replace "$password"
  password=$fresh mode=$store_mode
}

# need_secret: $work/secret holds a password for what goes from one program to the next.
need_secret() {
  [ -s "$work/secret" ] || why=$(openssl rand -hex -out "$work/secret" 24 2>&1) || cannot_write
}

# bundle_key FILE ALIAS PASSWORD ARGUMENT…: the credential as PKCS #12; $chained is the argument for its chain.
bundle_key() {
  made_file=$1 made_alias=$2 made_password=$3
  shift 3
  tool openssl pkcs12 -export -inkey "$source/key.pem" -in "$source/cert.pem" -name "$made_alias" \
    -keypbe AES-256-CBC -certpbe AES-256-CBC -macalg sha256 "$@" -passout "file:$made_password" -out "$made_file" || {
    cause
    stop "openssl cannot make a PKCS #12 file: $cause"
  }
}

# see_pkcs12 FILE PASSWORD: sets $bodies to its certificates, and $named to its friendly name.
see_pkcs12() {
  named='' bodies=''
  tool openssl pkcs12 -in "$1" -nokeys -passin "file:$2" || return 1
  case $why in *'friendlyName: '*) named=${why#*'friendlyName: '} named=${named%%"$nl"*} ;; esac
  bodies "$why"
}

lay_pkcs12() {
  claim "$file_path"
  find_password
  if is_filled_alike && [ -e "$file_path" ] && hashes "$file_path" && has_access "$file_path"; then
    sum=${hashes# }
    case $nl$own in
      *"${nl}file $file_path $sum$nl"*)
        if see_pkcs12 "$file_path" "$password" && [ "$named" = "$name" ]; then
          listed="${listed}file $file_path $sum$nl"
          return 0
        fi
        ;;
    esac
  fi
  fresh "$file_path"
  bundle_key "$fresh" "$name" "$password" -iter 600000 $chained
  bodies "$(cat "$work/fullchain")"
  expected=$bodies
  see_pkcs12 "$fresh" "$password" && [ "$bodies" = "$expected" ] && hashes "$fresh" ||
    stop "openssl cannot read the PKCS #12 file that it made for $file_path"
  listed="${listed}file $file_path ${hashes# }$nl"
  replace "$file_path"
}

# sum_of TEXT: sets $sum.
sum_of() {
  put "$work/sum" "$1" && hashes "$work/sum" || cannot_write
  sum=${hashes# }
}
