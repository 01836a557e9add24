"""A controller whose clock is wrong is refused while hosts contradict it; what it wrote is mended later."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from orchestrator.errors import RefusedError
from orchestrator.operations.apply import apply
from orchestrator.operations.compromise import end_key
from orchestrator.operations.due import due
from orchestrator.operations.rollouts import pause
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import RolloutSpec
from orchestrator.rotation.home_events import ClockSetRight
from tests.endings import assert_settled
from tests.fakes import NOON, FakeClock
from tests.world import AGENTS, SERVERS, World, desired

WANTED = desired(servers=SERVERS[:1], agents=AGENTS[:2])
HOSTS = (SERVERS[0], *AGENTS[:2])
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WRONG = pytest.mark.parametrize("by", [HOUR, -HOUR, 400 * DAY, -400 * DAY])


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(WANTED)
    return world


def is_now(world: World, instant: datetime) -> None:
    world.clock._now = instant


def only_the_controller_is_off(world: World, by: timedelta) -> None:
    """The controller's clock is off by this, and hosts keep the time."""
    is_now(world, world.clock.now() + by)
    for host in HOSTS:
        world.fleet.trouble(host, skew=-by)


def it_is_right_again(world: World, by: timedelta) -> None:
    is_now(world, world.clock.now() - by)
    for host in HOSTS:
        world.fleet.heal(host)


def with_an_unfinished_visit() -> World:
    for points in range(60):
        world = World()
        world.apply(WANTED)
        world.apply_and_die(WANTED, after=points, new_key=True)
        if world.recorded.pending:
            return world
    pytest.fail("no visit was ever left unfinished")


@dataclass
class SetClock:
    """A clock that somebody sets while it is waited for."""

    clock: FakeClock
    by: timedelta

    def now(self) -> datetime:
        return self.clock.now()

    def elapsed(self) -> timedelta:
        return self.clock.elapsed()

    def wait_until(self, instant: datetime) -> None:
        self.clock.wait_until(min(instant, self.clock.now() + timedelta(seconds=1)))
        self.clock._now += self.by


@pytest.mark.parametrize(
    ("by", "why"),
    [
        (25 * HOUR, "clock was set forward by 90000 s while the run was under way"),
        (-HOUR, "the ledger's last entry is of 2030-01-01 12:00:00Z, and by this machine's clock it is"),
    ],
)
def test_a_clock_that_is_set_during_a_run_ends_it_and_no_wait_seems_to_be_over(
    world: World, by: timedelta, why: str
) -> None:
    patient = desired(servers=SERVERS[:1], agents=AGENTS[:2], rollout=RolloutSpec(soak=HOUR, offline=DAY))
    world.apply(patient)
    old = world.trusted(AGENTS[0], SERVERS[0])
    ports = replace(world.ports, clock=SetClock(world.clock, by))
    with pytest.raises(RefusedError, match=why):
        apply(ports, patient, wait=2 * HOUR, agree=lambda _: True, new_key=True)
    assert old < world.trusted(AGENTS[0], SERVERS[0])
    assert world.orphans() == []
    is_now(world, world.clock.now() - by)
    assert_settled(world, patient)


@WRONG
def test_it_is_refused_before_anything_is_written_and_hosts_are_named(world: World, by: timedelta) -> None:
    only_the_controller_is_off(world, by)
    before = world.recorded.version
    way = "behind" if by > timedelta(0) else "ahead"
    off = f"agent-1 by {abs(by).total_seconds():.0f} s"
    named = f"the clocks of 3 of 3 hosts are {way} of this machine's: {off}"
    with pytest.raises(RefusedError, match=named):
        world.apply(WANTED, new_key=True)
    with pytest.raises(RefusedError, match=named):
        watch_once(world.ports, WANTED)
    assert world.recorded.version == before
    it_is_right_again(world, by)
    assert_settled(world, WANTED)


@WRONG
def test_an_unfinished_visit_makes_no_difference(by: timedelta) -> None:
    world = with_an_unfinished_visit()
    only_the_controller_is_off(world, by)
    before = world.recorded.version
    with pytest.raises(RefusedError, match="of this machine's"):
        world.apply(WANTED)
    assert world.recorded.version == before


def test_a_single_host_that_is_off_is_its_own_fault(world: World) -> None:
    world.fleet.trouble(AGENTS[0], skew=HOUR)
    applied = world.apply(WANTED, new_key=True)
    assert applied.result is not None
    assert [block.host for block in applied.result.blocks] == [AGENTS[0]]


def test_hosts_that_are_off_in_different_directions_accuse_nobody(world: World) -> None:
    for host, skew in zip(HOSTS, (HOUR, -HOUR, timedelta(0)), strict=True):
        world.fleet.trouble(host, skew=skew)
    assert not world.apply(WANTED, new_key=True).complete


def test_a_clock_that_went_back_writes_nothing(world: World) -> None:
    rollout = world.apply(WANTED, new_key=True, wait=timedelta(0)).prepared.plan.start
    assert rollout is not None
    is_now(world, world.clock.now() - HOUR)
    with pytest.raises(RefusedError, match="the ledger's last entry is of 2030-01-01 12:00:00Z"):
        pause(world.ports.ledger, rollout.rollout, clock=world.clock, reason="a person looks")


@pytest.mark.parametrize("points", range(0, 60, 6))
def test_what_a_clock_that_was_ahead_has_written_is_not_waited_for(world: World, points: int) -> None:
    """Nobody could contradict it: no host was reached by the survey, or it was set while a run went on."""
    world.apply_and_die(WANTED, after=points, new_key=True)
    is_now(world, NOON + 400 * DAY)
    for host in HOSTS:
        world.fleet.trouble(host, unreachable="no route")
    world.apply(WANTED, wait=timedelta(0))
    for host in HOSTS:
        world.fleet.heal(host)
    is_now(world, NOON + HOUR)
    assert_settled(world, WANTED)
    assert world.clock.now() < NOON + 2 * DAY
    assert any(isinstance(entry.event, ClockSetRight) for entry in world.ledger.entries())
    now = world.clock.now()
    assert all(
        world.recorded.credentials[record.target].not_before <= now
        for record in world.recorded.servers.values()
        if record.target is not None
    )


def test_where_no_host_confirms_the_clock_the_ledger_is_believed(world: World) -> None:
    is_now(world, NOON + 400 * DAY)
    for host in HOSTS:
        world.fleet.trouble(host, unreachable="no route")
    world.apply(WANTED, wait=timedelta(0))
    is_now(world, NOON + HOUR)
    with pytest.raises(RefusedError, match="the ledger's last entry is of 2031"):
        world.apply(WANTED)


def test_a_leak_that_was_told_by_a_clock_that_was_ahead_is_due_at_once(world: World) -> None:
    target = world.recorded.servers[SERVERS[0]].target
    assert target is not None
    leaked = world.recorded.credentials[target]
    assert leaked.public is not None
    world.eye.leaked.add(leaked.public.spki_digest)
    is_now(world, NOON + 100 * DAY)
    for host in HOSTS:
        world.fleet.trouble(host, unreachable="no route")
    end_key(world.ports, leaked.public.thumbprint, lost=False, reason="it leaked", wait=timedelta(0))
    is_now(world, NOON + HOUR)
    for host in HOSTS[:2]:
        world.fleet.heal(host)
    world.apply(WANTED)
    (owed,) = due(world.ledger, world.clock).keys
    assert owed.leaked_on == (AGENTS[1],)
    assert owed.due_at <= world.clock.now()
