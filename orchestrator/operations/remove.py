"""remove: take a host out of the fleet, erase what it holds, and prove that it is gone.

A server whose erasure cannot be proven keeps a key that nobody watches any more, so removing it all the same
is treated as a compromise of its keys.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

from orchestrator.errors import RefusedError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.operations.asking import survey
from orchestrator.operations.handover import Result
from orchestrator.operations.lease import require_free
from orchestrator.operations.planning import carry_out
from orchestrator.policy.desired import Desired, PlaybookName, Scope, TrustSet
from orchestrator.ports import Ports
from orchestrator.rotation.events import Event, HostGivenUp, KeyEnded
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What came of it.

    Attributes:
        results: of the runs, by playbook.
        clean: whether a last survey found no key and no trust on the host, and nothing in its stores.
        given_up: why it was not asked; empty: it was.
    """

    host: HostName
    results: tuple[tuple[PlaybookName, Result], ...]
    clean: bool
    given_up: str

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do, for the host and for those it leaves behind."""
        return (self.clean or bool(self.given_up)) and all(result.complete for _, result in self.results)


def remove(ports: Ports, name: str, *, wait: timedelta, give_up: bool) -> Removed:
    """Hand over without the host, erase what it holds, and look whether anything is left.

    Args:
        ports: the outside things.
        name: a host of any playbook.
        wait: how long this run may wait.
        give_up: do not ask the host: end its keys as compromised, and remember what it last trusted.

    Raises:
        UsageError: the ledger does not know the host.
        RefusedError: the host cannot be reached, and ``give_up`` was not said.
        ConflictError: another controller writes.
    """
    host = HostName(name)
    recorded = ports.ledger.read()
    endpoint = recorded.endpoints.get(host)
    if endpoint is None or not (host in recorded.servers or host in recorded.agents):
        raise UsageError(f"the ledger knows no server or agent {name!r}", hint="See: keyrelay inventory list")
    require_free(recorded, ports)
    failures = {} if give_up else survey(ports.fleet, [endpoint], ports.progress).failures
    if failures:
        raise RefusedError(
            f"{host} cannot be cleaned: {failures[host]}",
            hint="Reach it first. If it is gone for good: keyrelay remove --give-up, which ends its keys.",
        )
    given_up = "a person gave it up" if give_up else ""
    if give_up:
        events = list(_ends(recorded, host, given_up))
        recorded = ports.ledger.append(events, onto=recorded, at=ports.clock.now())
    results = tuple(
        (playbook, carry_out(_without(desired, host), ports, wait=wait))
        for playbook, desired in sorted(recorded.playbooks.items())
        if host in desired.endpoints or _is_leaving(recorded, host, playbook)
    )
    left = None if give_up else survey(ports.fleet, [endpoint], ports.progress).surveys.get(host)
    trusts = left is not None and left.bundle is not None and (left.bundle.edges or left.bundle.delegations)
    filled = left is not None and (left.server_stores or left.agent_stores)
    clean = left is not None and not left.credentials and not trusts and not filled
    return Removed(host=host, results=results, clean=clean, given_up=given_up)


def _is_leaving(recorded: Recorded, host: HostName, playbook: PlaybookName) -> bool:
    """Whether a rollout that is under way, an earlier removal for one, takes the host out."""
    rollout = recorded.running(playbook)
    return rollout is not None and rollout.before is not None and host in rollout.before.endpoints


def _ends(recorded: Recorded, host: HostName, why: str) -> list[Event]:
    """What is written when nobody knows what a host that leaves still holds."""
    reason = f"{host} was removed and its erasure could not be proven"
    ends: list[Event] = [
        KeyEnded(credential=credential, how=KeyState.COMPROMISED, reason=reason)
        for credential in sorted(recorded.may_hold(host))
        if recorded.credentials[credential].ended is not KeyState.COMPROMISED
    ]
    return [*ends, HostGivenUp(host=host, reason=why)]


def _without(desired: Desired, host: HostName) -> Desired:
    """What the playbook asks for without a host; the inventory should say the same soon."""
    scopes = (
        Scope(name=scope.name, servers=tuple(server for server in scope.servers if server != host))
        for scope in desired.scopes
    )
    trust_sets = (
        TrustSet(
            servers=tuple(s for s in trust_set.servers if s != host),
            agents=tuple(a for a in trust_set.agents if a != host),
        )
        for trust_set in desired.trust_sets
    )
    return replace(
        desired,
        scopes=tuple(scope for scope in scopes if scope.servers),
        trust_sets=tuple(trust_set for trust_set in trust_sets if trust_set.agents),
        endpoints={name: endpoint for name, endpoint in desired.endpoints.items() if name != host},
        hooks={name: hook for name, hook in desired.hooks.items() if name != host},
        prove_commands={name: one for name, one in desired.prove_commands.items() if name != host},
        trusted_hooks={name: hook for name, hook in desired.trusted_hooks.items() if name != host},
        stores=replace(
            desired.stores,
            texts={name: texts for name, texts in desired.stores.texts.items() if name != host},
        ),
    )
