"""The states that keys are in, worked out from what hosts may hold.

A key's state is a conclusion: who may sign with it, who trusts it, who holds it. Every pending visit counts
in the direction that is safe (``Recorded.may_sign`` and its kin), so a key is never called retired while
a server might still be using it. Changes that ``lifecycle.KEY_MOVES`` does not know are a fault.
"""

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
    installed = recorded.settled_bundle(agent)
    if installed is None or line not in installed.lines:
        return None
    return recorded.agents[agent].proven.get(line)


def collect(recorded: Recorded) -> Facts:
    """The facts that key states follow from; linear in hosts and lines."""
    wanted = {server: r.target for server, r in recorded.servers.items() if r.target is not None}
    unproven = {
        target
        for server, target in wanted.items()
        if (placement := recorded.servers[server].placements.get(target)) is None or placement.claim is None
    }
    for agent, servers in recorded.listens().items():
        for server in servers:
            target = wanted.get(server)
            if target is None or target in unproven:
                continue
            if proof_of(recorded, agent, TrustLine(server=server, credential=target)) is None:
                unproven.add(target)
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
        wanted=frozenset(wanted.values()),
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
