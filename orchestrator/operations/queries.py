"""What the ledger answers by itself: who holds which key, which keys a host holds, what ran."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from orchestrator.errors import UsageError
from orchestrator.inventory.model import HostName
from orchestrator.rotation.belief import vouched_lines
from orchestrator.rotation.installing import Manifests
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.lookup import credential_named
from orchestrator.rotation.recorded import Backup, Credential, Evidence, Recorded, TrustLine
from orchestrator.rotation.visits import CredentialId

CONTROLLER = HostName("controller")
"""How the vault is called among the hosts that hold keys."""

OUTSIDE = HostName("outside")
"""How whoever may have an exported file is called among the hosts that hold keys."""


def backup_host(backup: Backup) -> HostName:
    """How a backup is called among the hosts that hold keys."""
    return HostName(f"backup:{backup.id}")


class Half(StrEnum):
    """Which half of a key is held."""

    PRIVATE = "private"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A host holds a key, or may.

    Attributes:
        host: or ``controller``, for the vault; or ``outside``, for a file that was exported.
        half: what it holds.
        standing: on servers where it lies; on agents for which servers it is trusted.
        since: None: not known, since nothing confirmed it yet.
        evidence: how we know.
        stores: where else on a server the private key is.
    """

    credential: Credential
    host: HostName
    half: Half
    standing: str
    since: datetime | None
    evidence: Evidence
    stores: tuple[str, ...] = ()


def holders(recorded: Recorded, key: str) -> tuple[Holding, ...]:
    """Every host that holds, or may hold, a key; sorted by half and host.

    Raises:
        UsageError: no such key, or several.
    """
    wanted = credential_named(recorded, key)
    found = [holding for holding in _all(recorded) if holding.credential.id == wanted.id]
    return tuple(sorted(found, key=lambda h: (h.half, h.host, h.standing)))


def private_holders(recorded: Recorded) -> Mapping[CredentialId, int]:
    """How many hosts hold, or may hold, the private half of each key; vault and exported files count too."""
    return Counter(h.credential.id for h in _all(recorded) if h.half is Half.PRIVATE)


def predecessors(recorded: Recorded, credential: Credential, server: HostName) -> tuple[Credential, ...]:
    """The keys that a server was certified for before a key was made, the oldest first."""
    every = sorted(recorded.credentials.values(), key=lambda one: one.created)
    return tuple(one for one in every if one.created < credential.created and server in one.certificates)


def holdings(recorded: Recorded, host: str) -> tuple[Holding, ...]:
    """Every key that a host (or ``controller``) holds, or may hold.

    Raises:
        UsageError: the ledger does not know the host.
    """
    known = {*recorded.servers, *recorded.agents, *recorded.endpoints, CONTROLLER, OUTSIDE}
    known |= {backup_host(backup) for backup in recorded.backups.values()}
    if host not in known:
        raise UsageError(
            f"the ledger knows no host {host!r}",
            hint="Hosts are known once a playbook with them was applied.",
        )
    found = [holding for holding in _all(recorded) if holding.host == host]
    return tuple(sorted(found, key=lambda h: (h.half, h.credential.created, h.standing)))


def _all(recorded: Recorded) -> Iterator[Holding]:
    for credential in recorded.credentials.values():
        if credential.in_vault:
            yield Holding(
                credential=credential,
                host=CONTROLLER,
                half=Half.PRIVATE,
                standing="vault",
                since=credential.created,
                evidence=Evidence.REPORTED if credential.public is not None else Evidence.INTENDED,
            )
        for copy in credential.copies.values():
            yield Holding(
                credential=credential,
                host=OUTSIDE,
                half=Half.PRIVATE,
                standing=f"exported to {copy.file}: {copy.purpose}",
                since=copy.since,
                evidence=Evidence.INTENDED,
            )
    for backup in recorded.backups.values():
        for name in backup.keys:
            yield Holding(
                credential=recorded.credentials[name],
                host=backup_host(backup),
                half=Half.PRIVATE,
                standing=backup.path,
                since=backup.taken,
                evidence=Evidence.REPORTED if backup.digest else Evidence.INTENDED,
            )
    manifests = Manifests.of(recorded)
    for server, record in recorded.servers.items():
        filled = recorded.server_stores.get(server)
        for name, placement in record.placements.items():
            elsewhere = filled is not None and filled.credential == name
            yield Holding(
                credential=recorded.credentials[name],
                host=server,
                half=Half.PRIVATE,
                standing=placement.standing,
                since=placement.since,
                evidence=placement.evidence,
                stores=manifests.holding(server) if elsewhere else (),
            )
        for name in recorded.may_hold(server) - record.placements.keys():
            yield Holding(
                credential=recorded.credentials[name],
                host=server,
                half=Half.PRIVATE,
                standing="not known",
                since=None,
                evidence=Evidence.INTENDED,
            )
    vouched: dict[TrustLine, list[Credential]] = {}
    for credential in recorded.credentials.values():
        if credential.state is not KeyState.REMOVED:
            for line in vouched_lines(recorded, credential):
                vouched.setdefault(line, []).append(credential)
    for agent in sorted({*recorded.agents, *recorded.pending}):
        yield from _trusted(recorded, agent, vouched)


def _trusted(
    recorded: Recorded, agent: HostName, vouched: Mapping[TrustLine, Sequence[Credential]]
) -> Iterator[Holding]:
    """The keys an agent trusts, or may trust; the bundle it is known to have is told first."""
    told: set[object] = set()
    for bundle in recorded.bundles(agent):
        for line in bundle.lines:
            if line in told:
                continue
            told.add(line)
            how = "believed by its certificate" if line.issuer else "trusted"
            covered = vouched.get(line, ()) if line.issuer else (recorded.credentials[line.credential],)
            for credential in covered:
                denied = credential.id in bundle.denied
                yield Holding(
                    credential=credential,
                    host=agent,
                    half=Half.PUBLIC,
                    standing=f"{'denied' if denied else how} for {line.server}",
                    since=line.since,
                    evidence=bundle.evidence,
                )
