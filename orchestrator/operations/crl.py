"""ca crl: sign the list of certificates that must not be relied on any more.

The list's number and what is new on it are in the ledger before the list is anywhere else, so that no two
lists have one number, whatever is cut short.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.errors import ConflictError
from orchestrator.keys.authority import Authority
from orchestrator.keys.revocation import Crl, Revoked, make_crl
from orchestrator.ports import Clock, Ledger
from orchestrator.rotation.events import Certified
from orchestrator.rotation.home_events import CrlSigned
from orchestrator.rotation.revocations import to_drop, to_revoke

TRIES = 5
"""So often another controller may write first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A list, and what stands on it.

    Attributes:
        added: what the list before had not, or for another reason.
    """

    crl: Crl
    number: int
    next_update: datetime
    revoked: tuple[Revoked, ...]
    added: tuple[Revoked, ...]


def sign_crl(ledger: Ledger, authority: Authority, *, clock: Clock, valid: timedelta) -> Signed:
    """Sign a new list and record it.

    Args:
        ledger: tells what was certified, and what became of it.
        authority: the fleet's issuer.
        clock: the present.
        valid: for how long the list is current.

    Raises:
        IssuerError: the issuer is not valid now.
        ConflictError: others were quicker to write, again and again.
    """
    for _ in range(TRIES):
        recorded, now = ledger.read(), clock.now()
        certified = (entry.event for entry in ledger.entries() if isinstance(entry.event, Certified))
        added, dropped = to_revoke(recorded, certified, now=now), to_drop(recorded)
        listed = {**recorded.revoked, **{one.serial: one for one in added}}
        revoked = tuple(
            one
            for serial, one in sorted(listed.items())
            if serial not in dropped and one.issuer == authority.certificate.public_key.spki_digest
        )
        number = recorded.crl.number + 1 if recorded.crl is not None else 1
        next_update = (now + valid).replace(microsecond=0)
        crl = make_crl(authority, revoked, number=number, now=now, next_update=next_update)
        signed = CrlSigned(
            number=number,
            next_update=next_update,
            digest=hashlib.sha256(crl.der).hexdigest(),
            added=added,
            dropped=dropped,
        )
        try:
            ledger.append([signed], onto=recorded, at=now)
        except ConflictError:
            continue
        return Signed(crl=crl, number=number, next_update=next_update, revoked=revoked, added=added)
    raise ConflictError(
        "other controllers write the ledger all the time; no list was signed", hint="try again"
    )
