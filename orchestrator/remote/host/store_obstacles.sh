# Obstacles: why a manifest could not be carried out now. The checks are those that come before anything is written,
# each in a shell of its own, which its first refusal ends. Nothing is changed.

# say_obstacles ROLE: for the manifest in $work/<role>.asked.
say_obstacles() {
  [ -s "$work/$1.asked" ] && [ "$version" ] || return 0
  role=$1 renames='' own='' ours=$nl tools=${PATH-}:/usr/local/sbin:/usr/sbin:/sbin
  [ -z "$here" ] || read_ours
  each_store "$work/$1.asked" face_store || garbled_manifest
}

say_obstacle() {
  say "obstacle $role $place;$1"
  exit 0
}

# face CHECK: says what it refuses $place for.
face() { (
  instead=say_obstacle
  "$1"
) }

face_store() {
  case $kind in
    pem)
      for place in $key_path $certificate_path $chain_path $fullchain_path $combined_path $anchors_path; do
        face face_file
      done
      ;;
    template) place=$file_path && face face_file ;;
    pkcs12) place=$file_path && face face_pkcs12 ;;
    java) place="$keystore $name" && face face_java ;;
    nss) place="$database $name" && face face_nss ;;
    system) place="system $name" && face face_system ;;
  esac
}

face_file() {
  claim "$place"
  face_folder "$place"
  face_access "$place"
}

face_folder() { [ -w "${1%/*}" ] || stop "the login may not write in ${1%/*}"; }

# face_access PATH: whether a file there could be given to its owner and group.
face_access() {
  rm -f "$work/given"
  print_to "$work/given" %s '' || cannot_write
  give_access "$work/given" "$1"
}

face_pkcs12() {
  face_file
  face_password
  face_bundling
}

face_password() {
  check_password
  [ -e "$password" ] || face_folder "$password"
}

# face_bundling: whether openssl makes files of PKCS #12 here, with a key that is not used for anything.
face_bundling() {
  source=$work
  put "$work/request" "[req]${nl}prompt=no${nl}distinguished_name=name${nl}[name]${nl}CN=keyrelay" || cannot_write
  why=$(openssl req -x509 -sha256 -config "$work/request" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>&1) || {
    cause
    stop "openssl cannot make a key: $cause"
  }
  need_secret
  bundle_key "$work/bundle" keyrelay "$work/secret"
}

face_java() {
  check_keystore
  face_folder "$keystore"
  face_password
  [ "$holds" = anchors ] || face_bundling
  if [ -e "$keystore" ]; then face_entries claim_in_java; else face_access "$keystore"; fi
}

face_nss() {
  check_nss
  [ -w "$database" ] && [ -w "$database/cert9.db" ] || stop "the login may not write in $database"
  [ "$holds" = anchors ] || face_bundling
  # Somebody is at work there, or was: who looks now changes it.
  for row in "$database"/*-journal; do
    if [ -e "$row" ]; then return 0; fi
  done
  open_nss
  face_entries claim_in_nss
}

# face_entries CHECK: for every $entry of the store.
face_entries() {
  entry=$name
  if [ "$holds" = anchors ]; then each_certificate "$content" "$1"; else "$1"; fi
}

face_system() {
  check_system
  for_owner='' for_group='' mode=644
  face_folder "$system_folder/$name"
  each_certificate "$content" face_anchor
}

face_anchor() { claim "$system_folder/$entry.$system_ending"; }
