"""Credentials that a server could sign with and that are not to be seen there: when they stop to count.

A survey that does not find a key proves nothing (``surveys.py``). The key is let go when a person says what
became of it, or when no agent that is waited for would lose anything with it. Found again, it is what it was.
Agents that believe a server by its issuer believe the key as long as its certificate lasts, and so it counts
for as long: the playbook may come to ask for another policy, and then they would be told to drop the issuer.
"""

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import MappingProxyType

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.belief import is_believable
from orchestrator.rotation.events import HostSetUpAnew
from orchestrator.rotation.host_by_host import Change, host_by_host
from orchestrator.rotation.recorded import Recorded, TrustLine
from orchestrator.rotation.visits import CredentialId


def set_up_anew(recorded: Recorded, event: HostSetUpAnew, at: datetime) -> Recorded:
    """``recorded`` where a person has said that the host has these keys no more."""
    record = recorded.servers[event.host]
    signed = recorded.may_sign(event.host) & set(event.gone)
    placements = {c: one for c, one in record.placements.items() if c not in event.gone}
    missing = {**record.missing, **dict.fromkeys(signed, at)}
    after = replace(record, placements=MappingProxyType(placements), missing=MappingProxyType(missing))
    return _let_go(recorded.with_server(event.host, after), event.host, event.gone, at)


def without_ended(recorded: Recorded, credential: CredentialId, at: datetime) -> Recorded:
    """``recorded`` where no server misses a key that a person has ended."""
    for server, record in recorded.servers.items():
        if credential in record.missing:
            recorded = _let_go(recorded, server, [credential], at)
    return recorded


def without_unbelieved(recorded: Recorded, at: datetime) -> Recorded:
    """``recorded`` where no server misses a key by which no agent believes it; linear in all hosts."""
    held: dict[PlaybookName, AbstractSet[TrustLine]] = {}
    changes: list[tuple[HostName, Change]] = []
    for server, record in recorded.servers.items():
        if not record.missing:
            continue
        if record.playbook not in held:
            held[record.playbook] = _held(recorded, record.playbook)
        lines = held[record.playbook]
        unbelieved = [c for c in record.missing if not _matters(recorded, server, c, lines, at)]
        if unbelieved:
            changes.append((server, partial(_let_go, server=server, gone=unbelieved, at=at)))
    return host_by_host(recorded, changes) if changes else recorded


def _let_go(recorded: Recorded, server: HostName, gone: Collection[CredentialId], at: datetime) -> Recorded:
    """``recorded`` where the server misses these no more; messages signed with them may be in flight (S7)."""
    record = recorded.servers[server]
    ended = record.missing.keys() & set(gone)
    after = replace(
        record,
        missing=MappingProxyType({c: since for c, since in record.missing.items() if c not in gone}),
        cleared=MappingProxyType({**record.cleared, **dict.fromkeys(ended, at)}),
    )
    return recorded.with_server(server, after)


def _matters(
    recorded: Recorded,
    server: HostName,
    credential: CredentialId,
    held: AbstractSet[TrustLine],
    at: datetime,
) -> bool:
    """Whether an agent that is waited for would lose the server by losing what makes it believe the key."""
    line = recorded.line(server, credential)
    if line.issuer and not is_believable(recorded, recorded.credentials[credential], at):
        return False
    return line in held


def _held(recorded: Recorded, playbook: PlaybookName) -> AbstractSet[TrustLine]:
    """What the agents may hold that the servers of a playbook wait for."""
    waived = recorded.waived(playbook)
    return {
        line
        for agent in {*recorded.agents, *recorded.pending}
        if agent not in waived and not recorded.given_up(agent)
        for bundle in recorded.bundles(agent)
        for line in bundle.lines
    }
