"""A home that is restored from before its issuer was replaced, since the issuer's key had leaked."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import RefusedError
from orchestrator.operations.replace_issuer import Rotated, rotate_issuer
from orchestrator.operations.restore import Request, restore
from orchestrator.policy.desired import Policy
from orchestrator.rotation.recorded import Credential, Recorded
from orchestrator.rotation.visits import Trust
from tests.endings import assert_settled
from tests.homes import copied, go_on_with, live
from tests.mortal import KilledError
from tests.unit.operations.test_restore import Chaptered
from tests.world import AGENTS, SERVERS, WatchedFleet, World, desired

DELEGATED = desired(Policy.DELEGATED, servers=SERVERS[:2], agents=AGENTS[:2])
ENOUGH = timedelta(hours=2)


def replaced(world: World) -> Rotated:
    """The issuer's key leaked: nobody waits for anybody, and another one takes its place."""
    world.eye.leaked |= world.keys_in_use()
    world.eye.begins()
    return rotate_issuer(world.ports, leaked="a stolen laptop", wait=ENOUGH)


def test_agents_with_an_issuer_that_the_home_does_not_know_are_named() -> None:
    world = World()
    world.apply(DELEGATED)
    copy = copied(world)
    assert replaced(world).complete
    go_on_with(world, copy, watched=False)
    effects = restore(world.ports, Request(), agree=lambda _: True)
    assert effects is not None
    assert effects.superseded == AGENTS[:2]


def test_agents_with_the_homes_own_issuer_are_not() -> None:
    world = World()
    world.apply(DELEGATED)
    copy = copied(world)
    world.apply(DELEGATED, new_key=True)
    go_on_with(world, copy, watched=False)
    effects = restore(world.ports, Request(), agree=lambda _: True)
    assert effects is not None
    assert effects.superseded == ()


def test_another_issuer_made_right_after_the_restore_keeps_the_leaked_one_away() -> None:
    world = World()
    world.apply(DELEGATED)
    copy = copied(world)
    leaked = world.recorded.own_issuers()[-1].key
    assert replaced(world).complete
    go_on_with(world, copy, watched=False)
    assert restore(world.ports, Request(), agree=lambda _: True) is not None
    before = len(world.fleet.visits)
    replaced(world)
    assert_settled(world, DELEGATED)
    orders = [order for visit in world.fleet.visits[before:] for order in visit.orders]
    bundles = [order.bundle for order in orders if isinstance(order, Trust)]
    assert bundles
    assert not [one for one in bundles if leaked in {key.public.spki_digest for key in one.keys}]
    assert not [one for one in bundles for line in one.delegations if line.issuer_key == leaked]


def restored_from_before(world: World, request: Request) -> None:
    """The home of before the issuer was replaced goes on."""
    world.apply(DELEGATED)
    copy = copied(world)
    assert replaced(world).complete
    world.eye.lost_issuers.add(world.recorded.own_issuers()[1].key)
    world.eye.takes_in_surveys()
    go_on_with(world, copy, watched=False)
    assert restore(world.ports, request, agree=lambda _: True) is not None


def test_nothing_is_applied_before_a_person_has_said_whether_the_issuer_may_have_leaked() -> None:
    world = World()
    restored_from_before(world, Request())
    before = dict(world.fleet.hosts)
    with pytest.raises(RefusedError, match="agent-1, agent-2 trust another, which it does not know"):
        world.apply(DELEGATED)
    with pytest.raises(RefusedError, match="before its issuer was replaced"):
        rotate_issuer(world.ports, wait=ENOUGH)
    assert {host: state.bundle for host, state in before.items()} == {
        host: state.bundle for host, state in world.fleet.hosts.items()
    }
    replaced(world)
    assert_settled(world, DELEGATED)


def test_at_a_persons_word_the_home_goes_on_with_its_own_issuer() -> None:
    world = World()
    restored_from_before(world, Request())
    again = restore(world.ports, Request(sure_of_issuer=True), agree=lambda _: True)
    assert again is not None
    assert again.superseded == ()
    go_on_with(world, live(world))
    assert_settled(world, DELEGATED)
    assert world.apply(DELEGATED, new_key=True).complete
    assert_settled(world, DELEGATED)
    (own,) = world.recorded.own_issuers()
    assert {c.issuers[s] for c in in_use(world.recorded) for s in c.issuers} == {own.key}


def test_agents_that_were_waived_and_know_a_later_issuer_stop_the_next_run() -> None:
    world = World()
    world.apply(DELEGATED)
    copy = copied(world)
    assert replaced(world).complete
    for agent in AGENTS[:2]:
        world.fleet.trouble(agent, unreachable="no route to host")
    world.eye.takes_in_surveys()
    go_on_with(world, copy, watched=False)
    effects = restore(world.ports, Request(waive=AGENTS[:2]), agree=lambda _: True)
    assert effects is not None
    assert effects.superseded == ()
    for agent in AGENTS[:2]:
        world.fleet.heal(agent)
    before = {agent: world.fleet.hosts[agent].bundle for agent in AGENTS[:2]}
    with pytest.raises(RefusedError, match="agent-1, agent-2 trust another, which it does not know"):
        world.apply(DELEGATED)
    assert before == {agent: world.fleet.hosts[agent].bundle for agent in AGENTS[:2]}


def in_use(recorded: Recorded) -> tuple[Credential, ...]:
    targets = {server.target for server in recorded.servers.values()}
    return tuple(c for c in recorded.credentials.values() if c.id in targets)


@pytest.mark.parametrize("lost", range(7))
def test_a_backup_from_before_an_issuer_was_replaced_orphans_nobody_whenever_the_home_is_lost(
    lost: int,
) -> None:
    world = World()
    world.apply(DELEGATED)
    copy = copied(world)
    rounds = Chaptered(world, WatchedFleet(world.fleet, world), copies_at=-1, dies_at=lost)
    world.ports = replace(world.ports, fleet=rounds)
    with suppress(KilledError):
        rotate_issuer(world.ports, wait=ENOUGH)
        rounds.begins("after all")
    older = live(world)
    world.eye.lost_issuers.add(world.recorded.own_issuers()[1].key)
    world.eye.takes_in_surveys()
    go_on_with(world, copy, watched=False)
    assert restore(world.ports, Request(sure_of_issuer=True), agree=lambda _: True) is not None
    go_on_with(world, live(world))
    world.eye.look("after the restore")
    assert_settled(world, DELEGATED)
    world.apply(DELEGATED, new_key=True)
    assert_settled(world, DELEGATED)
    (own,) = world.recorded.own_issuers()
    assert {c.issuers[s] for c in in_use(world.recorded) for s in c.issuers} == {own.key}
    go_on_with(world, older, watched=False)
    with pytest.raises(RefusedError):
        world.apply(DELEGATED, new_key=True)
