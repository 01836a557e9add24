"""Private keys at home that nobody needs any more: of credentials in the vault, and of issuers."""

from collections.abc import Iterable

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.lifecycle import ENDED, KeyState
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId


def to_destroy(view: View, playbook: PlaybookName, servers: Iterable[HostName]) -> tuple[CredentialId, ...]:
    """Keys that nobody signs with, wants or trusts: the vault's copy goes with the servers'.

    Args:
        view: the record at one instant.
        playbook: whose waivers count.
        servers: those that are still visited.
    """
    waived = view.recorded.waived(playbook)
    trusted = {
        line.credential
        for by_line in view.trusting.values()
        for line, agents in by_line.items()
        if line.credential and any(agent not in waived for agent in agents)
    }
    held = {c for server in servers for c in view.recorded.may_hold(server)}
    return tuple(
        sorted(
            credential.id
            for credential in view.recorded.credentials.values()
            if credential.in_vault
            and credential.state in {KeyState.RETIRED, *ENDED}
            and credential.id not in trusted | held
        ),
    )


def to_retire(recorded: Recorded, playbook: PlaybookName) -> tuple[str, ...]:
    """Issuers that another one has replaced, that no bundle carries, and of which no server has a key."""
    earlier = [issuer for issuer in recorded.own_issuers()[:-1] if issuer.kept]
    if not earlier:
        return ()
    waived = recorded.waived(playbook)
    needed = {
        key
        for agent in {*recorded.agents, *recorded.pending}
        if agent not in waived and not recorded.given_up(agent)
        for bundle in recorded.bundles(agent)
        for key in recorded.carried_issuers(bundle)
    }
    for server, record in recorded.servers.items():
        if record.given_up:
            continue
        had = (recorded.credentials[c] for c in (*recorded.may_hold(server), record.target) if c is not None)
        needed |= {
            recorded.issuer_of(credential, server) for credential in had if server in credential.issuers
        }
    return tuple(issuer.record for issuer in earlier if issuer.key not in needed)
