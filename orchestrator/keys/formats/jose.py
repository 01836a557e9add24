"""Keys in JSON: JWK and JWK Set (RFC 7517, with RFC 7518 section 6, RFC 8037 and RFC 8812), encrypted or not.

An encrypted key is a JWE in compact form under a password (RFC 7516; PBES2 of RFC 7518 section 4.8). Written
are PBES2-HS512+A256KW and A256GCM; read is every combination that RFC 7518 has of the two.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator.errors import (
    DamagedFileError,
    KeyMismatchError,
    PasswordNeededError,
    TooCostlyError,
    UnsupportedFileError,
    UnsupportedKeyError,
    WrongPasswordError,
)
from orchestrator.keys.formats.binary import read_certificate
from orchestrator.keys.formats.budget import MAX_CERTIFICATES, Budget
from orchestrator.keys.formats.contents import Contents, Format
from orchestrator.keys.formats.foreign import (
    MOST_RSA_BITS,
    ForeignCertificate,
    ForeignKey,
    ForeignPrivate,
    told_as_damage,
)
from orchestrator.keys.jwk import base64url, jwk_of
from orchestrator.keys.material import Random, open_signer
from orchestrator.keys.secret import Secret

ITERATIONS = 600_000
"""Rounds of PBKDF2-HMAC-SHA-512 in what is written: three times OWASP's recommendation for it."""

_CURVES: Mapping[str, ec.EllipticCurve] = MappingProxyType(
    {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1(), "secp256k1": ec.SECP256K1()}
)
_KEY_SIZES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "PBES2-HS256+A128KW": ("sha256", 16),
        "PBES2-HS384+A192KW": ("sha384", 24),
        "PBES2-HS512+A256KW": ("sha512", 32),
    }
)
_GCM_BYTES: Mapping[str, int] = MappingProxyType({"A128GCM": 16, "A192GCM": 24, "A256GCM": 32})
_CBC_BYTES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {"A128CBC-HS256": ("sha256", 16), "A192CBC-HS384": ("sha384", 24), "A256CBC-HS512": ("sha512", 32)}
)
_WRITTEN = "PBES2-HS512+A256KW"
_COMPACT_PARTS = 5
_LEAST_SALT_BYTES = 8


def read_json(data: bytes) -> Contents:
    """A JWK or a JWK Set.

    Raises:
        UnsupportedFileError: JSON that is neither.
        UnsupportedKeyError: a key that does not sign, such as a symmetric one.
        DamagedFileError: no JSON, or members that are no key.
        TooCostlyError: too many keys, or too large a one.
    """
    return _read(_parsed(data))


def is_compact(data: bytes) -> bool:
    """Whether it has the form of an encrypted key."""
    parts = data.strip().split(b".")
    return len(parts) == _COMPACT_PARTS and parts[0].startswith(b"eyJ") and all(map(_is_base64url, parts))


def read_compact(data: bytes, password: Secret | None, budget: Budget) -> Contents:
    """A JWK or a JWK Set that is encrypted under a password.

    Raises:
        PasswordNeededError, WrongPasswordError: it is not opened by ``password``.
        KeyMaterialError: in one of its kinds, as ``read_json``.
    """
    header_text, wrapped, iv, locked, tag = data.strip().split(b".")
    header = _parsed(_decoded(header_text))
    name, rounds, salt = header.get("alg"), header.get("p2c"), header.get("p2s")
    if not isinstance(name, str) or name not in _KEY_SIZES or "zip" in header or "crit" in header:
        known = ", ".join(_KEY_SIZES)
        raise UnsupportedFileError(f"a JWE with {name!r}; keyrelay reads those under a password, {known}")
    if type(rounds) is not int or rounds < 1 or not isinstance(salt, str):
        raise DamagedFileError("a JWE that does not say how its password is hashed")
    budget.hash(rounds)
    if password is None:
        raise PasswordNeededError("the key is encrypted, and no password was given")
    wrapping = _wrapping_key(name, password, _decoded(salt.encode("ascii", "replace")), rounds)
    try:
        key = aes_key_unwrap(wrapping, _decoded(wrapped))
        text = _opened(
            str(header.get("enc")), key, header_text, _decoded(iv), _decoded(locked), _decoded(tag)
        )
    except (InvalidUnwrap, InvalidTag, ValueError):
        raise WrongPasswordError("the password does not open the key, or it was changed") from None
    return replace(_read(_parsed(text)), encrypted=True)


