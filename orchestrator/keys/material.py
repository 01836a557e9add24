"""Key pairs and public keys of the kinds keyrelay hands over, and what names them.

A public key is known by two digests. Applications and the ledger use the JWK thumbprint (RFC 7638, with
the members of RFC 8037 section 2 for Ed25519); hosts, which have ``openssl`` and ``sha256sum`` but no JSON,
use the SHA-256 of the DER SubjectPublicKeyInfo. Both are computed from the canonical encoding, so one key
has one name however it was written.

Everything here is a function of its arguments, but for one: ``generate`` takes its randomness from the
caller and cannot for RSA. Signatures are deterministic, those of ECDSA by RFC 6979.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
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
from orchestrator.keys.jwk import base64url, jwk_of, key_of
from orchestrator.keys.kinds import (
    RSA_BITS,
    RSA_EXPONENT,
    Algorithm,
    Signer,
    Verifier,
    algorithm_of,
    supported,
    supported_private,
)
from orchestrator.keys.secret import Secret

__all__ = [
    "Algorithm",
    "KeyPair",
    "PublicKey",
    "Random",
    "SpkiDigest",
    "Thumbprint",
    "ascii_text",
    "generate",
    "load_private",
    "open_signer",
    "sign",
]

Thumbprint = NewType("Thumbprint", str)
"""RFC 7638 thumbprint with SHA-256: base64url without padding, 43 characters."""

SpkiDigest = NewType("SpkiDigest", str)
"""SHA-256 of the DER SubjectPublicKeyInfo: 64 lowercase hexadecimal digits."""

Random = Callable[[int], bytes]
"""Gives that many bytes nobody can predict; in production the operating system's."""

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """One public key, in its canonical form whatever form it came in.

    Attributes:
        pem: SubjectPublicKeyInfo as ``openssl pkey -pubin`` prints it, with the newline at the end.

    Raises:
        KeyMaterialError: damaged, not exactly one key, a kind keyrelay does not use, or a weak key.
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
        """Reads a public JWK; raises ``KeyMaterialError`` as ``jwk.key_of`` and ``of`` do."""
        return cls.of(key_of(members))

    @classmethod
    def of(cls, key: object) -> Self:
        """Takes a key object of ``cryptography``; raises ``KeyMaterialError`` for other kinds."""
        return cls(pem=_encode(supported(key), Encoding.PEM).decode("ascii"))

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
                case rsa.RSAPublicKey() as key:
                    key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
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
    """Makes a key pair; from the caller's randomness, unless it is RSA.

    Ed25519 takes 32 bytes (RFC 8032 section 5.1.5); P-256 takes 40, so that reducing them modulo n-1 leaves
    no bias that matters (FIPS 186-5 appendix A.2.1, extra random bits). RSA leaves ``random`` alone: OpenSSL
    looks for the primes with its own generator, for some tenths of a second, and no API hands it another.
    """
    match algorithm:
        case Algorithm.ED25519:
            signer: Signer = ed25519.Ed25519PrivateKey.from_private_bytes(_draw(random, 32))
        case Algorithm.ECDSA_P256:
            scalar = int.from_bytes(_draw(random, 40), "big") % (_P256_ORDER - 1) + 1
            signer = ec.derive_private_key(scalar, ec.SECP256R1())
        case Algorithm.RSA_3072:
            signer = rsa.generate_private_key(RSA_EXPONENT, RSA_BITS)
    pem = signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(public=PublicKey.of(signer.public_key()), private=Secret(pem))


def load_private(pem: Secret) -> KeyPair:
    """Reads one unencrypted private key in PEM (PKCS#8, SEC 1 or PKCS#1) and finds its public half.

    An RSA key is examined whole, its primes included, which takes 0.1 s.

    Raises:
        KeyMaterialError: damaged, encrypted, not exactly one key, or a kind keyrelay does not use.
    """
    signer = _open(pem, examined=False)
    private = signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(public=PublicKey.of(signer.public_key()), private=Secret(private))


def open_signer(pem: Secret) -> Signer:
    """The key object of ``cryptography`` for the private key of a ``KeyPair``.

    It must come from ``generate`` or ``load_private``: what the latter found out is not found out again.

    Raises:
        KeyMaterialError: as ``load_private`` does.
    """
    return _open(pem, examined=True)


def sign(private: Secret, message: bytes) -> bytes:
    """Signs with the private key of a ``KeyPair``.

    Returns:
        Ed25519: the 64 raw bytes. P-256: an ECDSA signature in DER over SHA-256 (RFC 6979). RSA: the 384
        bytes of RSASSA-PKCS1-v1_5 over SHA-256 (RFC 8017 section 8.2). ``openssl pkeyutl -rawin`` makes and
        takes each of them.

    Raises:
        KeyMaterialError: as ``open_signer`` does.
    """
    match open_signer(private):
        case ed25519.Ed25519PrivateKey() as key:
            return key.sign(message)
        case ec.EllipticCurvePrivateKey() as key:
            return key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        case rsa.RSAPrivateKey() as key:
            return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


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
        key = supported(load_pem_public_key(pem.encode()))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyMaterialError("not a public key in PEM that can be read") from error
    der = _encode(key, Encoding.DER)
    jwk = jwk_of(key)
    canonical = json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode("ascii")
    return _Facts(
        key=key,
        pem=_encode(key, Encoding.PEM).decode("ascii"),
        der=der,
        algorithm=algorithm_of(key),
        jwk=jwk,
        thumbprint=Thumbprint(base64url(hashlib.sha256(canonical).digest())),
        spki_digest=SpkiDigest(hashlib.sha256(der).hexdigest()),
    )


def _open(pem: Secret, *, examined: bool) -> Signer:
    if pem.reveal().count(b"-----BEGIN ") != 1:
        raise KeyMaterialError("expected exactly one private key in PEM")
    try:
        key = load_pem_private_key(pem.reveal(), password=None, unsafe_skip_rsa_key_validation=examined)
    except TypeError as error:
        raise KeyMaterialError(
            "the private key is encrypted", hint="decrypt it first: openssl pkey -in FILE"
        ) from error
    except (ValueError, UnsupportedAlgorithm):
        # The cause may quote what it read; a private key's bytes stay out of every traceback.
        raise KeyMaterialError("the private key is damaged or of a kind that cannot be read") from None
    return supported_private(key)


def _encode(key: Verifier, encoding: Encoding) -> bytes:
    return key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def _draw(random: Random, count: int) -> bytes:
    data = random(count)
    if len(data) != count:
        raise ValueError(f"the source of randomness gave {len(data)} bytes, not {count}")
    return data
