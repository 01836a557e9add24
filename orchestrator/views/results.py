"""Where a run of the handover ended: what it waits for, who blocks it, and whether it is paused."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.operations.compromise import Ended
from orchestrator.operations.handover import Result
from orchestrator.operations.reinstall import Reinstalled
from orchestrator.operations.remove import Removed
from orchestrator.operations.rollouts import Moved
from orchestrator.rotation.changes import Change
from orchestrator.rotation.holdups import Block, Wait
from orchestrator.rotation.lifecycle import KeyState, Step
from orchestrator.rotation.lookup import ending_of, name_of
from orchestrator.rotation.recorded import Credential
from orchestrator.rotation.revert import may_be_taken_back
from orchestrator.views.screen import Answer, Grid, grid
from orchestrator.views.text import broken, count, instant, named, packed, shortened, stamp

WAITED_FOR = {
    Step.WAVE: "the soak of the wave before",
    Step.SOAK: "the soak",
    Step.WAIT: "messages in flight",
}


def result_data(result: Result | None) -> dict[str, Any]:
    """A run as JSON; all empty where there was none."""
    if result is None:
        return {
            "changed": [], "visits": 0, "waits": [], "blocks": [], "paused": "", "revertible": False,
            "stopped": False,
        }  # fmt: skip
    return {
        "changed": sorted(result.changed),
        "visits": result.visits,
        "waits": [_wait(wait) for wait in result.waits],
        "blocks": [_block(block, result.costs) for block in result.blocks],
        "paused": result.paused,
        "revertible": _may_go_back(result),
        "stopped": result.stopped,
    }


def changes_data(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """What hosts are changed to, as JSON."""
    return [
        {"host": change.host, "role": change.role, "what": list(change.what), "why": change.why}
        for change in changes
    ]


def changed(changes: Sequence[Change], result: Result) -> list[str | Grid]:
    """A line for each host that changed; what it was changed to is known where the plan said so."""
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for change in changes:
        if change.host in result.changed:
            alike.setdefault((change.role, change.what), []).append(change.host)
    for host in sorted(result.changed - {change.host for change in changes}):
        alike.setdefault(("-", ("followed the others",)), []).append(host)
    rows = [(packed(hosts), role, broken(what)) for (role, what), hosts in alike.items()]
    what = "what" if result.complete else "what is under way"
    return [grid(("changed", "role", what), rows)] if rows else []


def standstill(result: Result) -> list[str | Grid]:
    """Why a run did not come to its end; nothing where it did."""
    body: list[str | Grid] = []
    if result.paused:
        body.append(f"the rollout is paused: {result.paused}")
    if result.blocks:
        rows = [
            (block.host, shortened(block.reason), instant(block.since), named(block.servers))
            for block in result.blocks
        ]
        body.append(grid(("blocked by", "reason", "since", "keeps waiting"), rows))
        body += told_costs(result.costs)
    if result.waits:
        waits = [
            (wait.server, WAITED_FOR.get(wait.step, wait.step), instant(wait.until)) for wait in result.waits
        ]
        body.append(grid(("server", "waits for", "until"), waits))
    return body


def told_costs(costs: Mapping[HostName, str]) -> list[str | Grid]:
    """What it costs not to wait for agents that block, and how to say that one is not to be waited for."""
    by_cost: dict[str, list[str]] = {}
    for agent, cost in costs.items():
        by_cost.setdefault(cost, []).append(agent)
    rows = [(packed(agents), cost) for cost, agents in by_cost.items()]
    return [grid(("keyrelay apply --waive", "what it would cost"), rows)] if rows else []


def how_it_ended(result: Result) -> str:
    """One line."""
    if result.complete:
        return f"done: {count(len(result.changed), 'host')} changed in {count(result.visits, 'visit')}"
    if result.stopped:
        return "stopped: the next apply or watch goes on from here"
    if result.paused:
        back = ", keyrelay rollout revert goes back" if _may_go_back(result) else "; there is no way back"
        return f"not finished: keyrelay rollout resume goes on from here{back}"
    return "not finished: the next apply or watch goes on from here"


def moved_answer(moved: Moved) -> Answer:
    """What came of a person's hand on a rollout."""
    result = moved.result
    return Answer(
        data={
            "complete": result.complete,
            **result_data(result),
            "changes": changes_data(moved.changes),
        },
        body=(*changed(moved.changes, result), *standstill(result), how_it_ended(result)),
    )


