"""watch: unattended, and only with what was agreed to before."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import KeyrelayError, RefusedError, StoppedError
from orchestrator.operations.apply import Applied
from orchestrator.operations.watch import keep_watching, watch_once
from orchestrator.policy.desired import Desired, Policy
from tests.fakes import FakeStop
from tests.world import AGENTS, SERVERS, World, desired, endpoint

WANTED = desired(servers=SERVERS[:2], agents=AGENTS[:2])


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(WANTED)
    return world


def watched(world: World, wanted: Desired = WANTED) -> Applied:
    return watch_once(world.ports, wanted)


def test_a_playbook_that_was_never_applied_is_refused() -> None:
    with pytest.raises(RefusedError, match="asks for something else"):
        watched(World())


@pytest.mark.parametrize(
    "changed",
    [
        desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:2]),
        desired(servers=SERVERS[:1], agents=AGENTS[:2]),
        desired(servers=SERVERS[:2], agents=AGENTS),
        replace(WANTED, rollout=replace(WANTED.rollout, soak=timedelta(0))),
        replace(WANTED, messages=replace(WANTED.messages, validity=timedelta(seconds=1))),
        replace(WANTED, hooks={SERVERS[0]: "reboot"}),
    ],
    ids=["policy", "a server less", "an agent more", "soak", "validity", "hook"],
)
def test_a_changed_playbook_or_inventory_is_refused_and_nothing_is_touched(
    world: World, changed: Desired
) -> None:
    before = {host: world.fleet.hosts[host] for host in (*SERVERS, *AGENTS)}, world.recorded
    with pytest.raises(RefusedError, match="asks for something else"):
        watched(world, changed)
    assert (dict(world.fleet.hosts), world.recorded) == before


def test_a_changed_playbook_is_refused_in_the_middle_of_a_rollout(world: World) -> None:
    world.apply(WANTED, new_key=True, wait=timedelta(0))
    with pytest.raises(RefusedError):
        watched(world, replace(WANTED, rollout=replace(WANTED.rollout, soak=timedelta(0))))


def test_with_nothing_due_it_does_nothing(world: World) -> None:
    before = world.recorded.version
    applied = watched(world)
    assert applied.complete
    assert applied.result is None
    assert world.recorded.version == before


def test_it_redistributes_what_came_due_and_goes_on_each_time_without_waiting(world: World) -> None:
    first = world.keys_in_use()
    world.clock.wait_until(world.clock.now() + timedelta(days=244))
    world.clock.waits.clear()
    assert not watched(world).complete
    world.clock.wait_until(world.clock.now() + timedelta(minutes=10))
    assert not watched(world).complete
    world.clock.wait_until(world.clock.now() + timedelta(minutes=6))
    assert watched(world).complete
    assert len(world.clock.waits) == 2
    assert not first & world.keys_in_use()
    assert watched(world).result is None


def test_it_mends_a_host_that_drifted(world: World) -> None:
    world.wipe(AGENTS[0])
    assert watched(world).complete
    assert world.orphans() == []


def test_it_follows_hosts_that_are_reached_another_way(world: World) -> None:
    moved = {**WANTED.endpoints, SERVERS[0]: replace(endpoint(SERVERS[0]), address="192.0.2.7")}
    assert watched(world, replace(WANTED, endpoints=moved)).result is None
    assert world.recorded.endpoints == moved


def test_a_host_that_cannot_be_asked_keeps_it_from_being_complete(world: World) -> None:
    world.fleet.trouble(AGENTS[0], unreachable="off")
    applied = watched(world)
    assert not applied.complete
    assert applied.unreachable == {AGENTS[0]: "off"}


@pytest.mark.parametrize("looked_at", range(1, 16))
def test_a_run_that_is_asked_to_stop_ends_soon_and_the_next_one_goes_on(world: World, looked_at: int) -> None:
    world.clock.wait_until(world.clock.now() + timedelta(days=244))
    stopping = replace(world.ports, stop=FakeStop(after=looked_at))
    try:
        applied = watch_once(stopping, WANTED)
    except StoppedError:
        assert looked_at == 1
        assert not world.recorded.running(WANTED.playbook)
    else:
        assert applied.result is not None
        assert not applied.complete
        assert world.recorded.lease is None

    for _ in range(4):
        applied = watch_once(world.ports, WANTED)
        world.clock.wait_until(world.clock.now() + timedelta(minutes=10))

    assert applied.complete
    assert world.orphans() == []


def test_a_run_that_is_asked_to_stop_when_all_is_done_says_that_all_is_done(world: World) -> None:
    assert watch_once(replace(world.ports, stop=FakeStop(after=2)), WANTED).complete


def test_a_watch_looks_again_when_something_that_waits_goes_on_and_at_least_every_so_often(
    world: World,
) -> None:
    world.clock.wait_until(world.clock.now() + timedelta(days=244))
    began = world.clock.now()
    looks: list[timedelta] = []

    def look() -> list[Applied | KeyrelayError]:
        looks.append(world.clock.now() - began)
        if len(looks) == 3:
            return [RefusedError("a person has to look")]
        return [watched(world)]

    keep_watching(look, clock=world.clock, stop=FakeStop(after=11), every=timedelta(hours=1))

    assert [str(at) for at in looks] == ["0:00:00", "0:10:00", "0:16:00", "1:16:00", "2:16:00"]
    assert not watched(world).prepared.plan.changes


def test_a_watch_that_is_asked_to_stop_waits_no_longer(world: World) -> None:
    stop, looks = FakeStop(), []

    def look() -> list[Applied | KeyrelayError]:
        looks.append(world.clock.now())
        stop.after = 1
        return []

    keep_watching(look, clock=world.clock, stop=stop, every=timedelta(hours=1))

    assert len(looks) == 1
    assert world.clock.now() == looks[0]
