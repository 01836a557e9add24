"""apply: make the fleet as a playbook asks, and go on with what an earlier run left unfinished."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.errors import ConflictError, RefusedError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.operations.handover import Result
from orchestrator.operations.lease import given_back
from orchestrator.operations.planning import (
    Prepared,
    begun,
    carry_on,
    prepare_to_change_together,
    record_together,
)
from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.ports import Ports
from orchestrator.rotation.events import AgentsWaived
from orchestrator.rotation.patience import waiver_cost
from orchestrator.rotation.plan import Plan
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
    (applied,) = apply_together(
        ports, (desired,), wait=wait, agree=agree, digests=(digest,), new_key=new_key, waive=waive
    )
    return applied


def apply_together(
    ports: Ports,
    wanted: Sequence[Desired],
    *,
    wait: timedelta,
    agree: Callable[[Prepared], bool],
    digests: Sequence[str | None],
    new_key: bool = False,
    waive: Sequence[HostName] = (),
) -> tuple[Applied, ...]:
    """The same for playbooks that begin in the same go (``rotation.moving``): all of them, or none.

    Arguments and errors are those of ``apply``; ``digests`` has one for each playbook, in their order.
    """
    _refuse_strangers(waive, wanted)
    with given_back(ports):
        prepared = prepare_to_change_together(wanted, ports, new_key=new_key)
        for one, digest in zip(prepared, digests, strict=True):
            _refuse_unagreed(one.plan, digest)
        at_work = [one for one in prepared if one.plan.start is not None or one.plan.resumes is not None]
        if not at_work and waive:
            raise UsageError("nothing waits for an agent, so none can be waived", hint="Leave --waive out.")
        if not at_work:
            record_together(prepared, ports)
        agreed = all(agree(one) for one in at_work)
        if not at_work or not agreed:
            return tuple(Applied(prepared=one, result=None, agreed=agreed) for one in prepared)
        recorded = _waived(record_together(prepared, ports), waive, wanted, ports)
        results = _carried_out(at_work, recorded, ports, wait=wait)
        return tuple(Applied(prepared=one, result=results.get(one.plan.desired.playbook)) for one in prepared)


def _carried_out(
    at_work: Sequence[Prepared], recorded: Recorded, ports: Ports, *, wait: timedelta
) -> Mapping[PlaybookName, Result]:
    """What comes of plans that are written, by playbook.

    Where one waits for agents that only the runs of another visit, it goes on after that.
    """
    first, *others = at_work
    results = {first.plan.desired.playbook: begun(first, recorded, ports, wait=wait)}
    for one in others:
        playbook = one.plan.desired.playbook
        results[playbook] = carry_on(ports, playbook, wait=wait)
    moved = bool(others)
    while moved and not ports.stop.asked:
        moved = False
        for playbook, before in tuple(results.items()):
            elsewhere = ports.ledger.read().elsewhere(playbook)
            if any(block.host in elsewhere for block in before.blocks):
                after = carry_on(ports, playbook, wait=wait)
                results[playbook] = after.following(before)
                moved = moved or bool(after.changed)
    return results


def _refuse_strangers(agents: Sequence[HostName], wanted: Sequence[Desired]) -> None:
    """Raises ``UsageError`` where one of them is no agent of the playbooks; nothing has begun yet."""
    unknown = sorted(set(agents) - {agent for desired in wanted for agent in desired.agents()})
    if unknown:
        names = " or ".join(repr(desired.playbook) for desired in wanted)
        raise UsageError(
            f"{unknown[0]} is no agent of playbook {names}, so nobody waits for it",
            hint="Waive the agents that apply names as blocking.",
        )


def _refuse_unagreed(plan: Plan, digest: str | None) -> None:
    """Refuse a plan that was not agreed to, or that strands agents."""
    if digest is not None and not plan.digest.startswith(digest):
        raise ConflictError(
            f"the plan has changed: it is {plan.digest} now, and {digest} was agreed to",
            hint="Look at the new plan with: keyrelay plan",
        )
    if plan.strandings:
        raise _stranding(plan.strandings)


def _stranding(found: Sequence[Stranding]) -> RefusedError:
    first, agents = found[0], len({agent for one in found for agent in one.agents})
    servers = ", ".join(one.server for one in found[:_NAMED]) + (" and others" if len(found) > _NAMED else "")
    whom = f"{agents} agent that trusts" if agents == 1 else f"{agents} agents that trust"
    return RefusedError(
        f"{servers} lost the key in use: a new one strands the {whom} it, until each has the new one",
        hint=f"give it its key back, or say that it is lost: keyrelay reinstall {first.server} -i INVENTORY",
    )


def _waived(
    recorded: Recorded, agents: Sequence[HostName], wanted: Sequence[Desired], ports: Ports
) -> Recorded:
    """Write that the rollouts do not wait for these agents, each with what that costs (S6)."""
    now = ports.clock.now()
    view = View.of(recorded, now)
    costs = {agent: waiver_cost(view, agent) for agent in sorted(set(agents))}
    waivers: list[AgentsWaived] = []
    for desired in wanted:
        rollout = recorded.running(desired.playbook)
        mine = {agent: cost for agent, cost in costs.items() if agent in desired.agents()}
        if rollout is not None and mine:
            waivers.append(AgentsWaived(rollout=rollout.id, agents=mine))
    return ports.ledger.append(waivers, onto=recorded, at=now) if waivers else recorded
