"""Where a server's handover stands, and until when agents must keep a key."""

from datetime import timedelta

from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.standing import View
from tests.world import AGENTS, SERVERS, World, desired

IN_FLIGHT = timedelta(minutes=6)


def waiting(world: World) -> str:
    """A handover whose one server is disarmed, with messages of the old key still under way; that key."""
    wanted = desired(servers=SERVERS[:1], soak=timedelta(0))
    world.apply(wanted)
    (old,) = world.keys_in_use()
    world.apply(wanted, new_key=True, wait=timedelta(0))
    assert View.of(world.recorded, world.clock.now()).step(SERVERS[0]) is Step.WAIT
    return old


def test_a_server_wiped_within_the_wait_does_not_cut_the_wait_short() -> None:
    world = World()
    old = waiting(world)
    world.clock.wait_until(world.clock.now() + timedelta(minutes=1))
    world.wipe(SERVERS[0])
    world.apply(desired(servers=SERVERS[:1], soak=timedelta(0)), wait=timedelta(0))
    for agent in AGENTS:
        assert old in world.trusted(agent, SERVERS[0])
    assert world.apply(desired(servers=SERVERS[:1], soak=timedelta(0))).complete
    assert world.clock.waits[-1] >= world.clock.waits[0] + IN_FLIGHT - timedelta(minutes=1)


def test_an_agent_wiped_within_the_wait_gets_the_old_key_back_for_messages_under_way() -> None:
    world = World()
    old = waiting(world)
    world.wipe(AGENTS[0])
    wanted = desired(servers=SERVERS[:1], soak=timedelta(0))
    world.apply(wanted, wait=timedelta(0))
    assert world.trusted(AGENTS[0], SERVERS[0]) == {old, world.live_key(SERVERS[0])}
    assert world.apply(wanted).complete
    assert world.trusted(AGENTS[0], SERVERS[0]) == {world.live_key(SERVERS[0])}


def test_a_key_that_was_never_used_is_dropped_without_a_wait() -> None:
    world = World()
    wanted = desired(servers=SERVERS[:1], soak=timedelta(0))
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(wanted)
    world.fleet.heal(AGENTS[0])
    world.clock.waits.clear()
    assert world.apply(wanted, new_key=True).complete
    assert world.clock.waits == []
