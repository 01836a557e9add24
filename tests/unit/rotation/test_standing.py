"""Where a server's handover stands, and until when agents must keep a key."""

from datetime import timedelta

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Policy, RolloutSpec, Share
from orchestrator.rotation.engine import decide
from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.standing import View
from orchestrator.rotation.walk import step_of
from tests.world import AGENTS, SERVERS, World, desired

IN_FLIGHT = timedelta(minutes=6)


def waiting(world: World) -> str:
    """A handover whose one server is disarmed, with messages of the old key still under way; that key."""
    wanted = desired(servers=SERVERS[:1], soak=timedelta(0))
    world.apply(wanted)
    (old,) = world.keys_in_use()
    world.apply(wanted, new_key=True, wait=timedelta(0))
    assert step_of(View.of(world.recorded, world.clock.now()), SERVERS[0]) is Step.WAIT
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


def test_a_decision_in_the_middle_of_waves_costs_twice_as_much_for_twice_as_many_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[HostName] = []
    active = View.active

    def counted(view: View, server: HostName) -> bool:
        asked.append(server)
        return active(view, server)

    monkeypatch.setattr(View, "active", counted)

    def cost(count: int) -> int:
        world = World()
        waves = (Share(number=1), Share(number=50, percent=True), Share(number=100, percent=True))
        wanted = desired(
            Policy.SHARED,
            servers=[HostName(f"server-{number:02}") for number in range(count)],
            agents=AGENTS[:1],
            rollout=RolloutSpec(soak=timedelta(minutes=10), waves=waves),
        )
        world.apply(wanted)
        world.apply(wanted, new_key=True, wait=timedelta(minutes=15))
        asked.clear()
        decision = decide(
            world.recorded, wanted.playbook, now=world.clock.now(), random=world.entropy, aside={}
        )
        assert {wait.step for wait in decision.waits} == {Step.WAVE, Step.SOAK}
        return len(asked)

    assert cost(16) <= 2 * cost(8) + 8
