"""Several fleets at once: a handover mostly waits for messages in flight, and leaves a machine idle."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from orchestrator.lab import Lab
from tests.faults.ground import SHARED, Ground, prepared, watched

MakeLab = Callable[..., Lab]
LONG = "FAULTS_LONG" in os.environ
"""Whether there are hours, not minutes: ``make faults-long``."""
SERVERS, AGENTS = 2, 2


@contextmanager
def lanes(
    make_lab: MakeLab, folder: Path, count: int, *, agents: int = AGENTS
) -> Iterator[tuple[Ground, ...]]:
    """Fleets, each over a lab of its own, with ``shared`` applied; watched until the end."""
    with ExitStack() as stack:
        grounds = []
        for number in range(count):
            lab = make_lab(servers=SERVERS, agents=agents)
            ground = stack.enter_context(prepared(lab, folder / f"lane-{number}"))
            ground.apply(SHARED).exited(0)
            stack.enter_context(watched(ground))
            grounds.append(ground)
        yield tuple(grounds)


def in_each(grounds: tuple[Ground, ...], work: Callable[[Ground], None]) -> None:
    """Does ``work`` on all fleets at once; what it raises on any is raised."""
    with ThreadPoolExecutor(len(grounds)) as pool:
        for done in [pool.submit(work, ground) for ground in grounds]:
            done.result()
