# Signatures: made, and verified.

# sign KEY CHALLENGE: sets $signature, in hexadecimal. ECDSA and RSA (PKCS #1 v1.5) go with SHA-256 unless told
# otherwise.
sign() {
  why=$(openssl pkeyutl -sign -rawin -inkey "$1" -in "$2" -out "$work/signature" 2>&1) ||
    why=$(openssl dgst -sha256 -sign "$1" -out "$work/signature" "$2" 2>&1) || return 1
  in_hex || return 1
  [ "$signature" ] && return
  # openssl ends well though its output could not be written.
  why=$(dd if=/dev/zero of="$work/signature" bs=65536 count=1 2>&1) && why='the signature is empty'
  return 1
}

# in_hex: sets $signature to the bytes of "$work/signature".
in_hex() {
  signature=$(od -An -v -tx1 "$work/signature") || return 1
  set -- $signature
  IFS=''
  signature=$*
  IFS=$blanks
}

sign_or_stop() {
  sign "$1" "$2" || {
    cause
    stop "openssl cannot sign with the key of $id: $cause"
  }
}

# verify NUMBER KEY: sets $verdict; fails where openssl can tell neither way, and $why says why.
verify() {
  if why=$(openssl pkeyutl -verify -rawin -pubin -inkey "$2" -sigfile "$work/signature$1" \
    -in "$work/text$1" 2>&1); then accepted=1; else accepted=''; fi
  case $why in
    *'Signature Verified Successfully'*) [ "$accepted" ] && verdict=valid && return ;;
    *'Signature Verification Failure'*) verdict=invalid && return ;;
  esac
  if why=$(openssl dgst -sha256 -verify "$2" -signature "$work/signature$1" "$work/text$1" 2>&1); then
    accepted=1
  else
    accepted=''
  fi
  case $why in
    'Verified OK'*) [ "$accepted" ] && verdict=valid && return ;;
    *'Verification '[Ff]ailure* | *'Error '[Vv]erifying*) verdict=invalid && return ;;
  esac
  return 1
}

# fetch_claims COUNT: their texts, signatures and certificates into files, and `server key issuer` lines into
# $wanted_edges; the issuer is `-` where the bundle has to name the key itself.
fetch_claims() {
  claims=$1 wanted_edges=''
  is_number "$claims" && [ "$claims" -le 200 ] || stop 'the visit is garbled'
  claim=0
  while [ "$claim" -lt "$claims" ]; do
    claim=$((claim + 1))
    fetch_challenge "$work/text$claim"
    line key
    line signature
    is_hex "$key" 64 || stop 'the visit is garbled'
    # \0ooo for each byte, which printf turns into the byte without a program of its own.
    case $signature in *[!\\0-7]*) stop 'the visit is garbled' ;; esac
    print_to "$work/signature$claim" %b "$signature" || cannot_write
    line voucher
    issuer=${voucher%% *}
    if [ "$voucher" != - ]; then
      is_hex "$issuer" 64 || stop 'the visit is garbled'
      fetch "${voucher#* }" "$work/certificate$claim"
    fi
    wanted_edges=$wanted_edges$server' '$key' '$issuer$nl
  done
}

# read_trust FOLDER: keeps in one pass what its bundle says of the servers that claims ask for. Sets $kept to lines
# of its edges, $granted to lines of its delegations, $refused to all keys that it denies.
read_trust() {
  folder=$1 kept='' granted='' refused=$nl
  while read -r server key expires; do
    case $nl$wanted_edges in *"$nl$server $key -$nl"*) kept=$kept$server' '$key' '$expires$nl ;; esac
  done <"$folder/edges"
  [ -f "$folder/delegations" ] || return 0
  while read -r server issuer grace; do
    case $nl$wanted_edges in *"$nl$server "*) granted=$granted$server' '$issuer' '$grace$nl ;; esac
  done <"$folder/delegations"
  [ -f "$folder/denied" ] || return 0
  while read -r key expires; do refused=$refused$key' '$expires$nl; done <"$folder/denied"
}

# know SERVER KEY: sets $verdict to whether the bundle names the key for the server; names are compared whole.
know() {
  verdict=untrusted
  IFS=$nl
  for row in $kept; do
    case $row in
      "$1 $2 -") verdict=trusted ;;
      "$1 $2 "*)
        verdict=expired
        if is_number "${row##* }" && [ "$now" -lt "${row##* }" ]; then verdict=trusted; fi
        ;;
    esac
  done
  IFS=$blanks
}

# say_verdicts FOLDER: on the claims, by the bundle in FOLDER.
say_verdicts() {
  read_trust "$1"
  claim=0
  left=$wanted_edges
  while [ "$left" ]; do
    edge=${left%%"$nl"*} left=${left#*"$nl"}
    claim=$((claim + 1))
    server=${edge%% *} issuer=${edge##* } key=${edge#* }
    key=${key%% *}
    if [ "$issuer" = - ]; then
      know "$server" "$key"
      file=$folder/keys/$key.pem
    else
      vouch "$claim" "$server" "$key" "$issuer"
      file=$work/public$claim
    fi
    [ "$verdict" != trusted ] || verify "$claim" "$file" || {
      cause
      stop "openssl cannot verify with $file: $cause"
    }
    say "verdict $verdict"
  done
}
