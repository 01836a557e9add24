"""From a key and its certificates to the octets of a file.

A private key is written under a password unless somebody asks otherwise; what the password is hashed with is
said in each format's own module. DER holds one thing, so a private key goes without its certificates there.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, assert_never

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator.errors import UsageError
from orchestrator.keys.formats import der, jose, openssh, pbe
from orchestrator.keys.formats.contents import Format
from orchestrator.keys.formats.pkcs12 import write_pkcs12
from orchestrator.keys.material import KeyPair, PublicKey, Random, open_signer
from orchestrator.keys.secret import Secret

_LINE = 64
"""Characters in a line of PEM (RFC 7468 section 2)."""


def write_private(
    form: Format,
    pair: KeyPair,
    certificates: tuple[x509.Certificate, ...],
    password: Secret | None,
    *,
    name: str,
    random: Random,
) -> Secret:
    """A file with a private key.

    Args:
        form: what to write.
        pair: the key.
        certificates: the key's own, and then its chain upwards; left out where the form has no room.
        password: None: in the clear.
        name: for people, as a comment or friendly name; without line breaks.
        random: gives salts, keys and nonces.

    Raises:
        UsageError: PKCS #12 without a password, which no program but OpenSSL would open.
        WrongPasswordError: a password that is not UTF-8, where the form needs one that is.
    """
    match form:
        case Format.PEM:
            return _private_pem(pair, certificates, password, random=random)
        case Format.DER:
            return _locked(pair, password, random=random)[1]
        case Format.PKCS12:
            if password is None:
                raise UsageError("PKCS #12 without a password is read by hardly any program", hint="use pem")
            return write_pkcs12(pair.private, certificates, password, name=name, random=random)
        case Format.JWK | Format.JWKS:
            return _private_json(form, pair, certificates, password, random=random)
        case Format.OPENSSH:
            return openssh.write_openssh_private(pair.private, password)
        case _:
            assert_never(form)


def write_public(
    form: Format, key: PublicKey, certificates: tuple[x509.Certificate, ...], *, name: str
) -> bytes:
    """A file with a public key, or with its certificate where there is one and the form has room for it.

    Raises:
        UsageError: PKCS #12, which is for private keys.
    """
    match form:
        case Format.PEM:
            return b"".join(one.public_bytes(Encoding.PEM) for one in certificates) or key.pem.encode()
        case Format.DER:
            return certificates[0].public_bytes(Encoding.DER) if certificates else key.der
        case Format.JWK:
            return _json(_jwk(key, key.jwk, certificates))
        case Format.JWKS:
            return _json({"keys": [_jwk(key, key.jwk, certificates)]})
        case Format.OPENSSH:
            return openssh.write_openssh_public(key, name)
        case Format.PKCS12:
            raise UsageError("PKCS #12 is for private keys", hint="for a public key use pem or der")
        case _:
            assert_never(form)


def _private_pem(
    pair: KeyPair, certificates: tuple[x509.Certificate, ...], password: Secret | None, *, random: Random
) -> Secret:
    label, encoded = _locked(pair, password, random=random)
    text = base64.b64encode(encoded.reveal())
    lines = b"\n".join(text[at : at + _LINE] for at in range(0, len(text), _LINE))
    key = b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label, lines, label)
    return Secret(b"".join((key, *(one.public_bytes(Encoding.PEM) for one in certificates))))


def _locked(pair: KeyPair, password: Secret | None, *, random: Random) -> tuple[bytes, Secret]:
    """PKCS #8 in DER with its label; encrypted as RFC 5958 section 3 has it."""
    plain = open_signer(pair.private).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    if password is None:
        return b"PRIVATE KEY", Secret(plain)
    algorithm, locked = pbe.encrypt(Secret(plain), password, random=random)
    encoded = der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, locked))
    return b"ENCRYPTED PRIVATE KEY", Secret(encoded)


def _private_json(
    form: Format,
    pair: KeyPair,
    certificates: tuple[x509.Certificate, ...],
    password: Secret | None,
    *,
    random: Random,
) -> Secret:
    members: Mapping[str, Any] = _jwk(pair.public, jose.private_members(pair.private), certificates)
    kind = "jwk+json"
    if form is Format.JWKS:
        members, kind = {"keys": [members]}, "jwk-set+json"
    text = Secret(_json(members))
    return text if password is None else jose.write_compact(text, password, kind=kind, random=random)


def _jwk(
    key: PublicKey, members: Mapping[str, Any], certificates: tuple[x509.Certificate, ...]
) -> Mapping[str, Any]:
    chain = [base64.b64encode(one.public_bytes(Encoding.DER)).decode("ascii") for one in certificates]
    return {**members, "kid": key.thumbprint, "use": "sig", **({"x5c": chain} if chain else {})}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode("ascii") + b"\n"
