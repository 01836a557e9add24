"""A controller killed at every point at which something durable changes, and what the next makes of it."""

from datetime import timedelta

import pytest

from orchestrator.policy.desired import Origin, Policy
from tests.endings import assert_settled
from tests.world import AGENTS, SERVERS, World, desired

QUICK = timedelta(0)
HANDOVERS = {
    "a first key": (None, desired(servers=SERVERS[:1], agents=AGENTS[:2]), False),
    "a new key from the controller": (
        desired(servers=SERVERS[:1], agents=AGENTS[:2]),
        desired(servers=SERVERS[:1], agents=AGENTS[:2]),
        True,
    ),
    "a new key made on the server": (
        desired(servers=SERVERS[:1], agents=AGENTS[:1], origin=Origin.SERVER),
        desired(servers=SERVERS[:1], agents=AGENTS[:1], origin=Origin.SERVER),
        True,
    ),
    "another policy": (
        desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:1]),
        desired(Policy.PER_SERVER, servers=SERVERS[:2], agents=AGENTS[:1]),
        False,
    ),
    "a server and an agent that leave": (
        desired(servers=SERVERS[:2], agents=AGENTS[:2]),
        desired(servers=SERVERS[:1], agents=AGENTS[:1]),
        False,
    ),
}
LONGEST = ("a new key from the controller",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in LONGEST)) for name in HANDOVERS]
)
def test_killed_anywhere_the_next_run_ends_it(name: str) -> None:
    before, after, new_key = HANDOVERS[name]
    points = 0
    while True:
        world = World()
        if before is not None:
            world.apply(before)
        if not world.apply_and_die(after, after=points, new_key=new_key):
            break
        assert_settled(world, after)
        points += 1
    assert points > 20


@pytest.mark.parametrize("step", [3, 7])
def test_killed_again_and_again_it_still_gets_there(step: int) -> None:
    world = World()
    wanted = desired(servers=SERVERS[:2], agents=AGENTS[:2])
    world.apply(wanted)
    world.apply_and_die(wanted, after=step, new_key=True)
    for points in range(60):
        world.apply_and_die(wanted, after=step + points % 5)
    assert_settled(world, wanted)
