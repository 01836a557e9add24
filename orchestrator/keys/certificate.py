"""Certificates (RFC 5280): what they say, whom they belong to, and whether a chain holds.

``cryptography.x509.verification`` follows the web's profile, which has no Ed25519 and no underscore in a
name; keyrelay's chains have both. ``verify_chain`` checks the parts of RFC 5280 section 6.1 that a chain of
keyrelay's own shape has (no policies, no name constraints) and refuses critical extensions it does not know.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Self, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
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
)
"""What ``cryptography`` raises for a certificate or a request that is damaged or unknown to it."""

_UNDERSTOOD = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)


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


def verify_chain(
    leaf: Certificate, intermediates: Sequence[Certificate], root: Certificate, *, at: datetime, name: str
) -> None:
    """Checks that ``leaf`` is a server's certificate for ``name``, under ``root``, at that moment.

    Args:
        leaf: the server's certificate.
        intermediates: from the leaf's issuer upwards, without the root.
        root: trusted by itself; its dates and its right to certify are checked all the same.
        at: aware.
        name: compared exactly, without regard to case; wildcards are not known.

    Raises:
        KeyMaterialError: the chain does not hold, a certificate has expired or is not yet valid, or the leaf
            is for other names; each in its own words, checked in this order.
    """
    check_links((leaf, *intermediates), (*intermediates, root))
    for certificate in (leaf, *intermediates, root):
        _check_dates(certificate, at)
    _check_leaf(leaf, name)


def check_links(certified: Iterable[Certificate], certifiers: Iterable[Certificate]) -> None:
    """Checks that each certificate is signed by the one that stands at its place among ``certifiers``.

    Args:
        certified: from the leaf upwards.
        certifiers: the issuer of each, which may certify so far above the leaf.

    Raises:
        KeyMaterialError: one is not, may not certify, or has a critical extension that is not understood.
    """
    for depth, (below, above) in enumerate(zip(certified, certifiers, strict=True)):
        for one in (below, above):
            unknown = [
                extension.oid.dotted_string
                for extension in one.opened.extensions
                if extension.critical and not isinstance(extension.value, _UNDERSTOOD)
            ]
            if unknown:
                raise _broken(one, f"has a critical extension that is not understood, {unknown[0]}")
        constraints = extension(above, x509.BasicConstraints)
        usage = extension(above, x509.KeyUsage)
        if constraints is None or not constraints.ca or usage is None or not usage.key_cert_sign:
            raise _broken(above, "may not certify others")
        if constraints.path_length is not None and depth > constraints.path_length:
            raise _broken(above, f"allows {constraints.path_length} issuers below it, found {depth}")
        try:
            below.opened.verify_directly_issued_by(above.opened)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            raise _broken(below, f"was not issued by {above.subject!r}") from error


def _check_dates(certificate: Certificate, at: datetime) -> None:
    if at < certificate.not_before:
        raise KeyMaterialError(
            f"the certificate of {certificate.subject!r} is not yet valid: it begins"
            f" {certificate.not_before.isoformat()}, and it is {at.astimezone(UTC).isoformat()}",
            hint="compare the clocks of this machine and of the one that issued it",
        )
    if at > certificate.not_after:
        raise KeyMaterialError(
            f"the certificate of {certificate.subject!r} has expired: it ended"
            f" {certificate.not_after.isoformat()}, and it is {at.astimezone(UTC).isoformat()}"
        )


def _check_leaf(leaf: Certificate, name: str) -> None:
    usage = extension(leaf, x509.KeyUsage)
    if leaf.is_ca or usage is None or not usage.digital_signature:
        raise _broken(leaf, "is not one of a server that signs messages")
    if name.lower() not in {known.lower() for known in leaf.names}:
        found = ", ".join(leaf.names) or "no name"
        raise KeyMaterialError(f"the certificate is for {found}; expected {name}")


def _broken(certificate: Certificate, what: str) -> KeyMaterialError:
    return KeyMaterialError(f"the chain does not hold: the certificate of {certificate.subject!r} {what}")


def extension(certificate: Certificate, kind: type[_Extension]) -> _Extension | None:
    """What a certificate says of one kind; None: nothing."""
    try:
        return certificate.opened.extensions.get_extension_for_class(kind).value
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
