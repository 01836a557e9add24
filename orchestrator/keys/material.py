"""Key pairs and public keys of the two kinds keyrelay hands over, and what names them.

A public key is known by two digests. Applications and the ledger use the JWK thumbprint (RFC 7638, with
the members of RFC 8037 section 2 for Ed25519); hosts, which have ``openssl`` and ``sha256sum`` but no JSON,
use the SHA-256 of the DER SubjectPublicKeyInfo. Both are computed from the canonical encoding, so one key
has one name however it was written.

Everything here is a function of its arguments: key generation takes its randomness from the caller, and
ECDSA signs deterministically (RFC 6979).
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NewType, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.secret import Secret

Thumbprint = NewType("Thumbprint", str)
"""RFC 7638 thumbprint with SHA-256: base64url without padding, 43 characters."""

SpkiDigest = NewType("SpkiDigest", str)
"""SHA-256 of the DER SubjectPublicKeyInfo: 64 lowercase hexadecimal digits."""

Random = Callable[[int], bytes]
"""Gives that many bytes nobody can predict; in production the operating system's."""

Verifier = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
Signer = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ED25519_FIELD = 2**255 - 19
_ED25519_D = -121665 * pow(121666, -1, _ED25519_FIELD) % _ED25519_FIELD
_COORDINATE_BYTES = 32


