"""How the servers of a rollout are cut into waves.

A wave is told by how many servers have switched after it, so ``[1, 25%, 100%]`` over 40 servers is a canary
of one, then nine, then thirty. Servers that keep their key are in no wave.
"""

from collections.abc import Sequence

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Share


def cut_waves(servers: Sequence[HostName], bounds: Sequence[Share]) -> tuple[tuple[HostName, ...], ...]:
    """``servers``, in their order, cut at the bounds; every server is in exactly one wave.

    Args:
        servers: those that are to switch.
        bounds: how many have switched after each wave. One that is not beyond the one before makes no
            wave; servers beyond the last make one more.
    """
    waves: list[tuple[HostName, ...]] = []
    done = 0
    for bound in (*(share.of(len(servers)) for share in bounds), len(servers)):
        if bound > done:
            waves.append(tuple(servers[done:bound]))
            done = bound
    return tuple(waves)
