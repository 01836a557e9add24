"""apply: make the fleet as a playbook asks, and go on with what an earlier run left unfinished."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.errors import ConflictError, RefusedError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.operations.handover import Result
from orchestrator.operations.lease import given_back
from orchestrator.operations.planning import Prepared, begun, prepare_to_change, record
from orchestrator.policy.desired import Desired
from orchestrator.ports import Ports
from orchestrator.rotation.events import AgentsWaived
from orchestrator.rotation.patience import waiver_cost
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.standing import View
from orchestrator.rotation.stranding import Stranding

_NAMED = 3
"""So many servers are named in a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What came of it.

    Attributes:
        result: None: there was nothing to do, or the user did not agree.
        agreed: whether the user agreed to the plan; True where nothing had to be asked.
    """

    prepared: Prepared
    result: Result | None
    agreed: bool = True

    @property
    def unreachable(self) -> Mapping[HostName, str]:
        """Hosts that could not be asked, with the reason."""
        return self.prepared.answers.failures

    @property
    def complete(self) -> bool:
        """Whether the fleet is known to be as desired."""
        return self.agreed and not self.unreachable and (self.result is None or self.result.complete)


def apply(
    ports: Ports,
    desired: Desired,
    *,
    wait: timedelta,
    agree: Callable[[Prepared], bool],
    digest: str | None = None,
    new_key: bool = False,
    waive: Sequence[HostName] = (),
) -> Applied:
    """Plan, ask for agreement, and hand over.

    Args:
        ports: the outside things.
        desired: the playbook over the inventory.
        wait: how long to wait for the soak and for messages in flight.
        agree: is shown the plan, unless there is nothing to do.
        digest: the plan that was agreed to before; any other is refused.
        new_key: make new keys, due or not.
        waive: agents that the rollout is not to wait for.

    Raises:
        ConflictError: the plan is not the one agreed to, or another controller writes.
        RefusedError: the plan would not be safe, or strands agents.
        UsageError: one that is to be waived is no agent of the playbook, or nothing waits for any.
    """
    _refuse_strangers(waive, desired)
    with given_back(ports):
        prepared = prepare_to_change(desired, ports, new_key=new_key)
        plan = prepared.plan
        if digest is not None and not plan.digest.startswith(digest):
            raise ConflictError(
                f"the plan has changed: it is {plan.digest} now, and {digest} was agreed to",
                hint="Look at the new plan with: keyrelay plan",
            )
        if plan.strandings:
            raise _stranding(plan.strandings)
        idle = plan.start is None and plan.resumes is None
        if idle and waive:
            raise UsageError("nothing waits for an agent, so none can be waived", hint="Leave --waive out.")
        if idle:
            record(prepared, ports)
        if idle or not agree(prepared):
            return Applied(prepared=prepared, result=None, agreed=idle)
        recorded = _waived(record(prepared, ports), waive, desired, ports)
        return Applied(prepared=prepared, result=begun(prepared, recorded, ports, wait=wait))


def _refuse_strangers(agents: Sequence[HostName], desired: Desired) -> None:
    """Raises ``UsageError`` where one of them is no agent of the playbook; nothing has begun yet."""
    unknown = sorted(set(agents) - set(desired.agents()))
    if unknown:
        raise UsageError(
            f"{unknown[0]} is no agent of playbook {desired.playbook!r}, so nobody waits for it",
            hint="Waive the agents that apply names as blocking.",
        )


def _stranding(found: Sequence[Stranding]) -> RefusedError:
    first, agents = found[0], len({agent for one in found for agent in one.agents})
    servers = ", ".join(one.server for one in found[:_NAMED]) + (" and others" if len(found) > _NAMED else "")
    whom = f"{agents} agent that trusts" if agents == 1 else f"{agents} agents that trust"
    return RefusedError(
        f"{servers} lost the key in use: a new one strands the {whom} it, until each has the new one",
        hint=f"give it its key back, or say that it is lost: keyrelay reinstall {first.server} -i INVENTORY",
    )


def _waived(recorded: Recorded, agents: Sequence[HostName], desired: Desired, ports: Ports) -> Recorded:
    """Write that the rollout does not wait for these agents, each with what that costs (S6)."""
    rollout = recorded.running(desired.playbook)
    if rollout is None or not agents:
        return recorded
    now = ports.clock.now()
    view = View.of(recorded, now)
    costs = {agent: waiver_cost(view, agent) for agent in sorted(set(agents))}
    return ports.ledger.append(
        [AgentsWaived(rollout=rollout.id, agents=costs)],
        onto=recorded,
        at=now,
    )
