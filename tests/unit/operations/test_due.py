"""Which keys want a successor."""

from datetime import timedelta

import pytest

from orchestrator.keys.certificate import parse_certificate
from orchestrator.operations.due import Owed, Wants, due
from orchestrator.operations.rollouts import pause
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
    assert due(world.ledger, world.clock) == Owed()


def test_a_fresh_key_is_not_due(world: World) -> None:
    assert due(world.ledger, world.clock) == Owed()


def test_a_key_that_comes_due_is_told_ahead(world: World) -> None:
    assert not due(world.ledger, world.clock, within=RENEW - timedelta(seconds=1))
    (found,) = due(world.ledger, world.clock, within=RENEW).keys
    assert found.servers == SERVERS
    assert not found.overdue(world.clock.now())
    assert found.ends_at - found.due_at == timedelta(days=365) - RENEW


def test_a_key_is_due_from_its_due_date_on(world: World) -> None:
    world.clock.wait_until(world.clock.now() + RENEW)
    (found,) = due(world.ledger, world.clock).keys
    assert found.overdue(world.clock.now())


def test_the_most_urgent_comes_first(world: World) -> None:
    world.clock.wait_until(world.clock.now() + timedelta(days=1))
    world.apply(desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:1]))
    world.clock.wait_until(world.clock.now() + timedelta(days=1))
    world.apply(desired(servers=SERVERS[2:], agents=AGENTS[:1], name="other"))
    found = due(world.ledger, world.clock, within=timedelta(days=365)).keys
    assert [key.servers for key in found] == [SERVERS[:2], SERVERS[2:]]
    assert found[0].due_at < found[1].due_at


def test_a_key_whose_successor_is_active_is_no_longer_due(world: World) -> None:
    world.clock.wait_until(world.clock.now() + RENEW)
    (old,) = due(world.ledger, world.clock).keys
    world.apply(desired(Policy.SHARED, agents=AGENTS[:1]), wait=timedelta(0))
    assert world.recorded.credentials[old.credential.id].state is KeyState.ACTIVE
    assert due(world.ledger, world.clock) == Owed()


def test_a_key_that_nobody_has_yet_is_not_due() -> None:
    world = World()
    world.fleet.trouble(SERVERS[0], unreachable="off")
    world.apply(desired(servers=SERVERS[:1]))
    assert {c.state for c in world.recorded.credentials.values()} == {KeyState.GENERATED}
    assert due(world.ledger, world.clock, within=timedelta(days=999)).keys == ()


def test_keys_that_come_due_in_one_second_stand_in_the_order_of_their_scopes() -> None:
    world = World()
    world.apply(desired(agents=AGENTS[:1]))
    found = due(world.ledger, world.clock, within=RENEW).keys
    assert [key.servers for key in found] == [(server,) for server in SERVERS]


def test_a_key_whose_rollout_is_blocked_stays_due_and_names_who_blocks_it(world: World) -> None:
    world.clock.wait_until(world.clock.now() + timedelta(days=366))
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(desired(Policy.SHARED, agents=AGENTS[:1]))
    since = world.recorded.contacts[AGENTS[0]].failing_since
    world.clock.wait_until(world.clock.now() + timedelta(hours=1))

    (found,) = due(world.ledger, world.clock).keys

    assert found.wants is Wants.ITS_SUCCESSOR
    assert found.servers == SERVERS
    assert [(away.host, away.reason, away.since) for away in found.away] == [(AGENTS[0], "off", since)]
    world.fleet.heal(AGENTS[0])
    world.apply(desired(Policy.SHARED, agents=AGENTS[:1]))
    assert due(world.ledger, world.clock) == Owed()


def test_a_key_whose_rollout_is_paused_stays_due_and_says_why(world: World) -> None:
    world.clock.wait_until(world.clock.now() + RENEW)
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(desired(Policy.SHARED, agents=AGENTS[:1]))
    pause(world.ledger, list(world.recorded.rollouts)[-1], clock=world.clock, reason="Friday")
    (found,) = due(world.ledger, world.clock).keys
    assert found.paused == "Friday"


def test_an_ended_key_that_agents_still_trust_is_to_be_dropped(world: World) -> None:
    wanted = desired(Policy.SHARED, agents=AGENTS[:2])
    world.apply(wanted)
    world.clock.wait_until(world.clock.now() + RENEW)
    world.apply(wanted, wait=timedelta(minutes=11))
    world.fleet.trouble(AGENTS[1], unreachable="off")
    world.clock.wait_until(world.clock.now() + timedelta(days=365) - RENEW)
    world.apply(wanted)
    (found,) = due(world.ledger, world.clock).keys
    assert (found.wants, found.servers, found.trusting) == (Wants.DROPPING, (), 1)
    world.clock.wait_until(found.credential.expires)
    assert due(world.ledger, world.clock).keys == ()


def test_the_issuer_is_due_before_a_certificate_would_outlive_it(world: World) -> None:
    end = parse_certificate(world.recorded.issuer).not_after
    (issuer,) = due(world.ledger, world.clock, within=end - world.clock.now()).authorities
    assert (issuer.role, issuer.ends_at) == ("issuer", end)
    assert issuer.due_at < end - timedelta(days=365)
    assert due(world.ledger, world.clock, within=issuer.due_at - world.clock.now()).authorities
    sooner = issuer.due_at - world.clock.now() - timedelta(seconds=1)
    assert not due(world.ledger, world.clock, within=sooner).authorities


def test_a_handover_that_may_not_fit_is_warned_of(world: World) -> None:
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(desired(Policy.SHARED, agents=AGENTS[:1]), new_key=True)
    world.clock.wait_until(world.clock.now() + timedelta(days=70))
    world.fleet.heal(AGENTS[0])
    applied = world.apply(desired(Policy.SHARED, agents=AGENTS[:1]))
    assert applied.prepared.plan.warnings == ()
    owed = due(world.ledger, world.clock)
    assert not owed
    (warning,) = owed.warnings
    assert warning.startswith("main: renew_at leaves 121d")
