"""Trust in whatever an issuer certifies: for which servers, but for which keys, and how long.

An agent that trusts by delegation holds no server's key. It holds an issuer's certificate, the names that the
issuer may vouch for, and the keys that it must not. ``fault_of`` is the whole rule, for everything that is no
host; ``remote/host/vouching.sh`` is the same rule for hosts, on ``openssl``.

The issuer must have signed the certificate itself. There is nothing between the two, so that a server's own
key can vouch for nobody, and nothing above, so that no other authority can. The certificate names exactly one
server, compared whole: no wildcards, and no common name, which RFC 6125 section 6.4.4 lets go out of use.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.certificate import Certificate, extension
from orchestrator.keys.material import PublicKey, SpkiDigest
from orchestrator.keys.path import check_path, whole

_SECOND = timedelta(seconds=1)


class Fault(StrEnum):
    """Why a certificate does not vouch for its key."""

    DENIED = "denied"
    """The key is one that the bundle names as denied."""
    UNCERTIFIED = "uncertified"
    """It is not the issuer's, not for this server alone, not for signing, or not valid yet."""
    EXPIRED = "expired"
    """It has ended, and so has the grace; nothing else is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """An agent believes whatever key an issuer certifies for a server.

    Attributes:
        server: the one name that the certificate must have.
        issuer: the issuer's own certificate.
        grace: for how long after its end a server's certificate is accepted, in whole seconds.

    Raises:
        ValueError: a server name that does not fit a line, a grace below zero.
    """

    server: str
    issuer: Certificate
    grace: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        check_server_name(self.server)
        if self.grace < timedelta(0):
            raise ValueError(f"a grace of {self.grace} is less than none")
        object.__setattr__(self, "grace", self.grace // _SECOND * _SECOND)

    @property
    def issuer_key(self) -> SpkiDigest:
        """What hosts call the issuer."""
        return self.issuer.public_key.spki_digest

    def line(self) -> bytes:
        """Its line in the bundle's file ``delegations``."""
        return f"{self.server} {self.issuer_key} {self.grace // _SECOND}\n".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """A key that agents refuse although its certificate is good.

    Attributes:
        key: the key.
        expires: when its certificate and the grace have ended, so that it need not be denied any more.
    """

    key: PublicKey
    expires: datetime

    def __post_init__(self) -> None:
        if self.expires.tzinfo is None:
            raise ValueError("the expiry of a denied key has no time zone")
        object.__setattr__(self, "expires", self.expires.astimezone(UTC).replace(microsecond=0))

    @property
    def exp(self) -> int:
        """``expires`` as seconds since 1970."""
        return int(self.expires.timestamp())

    def line(self) -> bytes:
        """Its line in the bundle's file ``denied``."""
        return f"{self.key.spki_digest} {self.exp}\n".encode()


def check_server_name(server: str) -> None:
    """Checks that a name fits a line; raises ``ValueError``."""
    if not server or not server.isprintable() or " " in server:
        raise ValueError(f"server name {server!r} is empty or has blanks or control characters")


def fault_of(
    certificate: Certificate,
    *,
    server: str,
    issuer: Certificate,
    grace: timedelta,
    denied: Collection[SpkiDigest],
    at: datetime,
) -> Fault | None:
    """Why a certificate does not vouch for its key as one of this server; None: it does.

    Args:
        certificate: the server's.
        server: the name asked for.
        issuer: the certificate of the issuer that is trusted for this name.
        grace: how long after its end the certificate is accepted.
        denied: keys that are refused.
        at: aware.
    """
    if certificate.public_key.spki_digest in denied:
        return Fault.DENIED
    if not _is_issued(certificate, issuer, at) or not _is_for(certificate, server):
        return Fault.UNCERTIFIED
    return Fault.EXPIRED if at > certificate.not_after + grace else None


def _is_issued(certificate: Certificate, issuer: Certificate, at: datetime) -> bool:
    try:
        check_path((whole(certificate), whole(issuer)))
    except KeyMaterialError:
        return False
    return at >= certificate.not_before and issuer.not_before <= at <= issuer.not_after


def _is_for(certificate: Certificate, server: str) -> bool:
    """Whether it is a certificate of this server and no other, to sign with and not to certify."""
    constraints = extension(certificate.opened, x509.BasicConstraints)
    usage = extension(certificate.opened, x509.KeyUsage)
    extended = extension(certificate.opened, x509.ExtendedKeyUsage)
    alternative = extension(certificate.opened, x509.SubjectAlternativeName)
    return (
        constraints is not None
        and not constraints.ca
        and usage is not None
        and usage.digital_signature
        and (extended is None or ExtendedKeyUsageOID.SERVER_AUTH in extended)
        and alternative is not None
        and list(alternative) == [x509.DNSName(server)]
    )
