"""watch: redistribute what has come due, unattended.

It only goes on with what was agreed to before: keys that come due, hosts that drifted, rollouts that wait. A
playbook or an inventory that asks for something else than when it was last applied needs a person.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from orchestrator.errors import KeyrelayError, RefusedError
from orchestrator.operations.apply import Applied
from orchestrator.operations.lease import given_back
from orchestrator.operations.planning import begun, prepare_to_change, record
from orchestrator.policy.desired import Desired
from orchestrator.ports import Clock, Ports, Stop


def watch_once(ports: Ports, desired: Desired) -> Applied:
    """Do for one playbook all that is due now, without waiting for anything.

    Raises:
        RefusedError: the playbook or the inventory has changed since it was applied, or never was.
        ConflictError: another controller writes.
    """
    with given_back(ports):
        prepared = prepare_to_change(desired, ports)
        last = prepared.recorded.last_rollout(desired.playbook)
        if prepared.plan.start is not None and last is not None and last.reverts is not None:
            raise RefusedError(
                f"rollout {last.reverts} of playbook {desired.playbook!r} was taken back by a person",
                hint="When it may go forward again, say so with: keyrelay apply",
            )
        if not prepared.plan.renews_only:
            raise RefusedError(
                f"playbook {desired.playbook!r} asks for something else than when it was last applied",
                hint="Look at the changes with keyrelay plan, then agree to them with keyrelay apply.",
            )
        recorded = record(prepared, ports)
        idle = prepared.plan.start is None and prepared.plan.resumes is None
        if idle and not prepared.plan.strandings:
            return Applied(prepared=prepared, result=None)
        return Applied(prepared=prepared, result=begun(prepared, recorded, ports, wait=timedelta(0)))


def keep_watching(
    look: Callable[[], Sequence[Applied | KeyrelayError]],
    *,
    clock: Clock,
    stop: Stop,
    every: timedelta,
) -> None:
    """Look again and again, until asked to stop: every so often, and when something that waits goes on.

    Args:
        look: does all that is due now (``watch_once`` for each playbook), and tells what came of it.
        clock: the present.
        stop: ends the watch.
        every: the longest time between two looks.
    """
    while not stop.asked:
        ended = look()
        if not stop.asked:
            clock.wait_until(_next_look(ended, now=clock.now(), every=every))


def _next_look(ended: Sequence[Applied | KeyrelayError], *, now: datetime, every: timedelta) -> datetime:
    results = [one.result for one in ended if isinstance(one, Applied) and one.result is not None]
    ahead = [wait.until for result in results for wait in result.waits if wait.until > now]
    return min([*ahead, now + every])
