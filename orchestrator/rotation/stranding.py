"""Agents that a new key would leave behind: their server has lost the key that they trust.

While a server has its old key, a new one strands nobody: it goes on signing with the old one until every
agent has proven the new one. A server that was wiped has nothing to sign with, so each of its agents is cut
off from it until the new key has reached that agent. Where the old key can be brought back, nobody is; nor
is an agent that believes whatever the issuer certifies. A ledger that was restored from a backup may know of
no key that the server is to have, and learns from the agents which one they trust.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from orchestrator.inventory.model import HostName
from orchestrator.rotation.recorded import SIGNING
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranding:
    """What a new key costs that a server is to have in place of one that it has lost.

    Attributes:
        agents: that trust a key which the server had, and not the new one.
        keys: those keys.
        kept: whether the vault has such a key, so that it can be brought back.
    """

    server: HostName
    agents: tuple[HostName, ...]
    keys: tuple[CredentialId, ...]
    kept: bool


def strandings(
    view: View,
    targets: Mapping[HostName, CredentialId | None],
    asked: AbstractSet[HostName],
) -> Iterator[Stranding]:
    """The servers that would get a new key in place of one that they have lost, with who trusts that.

    A key that a person has ended counts for nothing: that it is gone was said already.

    Args:
        view: of the record, the surveys taken in.
        targets: what each server is to have.
        asked: the hosts that answered a survey; nothing is known of the others.
    """
    recorded = view.recorded
    for server, target in sorted(targets.items()):
        record = recorded.servers.get(server)
        if target is None or record is None or server not in asked:
            continue
        if any(placement.standing in SIGNING for placement in record.placements.values()):
            continue
        trusting = view.trusting.get(server, {})
        known = {line.credential: agents for line, agents in trusting.items() if line.credential}
        gone = (known.keys() & record.cleared.keys()) - record.placements.keys()
        lost = {credential for credential in gone if recorded.credentials[credential].ended is None}
        vouched = {agent for line, agents in trusting.items() if line.issuer for agent in agents}
        agents = {agent for credential in lost for agent in known[credential]} - vouched
        agents &= set(view.listeners.get(server, ()))
        if agents:
            kept = any(recorded.credentials[credential].in_vault for credential in lost)
            yield Stranding(server=server, agents=tuple(sorted(agents)), keys=tuple(sorted(lost)), kept=kept)
