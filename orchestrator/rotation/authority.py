"""Until when the fleet's own authority lasts, and from when on it is to be renewed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction

from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.policy.expiry import part_of
from orchestrator.rotation.recorded import Recorded

RENEW_AT = Fraction(2, 3)
"""The part of its life after which an authority, or a list of revoked certificates, is due."""

USUAL_LIFETIME = timedelta(days=365)
"""Of certificates, where no playbook was applied yet."""


class Role(StrEnum):
    """What of the authority comes to an end."""

    ROOT = "root"
    ISSUER = "issuer"
    CRL = "crl"
    """The newest list of revoked certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueAuthority:
    """A part of the fleet's own authority.

    Attributes:
        due_at: from when on it is to be renewed.
        ends_at: when its certificate ends, or when the list is not current any more.
    """

    role: Role
    due_at: datetime
    ends_at: datetime


def authorities(recorded: Recorded) -> tuple[DueAuthority, ...]:
    """Issuer and root, and the list of revoked certificates if there ever was one.

    A certificate is due at two thirds of its life, or earlier: as soon as what it certifies next would
    outlive it. The issuer certifies for the longest lifetime of any playbook, the root for an issuer's.
    """
    if not recorded.root:
        return ()
    root, issuer = parse_certificate(recorded.root), parse_certificate(recorded.issuer)
    longest = max(
        (one.certificate.lifetime for one in recorded.playbooks.values() if one.issuer is None),
        default=USUAL_LIFETIME,
    )
    found = [
        _due(Role.ISSUER, issuer, longest),
        _due(Role.ROOT, root, issuer.not_after - issuer.not_before),
    ]
    if (crl := recorded.crl) is not None:
        at = crl.signed + part_of(crl.next_update - crl.signed, RENEW_AT)
        found.append(DueAuthority(role=Role.CRL, due_at=at, ends_at=crl.next_update))
    return tuple(found)


def _due(role: Role, certificate: Certificate, certifies_for: timedelta) -> DueAuthority:
    begin, end = certificate.not_before, certificate.not_after
    at = min(begin + part_of(end - begin, RENEW_AT), end - certifies_for)
    return DueAuthority(role=role, due_at=max(at, begin), ends_at=end)