def private_members(private: Secret) -> dict[str, str]:
    """The members of a private JWK of a key pair, the public ones included."""
    key = open_signer(private)
    public = jwk_of(key.public_key())
    match key:
        case ed25519.Ed25519PrivateKey():
            raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            return {**public, "d": base64url(raw)}
        case ec.EllipticCurvePrivateKey():
            number = key.private_numbers().private_value
            return {**public, "d": base64url(number.to_bytes((key.key_size + 7) // 8, "big"))}
        case rsa.RSAPrivateKey():
            told = key.private_numbers()
            numbers = {
                "d": told.d,
                "p": told.p,
                "q": told.q,
                "dp": told.dmp1,
                "dq": told.dmq1,
                "qi": told.iqmp,
            }
            return {**public, **{name: base64url(_octets(number)) for name, number in numbers.items()}}


def write_compact(text: Secret, password: Secret, *, kind: str, random: Random) -> Secret:
    """A JWE in compact form over JSON.

    Args:
        text: the JSON.
        password: any octets.
        kind: what the JSON is: ``jwk+json`` or ``jwk-set+json``.
        random: gives salt, key and nonce.
    """
    salt, key, iv = random(16), random(32), random(12)
    header = {
        "alg": _WRITTEN,
        "cty": kind,
        "enc": "A256GCM",
        "p2c": ITERATIONS,
        "p2s": base64url(salt),
    }
    header_text = base64url(json.dumps(header, separators=(",", ":")).encode())
    wrapped = aes_key_wrap(_wrapping_key(_WRITTEN, password, salt, ITERATIONS), key)
    sealed = AESGCM(key).encrypt(iv, text.reveal(), header_text.encode())
    parts = (wrapped, iv, sealed[:-16], sealed[-16:])
    return Secret(".".join((header_text, *map(base64url, parts))).encode())


def _parsed(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        # The cause may quote what it read.
        raise DamagedFileError("the file begins as JSON and is none that can be read") from None
    if not isinstance(found, Mapping):
        raise UnsupportedFileError("JSON that is neither a JWK nor a JWK Set")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _read(members: Mapping[str, Any]) -> Contents:
    if "kty" in members:
        return _key(members)
    keys = members.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, Mapping) for key in keys):
        raise UnsupportedFileError("JSON that is neither a JWK nor a JWK Set")
    if not keys:
        raise UnsupportedFileError("a JWK Set without keys")
    if len(keys) > MAX_CERTIFICATES:
        raise TooCostlyError(f"{len(keys)} keys in one file; at most {MAX_CERTIFICATES} are read")
    return Contents.together(Format.JWKS, [_key(key) for key in keys])


def _key(members: Mapping[str, Any]) -> Contents:
    kinds = (members.get("kty"), members.get("crv"))
    with told_as_damage("the JWK"):
        match kinds:
            case ("RSA", _):
                public: Any = _rsa_public(members)
            case ("EC", str(curve)) if curve in _CURVES:
                size = (_CURVES[curve].key_size + 7) // 8
                x, y = (_sized(members, name, size) for name in ("x", "y"))
                public = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve], b"\x04" + x + y)
            case ("OKP", "Ed25519"):
                public = ed25519.Ed25519PublicKey.from_public_bytes(_sized(members, "x", 32))
            case ("OKP", "Ed448"):
                public = ed448.Ed448PublicKey.from_public_bytes(_sized(members, "x", 57))
            case (kty, curve):
                raise UnsupportedKeyError(
                    f"a JWK of kty {kty!r} and crv {curve!r}, which keyrelay does not read"
                )
    key = ForeignKey.of(public)
    certificates = _certificates(members, key)
    if "d" not in members:
        return Contents(
            format=Format.JWK, publics=(key,) if not certificates else (), certificates=certificates
        )
    private = _private(members, public)
    if private.public != key:
        raise DamagedFileError("the two halves of the JWK do not belong together")
    return Contents(format=Format.JWK, privates=(private,), certificates=certificates)


def _rsa_public(members: Mapping[str, Any]) -> rsa.RSAPublicKey:
    n, e = _number(members, "n"), _number(members, "e")
    if n.bit_length() > MOST_RSA_BITS:
        raise TooCostlyError(f"a key of RSA of {n.bit_length()} bits; at most {MOST_RSA_BITS} bits are read")
    return rsa.RSAPublicNumbers(e, n).public_key()


