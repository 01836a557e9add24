"""The states that keys are in, worked out from what hosts may hold.

A key's state is a conclusion: who may sign with it, who trusts it, who holds it. Every pending visit counts
in the direction that is safe (``Recorded.may_sign`` and its kin), so a key is never called retired while
a server might still be using it. Changes that ``lifecycle.KEY_MOVES`` does not know are a fault.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from orchestrator.inventory.model import HostName
from orchestrator.rotation.lifecycle import KeyState, check_move
from orchestrator.rotation.recorded import Credential, Proof, Recorded, TrustLine
from orchestrator.rotation.visits import CredentialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Who has to do with which key, collected once over all hosts.

    Attributes:
        signing: keys some server may sign with.
        held: keys some server may hold the private half of.
        trusted: keys some agent may trust.
        wanted: for each key, the servers that are to end up with it.
        unproven: keys that an agent of a server that wants them has not proven yet.
    """

    signing: frozenset[CredentialId]
    held: frozenset[CredentialId]
    trusted: frozenset[CredentialId]
    wanted: frozenset[CredentialId]
    unproven: frozenset[CredentialId]


def proof_of(recorded: Recorded, agent: HostName, line: TrustLine) -> Proof | None:
    """The agent's last proof of a line with the bundle it certainly uses."""
    return proofs_of(recorded, agent).get(line)


def proofs_of(recorded: Recorded, agent: HostName) -> Mapping[TrustLine, Proof]:
    """The agent's proofs with the bundle it certainly uses; none while that is not certain."""
    if recorded.settled_bundle(agent) is None:
        return {}
    return recorded.agents[agent].proven


def collect(recorded: Recorded) -> Facts:
    """The facts that key states follow from; linear in hosts and lines."""
    wanted = {
        server: TrustLine(server=server, credential=record.target)
        for server, record in recorded.servers.items()
        if record.target is not None
    }
    unproven = {
        line.credential
        for server, line in wanted.items()
        if (placement := recorded.servers[server].placements.get(line.credential)) is None
        or placement.claim is None
    }
    for trust_set in (t for desired in recorded.playbooks.values() for t in desired.trust_sets):
        asked = {line for server in trust_set.servers if (line := wanted.get(server)) is not None}
        for agent in trust_set.agents:
            unproven |= {line.credential for line in asked.difference(proofs_of(recorded, agent))}
    everyone = set(recorded.agents) | set(recorded.pending)
    return Facts(
        signing=frozenset(c for server in recorded.servers for c in recorded.may_sign(server)),
        held=frozenset(c for server in recorded.servers for c in recorded.may_hold(server)),
        trusted=frozenset(
            line.credential
            for agent in everyone
            for bundle in recorded.bundles(agent)
            for line in bundle.lines
        ),
        wanted=frozenset(line.credential for line in wanted.values()),
        unproven=frozenset(unproven),
    )


def state_of(credential: Credential, facts: Facts) -> KeyState:
    """The state that follows from the facts."""
    name = credential.id
    if credential.ended is not None:
        somewhere = name in facts.signing | facts.trusted | facts.held or credential.in_vault
        return credential.ended if somewhere else KeyState.REMOVED
    if name in facts.signing:
        return KeyState.ACTIVE
    if name in facts.wanted:
        if name not in facts.unproven:
            return KeyState.READY
        return KeyState.PUBLISHED if name in facts.trusted else KeyState.GENERATED
    if name in facts.trusted or name in facts.held or credential.in_vault:
        return KeyState.RETIRED
    return KeyState.REMOVED


def settle(recorded: Recorded, *, at: datetime) -> Recorded:
    """``recorded`` with every key in the state that its hosts put it in.

    Raises:
        ValueError: a key would make a move that the table does not know.
    """
    facts = collect(recorded)
    changed: dict[CredentialId, Credential] = {}
    for credential in recorded.credentials.values():
        state = state_of(credential, facts)
        if state is not credential.state:
            check_move(credential.state, state)
            changed[credential.id] = replace(credential, state=state, state_since=at)
    if not changed:
        return recorded
    return replace(recorded, credentials=MappingProxyType({**recorded.credentials, **changed}))
