"""What each ledger entry changes: the fold that makes ``Recorded``.

Pure and total over ``events.Event``. The real ledger, the tests' ledger and the model search all
use this one function, so what they agree on is what the engine sees.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import TypeVar, assert_never

from orchestrator.inventory.model import HostName
from orchestrator.keys.authority import ISSUER_KEY
from orchestrator.keys.bundle import Position
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation import events as ev
from orchestrator.rotation import home_events as he
from orchestrator.rotation.ahead import prepared
from orchestrator.rotation.certifiers import certified_by
from orchestrator.rotation.chronology import set_right
from orchestrator.rotation.host_by_host import host_by_host
from orchestrator.rotation.keeping import backed_up
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.missing import set_up_anew, without_ended, without_unbelieved
from orchestrator.rotation.outcomes import ended, failing
from orchestrator.rotation.recorded import (
    AgentRecord,
    Copy,
    Credential,
    IssuerRecord,
    Lease,
    Recorded,
    Rollout,
    RolloutId,
    ServerRecord,
)
from orchestrator.rotation.restored import gone_on
from orchestrator.rotation.settle import settle
from orchestrator.rotation.surveys import surveyed
from orchestrator.rotation.visits import CredentialId

MOVES_NOTHING = (
    he.RootRenewed,
    he.IssuerRenewed,
    he.CrlSigned,
    he.LeaseTaken,
    he.LeaseReleased,
    ev.EndpointsChanged,
    ev.KeyMade,
    ev.Certified,
    ev.KeyProlonged,
    he.IssuerKeyIntended,
    he.IssuerAdded,
    he.IssuerKeyDestroyed,
    ev.RolloutPaused,
    ev.RolloutResumed,
    ev.HostsAwaited,
    he.ControllerStopped,
    he.BackupsKept,
)
"""Events after which every host holds what it held, so that no key's state can change."""

K = TypeVar("K")
V = TypeVar("V")


def fold(recorded: Recorded, entries: Iterable[ev.Entry]) -> Recorded:
    """``recorded`` after all of ``entries``, in order.

    Raises:
        ValueError: an entry cannot follow what came before it.
    """
    for entry in entries:
        recorded = evolve(recorded, entry)
    return recorded


def supposing(recorded: Recorded, events: Iterable[ev.Event], *, at: datetime) -> Recorded:
    """``recorded`` as it would be after events that nobody has written.

    Raises:
        ValueError: one of them cannot follow what came before it.
    """
    for event in events:
        entry = ev.Entry(
            number=recorded.version + 1, at=at, event=event, previous=recorded.head, digest="supposed"
        )
        recorded = evolve(recorded, entry)
    return recorded


def evolve(recorded: Recorded, entry: ev.Entry) -> Recorded:
    """``recorded`` after one entry.

    Raises:
        ValueError: the entry is not the next one, or tells of something that cannot have happened.
    """
    if entry.number != recorded.version + 1 or entry.previous != recorded.head:
        raise ValueError(f"entry {entry.number} does not follow entry {recorded.version}")
    try:
        after = _apply(recorded, entry.event, entry.at)
    except KeyError as error:
        raise ValueError(f"entry {entry.number} tells of {error}, which is not known") from error
    after = replace(after, version=entry.number, head=entry.digest, written=entry.at)
    if isinstance(entry.event, MOVES_NOTHING):
        return after
    return settle(without_unbelieved(after, entry.at), at=entry.at)