def _private(members: Mapping[str, Any], public: Any) -> ForeignPrivate:
    try:
        with told_as_damage("the JWK"):
            match public:
                case rsa.RSAPublicKey():
                    return ForeignPrivate.of(_rsa_private(members, public.public_numbers()))
                case ec.EllipticCurvePublicKey():
                    number = int.from_bytes(_sized(members, "d", (public.key_size + 7) // 8), "big")
                    return ForeignPrivate.of(ec.derive_private_key(number, public.curve))
                case ed25519.Ed25519PublicKey():
                    return ForeignPrivate.of(
                        ed25519.Ed25519PrivateKey.from_private_bytes(_sized(members, "d", 32))
                    )
                case _:
                    return ForeignPrivate.of(
                        ed448.Ed448PrivateKey.from_private_bytes(_sized(members, "d", 57))
                    )
    except DamagedFileError as error:
        raise DamagedFileError(error.message) from None


def _rsa_private(members: Mapping[str, Any], public: rsa.RSAPublicNumbers) -> rsa.RSAPrivateKey:
    if "oth" in members:
        raise UnsupportedKeyError(
            "a JWK of an RSA key with more than two primes, which keyrelay does not read"
        )
    d = _number(members, "d")
    if "p" in members:
        p, q, dp, dq, qi = (_number(members, name) for name in ("p", "q", "dp", "dq", "qi"))
    else:
        p, q = rsa.rsa_recover_prime_factors(public.n, public.e, d)
        dp, dq, qi = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(
        p=p, q=q, d=d, dmp1=dp, dmq1=dq, iqmp=qi, public_numbers=public
    ).private_key()


def _certificates(members: Mapping[str, Any], key: ForeignKey) -> tuple[ForeignCertificate, ...]:
    """The chain in ``x5c`` (RFC 7517 section 4.7): plain base64, the key's own certificate first."""
    chain = members.get("x5c", [])
    if not isinstance(chain, list) or not all(isinstance(one, str) for one in chain):
        raise DamagedFileError("a JWK whose x5c is not a list of certificates")
    if len(chain) > MAX_CERTIFICATES:
        raise TooCostlyError(f"{len(chain)} certificates in one key; at most {MAX_CERTIFICATES} are read")
    try:
        certificates = tuple(read_certificate(base64.b64decode(one, validate=True)) for one in chain)
    except (binascii.Error, ValueError) as error:
        raise DamagedFileError("a JWK whose x5c is not base64") from error
    if certificates and certificates[0].key != key:
        raise KeyMismatchError("the first certificate in the JWK's x5c is not one of its key")
    return certificates


def _number(members: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_member(members, name), "big")


def _sized(members: Mapping[str, Any], name: str, size: int) -> bytes:
    data = _member(members, name)
    if len(data) != size:
        raise DamagedFileError(f"a JWK whose {name!r} has {len(data)} octets, expected {size}")
    return data


def _member(members: Mapping[str, Any], name: str) -> bytes:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise DamagedFileError(f"a JWK without a text member {name!r}")
    return _decoded(value.encode("ascii", "replace"))


def _decoded(text: bytes) -> bytes:
    if not _is_base64url(text):
        raise DamagedFileError("a part of the JSON that is not base64url")
    try:
        return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        raise DamagedFileError("a part of the JSON that is not base64url") from None


def _is_base64url(text: bytes) -> bool:
    return text.replace(b"-", b"").replace(b"_", b"").isalnum() or not text


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _wrapping_key(name: str, password: Secret, salt: bytes, rounds: int) -> bytes:
    """RFC 7518 section 4.8.1.1: the algorithm's name stands before the salt."""
    if len(salt) < _LEAST_SALT_BYTES:
        raise DamagedFileError(
            f"a JWE whose salt has {len(salt)} octets, expected at least {_LEAST_SALT_BYTES}"
        )
    hashed, size = _KEY_SIZES[name]
    return hashlib.pbkdf2_hmac(hashed, password.reveal(), name.encode() + b"\0" + salt, rounds, size)


def _opened(encryption: str, key: bytes, header: bytes, iv: bytes, locked: bytes, tag: bytes) -> bytes:
    """RFC 7518 sections 5.2 and 5.3; raises ``InvalidTag`` or ``ValueError``."""
    if _GCM_BYTES.get(encryption) == len(key):
        return AESGCM(key).decrypt(iv, locked + tag, header)
    if encryption not in _CBC_BYTES:
        raise UnsupportedFileError(f"a JWE with enc {encryption!r}, which keyrelay does not read")
    hashed, size = _CBC_BYTES[encryption]
    told = header + iv + locked + (8 * len(header)).to_bytes(8, "big")
    if not hmac.compare_digest(hmac.digest(key[:size], told, hashed)[:size], tag):
        raise InvalidTag
    decryptor = Cipher(algorithms.AES(key[size:]), modes.CBC(iv)).decryptor()
    text = decryptor.update(locked) + decryptor.finalize()
    return text[: -text[-1]]
