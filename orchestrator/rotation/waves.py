"""How the servers of a rollout are cut into waves.

A wave is told by how many servers have switched after it, so ``[1, 25%, 100%]`` over 40 servers is a canary
of one, then nine, then thirty. Servers that keep their key are in no wave.
"""

from collections.abc import Sequence

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import RolloutSpec


def cut_waves(servers: Sequence[HostName], spec: RolloutSpec) -> tuple[tuple[HostName, ...], ...]:
    """``servers``, in their order, cut into the waves that the playbook asks for; each is in exactly one."""
    left = list(servers)
    waves: list[tuple[HostName, ...]] = []
    for size in spec.wave_sizes(len(servers)):
        waves.append(tuple(left[:size]))
        del left[:size]
    return tuple(waves)