class Algorithm(StrEnum):
    """The kinds of key a playbook may ask for."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """One public key, in its canonical form whatever form it came in.

    Attributes:
        pem: SubjectPublicKeyInfo as ``openssl pkey -pubin`` prints it, with the newline at the end.

    Raises:
        KeyMaterialError: damaged, not exactly one key, a kind keyrelay does not use, or a weak point.
    """

    pem: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "pem", _facts(self.pem).pem)

    @classmethod
    def from_pem(cls, text: str | bytes) -> Self:
        """Reads one ``PUBLIC KEY`` block; raises ``KeyMaterialError``."""
        return cls(pem=ascii_text(text, "a public key"))

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Reads a DER SubjectPublicKeyInfo with nothing after it; raises ``KeyMaterialError``."""
        try:
            key = load_der_public_key(der)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyMaterialError("not a DER public key that can be read") from error
        return cls.of(key)

    @classmethod
    def from_jwk(cls, members: Mapping[str, object]) -> Self:
        """Reads a public JWK (RFC 7517; RFC 7518 section 6.2 or RFC 8037); other members are left alone.

        Raises:
            KeyMaterialError: another ``kty`` or ``crv``, a private key, or coordinates of no such point.
        """
        if "d" in members:
            raise KeyMaterialError("a JWK with a private key stands where a public key belongs")
        try:
            match (members.get("kty"), members.get("crv")):
                case ("OKP", "Ed25519"):
                    return cls.of(ed25519.Ed25519PublicKey.from_public_bytes(_coordinate(members, "x")))
                case ("EC", "P-256"):
                    point = b"\x04" + _coordinate(members, "x") + _coordinate(members, "y")
                    return cls.of(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
                case (kty, crv):
                    raise KeyMaterialError(
                        f"JWK of kty {kty!r} and crv {crv!r}; expected OKP/Ed25519 or EC/P-256"
                    )
        except ValueError as error:
            raise KeyMaterialError("a JWK's coordinates are no point of its curve") from error

    @classmethod
    def of(cls, key: object) -> Self:
        """Takes a key object of ``cryptography``; raises ``KeyMaterialError`` for other kinds."""
        return cls(pem=_encode(_supported(key), Encoding.PEM).decode("ascii"))

    @property
    def algorithm(self) -> Algorithm:
        """The kind of key."""
        return _facts(self.pem).algorithm

    @property
    def der(self) -> bytes:
        """Canonical DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), points uncompressed."""
        return _facts(self.pem).der

    @property
    def thumbprint(self) -> Thumbprint:
        """RFC 7638 thumbprint: what people and the ledger call this key."""
        return _facts(self.pem).thumbprint

    @property
    def spki_digest(self) -> SpkiDigest:
        """SHA-256 of ``der``: what hosts call this key."""
        return _facts(self.pem).spki_digest

    @property
    def jwk(self) -> Mapping[str, str]:
        """The required members of the public JWK, a new mapping each time, without ``kid``."""
        return dict(_facts(self.pem).jwk)

    @property
    def opened(self) -> Verifier:
        """The key as ``cryptography`` sees it."""
        return _facts(self.pem).key

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` (as ``sign`` makes it) over ``message`` was made with this key."""
        try:
            match self.opened:
                case ed25519.Ed25519PublicKey() as key:
                    key.verify(signature, message)
                case ec.EllipticCurvePublicKey() as key:
                    key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A key of a server or of the fleet's authority.

    Attributes:
        public: the public half.
        private: PKCS#8 PEM, unencrypted, as ``openssl pkey`` reads it (RFC 5958).
    """

    public: PublicKey
    private: Secret


def generate(algorithm: Algorithm, *, random: Random) -> KeyPair:
    """Makes a key pair from the caller's randomness.

    Ed25519 takes 32 bytes (RFC 8032 section 5.1.5); P-256 takes 40, so that reducing them modulo n-1 leaves
    no bias that matters (FIPS 186-5 appendix A.2.1, extra random bits).
    """
    match algorithm:
        case Algorithm.ED25519:
            signer: Signer = ed25519.Ed25519PrivateKey.from_private_bytes(_draw(random, 32))
        case Algorithm.ECDSA_P256:
            scalar = int.from_bytes(_draw(random, 40), "big") % (_P256_ORDER - 1) + 1
            signer = ec.derive_private_key(scalar, ec.SECP256R1())
    pem = signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(public=PublicKey.of(signer.public_key()), private=Secret(pem))


def load_private(pem: Secret) -> KeyPair:
    """Reads one unencrypted private key in PEM (PKCS#8 or SEC 1) and finds its public half.

    Raises:
        KeyMaterialError: damaged, encrypted, not exactly one key, or a kind keyrelay does not use.
    """
    signer = open_signer(pem)
    private = signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(public=PublicKey.of(signer.public_key()), private=Secret(private))


def open_signer(pem: Secret) -> Signer:
    """The key object of ``cryptography`` for a private key in PEM; raises as ``load_private`` does."""
    if pem.reveal().count(b"-----BEGIN ") != 1:
        raise KeyMaterialError("expected exactly one private key in PEM")
    try:
        key = load_pem_private_key(pem.reveal(), password=None)
    except TypeError as error:
        raise KeyMaterialError(
            "the private key is encrypted", hint="decrypt it first: openssl pkey -in FILE"
        ) from error
    except (ValueError, UnsupportedAlgorithm):
        # The cause may quote what it read; a private key's bytes stay out of every traceback.
        raise KeyMaterialError("the private key is damaged or of a kind that cannot be read") from None
    match key:
        case ed25519.Ed25519PrivateKey():
            return key
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1):
            return key
        case _:
            raise _other_kind("private")


def sign(private: Secret, message: bytes) -> bytes:
    """Signs: Ed25519 gives the 64 raw bytes, P-256 an ECDSA signature in DER over SHA-256 (RFC 6979).

    Both are what ``openssl pkeyutl`` makes and takes. Raises as ``load_private`` does.
    """
    match open_signer(private):
        case ed25519.Ed25519PrivateKey() as key:
            return key.sign(message)
        case ec.EllipticCurvePrivateKey() as key:
            return key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def ascii_text(text: str | bytes, what: str) -> str:
    """PEM as text; ``what`` names it in the error for bytes that are none."""
    try:
        return text if isinstance(text, str) else text.decode("ascii")
    except UnicodeDecodeError as error:
        raise KeyMaterialError(f"expected {what} in PEM, found bytes that are not text") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """All that follows from a public key's encoding, computed once."""

    key: Verifier
    pem: str
    der: bytes
    algorithm: Algorithm
    jwk: Mapping[str, str]
    thumbprint: Thumbprint
    spki_digest: SpkiDigest


@lru_cache(maxsize=8192)
def _facts(pem: str) -> _Facts:
    if pem.count("-----BEGIN ") != 1:
        raise KeyMaterialError("expected exactly one public key in PEM")
    try:
        key = _supported(load_pem_public_key(pem.encode()))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyMaterialError("not a public key in PEM that can be read") from error
    der = _encode(key, Encoding.DER)
    jwk = _jwk(key)
    canonical = json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode("ascii")
    return _Facts(
        key=key,
        pem=_encode(key, Encoding.PEM).decode("ascii"),
        der=der,
        algorithm=Algorithm.ED25519 if isinstance(key, ed25519.Ed25519PublicKey) else Algorithm.ECDSA_P256,
        jwk=jwk,
        thumbprint=Thumbprint(base64url(hashlib.sha256(canonical).digest())),
        spki_digest=SpkiDigest(hashlib.sha256(der).hexdigest()),
    )


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _supported(key: object) -> Verifier:
    match key:
        case ed25519.Ed25519PublicKey():
            _require_sound_point(key.public_bytes_raw())
            return key
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return key
        case _:
            raise _other_kind("public")


def _other_kind(half: str) -> KeyMaterialError:
    kinds = " or ".join(Algorithm)
    return KeyMaterialError(f"a {half} key of a kind keyrelay does not use; expected {kinds}")


def _require_sound_point(encoded: bytes) -> None:
    """Refuses Ed25519 keys that name no point, or one of small order, with which anybody can sign.

    OpenSSL loads any 32 bytes; RFC 8032 section 5.1.3 decodes only canonical points. A point's order divides
    8 when doubling it three times gives the neutral point, for which y is 1.
    """
    p = _ED25519_FIELD
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    x2 = (y * y - 1) * pow(_ED25519_D * y * y + 1, -1, p) % p
    if y >= p or (x2 and pow(x2, (p - 1) // 2, p) != 1):
        raise KeyMaterialError("the Ed25519 public key is no point of its curve")
    for _ in range(3):
        # On the curve -x² + y² = 1 + d·x²·y² doubling gives y' = (y² + x²) / (2 + x² - y²).
        y2 = (y * y) % p
        y = (y2 + x2) * pow(2 + x2 - y2, -1, p) % p
        x2 = (y * y - 1) * pow(_ED25519_D * y * y + 1, -1, p) % p
    if y == 1:
        raise KeyMaterialError("the Ed25519 public key is a point of small order: anybody could sign")


def _encode(key: Verifier, encoding: Encoding) -> bytes:
    return key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def _jwk(key: Verifier) -> dict[str, str]:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_bytes_raw())}
    point = key.public_numbers()
    x, y = (base64url(number.to_bytes(_COORDINATE_BYTES, "big")) for number in (point.x, point.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def _coordinate(members: Mapping[str, object], name: str) -> bytes:
    value = members.get(name)
    if not isinstance(value, str):
        raise KeyMaterialError(f"a JWK without a text member {name!r}")
    try:
        data = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise KeyMaterialError(f"a JWK whose {name!r} is not base64url") from error
    if len(data) != _COORDINATE_BYTES or base64url(data) != value:
        raise KeyMaterialError(f"a JWK whose {name!r} is not {_COORDINATE_BYTES} bytes in base64url")
    return data


def _draw(random: Random, count: int) -> bytes:
    data = random(count)
    if len(data) != count:
        raise ValueError(f"the source of randomness gave {len(data)} bytes, not {count}")
    return data
