# Manifests: what a host has to put elsewhere, a line for each store, with its content after it.

most_stores=16 cr=''

is_store_path() {
  case $1 in
    "$base" | "$base"/*) return 1 ;;
    /*/*) is_plain "$1" && [ "${#1}" -le 400 ] ;;
    *) return 1 ;;
  esac
}

is_store_word() {
  case $1 in '' | [!A-Za-z0-9_]* | *[!A-Za-z0-9._-]*) return 1 ;; esac
  [ "${#1}" -le 64 ]
}

# take_store WORD…: the line of a store, into variables; those of words that it does not have are empty.
take_store() {
  [ $# -ge 4 ] && [ "$1" = store ] || return 1
  kind=$2 holds=$3
  case $kind:$holds in
    pem:credential | pem:anchors | pkcs12:credential | system:anchors | template:text) ;;
    nss:credential | nss:anchors | java:credential | java:anchors) ;;
    *) return 1 ;;
  esac
  shift 3
  key_path='' certificate_path='' chain_path='' fullchain_path='' combined_path='' anchors_path='' file_path=''
  password_path='' database='' keystore='' name='' for_owner='' for_group='' mode='' adopt='' left=0
  for word; do
    value=${word#*=}
    case $word in
      alias=* | name=* | owner=* | group=*) is_store_word "$value" || return 1 ;;
      mode=* | adopt=* | lines=*) ;;
      *) is_store_path "$value" || return 1 ;;
    esac
    case $word in
      key=*) key_path=$value ;;
      certificate=*) certificate_path=$value ;;
      chain=*) chain_path=$value ;;
      fullchain=*) fullchain_path=$value ;;
      combined=*) combined_path=$value ;;
      anchors=*) anchors_path=$value ;;
      file=*) file_path=$value ;;
      password_file=*) password_path=$value ;;
      database=*) database=$value ;;
      keystore=*) keystore=$value ;;
      alias=* | name=*) name=$value ;;
      owner=*) for_owner=$value ;;
      group=*) for_group=$value ;;
      mode=[46][04][04]) mode=$value ;;
      adopt=yes) adopt=1 ;;
      lines=*) is_number "$value" && left=$value || return 1 ;;
      *) return 1 ;;
    esac
  done
  case $kind in
    pem) set -- "$mode" "$key_path$certificate_path$chain_path$fullchain_path$combined_path$anchors_path" ;;
    pkcs12) set -- "$mode" "$file_path" "$password_path" "$name" ;;
    java) set -- "$mode" "$keystore" "$password_path" "$name" ;;
    nss) set -- "$database" "$name" ;;
    system) set -- "$name" ;;
    template) set -- "$mode" "$file_path" ;;
  esac
  for value; do [ "$value" ] || return 1; done
}

# each_store FILE FUNCTION: FUNCTION for each store of a manifest, with its words in variables and its content in
# the file $content; 1 where the manifest is garbled.
each_store() {
  stores=0
  [ -s "$1" ] || return 0
  exec 6<"$1"
  IFS= read -r row <&6 && [ "$row" = 'keyrelay stores 1' ] || return 1
  while IFS= read -r row <&6; do
    stores=$((stores + 1))
    set -f
    if take_store $row; then set +f; else set +f && return 1; fi
    [ "$stores" -le "$most_stores" ] || return 1
    content=$work/content text=''
    while [ "$left" -gt 0 ]; do
      IFS= read -r row <&6 || return 1
      text=$text$row$nl
      left=$((left - 1))
    done
    print_to "$content" %s "$text" || cannot_write
    "$2"
  done
  exec 6<&-
}

# bodies TEXT: sets $bodies to the certificates in it, a line of base64 for each.
bodies() {
  bodies='' body='' inside=''
  # NSS ends its lines with CR LF.
  [ "$cr" ] || cr=$(printf '\r')
  IFS=$nl$cr
  set -f
  for row in $1; do
    case $row in
      '-----BEGIN CERTIFICATE-----') inside=1 body='' ;;
      '-----END CERTIFICATE-----')
        if [ "$inside" ]; then bodies=$bodies$body$nl; fi
        inside=''
        ;;
      *) if [ "$inside" ]; then body=$body$row; fi ;;
    esac
  done
  set +f
  IFS=$blanks
}

# each_certificate FILE FUNCTION: FUNCTION for each certificate in a PEM file: $pem is a file of it alone, $body its
# base64, $name with the beginning of its digest behind it is $entry.
each_certificate() {
  block=''
  exec 7<"$1"
  while IFS= read -r row <&7; do
    block=$block$row$nl
    case $row in -----END*) ;; *) continue ;; esac
    number=$((number + 1))
    pem=$work/anchor$number
    print_to "$pem" %s "$block" || cannot_write
    bodies "$block"
    block=''
    why=$(openssl x509 -in "$pem" -outform DER -out "$work/der" 2>&1) && hashes "$work/der" || garbled_manifest
    print=${hashes# }
    entry=$name-${print%"${print#????????????????}"}
    "$2"
  done
  exec 7<&-
}
