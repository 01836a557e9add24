"""Keys: which there are, which are due, and who holds them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.keys.certificate import parse_certificate
from orchestrator.operations.due import DueKey, Owed, Wants
from orchestrator.operations.queries import Holding
from orchestrator.rotation.authority import Role
from orchestrator.rotation.lifecycle import KEY_MEANINGS
from orchestrator.rotation.lookup import ending_of
from orchestrator.rotation.recorded import Credential
from orchestrator.rotation.visits import CredentialId
from orchestrator.views.screen import Answer, Grid, grid
from orchestrator.views.text import count, instant, named, span, stamp

_WANTS = {
    Wants.SUCCESSOR: "due",
    Wants.ITS_SUCCESSOR: "being replaced, due",
    Wants.DROPPING: "to be dropped",
    Wants.TAKING_AWAY: "leaked, to be taken away",
}
_AUTHORITIES = {
    Role.ROOT: "the fleet's root",
    Role.ISSUER: "the fleet's issuer",
    Role.CRL: "the list of revoked certificates",
    Role.ROOT_CRL: "the root's list of revoked issuers",
}
_UNSIGNED = {
    Role.CRL: "an issuer has signed none yet: keyrelay ca crl",
    Role.ROOT_CRL: "it has signed none yet: keyrelay ca crl --root",
}


def key_of(credential: Credential) -> str:
    """The name of a key for people and for command lines: its thumbprint (RFC 7638) once it is made."""
    return credential.public.thumbprint if credential.public is not None else credential.id


def due_answer(owed: Owed, *, now: datetime) -> Answer:
    """What is due, the most urgent first, and by what a key may end too early."""
    rows = [
        (
            key_of(one.credential),
            one.credential.scope,
            f"{_WANTS[one.wants]} since {span(now - one.due_at)}"
            if one.overdue(now)
            else f"{_WANTS[one.wants]} in {span(one.due_at - now)}",
            f"ended {span(now - one.ends_at)} ago"
            if one.ends_at <= now
            else f"ends in {span(one.ends_at - now)}",
            _concerned(one),
        )
        for one in owed.keys
    ]
    authorities = [
        (
            _AUTHORITIES[one.role],
            f"due since {span(now - one.due_at)}"
            if one.due_at <= now
            else f"due in {span(one.due_at - now)}",
            instant(one.ends_at) if one.ends_at is not None else _UNSIGNED[one.role],
        )
        for one in owed.authorities
    ]
    paused = sorted({one.paused for one in owed.keys if one.paused})
    away = {(away.host, away.reason, instant(away.since)) for one in owed.keys for away in one.away}
    return Answer(
        data={
            "due": [
                {
                    **credential_data(one.credential),
                    "wants": one.wants,
                    "due_at": stamp(one.due_at),
                    "overdue": one.overdue(now),
                    "ends_at": stamp(one.ends_at),
                    "servers": list(one.servers),
                    "trusting": one.trusting,
                    "leaked_on": list(one.leaked_on),
                    "paused": one.paused,
                    "away": [
                        {"host": away.host, "reason": away.reason, "since": stamp(away.since)}
                        for away in one.away
                    ],
                }
                for one in owed.keys
            ],
            "authorities": [
                {"role": one.role, "due_at": stamp(one.due_at), "ends_at": stamp(one.ends_at)}
                for one in owed.authorities
            ],
            "warnings": list(owed.warnings),
            "backup_due_at": stamp(owed.backup),
        },
        body=(
            *((grid(("key", "scope", "due", "ends", "servers"), rows),) if rows else ()),
            *(f"its handover is paused: {why}" for why in paused),
            *((grid(("a handover waits for", "reason", "since"), sorted(away)),) if away else ()),
            *((grid(("authority", "due", "ends"), authorities),) if authorities else ()),
            *(f"warning: {warning}" for warning in owed.warnings),
            *(_backup_due(owed.backup, now) if owed.backup is not None else ()),
            *(() if owed else ("nothing is due",)),
        ),
    )


def _concerned(one: DueKey) -> str:
    if one.leaked_on:
        return f"{named(one.leaked_on)} may still hold or trust it"
    return named(one.servers) if one.servers else f"{count(one.trusting, 'agent')} trust it"


def _backup_due(at: datetime, now: datetime) -> tuple[str]:
    when = f"since {span(now - at)}" if at <= now else f"in {span(at - now)}"
    return (f"another backup is due {when}; take one with: keyrelay backup",)


def keys_grid(credentials: Sequence[Credential], holders: Mapping[CredentialId, int]) -> Grid:
    """The table of all keys, a row for each.

    Args:
        credentials: the keys.
        holders: how many hosts hold, or may hold, each one's private half.
    """
    columns = ("key", "playbook", "scope", "state", "since", "ends", "servers", "private half")
    return grid(
        columns,
        [
            (
                key_of(one),
                one.playbook,
                one.scope,
                f"{one.state}, waits" if one.awaits else one.state,
                instant(one.state_since),
                instant(one.ends),
                named(one.servers),
                count(holders.get(one.id, 0), "holder"),
            )
            for one in credentials
        ],
    )


def keys_answer(credentials: Sequence[Credential], holders: Mapping[CredentialId, int]) -> Answer:
    """Every key, as it stands."""
    table = keys_grid(credentials, holders)
    return Answer(
        data={"keys": [credential_data(one) for one in credentials]},
        body=(table,) if table.rows else ("there are no keys yet",),
    )


def key_answer(credential: Credential) -> Answer:
    """One key and its certificates."""
    facts = [
        ("key", key_of(credential)),
        ("id", credential.id),
        ("host's name", credential.public.spki_digest if credential.public is not None else "-"),
        ("algorithm", credential.key.algorithm),
        ("made on", credential.key.origin),
        ("playbook", credential.playbook),
        ("scope", credential.scope),
        ("state", f"{credential.state}: {KEY_MEANINGS[credential.state]}"),
        ("since", instant(credential.state_since)),
        *(("said to be", said) for said in (ending_of(credential),) if said),
        ("begins", instant(credential.not_before)),
        ("ends", instant(credential.not_after)),
        *_prolonged(credential),
        ("agents refuse it", instant(credential.expires)),
        ("in the vault", "yes" if credential.in_vault else "no"),
        ("exportable", "yes" if credential.key.exportable else "no"),
        *(("waits", "for the next apply") for _ in range(credential.awaits)),
        *(
            ("exported", f"{instant(copy.since)} to {copy.file}: {copy.purpose}")
            for copy in credential.copies.values()
        ),
    ]
    certificates = {server: parse_certificate(pem) for server, pem in sorted(credential.certificates.items())}
    rows = [
        (server, f"{one.serial:x}", instant(one.not_before), instant(one.not_after), one.fingerprint)
        for server, one in certificates.items()
    ]
    columns = ("server", "serial", "begins", "ends", "SHA-256")
    return Answer(
        data={
            **credential_data(credential),
            "expires": stamp(credential.expires),
            "certificates": [
                {
                    "server": server,
                    "serial": f"{one.serial:x}",
                    "not_before": stamp(one.not_before),
                    "not_after": stamp(one.not_after),
                    "sha256": one.fingerprint,
                    "pem": one.pem,
                    "chain_pem": credential.chains.get(server, ""),
                }
                for server, one in certificates.items()
            ],
        },
        body=(grid(("", ""), facts), *((grid(columns, rows),) if rows else ())),
    )


def holders_answer(credential: Credential, found: Sequence[Holding]) -> Answer:
    """Every host that holds a key."""
    rows = [(one.host, one.half, _where(one), instant(one.since), one.evidence) for one in found]
    told = f"key {key_of(credential)} of {credential.scope} is {credential.state}"
    return Answer(
        data={"key": credential_data(credential), "holders": [_holding(one) for one in found]},
        body=(
            f"{told}; {count(len(rows), 'holding')}",
            grid(("host", "half", "where", "since", "known"), rows),
        )
        if rows
        else (f"{told}; nobody holds it",),
    )


def holdings_answer(host: str, found: Sequence[Holding]) -> Answer:
    """Every key that a host holds."""
    rows = [
        (
            key_of(one.credential),
            one.credential.scope,
            one.credential.state,
            one.half,
            _where(one),
            instant(one.since),
            one.evidence,
        )
        for one in found
    ]
    columns = ("key", "scope", "state", "half", "where", "since", "known")
    return Answer(
        data={"host": host, "holdings": [_holding(one) for one in found]},
        body=(grid(columns, rows),) if rows else (f"{host} holds no key",),
    )


def _where(holding: Holding) -> str:
    return ", ".join((holding.standing, *holding.stores))


def _prolonged(credential: Credential) -> list[tuple[str, str]]:
    if credential.prolonged is None:
        return []
    times = f" ({count(credential.prolongations, 'time')} since {instant(credential.prolonged_since)})"
    return [("kept until", f"{instant(credential.prolonged)}{times}: {credential.prolonged_why}")]


def credential_data(credential: Credential) -> dict[str, Any]:
    """A key, as JSON."""
    public = credential.public
    return {
        "id": credential.id,
        "thumbprint": public.thumbprint if public is not None else None,
        "spki_sha256": public.spki_digest if public is not None else None,
        "algorithm": credential.key.algorithm,
        "origin": credential.key.origin,
        "playbook": credential.playbook,
        "scope": credential.scope,
        "state": credential.state,
        "state_since": stamp(credential.state_since),
        "ending": ending_of(credential),
        "not_before": stamp(credential.not_before),
        "not_after": stamp(credential.not_after),
        "prolonged_until": stamp(credential.prolonged),
        "prolonged_because": credential.prolonged_why,
        "prolonged_since": stamp(credential.prolonged_since),
        "prolongations": credential.prolongations,
        "servers": list(credential.servers),
        "in_vault": credential.in_vault,
        "exportable": credential.key.exportable,
        "awaits": credential.awaits,
        "imported": credential.imported,
        "copies": [
            {
                "id": name,
                "file": copy.file,
                "purpose": copy.purpose,
                "encrypted": copy.encrypted,
                "since": stamp(copy.since),
            }
            for name, copy in credential.copies.items()
        ],
    }


def _holding(holding: Holding) -> dict[str, Any]:
    public = holding.credential.public
    return {
        "key": public.thumbprint if public is not None else None,
        "credential": holding.credential.id,
        "host": holding.host,
        "half": holding.half,
        "standing": holding.standing,
        "stores": list(holding.stores),
        "since": stamp(holding.since),
        "evidence": holding.evidence,
    }
