"""Certificate revocation lists (RFC 5280 section 5): what an authority says is not to be relied on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import IssuerError
from orchestrator.keys.authority import Authority, subject_identifier
from orchestrator.keys.certificate import Certificate
from orchestrator.keys.material import SpkiDigest

CRL_BACKDATE = timedelta(minutes=5)
"""How long before its making a list is valid, so that hosts whose clocks run late accept it."""


class Reason(StrEnum):
    """Why a certificate is revoked, as RFC 5280 section 5.3.1 names it."""

    KEY_COMPROMISE = "keyCompromise"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """One certificate that its authority has revoked.

    Attributes:
        issuer: the key of the authority that issued it.
        serial: in lowercase hexadecimal.
        ends: the certificate's own end.
        at: since when it is revoked.
    """

    issuer: SpkiDigest
    serial: str
    ends: datetime
    at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCrl:
    """What is known of a list once it is signed.

    Attributes:
        next_update: by when there is to be a newer one.
        digest: SHA-256 (hex) of it in DER.
    """

    number: int
    signed: datetime
    next_update: datetime
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Crl:
    """A signed list.

    Attributes:
        der: as RFC 5280 wants it published.
        pem: the same in PEM.
    """

    der: bytes
    pem: str


def make_crl(
    authority: Authority, revoked: Sequence[Revoked], *, number: int, now: datetime, next_update: datetime
) -> Crl:
    """Signs a complete list of what ``authority`` has revoked.

    Args:
        authority: who issued the certificates.
        revoked: each serial once; what another authority issued is left out.
        number: higher than that of any list the authority has signed before (section 5.2.3).
        now: aware; the list is valid from ``CRL_BACKDATE`` earlier.
        next_update: aware; by when there is a newer list (section 5.1.2.5).

    Raises:
        IssuerError: the authority is not valid now, or the list would end before it begins.
    """
    certificate = authority.certificate
    if not certificate.not_before <= now <= certificate.not_after:
        raise IssuerError(
            f"{certificate.subject!r} signs no list now: its certificate is valid from"
            f" {certificate.not_before.isoformat()} to {certificate.not_after.isoformat()}",
            hint="renew it first",
        )
    if next_update <= now:
        raise IssuerError("a list that is never current would be of no use")
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.opened.subject)
        .last_update(_second(max(now - CRL_BACKDATE, certificate.not_before)))
        .next_update(_second(next_update))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier(subject_identifier(certificate), None, None), critical=False
        )
    )
    for one in (one for one in revoked if one.issuer == certificate.public_key.spki_digest):
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(int(one.serial, 16))
            .revocation_date(_second(one.at))
            .add_extension(x509.CRLReason(x509.ReasonFlags(one.reason)), critical=False)
            .build()
        )
    match authority.signer:
        case ed25519.Ed25519PrivateKey() as signer:
            made = builder.sign(signer, None)
        case ec.EllipticCurvePrivateKey() as signer:
            made = builder.sign(signer, hashes.SHA256(), ecdsa_deterministic=True)
        case rsa.RSAPrivateKey() as signer:
            made = builder.sign(signer, hashes.SHA256())
    return Crl(
        der=made.public_bytes(Encoding.DER),
        pem=made.public_bytes(Encoding.PEM).decode("ascii"),
    )


def is_issued_by(certificate: Certificate, authority: Certificate) -> bool:
    """Whether ``certificate`` names this authority and its key as its issuer; no signature is checked."""
    try:
        named = certificate.opened.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return False
    same_name = certificate.opened.issuer == authority.opened.subject
    return same_name and named.key_identifier == subject_identifier(authority)


def _second(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)
