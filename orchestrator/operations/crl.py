"""ca crl: sign the lists of certificates that must not be relied on any more.

Each issuer signs its own, as long as its key is there; the root signs one of issuers. A list's number and
what is new on it are in the ledger before the list is anywhere else, so that no two lists have one number,
whatever is cut short.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.errors import ConflictError
from orchestrator.keys.authority import ROOT_KEY, Authority
from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.keys.material import SpkiDigest
from orchestrator.keys.revocation import Crl, Revoked, make_crl
from orchestrator.ports import Clock, Keyring, Ledger
from orchestrator.rotation.events import Certified
from orchestrator.rotation.home_events import CrlSigned
from orchestrator.rotation.recorded import IssuerRecord, Recorded
from orchestrator.rotation.revocations import (
    issuers_to_revoke,
    orphaned_issuers,
    signing_issuers,
    to_drop,
    to_revoke,
)

TRIES = 5
"""So often another controller may write first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A list, and what stands on it.

    Attributes:
        by: who signed it.
        added: what the list before had not, or for another reason.
    """

    by: Certificate
    crl: Crl
    number: int
    next_update: datetime
    revoked: tuple[Revoked, ...]
    added: tuple[Revoked, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """What was signed in one go.

    Attributes:
        signed: the lists; of issuers' lists the first is of the one that certifies now.
        orphaned: issuers that the root has yet to revoke, whose certificates no issuer's list can.
    """

    signed: tuple[Signed, ...]
    orphaned: tuple[IssuerRecord, ...]


def sign_lists(
    ledger: Ledger, issuer: Callable[[SpkiDigest], Authority], *, clock: Clock, valid: timedelta
) -> Lists:
    """Sign a new list for each issuer whose key is there, and record them.

    Args:
        ledger: tells what was certified, and what became of it.
        issuer: opens an issuer by its key.
        clock: the present.
        valid: for how long the lists are current.

    Raises:
        IssuerError: the issuer is not valid now.
        VaultError: its key cannot be opened.
        ConflictError: others were quicker to write, again and again.
    """

    def drawn(recorded: Recorded, now: datetime) -> tuple[Signed, ...]:
        certified = (entry.event for entry in ledger.entries() if isinstance(entry.event, Certified))
        added = to_revoke(recorded, certified, now=now)
        lists: list[Signed] = []
        for one in signing_issuers(recorded, now=now):
            number = _last_number(recorded) + 1 + len(lists)
            lists.append(_list(recorded, issuer(one.key), added, number=number, now=now, valid=valid))
        return tuple(lists)

    return _recorded(ledger, drawn, clock)


def sign_root_list(ledger: Ledger, keys: Keyring, *, clock: Clock, valid: timedelta) -> Lists:
    """Sign a new list of issuers that must not be relied on, with the root's key, and record it.

    Raises:
        IssuerError: the root is not valid now.
        VaultError: its key cannot be opened.
        ConflictError: others were quicker to write, again and again.
    """
    signer = keys.open(ROOT_KEY)

    def drawn(recorded: Recorded, now: datetime) -> tuple[Signed, ...]:
        root = Authority(certificate=parse_certificate(recorded.root), signer=signer)
        added = issuers_to_revoke(recorded, (entry.event for entry in ledger.entries()), now=now)
        number = _last_number(recorded) + 1
        return (_list(recorded, root, added, number=number, now=now, valid=valid),)

    return _recorded(ledger, drawn, clock)


def _list(
    recorded: Recorded,
    authority: Authority,
    added: tuple[Revoked, ...],
    *,
    number: int,
    now: datetime,
    valid: timedelta,
) -> Signed:
    by = authority.certificate.public_key.spki_digest
    mine = tuple(one for one in added if one.issuer == by)
    listed = {**recorded.revoked, **{one.serial: one for one in mine}}
    dropped = to_drop(recorded, by)
    revoked = tuple(
        one for serial, one in sorted(listed.items()) if one.issuer == by and serial not in dropped
    )
    next_update = (now + valid).replace(microsecond=0)
    crl = make_crl(authority, revoked, number=number, now=now, next_update=next_update)
    return Signed(
        by=authority.certificate,
        crl=crl,
        number=number,
        next_update=next_update,
        revoked=revoked,
        added=mine,
    )


def _recorded(
    ledger: Ledger, drawn: Callable[[Recorded, datetime], tuple[Signed, ...]], clock: Clock
) -> Lists:
    for _ in range(TRIES):
        recorded, now = ledger.read(), clock.now()
        signed = drawn(recorded, now)
        events = [_event(recorded, one) for one in signed]
        try:
            after = ledger.append(events, onto=recorded, at=now)
        except ConflictError:
            continue
        return Lists(signed=signed, orphaned=orphaned_issuers(after, now=now))
    raise ConflictError(
        "other controllers write the ledger all the time; no list was signed", hint="try again"
    )


def _event(recorded: Recorded, signed: Signed) -> CrlSigned:
    by = signed.by.public_key.spki_digest
    return CrlSigned(
        number=signed.number,
        next_update=signed.next_update,
        digest=hashlib.sha256(signed.crl.der).hexdigest(),
        added=signed.added,
        dropped=to_drop(recorded, by),
        by=by,
    )


def _last_number(recorded: Recorded) -> int:
    return max((crl.number for crl in recorded.crls.values()), default=0)
