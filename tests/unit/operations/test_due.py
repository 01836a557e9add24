"""Which keys want a successor."""

from datetime import timedelta

import pytest

from orchestrator.operations.due import due
from orchestrator.policy.desired import Policy
from orchestrator.rotation.lifecycle import KeyState
from tests.world import AGENTS, SERVERS, World, desired

RENEW = timedelta(days=365) * 2 / 3


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(desired(Policy.SHARED, agents=AGENTS[:1]))
    return world


def test_an_empty_ledger_owes_nothing() -> None:
    world = World()
    assert due(world.ledger, world.clock) == ()


def test_a_fresh_key_is_not_due(world: World) -> None:
    assert due(world.ledger, world.clock) == ()


def test_a_key_that_comes_due_is_told_ahead(world: World) -> None:
    assert due(world.ledger, world.clock, within=RENEW - timedelta(seconds=1)) == ()
    (found,) = due(world.ledger, world.clock, within=RENEW)
    assert found.servers == SERVERS
    assert not found.overdue(world.clock.now())
    assert found.ends_at - found.due_at == timedelta(days=365) - RENEW


def test_a_key_is_due_from_its_due_date_on(world: World) -> None:
    world.clock.wait_until(world.clock.now() + RENEW)
    (found,) = due(world.ledger, world.clock)
    assert found.overdue(world.clock.now())


def test_the_most_urgent_comes_first(world: World) -> None:
    world.clock.wait_until(world.clock.now() + timedelta(days=1))
    world.apply(desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:1]))
    world.clock.wait_until(world.clock.now() + timedelta(days=1))
    world.apply(desired(servers=SERVERS[2:], agents=AGENTS[:1], name="other"))
    found = due(world.ledger, world.clock, within=timedelta(days=365))
    assert [key.servers for key in found] == [SERVERS[:2], SERVERS[2:]]
    assert found[0].due_at < found[1].due_at


def test_a_key_whose_successor_is_active_is_no_longer_due(world: World) -> None:
    world.clock.wait_until(world.clock.now() + RENEW)
    (old,) = due(world.ledger, world.clock)
    world.apply(desired(Policy.SHARED, agents=AGENTS[:1]), wait=timedelta(0))
    assert world.recorded.credentials[old.credential.id].state is KeyState.ACTIVE
    assert due(world.ledger, world.clock) == ()


def test_a_key_that_nobody_has_yet_is_not_due() -> None:
    world = World()
    world.fleet.trouble(SERVERS[0], unreachable="off")
    world.apply(desired(servers=SERVERS[:1]))
    assert {c.state for c in world.recorded.credentials.values()} == {KeyState.GENERATED}
    assert due(world.ledger, world.clock, within=timedelta(days=999)) == ()
