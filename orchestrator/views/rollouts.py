"""Rollouts: what ran, what runs, and where each server stands."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.rotation.lifecycle import STEPS, SUSPENDED, Phase, Step
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.patience import waivable
from orchestrator.rotation.recorded import Recorded, Rollout
from orchestrator.rotation.revert import left_leaked
from orchestrator.rotation.standing import View
from orchestrator.rotation.walk import step_of
from orchestrator.views.results import told_costs
from orchestrator.views.screen import Answer, Grid, grid
from orchestrator.views.text import count, instant, packed, shortened, stamp


def rollouts_answer(recorded: Recorded) -> Answer:
    """Every rollout, the newest first."""
    found = sorted(recorded.rollouts.values(), key=lambda rollout: rollout.started, reverse=True)
    rows = [
        (one.id, one.playbook, _state(one), instant(one.started), instant(one.ended), len(one.targets))
        for one in found
    ]
    columns = ("rollout", "playbook", "state", "started", "ended", "servers")
    return Answer(
        data={"rollouts": [_data(one) for one in found]},
        body=(grid(columns, rows),) if rows else ("there was no rollout yet",),
    )


def rollout_answer(recorded: Recorded, rollout: Rollout, *, now: datetime) -> Answer:
    """One rollout, and where its servers stand while it runs."""
    view = View.of(recorded, now)
    known = recorded.servers
    steps: Mapping[HostName, Step] = (
        {one: step_of(view, one) if one in known else Step.DONE for one in rollout.targets}
        if rollout.ended is None
        else {}
    )
    stands = {server: _stands(recorded, server, step) for server, step in steps.items()}
    rows = []
    for server, target in sorted(rollout.targets.items()):
        goal = name_of(recorded.credentials[target]) if target is not None else "leaves"
        rows.append((server, goal, *stands.get(server, (Phase.DONE, "-"))))
    facts = [
        f"rollout {rollout.id} of {rollout.playbook}: {_state(rollout)}, {count(len(rows), 'server')}",
        f"started {instant(rollout.started)}, ended {instant(rollout.ended)}"
        + (f", paused since {instant(rollout.paused_since)}" if rollout.paused_since else ""),
    ]
    causes: dict[str, list[str]] = {}
    for reason in rollout.reasons:
        who, _, why = reason.partition(": ")
        causes.setdefault(why, []).append(who)
    failing = [
        (host, one.reason, recorded.awaited_since(rollout.playbook, host))
        for host, one in sorted(recorded.contacts.items())
        if one.failing_since is not None
    ]
    costs = waivable(view, rollout.playbook, [host for host, *_ in failing]) if rollout.ended is None else {}
    trouble = [(host, shortened(reason), instant(since)) for host, reason, since in failing]
    tables: list[str | Grid] = []
    tables += [grid(("because", "of"), [(why, packed(who)) for why, who in causes.items()])] if causes else []
    tables += [grid(("server", "is to have", "phase", "stays there"), rows)]
    if len(rollout.waves) > 1:
        tables.append(
            grid(("wave", "servers"), [(n, packed(wave)) for n, wave in enumerate(rollout.waves, start=1)])
        )
    if rollout.waived:
        tables.append(grid(("not waited for", "what it costs"), sorted(rollout.waived.items())))
    if trouble and rollout.ended is None:
        tables.append(grid(("failing", "reason", "since"), trouble))
        tables += told_costs(costs)
    return Answer(
        data={
            **_data(rollout),
            "steps": dict(steps),
            "phases": {server: phase for server, (phase, _) in stands.items()},
            "failing": [
                {"host": host, "reason": reason, "since": stamp(since), "waiving_costs": costs.get(host)}
                for host, reason, since in failing
            ],
        },
        body=(*facts, *tables),
    )


def _stands(recorded: Recorded, server: HostName, step: Step) -> tuple[Phase, str]:
    """The phase that a server is in, and until when it stays there.

    One that has left a leaked key has switched already, though its agents have yet to be told.
    """
    if step is Step.DONE:
        return Phase.DONE, "-"
    until = f"until {STEPS[step].holds_when}"
    if step in SUSPENDED and left_leaked(recorded, server) is not None:
        return Phase.RETIRE, f"it has left a leaked key without waiting; {until}"
    return STEPS[step].phase, until


def _state(rollout: Rollout) -> str:
    if rollout.ended is None:
        return f"paused: {rollout.paused}" if rollout.paused else "under way"
    return f"replaced by {rollout.replaced_by}" if rollout.replaced_by is not None else "ended"


def _data(rollout: Rollout) -> dict[str, Any]:
    return {
        "id": rollout.id,
        "playbook": rollout.playbook,
        "started": stamp(rollout.started),
        "ended": stamp(rollout.ended),
        "replaced_by": rollout.replaced_by,
        "targets": dict(rollout.targets),
        "reasons": list(rollout.reasons),
        "waves": [list(wave) for wave in rollout.waves],
        "waived": dict(rollout.waived),
        "paused": rollout.paused,
        "paused_since": stamp(rollout.paused_since),
        "reverts": rollout.reverts,
    }
