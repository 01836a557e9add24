# Signatures: made, and verified.

# sign KEY CHALLENGE: sets $signature, in hexadecimal. ECDSA and RSA (PKCS #1 v1.5) go with SHA-256 unless told
# otherwise.
sign() {
  why=$(openssl pkeyutl -sign -rawin -inkey "$1" -in "$2" -out "$work/signature" 2>&1) ||
    why=$(openssl dgst -sha256 -sign "$1" -out "$work/signature" "$2" 2>&1) || return 1
  signature=$(od -An -v -tx1 "$work/signature") || return 1
  set -- $signature
  IFS=''
  signature=$*
  IFS=$blanks
  [ "$signature" ] && return
  # openssl ends well though its output could not be written.
  why=$(dd if=/dev/zero of="$work/signature" bs=65536 count=1 2>&1) && why='the signature is empty'
  return 1
}

sign_or_stop() {
  sign "$1" "$2" || {
    cause
    stop "openssl cannot sign with the key of $id: $cause"
  }
}

# verify NUMBER KEY: sets $verdict.
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
  cause
  stop "openssl cannot verify with $2: $cause"
}

# fetch_claims COUNT: their texts and signatures into files, and `server key` lines into $wanted_edges.
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
    { printf %b "$signature" >"$work/signature$claim"; } 2>/dev/null || cannot_write
    wanted_edges=$wanted_edges$server' '$key$nl
  done
}

# say_verdicts FOLDER: on the claims, by the bundle in FOLDER. One pass over its edges keeps those that a claim
# asks for; names are compared whole.
say_verdicts() {
  folder=$1
  kept=''
  while read -r server key expires; do
    case $nl$wanted_edges in *"$nl$server $key$nl"*) kept=$kept$server' '$key' '$expires$nl ;; esac
  done <"$folder/edges"
  claim=0
  IFS=$nl
  for edge in $wanted_edges; do
    claim=$((claim + 1))
    verdict=untrusted
    for row in $kept; do
      case $row in
        "$edge -") verdict=trusted ;;
        "$edge "*)
          expires=${row##* }
          verdict=expired
          if is_number "$expires" && [ "$now" -lt "$expires" ]; then verdict=trusted; fi
          ;;
      esac
    done
    if [ "$verdict" = trusted ]; then
      IFS=$blanks
      verify "$claim" "$folder/keys/${edge#* }.pem"
      IFS=$nl
    fi
    say "verdict $verdict"
  done
  IFS=$blanks
}