def _apply(recorded: Recorded, event: ev.Event, at: datetime) -> Recorded:
    match event:
        case he.FleetFounded():
            return replace(
                recorded,
                fleet=event.fleet,
                root=event.root,
                issuer=event.issuer,
                token=event.token,
                issuers=(IssuerRecord(record=ISSUER_KEY, certificate=event.issuer, since=at),),
                generation=1,
                position=Position(epoch=1, sequence=0),
            )
        case ev.RolloutStarted():
            return _start(recorded, event, at)
        case ev.RolloutPaused():
            return _rollout(recorded, event.rollout, paused=event.reason, paused_since=at)
        case ev.RolloutResumed():
            return _resumed(recorded, event.rollout)
        case ev.AgentsWaived():
            waived = {**recorded.rollouts[event.rollout].waived, **event.agents}
            return _rollout(recorded, event.rollout, waived=MappingProxyType(waived))
        case ev.HostsAwaited():
            return _rollout(recorded, event.rollout, awaited=event.since)
        case he.LeaseTaken():
            held = recorded.lease
            since = held.since if held is not None and held.holder == event.holder else at
            return replace(recorded, lease=Lease(holder=event.holder, since=since, until=event.until))
        case he.LeaseReleased():
            return replace(recorded, lease=None)
        case ev.EndpointsChanged():
            return replace(recorded, endpoints=MappingProxyType({**recorded.endpoints, **event.endpoints}))
        case ev.CredentialPrepared():
            credentials = _with(recorded.credentials, event.new.id, prepared(event, at=at))
            return replace(recorded, credentials=credentials)
        case ev.CredentialDropped():
            return _credential(recorded, event.credential, awaits=False)
        case ev.KeyMakingIntended():
            return _credential(recorded, event.credential, in_vault=True)
        case ev.KeyMade():
            return _credential(recorded, event.credential, public=event.public)
        case ev.Certified():
            return _certified(recorded, event)
        case ev.KeyProlonged():
            return _prolonged(recorded, event, at)
        case he.RootRenewed() | he.IssuerRenewed() | he.CrlSigned():
            return certified_by(recorded, event, at)
        case he.IssuerKeyIntended() | he.IssuerAdded() | he.IssuerKeyDestroyed():
            return certified_by(recorded, event, at)
        case he.ClockSetRight():
            return set_right(recorded, at)
        case ev.VisitsIntended():
            given = [intent.bundle.position for intent in event.intents if intent.bundle is not None]
            return replace(
                recorded,
                pending=MappingProxyType({**recorded.pending, **{i.host: i for i in event.intents}}),
                position=max([recorded.position, *given]),
            )
        case ev.VisitsEnded():
            ends = ((one.host, partial(ended, outcome=one, at=at)) for one in event.outcomes)
            return host_by_host(recorded, ends)
        case ev.HostsSurveyed():
            answers = ((h, partial(surveyed, host=h, survey=s, at=at)) for h, s in event.surveys.items())
            fails = ((h, partial(failing, host=h, reason=why, at=at)) for h, why in event.failures.items())
            return host_by_host(recorded, (*answers, *fails))
        case ev.KeyDestroyed():
            return _credential(recorded, event.credential, in_vault=False)
        case ev.KeyExported():
            return _exported(recorded, event, at)
        case ev.ExportDestroyed():
            return _export_destroyed(recorded, event)
        case ev.KeyEnded():
            said = {"ended": event.how, "ended_why": event.reason, "ended_since": at}
            return without_ended(_credential(recorded, event.credential, **said), event.credential, at)
        case ev.HostGivenUp():
            return _give_up(recorded, event)
        case ev.HostSetUpAnew():
            return set_up_anew(recorded, event, at)
        case he.ControllerStopped():
            return replace(recorded, stopped=event.reason)
        case he.BackupIntended() | he.BackupWritten() | he.BackupRemoved() | he.BackupsKept():
            return backed_up(recorded, event, at)
        case he.HomeRestored() | he.HostsMet():
            return gone_on(recorded, event, at)
        case ev.RolloutEnded():
            return _finish(recorded, event, at)
        case _:
            assert_never(event)


def _prolonged(recorded: Recorded, event: ev.KeyProlonged, at: datetime) -> Recorded:
    known = recorded.credentials[event.credential]
    return _credential(
        recorded,
        event.credential,
        prolonged=event.until,
        prolonged_why=event.reason,
        prolonged_since=known.prolonged_since or at,
        prolongations=known.prolongations + 1,
        uncertified=frozenset(known.certificates),
    )


def _exported(recorded: Recorded, event: ev.KeyExported, at: datetime) -> Recorded:
    copy = Copy(file=event.file, purpose=event.purpose, encrypted=event.encrypted, since=at)
    copies = recorded.credentials[event.credential].copies
    return _credential(recorded, event.credential, copies=_with(copies, event.copy, copy))


def _export_destroyed(recorded: Recorded, event: ev.ExportDestroyed) -> Recorded:
    left = _without(recorded.credentials[event.credential].copies, {event.copy})
    return _credential(recorded, event.credential, copies=left)


def _start(recorded: Recorded, event: ev.RolloutStarted, at: datetime) -> Recorded:
    desired = event.desired
    credentials = dict(recorded.credentials)
    for new in event.new:
        credentials[new.id] = Credential(
            id=new.id,
            playbook=desired.playbook,
            scope=new.scope,
            key=new.key,
            servers=new.servers,
            created=at,
            not_before=new.not_before,
            not_after=new.not_after,
            in_flight=desired.messages.in_flight,
            grace=desired.certificate.grace,
            state=KeyState.GENERATED,
            state_since=at,
            delegated=new.delegated,
        )
    for credential in {target for target in event.targets.values() if target is not None}:
        credentials[credential] = replace(credentials[credential], awaits=False)
    brought = {c for s in event.targets if s in recorded.servers for c in recorded.servers[s].placements}
    for known in recorded.credentials.values():
        under = known.playbook == desired.playbook or known.id in brought
        if under and known.in_flight < desired.messages.in_flight:
            credentials[known.id] = replace(credentials[known.id], in_flight=desired.messages.in_flight)
    servers = dict(recorded.servers)
    for server, target in event.targets.items():
        before = servers.get(server, ServerRecord(playbook=desired.playbook, target=None))
        servers[server] = replace(
            before, playbook=desired.playbook, target=target, set_back=None, given_up=""
        )
    agents = {a: replace(recorded.agents.get(a, AgentRecord()), given_up="") for a in desired.agents()}
    replaced = recorded.running(desired.playbook)
    rollouts = {
        r.id: replace(r, ended=at, replaced_by=event.rollout)
        if r.playbook == desired.playbook and r.ended is None
        else r
        for r in recorded.rollouts.values()
    }
    rollouts[event.rollout] = Rollout(
        id=event.rollout,
        playbook=desired.playbook,
        started=at,
        targets=event.targets,
        reasons=event.reasons,
        before=recorded.playbooks.get(desired.playbook),
        waves=event.waves,
        reverts=event.reverts,
        received=_received(recorded, event),
        awaited=replaced.awaited if replaced is not None else {},
    )
    return replace(
        recorded,
        playbooks=_with(recorded.playbooks, desired.playbook, desired),
        credentials=MappingProxyType(credentials),
        servers=MappingProxyType(servers),
        agents=MappingProxyType({**recorded.agents, **agents}),
        endpoints=MappingProxyType({**recorded.endpoints, **desired.endpoints}),
        rollouts=MappingProxyType(rollouts),
    )


