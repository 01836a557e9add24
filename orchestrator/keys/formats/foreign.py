"""Keys and certificates of any kind, as they come from other programs.

keyrelay hands over three kinds of key (``keys/kinds.py``) and looks at many more: whoever imports a chain
has a foreign authority in it. What is weak here is what nobody should rely on any more: RSA under 2,048 bits
and curves under 224, which is a strength of 112 bits (NIST SP 800-131A), and signatures over MD5 or SHA-1.
"""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from cryptography.x509.oid import SignatureAlgorithmOID

from orchestrator.errors import (
    DamagedFileError,
    KeyMaterialError,
    TooCostlyError,
    UnsupportedFileError,
    UnsupportedKeyError,
    WeakKeyError,
)
from orchestrator.keys.certificate import UNREADABLE, Certificate
from orchestrator.keys.kinds import Algorithm
from orchestrator.keys.material import KeyPair, PublicKey, load_private
from orchestrator.keys.secret import Secret

LEAST_RSA_BITS = 2048
LEAST_CURVE_BITS = 224
"""112 bits of strength, as RSA of 2,048 bits has (NIST SP 800-57 part 1, table 2)."""

MOST_RSA_BITS = 8192
"""What a larger key gains is nothing, and to examine one takes seconds."""

_NAME_LENGTH = 100

_WEAK_SIGNATURES = frozenset(
    {
        SignatureAlgorithmOID.RSA_WITH_MD5,
        SignatureAlgorithmOID.RSA_WITH_SHA1,
        SignatureAlgorithmOID._RSA_WITH_SHA1,  # noqa: SLF001 - the second identifier of the same, from OIW
        SignatureAlgorithmOID.ECDSA_WITH_SHA1,
        SignatureAlgorithmOID.DSA_WITH_SHA1,
        x509.ObjectIdentifier("1.2.840.113549.1.1.2"),
        x509.ObjectIdentifier("1.2.840.113549.1.1.3"),
    }
)
"""MD2, MD4, MD5 and SHA-1, under all the names they have."""