def ended_answer(ended: Ended) -> Answer:
    """What came of ending a key: where it stands, and the edges that do not hold meanwhile."""
    credential, result = ended.credential, ended.result
    body: list[str | Grid] = [_state_of(credential)]
    if ended.before and credential.ended is not None:
        body.append(f"it was said before to be {ended.before}")
    body += standstill(result)
    for playbook, other in ended.others:
        body += [*standstill(other), f"playbook {playbook}: {how_it_ended(other)}"]
    if ended.broken:
        body.append(grid(("server", "agent that may not believe it"), ended.broken))
    thumbprint = credential.public.thumbprint if credential.public is not None else None
    return Answer(
        data={
            "thumbprint": thumbprint,
            "state": credential.state,
            "ending": ending_of(credential),
            "before": ended.before,
            "broken": [{"server": server, "agent": agent} for server, agent in ended.broken],
            "complete": ended.complete,
            **result_data(result),
            "others": [
                {"playbook": playbook, "complete": other.complete, **result_data(other)}
                for playbook, other in ended.others
            ],
        },
        body=(*body, how_it_ended(result)),
    )


def removed_answer(removed: Removed) -> Answer:
    """What came of taking a host out."""
    left = "nothing is left on it" if removed.clean else "something is left on it: see keyrelay holdings"
    body: list[str | Grid] = [f"{removed.host}: {removed.given_up or left}"]
    for playbook, result in removed.results:
        body += [*standstill(result), f"playbook {playbook}: {how_it_ended(result)}"]
    body.append("now take it out of the inventory, or the next apply brings it back")
    return Answer(
        data={
            "host": removed.host,
            "clean": removed.clean,
            "given_up": removed.given_up,
            "complete": removed.complete,
            "playbooks": [
                {"playbook": playbook, "complete": result.complete, **result_data(result)}
                for playbook, result in removed.results
            ],
        },
        body=tuple(body),
    )


def reinstalled_answer(reinstalled: Reinstalled) -> Answer:
    """What came of giving a host back what it had."""
    body: list[str | Grid] = [f"{name_of(one)} is lost: {one.ended_why}" for one in reinstalled.lost]
    for playbook, result in reinstalled.results:
        body += [*standstill(result), f"playbook {playbook}: {how_it_ended(result)}"]
    return Answer(
        data={
            "host": reinstalled.host,
            "complete": reinstalled.complete,
            "lost": [one.public.thumbprint for one in reinstalled.lost if one.public is not None],
            "playbooks": [
                {"playbook": playbook, "complete": result.complete, **result_data(result)}
                for playbook, result in reinstalled.results
            ],
        },
        body=tuple(body),
    )


def _state_of(credential: Credential) -> str:
    """Where an ended key stands; one that is removed is written down as leaked all the same."""
    told = f"{name_of(credential)} is {credential.state}"
    if credential.state is not KeyState.REMOVED:
        return told
    return f"{told}: nobody holds it; {ending_of(credential)}"


def _wait(wait: Wait) -> dict[str, Any]:
    return {"server": wait.server, "step": wait.step, "until": stamp(wait.until)}


def _may_go_back(result: Result) -> bool:
    rollout = result.recorded.running(result.playbook)
    return rollout is not None and may_be_taken_back(result.recorded, rollout)


def _block(block: Block, costs: Mapping[HostName, str]) -> dict[str, Any]:
    return {
        "host": block.host,
        "reason": block.reason,
        "since": stamp(block.since),
        "servers": list(block.servers),
        "steps": list(block.steps),
        "waiving_costs": costs.get(block.host),
    }
