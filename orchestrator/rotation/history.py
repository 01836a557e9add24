"""What earlier rollouts of a playbook tell of the next one: how long it may take."""

from datetime import timedelta

from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.policy.durations import format_duration
from orchestrator.policy.expiry import room
from orchestrator.rotation.recorded import Recorded

_LAST = 5
"""So many rollouts are looked at."""
_TRIES = 2
"""So often a handover should fit between a key's due date and its end: one may fail, for a host is away."""
_SECOND = timedelta(seconds=1)


def longest_handover(recorded: Recorded, playbook: PlaybookName) -> timedelta | None:
    """How long the slowest of the last rollouts took in which servers switched keys; None: there was none.

    All of the time counts, that in which it was paused or waited for hosts too, for the next one may as well.
    """
    took = [
        rollout.ended - rollout.started
        for rollout in recorded.rollouts.values()
        if rollout.playbook == playbook
        and rollout.ended is not None
        and rollout.replaced_by is None
        and rollout.waves
    ]
    return max(took[-_LAST:], default=None)


def too_tight(desired: Desired, recorded: Recorded) -> str:
    """Why keys of a playbook may end before their successors have taken over; empty: no reason is known."""
    longest = longest_handover(recorded, desired.playbook)
    left = room(desired.certificate)
    if longest is None or _TRIES * longest <= left:
        return ""
    return (
        f"renew_at leaves {_words(left)} from a key's due date to its end, and one of the last handovers "
        f"took {_words(longest)}: make certificate.lifetime longer, or renew_at smaller"
    )


def _words(duration: timedelta) -> str:
    return format_duration(timedelta(seconds=duration // _SECOND))
