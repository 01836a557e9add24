"""Agents that another key would leave behind: their server misses the key that they trust.

While a server has its old key, a new one strands nobody: it goes on signing with the old one until every
agent has proven the new one. A server that misses it may have been wiped, and then each of its agents is cut
off from it until the new key has reached that agent; or its disk is not mounted, and what is written in the
place of that will be gone again. Where the old key can be brought back, nobody is cut off; nor is an agent
that trusts the next key already, or believes whatever the issuer certifies. A ledger that was restored from a
backup may know of no key that the server is to have, and learns from the agents which one they trust.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.recorded import SIGNING, Credential, ServerRecord
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranding:
    """What another key costs that a server is to have in place of one that it misses.

    Attributes:
        agents: that trust a key which the server had, and not the other one.
        keys: those keys.
        kept: whether the vault has such a key, so that it can be brought back.
    """

    server: HostName
    agents: tuple[HostName, ...]
    keys: tuple[CredentialId, ...]
    kept: bool


def strandings(view: View, targets: Mapping[HostName, CredentialId | None]) -> Iterator[Stranding]:
    """The servers that would get another key in place of one that they miss, with who trusts that.

    A key that a person has ended counts for nothing: that it is gone was said already.

    Args:
        view: of the record, the surveys taken in.
        targets: what each server is to have.
    """
    recorded = view.recorded
    for server, target in sorted(targets.items()):
        record = recorded.servers.get(server)
        if target is None or record is None or target in record.missing:
            continue
        if any(placement.standing in SIGNING for placement in record.placements.values()):
            continue
        trusting = view.trusting.get(server, {})
        known = {line.credential: agents for line, agents in trusting.items() if line.credential}
        lost = known.keys() & record.missing.keys()
        ready = {agent for line, agents in trusting.items() if line.issuer for agent in agents}
        agents = {agent for credential in lost for agent in known[credential]} - ready
        agents -= {*known.get(target, ()), *view.waived(server)}
        agents &= set(view.listeners.get(server, ()))
        if agents:
            kept = any(recorded.credentials[credential].in_vault for credential in lost)
            yield Stranding(server=server, agents=tuple(sorted(agents)), keys=tuple(sorted(lost)), kept=kept)


def spared(view: View, playbook: PlaybookName) -> Mapping[HostName, str]:
    """The servers of a playbook that no run visits until a person has said what became of their key, and why.

    Each misses the key that it signed with, and nothing brings back the one that it is to have, the same or
    another: it is gone from there and the vault has it not, or its agents do not know it.
    """
    targets = {s: r.target for s, r in view.recorded.servers.items() if r.playbook == playbook}
    left = {one.server: len(one.agents) for one in strandings(view, targets)}
    for server, target in targets.items():
        record = view.recorded.servers[server]
        if target is not None and record.missing and _is_gone(view.recorded.credentials[target], record):
            trusting = view.trusting.get(server, {})
            lines = {view.line(server, credential) for credential in (*record.missing, target)}
            left[server] = len({agent for line in lines for agent in trusting.get(line, ())})
    return {server: _why(server, agents) for server, agents in sorted(left.items()) if agents}


def _is_gone(target: Credential, record: ServerRecord) -> bool:
    """Whether a key was made, and is neither on the server nor in the vault."""
    return target.public is not None and not target.in_vault and target.id not in record.placements


def _why(server: HostName, agents: int) -> str:
    whom = "1 agent trusts" if agents == 1 else f"{agents} agents trust"
    return (
        f"it lost the key in use, which {whom}: give it back what it had, or say that it is lost: "
        f"keyrelay reinstall {server}"
    )


def why_missing(view: View, server: HostName) -> str:
    """Why a server's agents keep trusting an old key that is gone from it, and what a person may say."""
    credential = view.recorded.credentials[view.missing(server)[0]]
    thumbprint = credential.public.thumbprint[:10] if credential.public is not None else ""
    return (
        f"{name_of(credential)} is gone from it, and its service may still sign with it: give back what it "
        f"had, or say that it is lost: keyrelay reinstall {server}, keyrelay compromise {thumbprint} --lost"
    )
