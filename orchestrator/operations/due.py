"""due: which keys want a successor, from the ledger alone; and what else comes to its end."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.policy.expiry import due_at
from orchestrator.ports import Clock, Ledger
from orchestrator.rotation.authority import DueAuthority, authorities
from orchestrator.rotation.history import too_tight
from orchestrator.rotation.holdups import Holdups
from orchestrator.rotation.keeping import backup_due_at
from orchestrator.rotation.leaks import leaked_on
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.prolonging import kept
from orchestrator.rotation.recorded import Credential, Recorded, ServerRecord, Standing
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId
from orchestrator.rotation.walk import step_of

IN_SERVICE = frozenset({KeyState.PUBLISHED, KeyState.READY, KeyState.ACTIVE})


class Wants(StrEnum):
    """What is to be done about a key."""

    SUCCESSOR = "successor"
    """None is on its way yet."""
    ITS_SUCCESSOR = "its-successor"
    """It is past its due date and in use, for the handover to its successor has not come so far."""
    DROPPING = "dropping"
    """It has ended, and agents still trust it."""
    TAKING_AWAY = "taking-away"
    """It leaked, and hosts may still hold it or trust it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """A host that a handover waits for."""

    host: HostName
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DueKey:
    """A key that something is to be done about.

    Attributes:
        servers: that use it, or are to.
        trusting: how many agents may trust it.
        due_at: when a successor is due.
        ends_at: when its certificate ends.
        leaked_on: the hosts that may still hold or trust it, where it leaked.
        paused: why nothing is done about it; empty: it is not paused.
        away: the hosts that its handover waits for.
    """

    credential: Credential
    wants: Wants
    servers: tuple[HostName, ...]
    trusting: int
    due_at: datetime
    ends_at: datetime
    leaked_on: tuple[HostName, ...] = ()
    paused: str = ""
    away: tuple[Away, ...] = ()

    def overdue(self, now: datetime) -> bool:
        """Whether it is due now."""
        return self.due_at <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """All that is due.

    Attributes:
        keys: the most urgent first.
        warnings: by which a key may end before its successor has taken over.
        backup: from when on another backup is due; None: none is.
    """

    keys: tuple[DueKey, ...] = ()
    authorities: tuple[DueAuthority, ...] = ()
    warnings: tuple[str, ...] = ()
    backup: datetime | None = None

    def __bool__(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.keys or self.authorities or self.backup)


def due(ledger: Ledger, clock: Clock, *, within: timedelta = timedelta(0)) -> Owed:
    """What is due now or within a time."""
    recorded, now = ledger.read(), clock.now()
    until = now + within
    found = [key for key in _keys(recorded, now) if key.due_at <= until]
    found.sort(key=lambda key: (key.due_at.replace(microsecond=0), key.credential.scope, key.credential.id))
    backup = backup_due_at(recorded, now)
    tight = ((desired.playbook, too_tight(desired, recorded)) for desired in recorded.playbooks.values())
    late = (
        f"a key of {key.credential.scope} is {told}"
        for key in found
        if key.wants not in {Wants.DROPPING, Wants.TAKING_AWAY} and (told := kept(recorded, key.credential))
    )
    return Owed(
        keys=tuple(found),
        authorities=tuple(one for one in authorities(recorded, now=now) if one.due_at <= until),
        warnings=(*(f"{playbook}: {why}" for playbook, why in tight if why), *dict.fromkeys(late)),
        backup=backup if backup is not None and backup <= until else None,
    )


def _keys(recorded: Recorded, now: datetime) -> Iterator[DueKey]:
    """Every key that servers use or agents trust, with what it will want one day."""
    view = View.of(recorded, now)
    steps = {s: step_of(view, s) for s, record in sorted(recorded.servers.items()) if not record.given_up}
    holdups = Holdups(view=view, steps=steps, all_steps=steps)
    where = _leaked(view)
    for credential in recorded.credentials.values():
        if credential.id in where:
            yield _to_take_away(holdups, credential, where[credential.id], now)
            continue
        aimed = tuple(s for s in steps if recorded.servers[s].target == credential.id)
        leaving = tuple(s for s in steps if s not in aimed and _uses(recorded.servers[s], credential.id))
        trusting = (
            len(set(_trusting(view, credential))) if aimed or leaving or not credential.delegated else 0
        )
        spec = recorded.playbooks[credential.playbook].certificate
        at = due_at(credential.id, credential.not_before, credential.not_after, spec)
        servers, wants = aimed, Wants.SUCCESSOR
        if leaving:
            servers, wants = leaving, Wants.ITS_SUCCESSOR
        elif not aimed or credential.state not in IN_SERVICE:
            if not trusting or aimed or not credential.ends <= now < credential.expires:
                continue
            wants, at = Wants.DROPPING, credential.ends
        rollout = recorded.running(credential.playbook)
        yield DueKey(
            credential=credential,
            wants=wants,
            servers=servers,
            trusting=trusting,
            due_at=at,
            ends_at=credential.ends,
            paused=rollout.paused if rollout is not None else "",
            away=tuple(_away(credential.playbook, holdups, servers)) if wants is Wants.ITS_SUCCESSOR else (),
        )


def _leaked(view: View) -> Mapping[CredentialId, tuple[HostName, ...]]:
    """By leaked key the hosts that may still hold or trust it."""
    found: dict[CredentialId, list[HostName]] = {}
    for host, credentials in leaked_on(view).items():
        for credential in credentials:
            found.setdefault(credential.id, []).append(host)
    return {credential: tuple(hosts) for credential, hosts in found.items()}


def _to_take_away(
    holdups: Holdups, credential: Credential, hosts: tuple[HostName, ...], now: datetime
) -> DueKey:
    recorded = holdups.view.recorded
    return DueKey(
        credential=credential,
        wants=Wants.TAKING_AWAY,
        servers=tuple(host for host in hosts if credential.id in recorded.may_hold(host)),
        trusting=sum(host in recorded.agents for host in hosts),
        due_at=credential.ended_since or now,
        ends_at=credential.ends,
        leaked_on=hosts,
        away=tuple(_failing(credential.playbook, recorded, hosts)),
    )


def _trusting(view: View, credential: Credential) -> Iterator[HostName]:
    """The agents that accept a server with the key."""
    for server in credential.certificates:
        yield from view.trusting.get(server, {}).get(view.recorded.line(server, credential.id), ())


def _uses(server: ServerRecord, credential: CredentialId) -> bool:
    placement = server.placements.get(credential)
    return placement is not None and placement.standing is Standing.ACTIVE


def _away(playbook: PlaybookName, holdups: Holdups, servers: tuple[HostName, ...]) -> Iterator[Away]:
    """The hosts whose last visit failed, of those that the servers' next steps wait for."""
    needed = {host for server in servers for _, host in holdups.needed(server, holdups.steps[server])}
    yield from _failing(playbook, holdups.view.recorded, sorted(needed))


def _failing(playbook: PlaybookName, recorded: Recorded, hosts: Iterable[HostName]) -> Iterator[Away]:
    for host in hosts:
        contact = recorded.contacts.get(host)
        if contact is not None and contact.failing_since is not None:
            since = recorded.awaited_since(playbook, host) or contact.failing_since
            yield Away(host=host, reason=contact.reason, since=since)
