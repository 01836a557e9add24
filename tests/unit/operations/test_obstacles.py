"""Hosts in memory that could not fill their stores: told by the plan, and left as they are."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from orchestrator.operations.audit import audit
from orchestrator.operations.planning import prepare_to_change
from orchestrator.policy.desired import Origin, Policy, Share
from orchestrator.policy.stores import Access, PemAnchors, PemFiles, Rendered, Stores
from orchestrator.rotation.drift import Drift
from tests.endings import assert_settled
from tests.world import AGENTS, SERVERS, Silent, World, desired

ACCESS = Access(mode="600")
FILES = PemFiles(key="/etc/app/key", certificate="/etc/app/crt", access=ACCESS)
CONFIG = Rendered(file="/etc/app/conf", access=ACCESS)
STORES = Stores(
    server=(FILES,),
    agent=(PemAnchors(anchors="/etc/app/ca", access=ACCESS), CONFIG),
    texts={agent: {"/etc/app/conf": "x\n"} for agent in AGENTS},
)
ONE, AGENT = SERVERS[0], AGENTS[0]
HOUR = timedelta(hours=1)
ROLLOUT = desired().rollout
NO_FOLDER = "/etc/app is missing, expected a folder"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def stocked(world: World) -> World:
    """A fleet whose stores are filled."""
    assert world.apply(desired(stores=STORES)).complete
    return world


@pytest.mark.parametrize("origin", Origin)
def test_a_server_that_cannot_fill_its_stores_is_left_as_it_is_and_named_before_anything_is_tried(
    world: World, origin: Origin
) -> None:
    wanted = desired(soak=timedelta(0), origin=origin, stores=Stores(server=(FILES,)))
    world.fleet.trouble(ONE, obstructs=NO_FOLDER)
    applied = world.apply(wanted)
    plan = applied.prepared.plan
    told = {change.host: (change.what, change.why) for change in plan.changes if change.host in SERVERS}
    reason = f"it cannot fill /etc/app/crt, /etc/app/key: {NO_FOLDER}"
    assert told.pop(ONE) == (("is left as it is",), reason)
    assert all("fills /etc/app/crt, /etc/app/key" in what for what, _ in told.values())
    assert applied.result is not None
    assert [(block.host, block.reason) for block in applied.result.blocks] == [(ONE, reason)]
    assert [world.fleet.hosts[server].current is None for server in SERVERS] == [True, False, False]
    assert not any(visit.endpoint.host == ONE and visit.fence for visit in world.fleet.visits)

    world.fleet.heal(ONE)
    assert world.apply(wanted).complete
    assert_settled(world, wanted)


def test_a_new_key_does_not_go_to_a_server_that_could_not_fill_its_stores_with_it(stocked: World) -> None:
    before = stocked.live_key(ONE)
    stocked.fleet.trouble(ONE, obstructs=NO_FOLDER)
    assert not stocked.apply(desired(stores=STORES), new_key=True).complete
    assert stocked.live_key(ONE) == before
    stocked.fleet.heal(ONE)
    assert stocked.apply(desired(stores=STORES)).complete
    assert_settled(stocked, desired(stores=STORES))


def test_the_servers_of_later_waves_do_not_wait_for_one_that_is_held_back(world: World) -> None:
    world.apply(desired(Policy.SHARED, soak=timedelta(0)))
    world.fleet.trouble(ONE, obstructs=NO_FOLDER)
    wanted = desired(Policy.SHARED, soak=timedelta(0), stores=Stores(server=(FILES,)))
    world.apply(wanted, new_key=True)
    assert world.fleet.hosts[SERVERS[1]].server_stores is not None
    assert world.fleet.hosts[ONE].server_stores is None


@pytest.mark.parametrize("begun", [False, True], ids=["before the rollout", "while it is under way"])
def test_the_first_server_that_can_fill_its_stores_is_the_canary(stocked: World, *, begun: bool) -> None:
    waves = (Share(number=1, percent=False), Share(number=100, percent=True))
    wanted = desired(stores=STORES, rollout=replace(ROLLOUT, soak=HOUR, waves=waves))
    old = [stocked.live_key(server) for server in SERVERS]

    def switched() -> list[bool]:
        return [stocked.live_key(server) != key for server, key in zip(SERVERS, old, strict=True)]

    if begun:
        stocked.fleet.trouble(ONE, unreachable="no route to it")
        stocked.apply(wanted, new_key=True, wait=timedelta(0))
        assert switched() == [False, False, False]
        stocked.fleet.heal(ONE)
    stocked.fleet.trouble(ONE, obstructs=NO_FOLDER)
    stocked.apply(wanted, new_key=not begun, wait=timedelta(0))
    assert switched() == [False, True, False]
    stocked.clock.wait_until(stocked.clock.now() + HOUR)
    stocked.apply(wanted, wait=timedelta(0))
    assert switched() == [False, True, True]

    stocked.fleet.heal(ONE)
    for _ in range(3):
        stocked.apply(wanted)
        stocked.clock.wait_until(stocked.clock.now() + timedelta(days=30))
    assert switched() == [True, True, True]


def test_what_blocks_is_known_since_it_was_first_seen(stocked: World) -> None:
    stocked.fleet.trouble(ONE, obstructs=NO_FOLDER)
    since: list[datetime] = []
    for _ in range(2):
        result = stocked.apply(desired(stores=STORES), new_key=not since).result
        assert result is not None
        since.append(result.blocks[0].since)
        stocked.clock.wait_until(stocked.clock.now() + HOUR)
    assert since[0] == since[1]


def test_an_agent_that_cannot_fill_its_stores_is_told_with_what_it_would_get(stocked: World) -> None:
    stocked.fleet.trouble(AGENT, obstructs=NO_FOLDER)
    told = {c.host: c.what for c in stocked.apply(desired(stores=STORES), new_key=True).prepared.plan.changes}
    assert f"cannot fill /etc/app/ca, /etc/app/conf: {NO_FOLDER}" in told[AGENT]
    found = f"it cannot fill /etc/app/ca, /etc/app/conf: {NO_FOLDER}"
    seen = audit({}, ledger=stocked.ledger, fleet=stocked.fleet, clock=stocked.clock, progress=Silent())
    assert (AGENT, Drift.OBSTRUCTED, found) in [(f.host, f.drift, f.detail) for f in seen.findings]


def test_a_server_that_switches_nothing_is_visited_to_mend_what_it_can(stocked: World) -> None:
    stocked.fleet.trouble(ONE, obstructs=NO_FOLDER)
    state = stocked.fleet.hosts[ONE]
    assert state.server_stores is not None
    stocked.set_host(ONE, replace(state, server_stores=replace(state.server_stores, places={})))
    plan = prepare_to_change(desired(stores=STORES), stocked.ports).plan
    (what,) = (change.what for change in plan.changes if change.host == ONE)
    assert what == (
        "fills /etc/app/crt, /etc/app/key",
        f"cannot fill /etc/app/crt, /etc/app/key: {NO_FOLDER}",
    )
