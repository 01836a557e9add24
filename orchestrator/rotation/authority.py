"""Until when the fleet's own authority lasts, and from when on it is to be renewed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction

from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.keys.revocation import SignedCrl
from orchestrator.policy.expiry import part_of
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.revocations import orphaned_issuers, signing_issuers

RENEW_AT = Fraction(2, 3)
"""The part of its life after which an authority, or a list of revoked certificates, is due."""

USUAL_LIFETIME = timedelta(days=365)
"""Of certificates, where no playbook was applied yet."""


class Role(StrEnum):
    """What of the authority comes to an end."""

    ROOT = "root"
    ISSUER = "issuer"
    CRL = "crl"
    """The lists of what issuers revoked."""
    ROOT_CRL = "root-crl"
    """The list of issuers that the root revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueAuthority:
    """A part of the fleet's own authority.

    Attributes:
        due_at: from when on it is to be renewed.
        ends_at: when its certificate ends, or when the list is not current any more; None: there is no
            list yet.
    """

    role: Role
    due_at: datetime
    ends_at: datetime | None


def authorities(recorded: Recorded, *, now: datetime) -> tuple[DueAuthority, ...]:
    """Issuer and root, and the lists of revoked certificates if there ever was one.

    A certificate is due at two thirds of its life, or earlier: as soon as what it certifies next would
    outlive it. The issuer certifies for the longest lifetime of any playbook, the root for an issuer's. The
    root's list is due as soon as there is an issuer that no list tells of yet.
    """
    if not recorded.root:
        return ()
    root, issuer = parse_certificate(recorded.root), parse_certificate(recorded.issuer)
    longest = max(
        (one.certificate.lifetime for one in recorded.playbooks.values() if one.issuer is None),
        default=USUAL_LIFETIME,
    )
    return (
        _due(Role.ISSUER, issuer, longest),
        _due(Role.ROOT, root, issuer.not_after - issuer.not_before),
        *(_lists(recorded, root, now) if recorded.crls else ()),
    )


def _lists(recorded: Recorded, root: Certificate, now: datetime) -> Iterator[DueAuthority]:
    """The issuers' lists, as soon as one of them is due, and the root's."""
    issuers = signing_issuers(recorded, now=now)
    yield min(
        (_list(Role.CRL, recorded.crls.get(one.key), since=one.since or now) for one in issuers),
        key=lambda one: one.due_at,
    )
    last, left = recorded.crls.get(root.public_key.spki_digest), orphaned_issuers(recorded, now=now)
    if left:
        since = min(one.revoked for one in left if one.revoked is not None)
        yield DueAuthority(role=Role.ROOT_CRL, due_at=since, ends_at=last.next_update if last else None)
    elif last is not None:
        yield _list(Role.ROOT_CRL, last, since=now)


def _list(role: Role, last: SignedCrl | None, *, since: datetime) -> DueAuthority:
    if last is None:
        return DueAuthority(role=role, due_at=since, ends_at=None)
    at = last.signed + part_of(last.next_update - last.signed, RENEW_AT)
    return DueAuthority(role=role, due_at=at, ends_at=last.next_update)


def _due(role: Role, certificate: Certificate, certifies_for: timedelta) -> DueAuthority:
    begin, end = certificate.not_before, certificate.not_after
    at = min(begin + part_of(end - begin, RENEW_AT), end - certifies_for)
    return DueAuthority(role=role, due_at=max(at, begin), ends_at=end)
