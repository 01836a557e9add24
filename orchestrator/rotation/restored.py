"""What restoring a home changes in the record, and what a restored ledger takes over from hosts (S9)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.keys.certificate import parse_chain
from orchestrator.keys.material import SpkiDigest
from orchestrator.policy.desired import Policy
from orchestrator.rotation.home_events import FoundCredential, HomeRestored, HostsMet
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.observed import LATEST
from orchestrator.rotation.recorded import (
    FOREIGN,
    SIGNING,
    AgentRecord,
    Credential,
    Evidence,
    Placement,
    Recorded,
    ServerRecord,
    Standing,
)
from orchestrator.rotation.visits import CredentialId


def gone_on(recorded: Recorded, event: HomeRestored | HostsMet, at: datetime) -> Recorded:
    """``recorded`` after the generation was opened, or after hosts were met behind it."""
    return restored(recorded, event, at) if isinstance(event, HomeRestored) else met(recorded, event, at)


def restored(recorded: Recorded, event: HomeRestored, at: datetime) -> Recorded:
    """``recorded`` in its new generation: nothing is under way, and every agent is to get a bundle of it.

    Nothing is written for the fleet until its hosts have been met. Unfinished rollouts end: what servers use
    now is what they are to have, until the next plan.
    """
    kept = event.kept
    agents = {
        agent: record
        if record.installed is None
        else replace(record, installed=replace(record.installed, content=""))
        for agent, record in recorded.agents.items()
    }
    credentials = {
        c.id: c if kept is None else replace(c, in_vault=c.in_vault and c.id in kept)
        for c in recorded.credentials.values()
    }
    rollouts = {r.id: r if r.ended is not None else replace(r, ended=at) for r in recorded.rollouts.values()}
    return replace(
        recorded,
        generation=event.generation,
        position=Position(epoch=event.epoch, sequence=0),
        lease=None,
        stopped="its restore was cut short before the hosts were asked behind the new fence",
        unmet=MappingProxyType({**recorded.unmet, **event.unmet}),
        sure_of_issuer=event.sure_of_issuer,
        superseded=(),
        agents=MappingProxyType(agents),
        credentials=MappingProxyType(credentials),
        rollouts=MappingProxyType(rollouts),
    )


def met(recorded: Recorded, event: HostsMet, at: datetime) -> Recorded:
    """``recorded`` with what hosts tell that it did not know; what they hold follows from their surveys."""
    credentials = dict(recorded.credentials)
    for found in event.found:
        known = credentials.get(found.id)
        credentials[found.id] = (
            _adopted(recorded, found, at)
            if known is None
            else replace(
                known,
                public=found.public,
                certificates=found.certificates,
                chains=found.chains,
                issuers=_issuers(recorded, found),
            )
        )
    for credential, why in event.ended.items():
        credentials[credential] = replace(
            credentials[credential], ended=KeyState.COMPROMISED, ended_why=why, ended_since=at
        )
    for credential, why in event.over.items():
        credentials[credential] = replace(credentials[credential], over=why)
    servers = dict(recorded.servers)
    for server, playbook in event.servers.items():
        servers.setdefault(server, ServerRecord(playbook=playbook, target=None))
    for server, armed in event.armed.items():
        servers[server] = _armed(servers[server], armed, at)
    for server, told in event.hearsay.items():
        servers[server] = replace(servers[server], hearsay=servers[server].hearsay | set(told))
    for server, target in event.targets.items():
        servers[server] = replace(servers[server], target=target, set_back=None)
    agents = {**dict.fromkeys(event.agents, AgentRecord()), **recorded.agents}
    superseded = () if recorded.sure_of_issuer else {*recorded.superseded, *event.superseded}
    return replace(
        recorded,
        credentials=MappingProxyType(credentials),
        servers=MappingProxyType(servers),
        agents=MappingProxyType(agents),
        stopped="",
        endpoints=MappingProxyType({**recorded.endpoints, **event.endpoints}),
        unmet=MappingProxyType({h: why for h, why in recorded.unmet.items() if h not in event.hosts}),
        superseded=tuple(sorted(superseded)),
    )


def _armed(record: ServerRecord, armed: tuple[CredentialId, ...], at: datetime) -> ServerRecord:
    """The server as one that may be signing with these, until its survey tells what it has."""
    placements: dict[CredentialId, Placement] = dict(record.placements)
    for credential in armed:
        before = placements.get(credential)
        if before is not None and before.standing in SIGNING:
            continue
        placements[credential] = Placement(
            standing=Standing.STANDBY,
            since=at,
            evidence=Evidence.INTENDED,
            claim=before.claim if before is not None else None,
        )
    return replace(record, placements=MappingProxyType(placements))


def _adopted(recorded: Recorded, found: FoundCredential, at: datetime) -> Credential:
    desired = recorded.playbooks.get(found.playbook)
    everywhere = [one.messages.in_flight for one in recorded.playbooks.values()]
    begun = min(found.not_before or at, LATEST)
    issuers = _issuers(recorded, found)
    wanted = desired is not None and desired.policy is Policy.DELEGATED
    return Credential(
        id=found.id,
        playbook=found.playbook,
        scope=found.scope,
        key=found.key,
        servers=found.servers,
        created=begun,
        not_before=begun,
        not_after=min(found.not_after or at, LATEST),
        in_flight=max(everywhere, default=timedelta(0)),
        grace=desired.certificate.grace if desired is not None else timedelta(0),
        state=KeyState.GENERATED,
        state_since=at,
        public=found.public,
        certificates=found.certificates,
        chains=found.chains,
        issuers=issuers,
        delegated=bool(found.issuers) or (wanted and bool(issuers) and FOREIGN not in issuers.values()),
    )


def _issuers(recorded: Recorded, found: FoundCredential) -> Mapping[HostName, SpkiDigest]:
    """Who certified the key for each server, by the first certificate of its chain."""
    own = {issuer.key for issuer in recorded.own_issuers()}
    keys = {
        server: chain[0].public_key.spki_digest
        for server, pem in found.chains.items()
        if (chain := parse_chain(pem))
    }
    return {server: keys[server] if keys.get(server) in own else FOREIGN for server in found.certificates}
