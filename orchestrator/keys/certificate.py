"""Certificates (RFC 5280): what they say, and whose they are; ``keys/path.py`` tells whether they hold."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Self, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.material import PublicKey, ascii_text

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    TypeError,
    OverflowError,
    LookupError,
)
"""What ``cryptography`` raises for a certificate or a request that is damaged or unknown to it.

A name with a value of a kind that it does not know makes it raise ``TypeError``, for one.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate of a key that keyrelay can use.

    Attributes:
        pem: one ``CERTIFICATE`` block in canonical PEM, with the newline at the end.

    Raises:
        KeyMaterialError: damaged, not exactly one certificate, or of a key keyrelay does not use.
    """

    pem: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "pem", _facts(self.pem).pem)

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Takes a certificate object of ``cryptography``; raises ``KeyMaterialError``."""
        return cls(pem=certificate.public_bytes(Encoding.PEM).decode("ascii"))

    @property
    def opened(self) -> x509.Certificate:
        """The certificate as ``cryptography`` sees it."""
        return _facts(self.pem).opened

    @property
    def not_before(self) -> datetime:
        """The first second it is valid, UTC."""
        return _facts(self.pem).not_before

    @property
    def not_after(self) -> datetime:
        """The last second it is valid, UTC."""
        return _facts(self.pem).not_after

    @property
    def serial(self) -> int:
        """The serial number, positive."""
        return _facts(self.pem).serial

    @property
    def names(self) -> tuple[str, ...]:
        """The dNSNames of the subjectAltName, in their order."""
        return _facts(self.pem).names

    @property
    def public_key(self) -> PublicKey:
        """The key it certifies."""
        return _facts(self.pem).public_key

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER certificate: 64 lowercase hexadecimal digits."""
        return self.opened.fingerprint(hashes.SHA256()).hex()

    @property
    def issuer(self) -> str:
        """Who certified it, as RFC 4514 writes names."""
        return _facts(self.pem).issuer

    @property
    def subject(self) -> str:
        """Whose certificate it is, as RFC 4514 writes names."""
        return _facts(self.pem).subject

    @property
    def is_ca(self) -> bool:
        """Whether it may certify others (basicConstraints)."""
        return _facts(self.pem).is_ca


def parse_certificate(pem: str | bytes) -> Certificate:
    """Reads exactly one certificate; raises ``KeyMaterialError``."""
    return Certificate(pem=ascii_text(pem, "a certificate"))


def parse_chain(pem: str | bytes) -> tuple[Certificate, ...]:
    """Reads certificates in the order of the text, none from blank text; raises ``KeyMaterialError``."""
    text = ascii_text(pem, "certificates")
    if not text.strip():
        return ()
    try:
        return tuple(Certificate.of(one) for one in x509.load_pem_x509_certificates(text.encode()))
    except UNREADABLE as error:
        raise KeyMaterialError("a chain holds something that is no certificate in PEM") from error


def belongs_to(certificate: Certificate, public_key: PublicKey) -> bool:
    """Whether the certificate is one of this key."""
    return certificate.public_key == public_key


def extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """What a certificate says of one kind; None: nothing."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """All that follows from a certificate's encoding, computed at once and kept."""

    opened: x509.Certificate
    pem: str
    public_key: PublicKey
    serial: int
    issuer: str
    subject: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]
    is_ca: bool


@lru_cache(maxsize=8192)
def _facts(pem: str) -> _Facts:
    if pem.count("-----BEGIN ") != 1:
        raise KeyMaterialError("expected exactly one certificate in PEM")
    try:
        opened = x509.load_pem_x509_certificate(pem.encode())
        extensions = {type(extension.value): extension.value for extension in opened.extensions}
        alternative = extensions.get(x509.SubjectAlternativeName)
        constraints = extensions.get(x509.BasicConstraints)
        facts = _Facts(
            opened=opened,
            pem=opened.public_bytes(Encoding.PEM).decode("ascii"),
            public_key=PublicKey.of(opened.public_key()),
            serial=opened.serial_number,
            issuer=opened.issuer.rfc4514_string(),
            subject=opened.subject.rfc4514_string(),
            not_before=opened.not_valid_before_utc,
            not_after=opened.not_valid_after_utc,
            names=tuple(alternative.get_values_for_type(x509.DNSName))
            if isinstance(alternative, x509.SubjectAlternativeName)
            else (),
            is_ca=isinstance(constraints, x509.BasicConstraints) and constraints.ca,
        )
    except UNREADABLE as error:
        raise KeyMaterialError("not a certificate in PEM that can be read") from error
    if facts.serial <= 0:
        raise KeyMaterialError(f"a certificate whose serial number {facts.serial} is not positive")
    return facts
