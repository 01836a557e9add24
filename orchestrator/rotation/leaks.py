"""Where a leaked key has yet to be taken away, by all that the ledger knows (S10)."""

from collections.abc import Mapping

from orchestrator.inventory.model import HostName
from orchestrator.rotation.belief import vouched_lines
from orchestrator.rotation.recorded import Credential, TrustLine
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId


def leaked_on(view: View) -> Mapping[HostName, tuple[Credential, ...]]:
    """By host the leaked keys that it may still hold, or believe a server by; linear in hosts and lines.

    Hosts that were given up are not among them, for nobody visits these any more.
    """
    leaked = {credential.id: credential for credential in view.leaked}
    if not leaked:
        return {}
    vouched: dict[TrustLine, list[CredentialId]] = {}
    for credential in leaked.values():
        for line in vouched_lines(view.recorded, credential):
            vouched.setdefault(line, []).append(credential.id)
    recorded = view.recorded
    found: dict[HostName, set[CredentialId]] = {}
    for server in recorded.servers:
        found.setdefault(server, set()).update(recorded.may_hold(server) & leaked.keys())
    for agent in {*recorded.agents, *recorded.pending}:
        believed = found.setdefault(agent, set())
        for bundle in recorded.bundles(agent):
            for line in bundle.lines:
                covered = vouched.get(line, ()) if line.issuer else (line.credential,)
                believed.update(c for c in covered if c in leaked and bundle.believes(line, c))
    return {
        host: tuple(leaked[credential] for credential in sorted(there))
        for host, there in sorted(found.items())
        if there and not recorded.given_up(host)
    }
