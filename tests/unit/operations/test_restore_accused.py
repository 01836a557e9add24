"""Hosts that say of a key in use that it has leaked: when a home is restored, a person decides."""

from dataclasses import replace

import pytest

from orchestrator.errors import RefusedError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.operations.restore import Effects, Request, restore
from orchestrator.policy.desired import Desired, Policy
from orchestrator.rotation.observed import Tombstone
from orchestrator.rotation.visits import Activate
from tests.endings import assert_settled
from tests.homes import copied, go_on_with
from tests.world import AGENTS, SERVERS, World, desired

SMALL = desired(servers=SERVERS[:2], agents=AGENTS[:2])
DELEGATED = desired(Policy.DELEGATED, servers=SERVERS[:2], agents=AGENTS[:2])
KINDS = pytest.mark.parametrize("wanted", [SMALL, DELEGATED], ids=["known", "vouched for"])
LATER = 2**32
LIAR = AGENTS[1]


def accused(wanted: Desired) -> tuple[World, SpkiDigest]:
    """A fleet that is to be restored, and the key of server-1, of which agent-2 says that it leaked."""
    world = World()
    world.apply(wanted)
    key = SpkiDigest(str(world.live_key(SERVERS[0])))
    remembers(world, LIAR, Tombstone(key=key, how="compromised", until=LATER))
    world.eye.takes_in_surveys()
    go_on_with(world, copied(world), watched=False)
    return world, key


def remembers(world: World, host: HostName, stone: Tombstone) -> None:
    state = world.fleet.hosts[host]
    world.fleet.hosts[host] = replace(state, ended=(*state.ended, stone))


def go_on(world: World, request: Request) -> Effects:
    effects = restore(world.ports, request, agree=lambda _: True)
    assert effects is not None
    go_on_with(world, copied(world))
    world.eye.look("after the restore")
    return effects


@KINDS
def test_one_hosts_word_takes_no_key_away_and_stops_the_restore(wanted: Desired) -> None:
    world, _ = accused(wanted)
    before, hosts = world.recorded, dict(world.fleet.hosts)
    with pytest.raises(RefusedError, match=r"key .{10} of server-1: agent-2 remembers it as compromised"):
        go_on(world, Request())
    assert (world.recorded, world.fleet.hosts) == (before, hosts)


@KINDS
def test_a_host_that_is_not_believed_costs_an_ordinary_handover(wanted: Desired) -> None:
    world, key = accused(wanted)
    effects = go_on(world, Request(disbelieve=[LIAR]))
    assert effects.stranded == ()
    world.fleet.trouble(AGENTS[0], unreachable="no route to host")
    before = len(world.fleet.visits)
    assert not world.apply(wanted).complete
    switched = [o for v in world.fleet.visits[before:] for o in v.orders if isinstance(o, Activate)]
    assert wanted is DELEGATED or switched == []
    assert world.orphans() == []
    world.fleet.heal(AGENTS[0])
    assert_settled(world, wanted)
    assert world.live_key(SERVERS[0]) != key
    assert not any(credential.compromised for credential in world.recorded.credentials.values())


@KINDS
def test_a_host_that_is_believed_has_the_key_taken_away_without_waiting_for_anybody(wanted: Desired) -> None:
    world, key = accused(wanted)
    world.eye.leaked.add(key)
    effects = go_on(world, Request(believe=[LIAR]))
    assert {(one.agent, one.server) for one in effects.stranded} == {(a, SERVERS[0]) for a in AGENTS[:2]}
    world.fleet.trouble(AGENTS[0], unreachable="no route to host")
    assert not world.apply(wanted).complete
    assert world.live_key(SERVERS[0]) != key
    world.fleet.heal(AGENTS[0])
    assert_settled(world, wanted)


def test_one_host_that_is_believed_is_enough_where_several_say_the_same() -> None:
    world, key = accused(SMALL)
    remembers(world, AGENTS[0], Tombstone(key=key, how="compromised", until=LATER))
    world.eye.leaked.add(key)
    with pytest.raises(RefusedError, match="agent-1 remembers it as compromised"):
        go_on(world, Request(disbelieve=[LIAR]))
    go_on(world, Request(believe=[LIAR]))
    assert_settled(world, SMALL)
    assert world.live_key(SERVERS[0]) != key


def test_a_key_that_nobody_relies_on_is_ended_at_a_hosts_word_alone() -> None:
    world = World()
    world.apply(SMALL)
    copy = copied(world)
    key = SpkiDigest(str(world.live_key(SERVERS[0])))
    world.apply(SMALL, new_key=True)
    remembers(world, SERVERS[1], Tombstone(key=key, how="compromised", until=LATER))
    world.eye.takes_in_surveys()
    go_on_with(world, copy, watched=False)
    effects = go_on(world, Request())
    assert effects.accused == ()
    assert "server-2 remembers it as compromised" in effects.meeting.ended.values()


def test_the_word_of_a_host_that_was_waived_takes_no_key_away_when_it_is_back() -> None:
    world, key = accused(SMALL)
    world.fleet.trouble(LIAR, unreachable="no route to host")
    go_on(world, Request(waive=[LIAR]))
    world.fleet.heal(LIAR)
    world.eye.meddled.add(LIAR)
    world.fleet.trouble(AGENTS[0], unreachable="no route to host")
    assert not world.apply(SMALL).complete
    assert world.live_key(SERVERS[0]) == key
    assert world.orphans() == []
    world.fleet.heal(AGENTS[0])
    assert_settled(world, SMALL)
    assert world.live_key(SERVERS[0]) != key


def test_a_host_that_accuses_nobody_is_neither_believed_nor_not() -> None:
    world, _ = accused(SMALL)
    with pytest.raises(UsageError, match="agent-1 says nothing that a person has to believe"):
        go_on(world, Request(believe=[AGENTS[0]]))
    with pytest.raises(UsageError, match="agent-2 is either believed or not"):
        go_on(world, Request(believe=[LIAR], disbelieve=[LIAR]))


@KINDS
def test_one_hosts_word_takes_no_key_away_whose_server_shows_nothing_for_now(wanted: Desired) -> None:
    world, _ = accused(wanted)
    world.base_goes(SERVERS[0])
    with pytest.raises(RefusedError, match=r"key .{10} of server-1: agent-2 remembers it as compromised"):
        go_on(world, Request())
