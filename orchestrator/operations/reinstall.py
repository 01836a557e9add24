"""reinstall: a host that was wiped and set up again gets back what it had.

Its key comes from the vault, and no agent notices. A key that was on this host alone is lost with it: a
person says so by calling this, so it ends, and the host goes on with a new one that its agents prove first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from orchestrator.errors import RefusedError, UsageError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.operations.asking import survey, taken_in
from orchestrator.operations.handover import Result
from orchestrator.operations.lease import require_free
from orchestrator.operations.planning import carry_out
from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.ports import Ports
from orchestrator.rotation.events import Event, HostSetUpAnew, KeyEnded
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import Credential, Recorded
from orchestrator.rotation.surveys import fits
from orchestrator.rotation.visits import CredentialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Reinstalled:
    """What came of it.

    Attributes:
        lost: the keys that were on this host alone; they have ended.
        results: of the runs, by playbook.
    """

    host: HostName
    lost: tuple[Credential, ...]
    results: tuple[tuple[PlaybookName, Result], ...]

    @property
    def complete(self) -> bool:
        """Whether the host has all that it is to have, and nothing is left to do."""
        return all(result.complete for _, result in self.results)


def reinstall(ports: Ports, name: str, endpoint: Endpoint, *, wait: timedelta) -> Reinstalled:
    """Give a wiped host its key and its trust again, or hand over to a new key where its own is lost.

    Args:
        ports: the outside things.
        name: a host of any playbook.
        endpoint: how it is reached now.
        wait: how long this run may wait.

    Raises:
        UsageError: the ledger does not know the host.
        RefusedError: it cannot be reached, or it misses nothing that it had.
        ConflictError: another controller writes.
    """
    recorded, now = ports.ledger.read(), ports.clock.now()
    host = known_host(recorded, name)
    require_free(recorded, ports)
    answers = survey(ports.fleet, [endpoint], ports.progress)
    if host not in answers.surveys:
        raise RefusedError(f"{host} cannot be asked what it holds: {answers.failures.get(host, '')}")
    there = taken_in(recorded, answers, at=now)
    server = there.servers.get(host)
    if server is None or not server.missing:
        _refuse_unwiped(recorded, host, answers.surveys[host])
    lost = tuple(only_there(there, host))
    why = f"{host} was set up anew, and nobody else had it"
    ends: list[Event] = [KeyEnded(credential=one.id, how=KeyState.LOST, reason=why) for one in lost]
    if server is not None and (gone := recorded.may_hold(host) - server.placements.keys()):
        ends.append(HostSetUpAnew(host=host, gone=tuple(sorted(gone))))
    if ends:
        recorded = ports.ledger.append(ends, onto=recorded, at=now)
        lost = tuple(recorded.credentials[one.id] for one in lost)
    results = tuple(
        (playbook, carry_out(_met_at(desired, endpoint), ports, wait=wait))
        for playbook, desired in sorted(recorded.playbooks.items())
        if host in desired.endpoints
    )
    return Reinstalled(host=host, lost=lost, results=results)


def known_host(recorded: Recorded, name: str) -> HostName:
    """The host of that name.

    Raises:
        UsageError: it is no server or agent of a playbook that was applied.
    """
    host = HostName(name)
    if not any(host in desired.endpoints for desired in recorded.playbooks.values()):
        raise UsageError(f"no playbook that was applied has a host {name!r}", hint="See: keyrelay cert list")
    return host


def only_there(recorded: Recorded, host: HostName) -> Iterator[Credential]:
    """The keys that the host may sign with, or is to have, and that no vault and no other server holds.

    Where it is known to miss some, those that it has are not among them.
    """
    server = recorded.servers.get(host)
    if server is None:
        return
    elsewhere = {c for other in recorded.servers if other != host for c in recorded.may_hold(other)}
    aimed = {server.target} if server.target is not None else set()
    there = server.placements.keys() if server.missing else frozenset()
    for name in sorted((recorded.may_hold(host) | aimed) - elsewhere - there):
        credential = recorded.credentials[name]
        if credential.public is not None and credential.ended is None and not credential.in_vault:
            yield credential


def _refuse_unwiped(recorded: Recorded, host: HostName, found: HostSurvey) -> None:
    """Refuse where the host still has one of its keys, or a bundle that the ledger gave it."""
    keys = [
        held
        for held in found.credentials
        if (known := recorded.credentials.get(CredentialId(held.name))) is not None and fits(held, known)
    ]
    bundles = {bundle.digest for bundle in recorded.bundles(host)}
    if keys or (found.bundle is not None and found.bundle.digest in bundles):
        what = "a key" if keys else "its trust bundle"
        raise RefusedError(
            f"{host} was not wiped: it still has {what} that it was given",
            hint="keyrelay audit names what is wrong with it, and keyrelay apply mends it",
        )


def _met_at(desired: Desired, endpoint: Endpoint) -> Desired:
    return replace(desired, endpoints={**desired.endpoints, endpoint.host: endpoint})
