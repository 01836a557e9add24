"""rollout pause, resume and revert: a person's hand on a rollout."""

from dataclasses import dataclass
from datetime import timedelta

from orchestrator.errors import RefusedError
from orchestrator.operations.handover import Result, hand_over
from orchestrator.operations.lease import given_back, require_free
from orchestrator.operations.planning import go_on
from orchestrator.ports import Clock, Ledger, Ports
from orchestrator.rotation.changes import Change, changes_left
from orchestrator.rotation.events import AgentsWaived, RolloutPaused, RolloutResumed
from orchestrator.rotation.lookup import rollout_named
from orchestrator.rotation.recognition import refuse_stopped
from orchestrator.rotation.recorded import Recorded, Rollout
from orchestrator.rotation.revert import plan_revert


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a rollout had to change when a person's hand was on it, and where that ended."""

    changes: tuple[Change, ...]
    result: Result


def pause(ledger: Ledger, name: str, *, clock: Clock, reason: str) -> Rollout:
    """Let nothing be done for a rollout until it is resumed.

    Raises:
        UsageError: no such rollout, or several.
        RefusedError: it is not under way, or paused already.
    """
    recorded = ledger.read()
    refuse_stopped(recorded)
    rollout = _under_way(recorded, name)
    if rollout.paused:
        since = f" since {rollout.paused_since:%Y-%m-%d %H:%M:%SZ}" if rollout.paused_since else ""
        raise RefusedError(
            f"rollout {rollout.id} is paused already{since}: {rollout.paused}",
            hint="It stays so until: keyrelay rollout resume",
        )
    event = RolloutPaused(rollout=rollout.id, reason=reason)
    return ledger.append([event], onto=recorded, at=clock.now()).rollouts[rollout.id]


def resume(ports: Ports, name: str, *, wait: timedelta) -> Moved:
    """Go on with a rollout from what hosts really hold; servers that went back are tried again.

    Raises:
        UsageError: no such rollout, or several.
        RefusedError: it has ended.
        ConflictError: another controller writes.
    """
    recorded = ports.ledger.read()
    rollout = _under_way(recorded, name)
    require_free(recorded, ports)
    if rollout.paused:
        event = RolloutResumed(rollout=rollout.id)
        recorded = ports.ledger.append([event], onto=recorded, at=ports.clock.now())
    return _carry_on(ports, recorded, rollout, wait)


def revert(ports: Ports, name: str, *, wait: timedelta) -> Moved:
    """Take a rollout back, as a rollout of its own; agents that it did not wait for are not waited for now.

    Hosts with a visit whose end is not known are asked first: one of them may have put its old key away.

    Raises:
        UsageError: no such rollout, or several.
        RefusedError: it cannot be taken back any more (``rotation.revert``).
        ConflictError: another controller writes.
    """
    recorded = ports.ledger.read()
    rollout = rollout_named(recorded, name)
    require_free(recorded, ports)
    with given_back(ports):
        if rollout.ended is None and recorded.pending:
            recorded, _ = go_on(recorded, rollout.playbook, ports)
        event = plan_revert(recorded, rollout, random=ports.entropy)
        waived = [AgentsWaived(rollout=event.rollout, agents=rollout.waived)] if rollout.waived else []
        recorded = ports.ledger.append([event, *waived], onto=recorded, at=ports.clock.now())
        return _carry_on(ports, recorded, recorded.rollouts[event.rollout], wait)


def _carry_on(ports: Ports, recorded: Recorded, rollout: Rollout, wait: timedelta) -> Moved:
    with given_back(ports):
        recorded, answers = go_on(recorded, rollout.playbook, ports)
        changes = changes_left(recorded, rollout, answers.surveys, now=ports.clock.now())
        result = hand_over(
            ports, recorded, rollout.playbook, aside=answers.failures, fences=answers.fences, wait=wait
        )
        return Moved(changes=changes, result=result)


def _under_way(recorded: Recorded, name: str) -> Rollout:
    rollout = rollout_named(recorded, name)
    if rollout.ended is not None:
        raise RefusedError(f"rollout {rollout.id} ended on {rollout.ended:%Y-%m-%d %H:%M:%SZ}")
    return rollout