def _received(recorded: Recorded, event: ev.RolloutStarted) -> Mapping[HostName, PlaybookName]:
    """The servers that were another playbook's, and not about to leave it, each with that playbook."""
    before = ((server, recorded.servers.get(server)) for server in event.targets)
    return {
        server: record.playbook
        for server, record in before
        if record is not None and record.target is not None and record.playbook != event.desired.playbook
    }


def _certified(recorded: Recorded, event: ev.Certified) -> Recorded:
    known, server = recorded.credentials[event.credential], event.server
    before = known.certificate_digest(server)
    earlier = known.superseded.get(server, frozenset())
    if before is not None:
        earlier |= {before}
    former = known.former_issuers.get(server, frozenset())
    if known.issuers.get(server, event.issuer) != event.issuer:
        former |= {known.issuers[server]}
    return _credential(
        recorded,
        event.credential,
        certificates=_with(known.certificates, server, event.certificate_pem),
        chains=_with(known.chains, server, event.chain_pem),
        issuers=_with(known.issuers, server, event.issuer),
        uncertified=known.uncertified - {server},
        superseded=_with(known.superseded, server, earlier) if earlier else known.superseded,
        former_issuers=_with(known.former_issuers, server, former) if former else known.former_issuers,
    )


def _give_up(recorded: Recorded, event: ev.HostGivenUp) -> Recorded:
    server, agent = recorded.servers.get(event.host), recorded.agents.get(event.host)
    if server is not None:
        recorded = recorded.with_server(event.host, replace(server, target=None, given_up=event.reason))
    if agent is not None:
        recorded = recorded.with_agent(event.host, replace(agent, given_up=event.reason))
    return recorded


def _finish(recorded: Recorded, event: ev.RolloutEnded, at: datetime) -> Recorded:
    """End the rollout, and forget hosts that have left and hold nothing any more."""
    listening = recorded.listens()
    gone = {
        host
        for host, server in recorded.servers.items()
        if server.target is None
        and not server.placements
        and not server.missing
        and host not in recorded.pending
        and host not in recorded.server_stores
        and all(at >= since + recorded.credentials[c].in_flight for c, since in server.cleared.items())
    }
    idle = {
        host
        for host, agent in recorded.agents.items()
        if host not in listening
        and host not in recorded.pending
        and host not in recorded.agent_stores
        and not agent.untold
        and (agent.installed is None or not agent.installed.lines)
    }
    rollout = recorded.rollouts[event.rollout]
    return replace(
        recorded,
        rollouts=_with(recorded.rollouts, rollout.id, replace(rollout, ended=at)),
        servers=_without(recorded.servers, gone),
        agents=_without(recorded.agents, idle),
    )


def _credential(recorded: Recorded, credential: CredentialId, **changes: object) -> Recorded:
    after = replace(recorded.credentials[credential], **changes)  # type: ignore[arg-type]  # named at each call
    return replace(recorded, credentials=_with(recorded.credentials, credential, after))


def _resumed(recorded: Recorded, rollout: RolloutId) -> Recorded:
    """``recorded`` where the rollout goes on, and servers that went back are tried again."""
    resumed = _rollout(recorded, rollout, paused="", paused_since=None)
    targets = recorded.rollouts[rollout].targets
    servers = {s: replace(one, set_back=None) if s in targets else one for s, one in recorded.servers.items()}
    return replace(resumed, servers=MappingProxyType(servers))


def _rollout(recorded: Recorded, rollout: RolloutId, **changes: object) -> Recorded:
    after = replace(recorded.rollouts[rollout], **changes)  # type: ignore[arg-type]  # named at each call
    return replace(recorded, rollouts=_with(recorded.rollouts, rollout, after))


def _with(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    return MappingProxyType({**mapping, key: value})


def _without(mapping: Mapping[K, V], keys: set[K]) -> Mapping[K, V]:
    return MappingProxyType({key: value for key, value in mapping.items() if key not in keys})
