"""Taking hosts out: erased and proven, or given up with their keys ended."""

from datetime import timedelta

import pytest

from orchestrator.errors import RefusedError, UsageError
from orchestrator.operations.queries import holders
from orchestrator.operations.remove import remove
from orchestrator.policy.desired import Policy
from orchestrator.rotation.lifecycle import KeyState
from tests.world import AGENTS, SERVERS, World, desired

LONG = timedelta(hours=2)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("policy", list(Policy))
def test_a_server_is_erased_and_its_agents_forget_it(world: World, policy: Policy) -> None:
    world.apply(desired(policy))
    old = world.live_key(SERVERS[0])
    removed = remove(world.ports, SERVERS[0], wait=LONG, give_up=False)
    assert removed.complete
    assert removed.clean
    assert not world.fleet.hosts[SERVERS[0]].credentials
    assert old not in world.keys_in_use()
    assert all(world.trusted(agent, SERVERS[0]) == set() for agent in AGENTS)
    assert SERVERS[0] not in world.recorded.servers


def test_a_removal_that_was_cut_short_goes_on_where_it_was(world: World) -> None:
    world.apply(desired())
    assert not remove(world.ports, SERVERS[0], wait=timedelta(0), give_up=False).complete
    removed = remove(world.ports, SERVERS[0], wait=LONG, give_up=False)
    assert removed.clean
    assert removed.complete


def test_an_agent_is_left_without_any_trust(world: World) -> None:
    world.apply(desired())
    removed = remove(world.ports, AGENTS[0], wait=LONG, give_up=False)
    assert removed.complete
    assert all(world.trusted(AGENTS[0], server) == set() for server in SERVERS)
    assert AGENTS[0] not in world.recorded.agents


def test_a_host_out_of_reach_is_not_removed_unless_it_is_given_up(world: World) -> None:
    world.apply(desired())
    world.fleet.trouble(SERVERS[0], unreachable="no route")
    with pytest.raises(RefusedError, match="server-1 cannot be cleaned: no route"):
        remove(world.ports, SERVERS[0], wait=LONG, give_up=False)


def test_a_server_that_is_given_up_takes_its_key_with_it(world: World) -> None:
    world.apply(desired(Policy.SHARED))
    old = world.live_key(SERVERS[0])
    assert old is not None
    world.eye.leaked.add(old)
    world.fleet.trouble(SERVERS[0], unreachable="no route")
    removed = remove(world.ports, SERVERS[0], wait=LONG, give_up=True)
    assert removed.complete
    assert {world.live_key(server) for server in SERVERS[1:]} != {old}
    for agent in AGENTS:
        for server in SERVERS:
            assert old not in world.trusted(agent, server)
    ended = [c for c in world.recorded.credentials.values() if c.ended is not None]
    assert [c.state for c in ended] == [KeyState.COMPROMISED]
    assert {h.host for h in holders(world.recorded, ended[0].id)} == {SERVERS[0]}


def test_an_agent_that_is_given_up_stays_listed_with_what_it_trusted(world: World) -> None:
    world.apply(desired())
    world.fleet.trouble(AGENTS[0], unreachable="no route")
    removed = remove(world.ports, AGENTS[0], wait=LONG, give_up=True)
    assert removed.complete
    target = world.recorded.servers[SERVERS[0]].target
    assert target is not None
    assert AGENTS[0] in {holding.host for holding in holders(world.recorded, target)}
    assert world.apply(desired(agents=AGENTS[1:]), new_key=True).complete


def test_a_host_nobody_knows_is_an_error(world: World) -> None:
    world.apply(desired())
    with pytest.raises(UsageError, match="no server or agent 'nowhere'"):
        remove(world.ports, "nowhere", wait=LONG, give_up=False)
