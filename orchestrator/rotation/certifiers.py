"""Root and issuers in the record: who certifies, who has, and what they say is not to be relied on."""

from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

from orchestrator.keys.revocation import SignedCrl
from orchestrator.rotation import home_events as he
from orchestrator.rotation.recorded import IssuerRecord, Recorded


def certified_by(
    recorded: Recorded,
    event: he.RootRenewed
    | he.IssuerRenewed
    | he.CrlSigned
    | he.IssuerKeyIntended
    | he.IssuerAdded
    | he.IssuerKeyDestroyed,
    at: datetime,
) -> Recorded:
    """``recorded`` after what happened to root or issuers, or was signed by one.

    Raises:
        KeyError: no issuer is known under that name.
        ValueError: a list of revoked certificates does not follow the last one.
    """
    match event:
        case he.RootRenewed():
            return replace(recorded, root=event.certificate_pem)
        case he.IssuerRenewed():
            return _certifying(recorded, recorded.own_issuer(None).record, event.certificate_pem)
        case he.CrlSigned():
            return _crl_signed(recorded, event, at)
        case he.IssuerKeyIntended():
            return replace(recorded, issuers=(*recorded.issuers, IssuerRecord(record=event.record)))
        case he.IssuerAdded():
            return _added(recorded, event, at)
        case he.IssuerKeyDestroyed():
            revoked = next((i.revoked for i in recorded.issuers if i.record == event.record), None)
            return _issuer(recorded, event.record, kept=False, revoked=revoked or at)
        case _:
            assert_never(event)


def _certifying(recorded: Recorded, record: str, certificate: str, **changes: object) -> Recorded:
    """The issuer of this record certifies now, with this certificate."""
    return replace(_issuer(recorded, record, certificate=certificate, **changes), issuer=certificate)


def _added(recorded: Recorded, event: he.IssuerAdded, at: datetime) -> Recorded:
    before = recorded.own_issuers()
    if event.leaked and before:
        recorded = _issuer(recorded, before[-1].record, leaked=event.leaked, revoked=at)
    added = _certifying(recorded, event.record, event.certificate, since=at)
    return replace(added, sure_of_issuer=True, superseded=())


def _issuer(recorded: Recorded, record: str, **changes: object) -> Recorded:
    if record not in {issuer.record for issuer in recorded.issuers}:
        raise KeyError(record)
    after = (
        replace(issuer, **changes) if issuer.record == record else issuer  # type: ignore[arg-type]  # named at each call
        for issuer in recorded.issuers
    )
    return replace(recorded, issuers=tuple(after))


def _crl_signed(recorded: Recorded, event: he.CrlSigned, at: datetime) -> Recorded:
    by = event.by or recorded.own_issuers()[-1].key
    last = max((crl.number for crl in recorded.crls.values()), default=0)
    if event.number <= last:
        raise ValueError(f"list {event.number} does not follow list {last}")
    crl = SignedCrl(number=event.number, signed=at, next_update=event.next_update, digest=event.digest)
    dropped = set(event.dropped)
    revoked = {**recorded.revoked, **{one.serial: one for one in event.added}}
    left = {serial: one for serial, one in revoked.items() if serial not in dropped}
    return replace(
        recorded,
        crls=MappingProxyType({**recorded.crls, by: crl}),
        revoked=MappingProxyType(left),
    )
