"""Who believes a key, and until when: one answer for bundles, key states, tombstones, audits and reports.

An agent believes a server's key for one of two reasons, and its bundle has a line for each (``TrustLine``):
it knows the key itself, or it knows an issuer that has certified the key for this server. A key that agents
know has a certificate too, so one key may be believed for both reasons. It ends with the line, or with a
denial of the key, and at the latest when the key and the longest grace have ended.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.rotation.credentials import Credential
from orchestrator.rotation.holdings import FOREIGN, Installed, TrustLine
from orchestrator.rotation.observed import HeldBundle
from orchestrator.rotation.recorded import Recorded


def believed_until(recorded: Recorded, credential: Credential) -> datetime:
    """When the last agent refuses a credential; playbooks may allow more grace by now."""
    graces = [desired.certificate.grace for desired in recorded.playbooks.values()]
    return credential.ends + max([credential.grace, *graces])


def is_believable(recorded: Recorded, credential: Credential, at: datetime) -> bool:
    """Whether some agent may still accept a credential, if it has a line for it and does not deny it."""
    return believed_until(recorded, credential) > at


def refused_from(recorded: Recorded, line: TrustLine, credential: Credential) -> datetime:
    """From when on an agent refuses what is signed with a credential, although it has this line (S10)."""
    if line.credential:
        return credential.expires
    playbook = recorded.playbooks[recorded.servers[line.server].playbook]
    return credential.ends + playbook.certificate.grace


def vouched_lines(recorded: Recorded, credential: Credential) -> frozenset[TrustLine]:
    """The lines by which an agent would accept a credential for its certificates alone."""
    issued = {
        (server, issuer or recorded.own_issuers()[0].key)
        for server, last in credential.issuers.items()
        for issuer in (last, *credential.former_issuers.get(server, ()))
    }
    return frozenset(TrustLine(server=s, issuer=issuer) for s, issuer in issued if issuer != FOREIGN)


def is_vouched_for(
    recorded: Recorded, credential: Credential, bundles: Iterable[Installed], at: datetime
) -> bool:
    """Whether an agent with one of these bundles may accept a credential for its certificates alone."""
    if not is_believable(recorded, credential, at):
        return False
    lines = vouched_lines(recorded, credential)
    return any(bundle.believes(line, credential.id) for bundle in bundles for line in lines)


def believed_servers(
    bundle: HeldBundle,
    using: Mapping[HostName, SpkiDigest],
    credentials: Mapping[SpkiDigest, Credential],
    recorded: Recorded,
    at: datetime,
) -> frozenset[HostName]:
    """The servers that an agent believes at an instant, by the bundle that was seen on it.

    Args:
        bundle: what was seen.
        using: by server the key that it signs with.
        credentials: by key what is known of it; a key that is not known no issuer has certified.
        recorded: the fleet.
        at: the instant of which is asked.
    """
    known = {(e.server, e.key) for e in bundle.edges if e.expires is None or e.expires > at.timestamp()}
    graces = {(line.server, line.issuer): line.grace for line in bundle.delegations}

    def vouched(server: HostName, key: SpkiDigest) -> bool:
        credential = credentials.get(key)
        if credential is None or key in bundle.denied or server not in credential.issuers:
            return False
        grace = graces.get((server, recorded.issuer_of(credential, server)))
        return grace is not None and at <= credential.ends + timedelta(seconds=grace)

    return frozenset(
        server for server, key in using.items() if (server, key) in known or vouched(server, key)
    )
