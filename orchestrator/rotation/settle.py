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
from orchestrator.rotation.belief import is_believable, is_vouched_for, vouched_lines
from orchestrator.rotation.lifecycle import KeyState, check_move
from orchestrator.rotation.recorded import Credential, Proof, Recorded, TrustLine
from orchestrator.rotation.visits import CredentialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Who has to do with which key, collected once over all hosts.

    Attributes:
        signing: keys some server may sign with.
        held: keys some server, or some backup, may hold the private half of.
        trusted: keys some agent may trust.
        wanted: for each key, the servers that are to end up with it.
        unproven: keys that an agent of a server that wants them has not proven yet.
    """

    signing: frozenset[CredentialId]
    held: frozenset[CredentialId]
    trusted: frozenset[CredentialId]
    wanted: frozenset[CredentialId]
    unproven: frozenset[CredentialId]


def proof_of(
    recorded: Recorded, agent: HostName, server: HostName, line: TrustLine | None = None
) -> Proof | None:
    """The agent's last proof, with the bundle it certainly uses, of what the server is to end up with.

    Of a server that an issuer vouches for it is proof of the issuer, the name and the kind of key.

    Args:
        recorded: the fleet.
        agent: who has proven it.
        server: whose target it is a proof of.
        line: of that target, where it is known already.
    """
    target = recorded.servers[server].target
    if target is None:
        return None
    proof = proofs_of(recorded, agent).get(line or recorded.line(server, target))
    if proof is None or (proof.line.issuer and proof.algorithm != recorded.credentials[target].key.algorithm):
        return None
    return proof


def proofs_of(recorded: Recorded, agent: HostName) -> Mapping[TrustLine, Proof]:
    """The agent's proofs with the bundle it certainly uses; none while that is not certain."""
    if recorded.settled_bundle(agent) is None:
        return {}
    return recorded.agents[agent].proven


def collect(recorded: Recorded, at: datetime) -> Facts:
    """The facts that key states follow from; linear in hosts and lines."""
    wanted = {
        server: record.target for server, record in recorded.servers.items() if record.target is not None
    }
    unproven = {
        target
        for server, target in wanted.items()
        if (placement := recorded.servers[server].placements.get(target)) is None or placement.claim is None
    }
    for trust_set in (t for desired in recorded.playbooks.values() for t in desired.trust_sets):
        asked = {recorded.line(s, wanted[s]): wanted[s] for s in trust_set.servers if s in wanted}
        kinds = {line: recorded.credentials[c].key.algorithm for line, c in asked.items() if line.issuer}
        for agent in trust_set.agents:
            proofs = proofs_of(recorded, agent)
            unproven |= {asked[line] for line in asked.keys() - proofs.keys()}
            unproven |= {
                asked[line] for line in kinds if line in proofs and proofs[line].algorithm is not kinds[line]
            }
    return Facts(
        signing=frozenset(c for server in recorded.servers for c in recorded.may_sign(server)),
        held=frozenset(
            (
                *(c for server in recorded.servers for c in recorded.may_hold(server)),
                *(c for backup in recorded.backups.values() for c in backup.keys),
            )
        ),
        trusted=_trusted(recorded, frozenset(wanted.values()), at),
        wanted=frozenset(wanted.values()),
        unproven=frozenset(unproven),
    )


def _trusted(recorded: Recorded, wanted: frozenset[CredentialId], at: datetime) -> frozenset[CredentialId]:
    """Keys that some agent may trust.

    An agent that believes an issuer knows no key. It counts as trusting those that servers are to use, and
    those that leaked, until it denies them or their certificates have ended; any other is trusted by nobody
    once nobody has it.
    """
    everyone = set(recorded.agents) | set(recorded.pending)
    bundles = [bundle for agent in everyone for bundle in recorded.bundles(agent)]
    lines = {line for bundle in bundles for line in bundle.lines}
    trusted = {line.credential for line in lines if line.credential}
    if not any(line.issuer for line in lines):
        return frozenset(trusted)
    for credential in recorded.credentials.values():
        leaked = credential.compromised and is_believable(recorded, credential, at)
        if not leaked and not (credential.delegated and credential.id in wanted):
            continue
        if lines.isdisjoint(vouched_lines(recorded, credential)):
            continue
        if not leaked or is_vouched_for(recorded, credential, bundles, at):
            trusted.add(credential.id)
    return frozenset(trusted)


def state_of(credential: Credential, facts: Facts) -> KeyState:
    """The state that follows from the facts."""
    name = credential.id
    if credential.ended is not None:
        somewhere = name in facts.signing | facts.trusted | facts.held or _kept(credential)
        return credential.ended if somewhere else KeyState.REMOVED
    if name in facts.signing:
        return KeyState.ACTIVE
    if name in facts.wanted:
        if name not in facts.unproven:
            return KeyState.READY
        return KeyState.PUBLISHED if name in facts.trusted else KeyState.GENERATED
    if credential.awaits:
        return KeyState.GENERATED
    if name in facts.trusted or name in facts.held or _kept(credential):
        return KeyState.RETIRED
    return KeyState.REMOVED


def _kept(credential: Credential) -> bool:
    """Whether its private key may be anywhere but on servers: in the vault, or in an exported file."""
    return credential.in_vault or bool(credential.copies)


def settle(recorded: Recorded, *, at: datetime) -> Recorded:
    """``recorded`` with every key in the state that its hosts put it in.

    Raises:
        ValueError: a key would make a move that the table does not know.
    """
    facts = collect(recorded, at)
    changed: dict[CredentialId, Credential] = {}
    for credential in recorded.credentials.values():
        state = state_of(credential, facts)
        if state is not credential.state:
            check_move(credential.state, state)
            changed[credential.id] = replace(credential, state=state, state_since=at)
    if not changed:
        return recorded
    return replace(recorded, credentials=MappingProxyType({**recorded.credentials, **changed}))
