# Vouching: whether a certificate is the word of the one issuer that may vouch for a server, for this key.

# read_certificate FILE: sets $pem to its public key, and $names, $authority and $usage to what it says.
read_certificate() {
  pem='' names='' authority='' usage='' section=''
  text=$(openssl x509 -in "$1" -noout -pubkey -ext subjectAltName,basicConstraints,keyUsage 2>/dev/null) || return 1
  IFS=$nl
  set -f
  for row in $text; do
    case $row in
      '-----BEGIN PUBLIC KEY-----') section=key pem=$row ;;
      'X509v3 Subject Alternative Name:'*) section=names ;;
      'X509v3 Basic Constraints:'*) section=authority ;;
      'X509v3 Key Usage:'*) section=usage ;;
      '    '*)
        case $section in
          names) names=$names${row#    } ;;
          authority) authority=$authority${row#    } ;;
          usage) usage=$usage${row#    } ;;
        esac
        ;;
      *)
        if [ "$section" = key ]; then pem=$pem$nl$row; else section=''; fi
        case $row in '-----END '*) section='' ;; esac
        ;;
    esac
  done
  set +f
  IFS=$blanks
  [ "$pem" ]
}

# vouch NUMBER SERVER KEY ISSUER: sets $verdict; it is trusted where $work/certificateNUMBER is the issuer's word
# that KEY is SERVER's, and then $work/publicNUMBER holds the key. $granted and $refused are lines of the bundle
# in $folder.
vouch() {
  certificate=$work/certificate$1 issuer=$folder/issuers/$4.pem grace=''
  IFS=$nl
  for row in $granted; do
    case $row in "$2 $4 "*) grace=${row##* } ;; esac
  done
  IFS=$blanks
  verdict=untrusted
  is_number "$grace" && [ -f "$issuer" ] || return 0
  verdict=denied
  case $refused in *"$nl$3 "*) return 0 ;; esac
  verdict=uncertified
  read_certificate "$certificate" || return 0
  # One name, compared whole: openssl's own comparison, below, knows wildcards and falls back on common names.
  [ "$names" = "DNS:$2" ] && [ "$authority" = CA:FALSE ] || return 0
  case ", $usage," in *', Digital Signature,'*) ;; *) return 0 ;; esac
  put "$work/public$1" "$pem" || cannot_write
  why=$(openssl pkey -pubin -in "$work/public$1" -outform DER -out "$work/der$1" 2>&1) || return 0
  hashes "$work/der$1" && [ "$hashes" = " $3" ] || return 0
  if why=$(openssl verify -no-CAfile -no-CApath -partial_chain -trusted "$issuer" -purpose sslserver \
    -verify_hostname "$2" "$certificate" 2>&1); then accepted=1; else accepted=''; fi
  if [ "$accepted" ] && [ "$why" = "$certificate: OK" ]; then
    verdict=trusted
    return
  fi
  # Only the end of the server's own certificate may be the matter, and then the grace counts.
  case $why in
    *'error '*' at '*'error '*' at '*) return 0 ;;
    *'error 10 at 0 depth lookup'*) verdict=expired ;;
    *) return 0 ;;
  esac
  if [ "$grace" -gt 0 ] && openssl x509 -in "$certificate" -noout -checkend "-$grace" 2>/dev/null; then
    verdict=trusted
  fi
}
