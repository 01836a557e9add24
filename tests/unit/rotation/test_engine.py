"""What may be done now, and whom a run names when nothing may."""

from datetime import timedelta

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.policy.desired import Desired, Origin, PlaybookName, Policy
from orchestrator.rotation import visits as vs
from orchestrator.rotation.engine import Decision, decide
from orchestrator.rotation.lifecycle import Phase, Step
from tests.endings import assert_settled
from tests.fakes import SeededEntropy
from tests.world import AGENTS, SERVERS, World, desired

MAIN = PlaybookName("main")
NO_TIME = timedelta(0)


@pytest.fixture
def world() -> World:
    return World()


def decided(world: World, playbook: PlaybookName = MAIN) -> Decision:
    return decide(world.recorded, playbook, now=world.clock.now(), random=SeededEntropy("nonces"))


def one_and_two() -> tuple[Desired, Desired]:
    """Two playbooks; the first has given its first server to the second, and each has its own agent."""
    return (
        desired(servers=SERVERS[1:2], agents=AGENTS[:1], name="one", soak=NO_TIME),
        desired(servers=SERVERS[:1], agents=AGENTS[1:2], name="two", soak=NO_TIME),
    )


def test_a_settled_fleet_asks_for_nothing(world: World) -> None:
    world.apply(desired())
    assert decided(world) == Decision()
    assert decided(world).phase is Phase.DONE


def test_a_playbook_that_was_never_applied_asks_for_nothing(world: World) -> None:
    world.apply(desired())
    assert decided(world, PlaybookName("other")) == Decision()


def test_an_agent_that_only_another_playbook_visits_is_named(world: World) -> None:
    one, two = one_and_two()
    world.apply(desired(servers=SERVERS[:2], agents=AGENTS[:1], name="one", soak=NO_TIME))
    world.apply(one, wait=NO_TIME)
    applied = world.apply(two)
    assert applied.result is not None
    (block,) = applied.result.blocks
    assert (block.host, block.servers, block.steps) == (AGENTS[0], SERVERS[:1], (Step.DROP,))
    assert block.reason == "only runs of playbook 'one' visit it"
    assert world.apply(one).complete
    assert world.apply(two).complete


def test_a_key_whose_server_went_to_another_playbook_leaves_the_vault(world: World) -> None:
    one, two = one_and_two()
    world.apply(desired(servers=SERVERS[:2], agents=AGENTS[:1], name="one", soak=NO_TIME))
    world.apply(one, wait=NO_TIME)
    world.apply(two)
    assert_settled(world, one, two)


def test_a_drop_that_waits_for_a_server_of_another_playbook_is_waited_for(world: World) -> None:
    main = desired(servers=SERVERS[:1], agents=AGENTS[:1], soak=NO_TIME)
    other = desired(servers=SERVERS[1:2], agents=AGENTS[:1], soak=NO_TIME, name="other")
    world.apply(main)
    world.apply(other)
    world.apply(main, new_key=True, wait=NO_TIME)
    world.clock.wait_until(world.clock.now() + timedelta(minutes=4))
    world.apply(other, new_key=True, wait=NO_TIME)
    world.clock.wait_until(world.clock.now() + timedelta(minutes=3))
    applied = world.apply(main, wait=NO_TIME)
    assert applied.result is not None
    assert [(wait.server, wait.step) for wait in applied.result.waits] == [(SERVERS[1], Step.WAIT)]
    assert world.apply(main).complete
    assert world.trusted(AGENTS[0], SERVERS[0]) == {world.live_key(SERVERS[0])}


def test_a_hundred_and_twenty_servers_are_proven_in_batches(world: World) -> None:
    many = tuple(HostName(f"server-{n}") for n in range(1, 121))
    wanted = desired(Policy.SHARED, servers=many, agents=AGENTS[:1])
    assert world.apply(wanted).complete
    sizes = [
        len(order.claims)
        for visit in world.fleet.visits
        for order in visit.orders
        if isinstance(order, vs.Trust | vs.Check)
    ]
    assert sizes == [100, 20]
    assert len(world.recorded.agents[AGENTS[0]].proven) == 120
    assert world.apply(wanted).result is None


@pytest.mark.parametrize("origin", list(Origin))
def test_the_phases_of_a_first_key_come_in_order(world: World, origin: Origin) -> None:
    wanted = desired(servers=SERVERS[:1], agents=AGENTS[:1], origin=origin)
    seen: dict[Phase, None] = {}
    for points in range(8, 60):
        if not world.apply_and_die(wanted, after=points):
            break
        seen[decided(world).phase] = None
    assert list(seen) == [phase for phase in Phase if phase in seen]
    assert seen


def test_bundles_of_one_round_share_a_position_and_each_round_has_the_next(world: World) -> None:
    world.apply(desired())
    assert world.recorded.position == Position(epoch=1, sequence=1)
    world.apply(desired(), new_key=True)
    assert world.recorded.position == Position(epoch=1, sequence=3)


def test_a_host_in_both_roles_is_visited_once_for_both(world: World) -> None:
    both = SERVERS[0]
    wanted = desired(servers=SERVERS[:2], agents=(both, AGENTS[0]), listens={both: SERVERS[1:2]})
    world.apply(wanted)
    world.wipe(both)
    world.fleet.visits.clear()
    assert world.apply(wanted).complete
    kinds = [[order.kind for order in v.orders] for v in world.fleet.visits if v.endpoint.host == both]
    assert kinds == [["survey"], ["stage", "trust"], ["activate"]]
