"""Which certificates the fleet's authorities have to revoke: a conclusion from the record, as everything is.

An issuer revokes what it has certified, the root revokes issuers. A certificate once revoked stays revoked
(RFC 5280 section 5.3.1 lets only a hold be lifted), even should its key be found in use again: ``crl-signed``
entries keep what was said, and since when.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.keys.material import SpkiDigest
from orchestrator.keys.revocation import Reason, Revoked, is_issued_by
from orchestrator.rotation.events import Certified, Event
from orchestrator.rotation.home_events import FleetFounded, IssuerAdded, IssuerRenewed
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Credential, IssuerRecord, Recorded

OUT_OF_USE = frozenset({KeyState.RETIRED, KeyState.REMOVED})


def signing_issuers(recorded: Recorded, *, now: datetime) -> tuple[IssuerRecord, ...]:
    """The issuers that sign lists of their own, the one that certifies now first.

    An issuer that is being replaced signs one as long as its key is there; afterwards the root revokes it.
    """
    *earlier, present = recorded.own_issuers()
    return (
        present,
        *(one for one in earlier if one.kept and parse_certificate(one.certificate).not_after > now),
    )


def orphaned_issuers(recorded: Recorded, *, now: datetime) -> tuple[IssuerRecord, ...]:
    """The issuers whose certificates the root has to revoke, and has not yet."""
    return tuple(
        one
        for one in recorded.own_issuers()
        if one.revoked is not None
        and (certificate := parse_certificate(one.certificate)).not_after > now
        and f"{certificate.serial:x}" not in recorded.revoked
    )


def to_revoke(recorded: Recorded, certified: Iterable[Certified], *, now: datetime) -> tuple[Revoked, ...]:
    """What has to be added to the issuers' lists: not on them yet, or there for another reason.

    Args:
        recorded: the fleet.
        certified: every certificate the ledger tells of, in its order.
        now: the present; what has ended before it is not added.
    """
    issuers = [parse_certificate(one.certificate) for one in recorded.own_issuers()]
    found: dict[str, Revoked] = {}
    for event in certified:
        known = recorded.credentials[event.credential]
        reason = _reason(recorded, known, event, now)
        if reason is None:
            continue
        certificate = parse_certificate(event.certificate_pem)
        issuer = next((one for one in issuers if is_issued_by(certificate, one)), None)
        if issuer is not None:
            _add(found, recorded, _revoked(certificate, issuer, known.state_since, reason), now)
    return tuple(found.values())


def issuers_to_revoke(recorded: Recorded, events: Iterable[Event], *, now: datetime) -> tuple[Revoked, ...]:
    """What has to be added to the root's list: issuers that leaked, and those whose keys are destroyed.

    Args:
        recorded: the fleet.
        events: the ledger's, in its order; an issuer that was renewed has several certificates.
        now: the present; what has ended before it is not added.
    """
    root = parse_certificate(recorded.root)
    issuers = {one.key: one for one in recorded.own_issuers()}
    found: dict[str, Revoked] = {}
    for certificate in _issuer_certificates(events):
        issuer = issuers.get(certificate.public_key.spki_digest)
        if issuer is None or issuer.revoked is None:
            continue
        reason = Reason.KEY_COMPROMISE if issuer.leaked else Reason.SUPERSEDED
        _add(found, recorded, _revoked(certificate, root, issuer.revoked, reason), now)
    return tuple(found.values())


def to_drop(recorded: Recorded, by: SpkiDigest) -> tuple[str, ...]:
    """Serials that an authority need not list any more: its newest list came after their certificates' end.

    RFC 5280 section 3.3 wants them on one list signed beyond that.
    """
    last = recorded.crls.get(by)
    if last is None:
        return ()
    listed = (one for one in recorded.revoked.values() if one.issuer == by)
    return tuple(sorted(one.serial for one in listed if one.ends < last.signed))


def _add(found: dict[str, Revoked], recorded: Recorded, one: Revoked, now: datetime) -> None:
    """Add it where the newest list has not got it, or has it for a lesser reason."""
    before = recorded.revoked.get(one.serial)
    if before is None:
        if one.ends >= now:
            found[one.serial] = one
    elif before.reason is not Reason.KEY_COMPROMISE and one.reason is Reason.KEY_COMPROMISE:
        found[one.serial] = replace(one, at=before.at)


def _issuer_certificates(events: Iterable[Event]) -> Iterator[Certificate]:
    for event in events:
        match event:
            case FleetFounded():
                yield parse_certificate(event.issuer)
            case IssuerAdded():
                yield parse_certificate(event.certificate)
            case IssuerRenewed():
                yield parse_certificate(event.certificate_pem)
            case _:
                pass


def _reason(recorded: Recorded, known: Credential, event: Certified, now: datetime) -> Reason | None:
    """Why what was certified must not be relied on; None: it may be.

    A key that is out of use, and not yet gone, stays good for as long as messages may be on their way.
    """
    match known.ended:
        case KeyState.COMPROMISED:
            return Reason.KEY_COMPROMISE
        case KeyState.LOST:
            return Reason.CESSATION_OF_OPERATION
        case _:
            pass
    if known.state not in OUT_OF_USE:
        return None
    if known.state is KeyState.RETIRED and now < known.state_since + known.in_flight:
        return None
    server = recorded.servers.get(event.server)
    left = server is None or server.target is None
    return Reason.CESSATION_OF_OPERATION if left else Reason.SUPERSEDED


def _revoked(certificate: Certificate, by: Certificate, at: datetime, reason: Reason) -> Revoked:
    return Revoked(
        issuer=by.public_key.spki_digest,
        serial=f"{certificate.serial:x}",
        ends=certificate.not_after,
        at=at,
        reason=reason,
    )
