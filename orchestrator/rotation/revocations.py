"""Which certificates the fleet's issuer has to revoke: a conclusion from the record, as everything is.

A certificate once revoked stays revoked (RFC 5280 section 5.3.1 lets only a hold be lifted), even should its
key be found in use again: ``crl-signed`` entries keep what was said, and since when.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.keys.revocation import Reason, Revoked, is_issued_by
from orchestrator.rotation.events import Certified
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Credential, Recorded

OUT_OF_USE = frozenset({KeyState.RETIRED, KeyState.REMOVED})


def to_revoke(recorded: Recorded, certified: Iterable[Certified], *, now: datetime) -> tuple[Revoked, ...]:
    """What has to be added to the issuer's list: not on it yet, or there for another reason.

    Args:
        recorded: the fleet.
        certified: every certificate the ledger tells of, in its order.
        now: the present; what has ended before it is not added.
    """
    issuer = parse_certificate(recorded.issuer)
    found: dict[str, Revoked] = {}
    for event in certified:
        known = recorded.credentials[event.credential]
        reason = _reason(recorded, known, event, now)
        if reason is None:
            continue
        one = _revoked(parse_certificate(event.certificate_pem), issuer, known, reason)
        before = recorded.revoked.get(one.serial) if one is not None else None
        if one is None or (before is None and one.ends < now):
            continue
        if before is None:
            found[one.serial] = one
        elif before.reason is not Reason.KEY_COMPROMISE and reason is Reason.KEY_COMPROMISE:
            found[one.serial] = replace(one, at=before.at)
    return tuple(found.values())


def to_drop(recorded: Recorded) -> tuple[str, ...]:
    """Serials that need not be listed any more: the newest list had them after their certificates' end.

    RFC 5280 section 3.3 wants them on one list signed beyond that.
    """
    last = recorded.crl
    if last is None:
        return ()
    return tuple(sorted(one.serial for one in recorded.revoked.values() if one.ends < last.signed))


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


def _revoked(
    certificate: Certificate, issuer: Certificate, known: Credential, reason: Reason
) -> Revoked | None:
    """The entry of a certificate; None: somebody else issued it."""
    if not is_issued_by(certificate, issuer):
        return None
    return Revoked(
        issuer=issuer.public_key.spki_digest,
        serial=f"{certificate.serial:x}",
        ends=certificate.not_after,
        at=known.state_since,
        reason=reason,
    )
