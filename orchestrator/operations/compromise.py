"""compromise: a key has leaked, or is lost: every server that uses it gets another one."""

from dataclasses import dataclass
from datetime import timedelta

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.handover import Result
from orchestrator.operations.lease import require_free
from orchestrator.operations.planning import carry_out
from orchestrator.policy.desired import PlaybookName
from orchestrator.ports import Ports
from orchestrator.rotation.belief import is_vouched_for
from orchestrator.rotation.edges import broken_edges
from orchestrator.rotation.events import How, KeyEnded
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.lookup import credential_named
from orchestrator.rotation.recorded import Credential, Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of it.

    Attributes:
        credential: as it stands now; ``removed`` when nobody holds or trusts it any more.
        result: of the run of its own playbook.
        others: of the runs of other playbooks with a server that may have had it, by playbook.
        broken: the edges (server, agent) that do not hold now.
    """

    credential: Credential
    result: Result
    others: tuple[tuple[PlaybookName, Result], ...]
    broken: tuple[tuple[HostName, HostName], ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do in any of the runs."""
        return self.result.complete and all(result.complete for _, result in self.others)


def end_key(ports: Ports, key: str, *, lost: bool, reason: str, wait: timedelta) -> Ended:
    """Write that a key leaked (or is lost), and hand over to another one.

    Servers that have gone to another playbook since, and may still have it, are visited by a run of that.
    A leak does not wait for a rollout that is paused (``engine.decide``); everything else of it stays paused.

    Args:
        ports: the outside things.
        key: a thumbprint, or its beginning.
        lost: nobody has it, so S1, S6 and S7 stay in force; otherwise they are suspended for this key.
        reason: for the ledger.
        wait: how long this run may wait.

    Raises:
        UsageError: no such key, or several.
        RefusedError: the key is gone already, or compromised and now to be called lost.
        ConflictError: another controller writes.
    """
    recorded = ports.ledger.read()
    known = credential_named(recorded, key)
    how: How = KeyState.LOST if lost else KeyState.COMPROMISED
    if known.state is KeyState.REMOVED and (lost or not _is_believed(recorded, known, ports)):
        raise RefusedError(
            f"the key is removed since {known.state_since:%Y-%m-%d %H:%M:%SZ}: nobody holds it"
        )
    if known.compromised and lost:
        raise RefusedError(
            f"the key is compromised already: {known.ended_why}",
            hint="A key that leaked does not get safer by being lost.",
        )
    if known.awaits:
        raise RefusedError(
            "the key waits for its rollout: no host has it", hint="run: keyrelay cert drop KEY"
        )
    require_free(recorded, ports)
    if known.ended is not how:
        event = KeyEnded(credential=known.id, how=how, reason=reason)
        recorded = ports.ledger.append([event], onto=recorded, at=ports.clock.now())
    elsewhere = {
        one.playbook for server, one in recorded.servers.items() if known.id in recorded.may_hold(server)
    }
    result = carry_out(recorded.playbooks[known.playbook], ports, wait=wait)
    others = tuple(
        (playbook, carry_out(recorded.playbooks[playbook], ports, wait=wait))
        for playbook in sorted(elsewhere - {known.playbook})
    )
    after = ports.ledger.read()
    return Ended(
        credential=after.credentials[known.id],
        result=result,
        others=others,
        broken=tuple(broken_edges(after)),
    )


def _is_believed(recorded: Recorded, known: Credential, ports: Ports) -> bool:
    """Whether agents would accept a key that nobody here has any more, for its certificate alone."""
    bundles = (bundle for agent in recorded.agents for bundle in recorded.bundles(agent))
    return is_vouched_for(recorded, known, bundles, ports.clock.now())
