"""Keys whose successor is kept waiting: certified anew, so that waiting orphans nobody (L4).

A rollout that stands still (a host is away, a soak is long, a person has paused it) may outlast the
certificate in use. From halfway between the day a successor was due and that certificate's end on, the same
key is certified again, for as long as lay between the two days; and again, as long as nothing moves. Agents
are given the later end, servers the later certificate; the key itself stays as old as it is, and due. It ends
with this only where a playbook says how long a key may be kept (``certificate.longest``).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from orchestrator.inventory.model import HostName
from orchestrator.policy.expiry import part_of
from orchestrator.rotation.recorded import Credential, Recorded, Standing
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId

MANY = 3
"""A key that was kept in use so often is not waiting for a host that comes back by itself."""

CERTIFIED = frozenset({Standing.STAGED, Standing.ACTIVE, Standing.STANDBY})
"""Where a credential needs a certificate that lasts."""


def last_call(recorded: Recorded, credential: Credential) -> datetime | None:
    """From when on a key in use is prolonged if nothing moves; None: it may not be kept any longer."""
    if credential.ends >= longest(recorded, credential):
        return None
    return credential.ends - _spare(recorded, credential) / 2


def longest(recorded: Recorded, credential: Credential) -> datetime:
    """Until when a key may be kept in use, however long its successor waits."""
    allowed = recorded.playbooks[credential.playbook].certificate.longest
    return credential.not_before + allowed if allowed is not None else datetime.max.replace(tzinfo=UTC)


def kept(recorded: Recorded, credential: Credential) -> str:
    """How often a key was kept in use since its successor waits, and how that ends; empty: it was not."""
    if credential.prolonged_since is None:
        return ""
    times = "once" if credential.prolongations == 1 else f"{credential.prolongations} times"
    told = f"kept in use {times} since {credential.prolonged_since:%Y-%m-%d}, as {credential.prolonged_why}"
    if recorded.playbooks[credential.playbook].certificate.longest is not None:
        told += f"; certificate.longest ends that on {longest(recorded, credential):%Y-%m-%d}"
    elif credential.prolongations >= MANY:
        told += "; nothing else ends that but to mend the host, to waive it (apply --waive) or to remove it"
    return told


def to_prolong(view: View, servers: frozenset[HostName]) -> Iterator[tuple[CredentialId, datetime]]:
    """The keys that these servers may be signing with whose end is near, each with its new end."""
    for credential in in_use(view.recorded, servers):
        at = last_call(view.recorded, credential)
        if at is not None and at <= view.now:
            until = view.now.replace(microsecond=0) + _spare(view.recorded, credential)
            yield credential.id, min(until, longest(view.recorded, credential))


def in_use(recorded: Recorded, servers: frozenset[HostName]) -> tuple[Credential, ...]:
    """The keys that these servers may be signing with, apart from those that a person has ended."""
    names = {
        c
        for server in servers
        if (record := recorded.servers.get(server)) is not None
        for c in recorded.may_sign(server) - record.missing.keys()
    }
    known = (recorded.credentials[name] for name in sorted(names))
    return tuple(c for c in known if c.ended is None and c.certificates)


def outdated(recorded: Recorded, server: HostName) -> Credential | None:
    """A credential that was certified anew, and whose earlier certificate is still in use on the server."""
    for name, placement in sorted(recorded.servers[server].placements.items()):
        credential = recorded.credentials[name]
        if (
            placement.standing in CERTIFIED
            and credential.prolonged is not None
            and credential.ended is None
            and server not in credential.uncertified
            and (placement.certificate != credential.certificate_digest(server) or placement.hook_due)
        ):
            return credential
    return None


def uncertified(recorded: Recorded, server: HostName) -> Credential | None:
    """A credential on the server that is prolonged, and has yet to be certified anew."""
    for name, placement in sorted(recorded.servers[server].placements.items()):
        credential = recorded.credentials[name]
        if placement.standing in CERTIFIED and server in credential.uncertified and credential.ended is None:
            return credential
    return None


def _spare(recorded: Recorded, credential: Credential) -> timedelta:
    """How long before its end a key's successor is due."""
    lifetime = credential.not_after - credential.not_before
    renew_at = recorded.playbooks[credential.playbook].certificate.renew_at
    return lifetime - part_of(lifetime, renew_at)
