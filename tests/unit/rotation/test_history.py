"""How long handovers took, and whether the next one fits."""

from dataclasses import replace
from datetime import timedelta

from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.history import longest_handover, too_tight
from tests.world import AGENTS, SERVERS, World, desired

WANTED = desired(servers=SERVERS[:1], agents=AGENTS[:1])
MAIN = PlaybookName("main")
WAITS = timedelta(minutes=16)
"""The soak, and messages in flight with twice the skew."""


def test_a_first_key_is_no_handover() -> None:
    world = World()
    assert longest_handover(world.recorded, MAIN) is None
    world.apply(WANTED)
    assert longest_handover(world.recorded, MAIN) is None
    assert too_tight(WANTED, world.recorded) == ""


def test_the_slowest_of_the_last_five_counts_with_all_that_it_waited_for() -> None:
    world = World()
    world.apply(WANTED)
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(WANTED, new_key=True)
    world.clock.wait_until(world.clock.now() + timedelta(hours=3))
    world.fleet.heal(AGENTS[0])
    world.apply(WANTED)
    slow = longest_handover(world.recorded, MAIN)
    assert slow == timedelta(hours=3) + WAITS
    for _ in range(5):
        assert longest_handover(world.recorded, MAIN) == slow
        world.apply(WANTED, new_key=True)
    assert longest_handover(world.recorded, MAIN) == WAITS
    assert longest_handover(world.recorded, PlaybookName("other")) is None


def test_two_handovers_have_to_fit_between_a_keys_due_date_and_its_end() -> None:
    world = World()
    world.apply(WANTED)
    world.apply(WANTED, new_key=True)

    def living(lifetime: timedelta) -> str:
        certificate = replace(WANTED.certificate, lifetime=lifetime)
        return too_tight(replace(WANTED, certificate=certificate), world.recorded)

    assert living(3 * 2 * WAITS) == ""
    assert living(3 * 2 * WAITS - timedelta(seconds=3)) == (
        "renew_at leaves 31m59s from a key's due date to its end, and one of the last handovers took 16m: "
        "make certificate.lifetime longer, or renew_at smaller"
    )