_SIGNERS = (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey, rsa.RSAPublicKey)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A public key of whatever kind.

    Attributes:
        der: SubjectPublicKeyInfo as ``cryptography`` writes it; equal for equal keys.
        kind: for people, e.g. ``RSA of 2048 bits``.
        weak: why nobody should rely on it; empty: one may.
    """

    der: bytes
    kind: str
    weak: str

    @classmethod
    def of(cls, key: Any) -> Self:
        """Takes a public key object of ``cryptography``.

        Raises:
            UnsupportedKeyError: of a kind that does not sign, or that nobody signs with any more.
            TooCostlyError: too large to be examined.
        """
        weak = ""
        match key:
            case rsa.RSAPublicKey():
                kind = f"RSA of {key.key_size} bits"
                if key.key_size > MOST_RSA_BITS:
                    raise TooCostlyError(f"a key of {kind}; at most {MOST_RSA_BITS} bits are read")
                if key.key_size < LEAST_RSA_BITS:
                    weak = f"at least {LEAST_RSA_BITS} bits are needed"
            case ec.EllipticCurvePublicKey():
                kind = f"ECDSA on {key.curve.name}"
                if key.key_size < LEAST_CURVE_BITS:
                    weak = f"a curve of at least {LEAST_CURVE_BITS} bits is needed"
            case ed25519.Ed25519PublicKey():
                kind = "Ed25519"
            case ed448.Ed448PublicKey():
                kind = "Ed448"
            case dsa.DSAPublicKey():
                kind, weak = f"DSA of {key.key_size} bits", "DSA is withdrawn (FIPS 186-5)"
            case _:
                name = type(key).__name__.removesuffix("PublicKey")
                raise UnsupportedKeyError(f"a key of kind {name}, which keyrelay does not read")
        try:
            encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise DamagedFileError("a public key that cannot be written again") from error
        return cls(der=encoded, kind=kind, weak=weak)

    @property
    def spki_digest(self) -> str:
        """SHA-256 of ``der``, hexadecimal: what hosts call a key."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def public(self) -> PublicKey:
        """The key as keyrelay hands it over.

        Raises:
            UnsupportedKeyError: of another kind than those.
        """
        try:
            return PublicKey.from_der(self.der)
        except KeyMaterialError as error:
            *first, last = Algorithm
            raise UnsupportedKeyError(
                f"the key is {self.kind}; expected {', '.join(first)} or {last}",
                hint="keyrelay hands over keys of these kinds alone; make one with: keyrelay cert create",
            ) from error

    def require_strong(self, whose: str) -> None:
        """Raises ``WeakKeyError`` where nobody should rely on it; ``whose`` begins the sentence."""
        if self.weak:
            raise WeakKeyError(f"{whose} is {self.kind}: too weak, {self.weak}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignPrivate:
    """A private key of whatever kind.

    Attributes:
        pkcs8: unencrypted PKCS #8 in DER.
    """

    public: ForeignKey
    pkcs8: Secret

    @classmethod
    def of(cls, key: Any) -> Self:
        """Takes a private key object of ``cryptography`` that was examined; raises as ``ForeignKey.of``."""
        public = ForeignKey.of(key.public_key())
        try:
            encoded = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        except (ValueError, UnsupportedAlgorithm):
            raise DamagedFileError("a private key that cannot be written again") from None
        return cls(public=public, pkcs8=Secret(encoded))

    @property
    def pair(self) -> KeyPair:
        """The key as keyrelay hands it over; raises ``UnsupportedKeyError`` for another kind."""
        public = self.public.public
        opened = load_der_private_key(self.pkcs8.reveal(), None, unsafe_skip_rsa_key_validation=True)
        pair = load_private(Secret(opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())))
        if pair.public != public:
            raise DamagedFileError("the two halves of the private key do not belong together")
        return pair


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignCertificate:
    """A certificate of whatever kind of key, read whole.

    Attributes:
        der: as it was read.
        opened: as ``cryptography`` sees it.
        weak: why nobody should rely on its signature; empty: one may.
        names: the dNSNames of the subjectAltName, in their order.
        is_ca: whether it may certify others (basicConstraints).
    """

    der: bytes
    opened: x509.Certificate = field(repr=False, compare=False)
    key: ForeignKey
    subject: str
    issuer: str
    serial: int
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]
    is_ca: bool
    weak: str

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Takes a certificate object of ``cryptography`` and reads all of it.

        Raises:
            DamagedFileError: a part of it is malformed.
            UnsupportedFileError: a part of it is of a kind that is not read.
            UnsupportedKeyError: of a key that does not sign.
        """
        with told_as_damage("the certificate"):
            extensions = {type(extension.value): extension.value for extension in certificate.extensions}
            key, algorithm = certificate.public_key(), certificate.signature_algorithm_oid
            alternative = extensions.get(x509.SubjectAlternativeName)
            constraints = extensions.get(x509.BasicConstraints)
            return cls(
                der=certificate.public_bytes(Encoding.DER),
                opened=certificate,
                key=ForeignKey.of(key),
                subject=certificate.subject.rfc4514_string(),
                issuer=certificate.issuer.rfc4514_string(),
                serial=certificate.serial_number,
                not_before=certificate.not_valid_before_utc,
                not_after=certificate.not_valid_after_utc,
                names=tuple(alternative.get_values_for_type(x509.DNSName))
                if isinstance(alternative, x509.SubjectAlternativeName)
                else (),
                is_ca=isinstance(constraints, x509.BasicConstraints) and constraints.ca,
                weak="signed over MD5 or SHA-1" if _is_weak(certificate, algorithm) else "",
            )

    @property
    def name(self) -> str:
        """Its subject, cut short where it is long, for sentences."""
        return self.subject if len(self.subject) <= _NAME_LENGTH else f"{self.subject[:_NAME_LENGTH]}…"

    @property
    def pem(self) -> str:
        """One ``CERTIFICATE`` block, with the newline at the end."""
        return self.opened.public_bytes(Encoding.PEM).decode("ascii")

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer are one (RFC 5280 section 6.1)."""
        return self.opened.subject == self.opened.issuer

    @property
    def certificate(self) -> Certificate:
        """The certificate as keyrelay hands it over; raises ``UnsupportedKeyError`` for other keys."""
        _ = self.key.public
        try:
            return Certificate.of(self.opened)
        except KeyMaterialError as error:
            raise DamagedFileError(f"the certificate of {self.name!r}: {error.message}") from error

    def require_strong(self) -> None:
        """Raises ``WeakKeyError`` where nobody should rely on its key or on the signature on it."""
        self.key.require_strong(f"the key of {self.name!r}")
        if self.weak:
            raise WeakKeyError(
                f"the certificate of {self.name!r} is {self.weak}, which can be forged",
                hint="have its issuer certify the key anew, over SHA-256 or better",
            )


@contextmanager
def told_as_damage(what: str) -> Iterator[None]:
    """Turns what ``cryptography`` raises, or warns of, while it reads ``what`` into errors with words."""
    try:
        with warnings.catch_warnings():
            # What it will refuse one day is judged here by rules of our own.
            warnings.simplefilter("ignore")
            yield
    except UnsupportedAlgorithm as error:
        raise UnsupportedFileError(f"{what} uses something that keyrelay does not know: {error}") from error
    except x509.UnsupportedGeneralNameType as error:
        raise UnsupportedFileError(f"{what} has a kind of name that keyrelay does not know") from error
    except UNREADABLE as error:
        raise DamagedFileError(f"{what} is damaged: a part of it is malformed") from error


def _is_weak(certificate: x509.Certificate, algorithm: x509.ObjectIdentifier) -> bool:
    if algorithm == SignatureAlgorithmOID.RSASSA_PSS:
        hashed = certificate.signature_hash_algorithm
        return hashed is None or hashed.name in {"md5", "sha1"}
    return algorithm in _WEAK_SIGNATURES
