"""compromise: a key has leaked, or is lost: every server that uses it gets another one."""

from dataclasses import dataclass
from datetime import timedelta

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.handover import Result, hand_over
from orchestrator.operations.planning import prepare, record
from orchestrator.ports import Ports
from orchestrator.rotation.edges import broken_edges
from orchestrator.rotation.events import KeyEnded
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.lookup import credential_named
from orchestrator.rotation.recorded import Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of it.

    Attributes:
        credential: as it stands now; ``removed`` when nobody holds or trusts it any more.
        broken: the edges (server, agent) that do not hold now.
    """

    credential: Credential
    result: Result
    broken: tuple[tuple[HostName, HostName], ...]


def end_key(ports: Ports, key: str, *, lost: bool, reason: str, wait: timedelta) -> Ended:
    """Write that a key leaked (or is lost), and hand over to another one.

    Args:
        ports: the outside things.
        key: a thumbprint, or its beginning.
        lost: nobody has it, so S1, S6 and S7 stay in force; otherwise they are suspended for this key.
        reason: for the ledger.
        wait: how long this run may wait.

    Raises:
        UsageError: no such key, or several.
        RefusedError: the key is gone already.
        ConflictError: another controller writes.
    """
    recorded = ports.ledger.read()
    known = credential_named(recorded, key)
    how = KeyState.LOST if lost else KeyState.COMPROMISED
    if known.state is KeyState.REMOVED:
        raise RefusedError(
            f"the key is removed since {known.state_since:%Y-%m-%d %H:%M:%SZ}: nobody holds it"
        )
    if known.ended is not how:
        event = KeyEnded(credential=known.id, how=how, reason=reason)
        ports.ledger.append([event], onto=recorded, at=ports.clock.now())
    prepared = prepare(
        recorded.playbooks[known.playbook],
        ledger=ports.ledger,
        fleet=ports.fleet,
        clock=ports.clock,
        entropy=ports.entropy,
        progress=ports.progress,
    )
    result = hand_over(
        ports,
        record(prepared, ports),
        known.playbook,
        aside=prepared.answers.failures,
        wait=wait,
    )
    after = result.recorded
    return Ended(
        credential=after.credentials[known.id],
        result=result,
        broken=tuple(broken_edges(after)),
    )
