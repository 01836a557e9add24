"""watch: redistribute what has come due, unattended.

It only goes on with what was agreed to before: keys that come due, hosts that drifted, rollouts that wait. A
playbook or an inventory that asks for something else than when it was last applied needs a person.
"""

from datetime import timedelta

from orchestrator.errors import RefusedError
from orchestrator.operations.apply import Applied
from orchestrator.operations.handover import hand_over
from orchestrator.operations.lease import release
from orchestrator.operations.planning import prepare_to_change, record
from orchestrator.policy.desired import Desired
from orchestrator.ports import Ports


def watch_once(ports: Ports, desired: Desired) -> Applied:
    """Do for one playbook all that is due now, without waiting for anything.

    Raises:
        RefusedError: the playbook or the inventory has changed since it was applied, or never was.
        ConflictError: another controller writes.
    """
    prepared = prepare_to_change(desired, ports)
    if not prepared.plan.renews_only:
        raise RefusedError(
            f"playbook {desired.playbook!r} asks for something else than when it was last applied",
            hint="Look at the changes with keyrelay plan, then agree to them with keyrelay apply.",
        )
    last = prepared.recorded.last_rollout(desired.playbook)
    if prepared.plan.start is not None and last is not None and last.reverts is not None:
        raise RefusedError(
            f"rollout {last.reverts} of playbook {desired.playbook!r} was taken back by a person",
            hint="When it may go forward again, say so with: keyrelay apply",
        )
    recorded = record(prepared, ports)
    if prepared.plan.start is None and prepared.plan.resumes is None:
        release(recorded, ports)
        return Applied(prepared=prepared, result=None)
    result = hand_over(
        ports,
        recorded,
        desired.playbook,
        aside=prepared.answers.failures,
        wait=timedelta(0),
    )
    return Applied(prepared=prepared, result=result)
