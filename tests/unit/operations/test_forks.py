"""Two copies of one home, both alive: hosts tell them apart, and the one that they do not follow stops."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import pytest

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import apply
from orchestrator.operations.compromise import end_key
from orchestrator.operations.remove import remove
from orchestrator.operations.rollouts import pause
from orchestrator.rotation.events import EndpointsChanged
from orchestrator.rotation.reports import Changed, Outcome, Refused, Unchanged
from orchestrator.rotation.visits import Fence, Stage, Survey, Visit
from tests.homes import HomeCopy, copied, go_on_with, live
from tests.world import AGENTS, SERVERS, World, desired

WANTED = desired(servers=SERVERS[:2], agents=AGENTS[:2])
OUTRUN = 200
"""More entries than the true home writes meanwhile."""


def settled() -> World:
    world = World()
    world.apply(WANTED)
    return world


def write_a_lot(world: World) -> None:
    """Entries that touch no host."""
    for _ in range(OUTRUN):
        event = EndpointsChanged(endpoints=WANTED.endpoints)
        world.ledger.append([event], onto=world.ledger.read(), at=world.clock.now())


def visit_all(world: World) -> None:
    """The home shows itself to every host, and changes nothing else there."""
    write_a_lot(world)
    now = world.recorded
    fence = Fence(generation=now.generation, counter=now.version, head=now.head)
    visits = [Visit(endpoint=e, orders=(Survey(),), fence=fence) for e in WANTED.endpoints.values()]
    assert all(isinstance(outcome, Unchanged) for outcome in world.fleet.run(visits))


def test_a_copy_that_has_written_more_than_the_true_home_is_refused_and_stops_for_good() -> None:
    world = settled()
    true, copy = live(world), copied(world)
    visit_all(world)
    before = dict(world.fleet.hosts)

    go_on_with(world, copy)
    world.clock.wait_until(world.clock.now() + timedelta(hours=1))
    write_a_lot(world)
    write_a_lot(world)
    with pytest.raises(RefusedError, match=r"another copy of this ledger: entry .* there, .* here"):
        world.apply(WANTED, new_key=True)

    assert world.fleet.hosts == before
    assert "another copy of this ledger" in world.recorded.stopped
    go_on_with(world, true)
    assert world.apply(WANTED, new_key=True).complete


def test_a_home_that_has_stopped_writes_nothing_more_for_the_fleet() -> None:
    world = settled()
    copy = copied(world)
    world.apply(WANTED, new_key=True)
    go_on_with(world, copy, watched=False)
    with pytest.raises(RefusedError):
        world.apply(WANTED)
    stopped, visits = world.recorded, len(world.fleet.visits)
    key = next(c.public.thumbprint for c in stopped.credentials.values() if c.public is not None)

    for write in (
        lambda: world.apply(WANTED),
        lambda: end_key(world.ports, key, lost=False, reason="it leaked", wait=timedelta(0)),
        lambda: remove(world.ports, SERVERS[0], wait=timedelta(0), give_up=True),
        lambda: pause(world.ports.ledger, next(iter(stopped.rollouts)), clock=world.clock, reason="a look"),
    ):
        with pytest.raises(RefusedError, match=r"this home has stopped for good: .* newer than this one"):
            write()

    assert (world.recorded, len(world.fleet.visits)) == (stopped, visits)


def test_a_copy_that_only_asks_is_refused_too_and_writes_nothing() -> None:
    world = settled()
    copy = copied(world)
    visit_all(world)
    go_on_with(world, copy)
    world.clock.wait_until(world.clock.now() + timedelta(hours=1))
    write_a_lot(world)
    write_a_lot(world)
    before = world.recorded

    with pytest.raises(RefusedError, match="another copy of this ledger"):
        world.prepare(WANTED)

    assert world.recorded == before


def test_a_copy_that_asked_before_the_true_home_wrote_is_refused_by_the_host_itself() -> None:
    """It has seen nothing wrong in the surveys, and its numbers are higher: the host knows better."""
    world = settled()
    true, copy = live(world), copied(world)
    go_on_with(world, copy, watched=False)
    write_a_lot(world)
    write_a_lot(world)
    world.ports = replace(world.ports, fleet=Interrupted(world, partial(meanwhile, world, true, copy)))

    with pytest.raises(
        RefusedError, match="follows another ledger: fenced: another controller was here since"
    ):
        world.apply(WANTED, new_key=True)

    assert world.recorded.stopped


def meanwhile(world: World, true: HomeCopy, copy: HomeCopy) -> None:
    go_on_with(world, true)
    visit_all(world)
    go_on_with(world, copy, watched=False)


@dataclass(slots=True)
class Interrupted:
    """A fleet in which something happens between the surveys and the first visit that changes something."""

    world: World
    happens: Callable[[], None]
    happened: bool = False

    def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
        if not self.happened and not isinstance(visits[0].orders[0], Survey):
            self.happened = True
            self.happens()
        yield from self.world.fleet.run(visits)


@pytest.mark.parametrize("host", [SERVERS[0], AGENTS[0]])
def test_a_host_that_is_wiped_while_a_run_is_under_way_is_named_and_stops_no_home(host: HostName) -> None:
    world = settled()
    world.ports = replace(world.ports, fleet=Interrupted(world, partial(world.fleet.wipe, host)))

    applied = apply(world.ports, WANTED, wait=timedelta(hours=1), agree=lambda _: True, new_key=True)

    assert not world.recorded.stopped
    assert applied.result is not None
    (block,) = applied.result.blocks
    assert block.host == host
    assert block.reason.startswith("/etc/keyrelay is not as it was when it was asked: fence -, expected 1.")


def test_a_visit_that_was_sent_before_a_new_generation_is_refused_afterwards() -> None:
    world = settled()
    endpoint = WANTED.endpoints[SERVERS[0]]
    late = Visit(
        endpoint=endpoint,
        orders=tuple(
            order
            for visit in world.fleet.visits
            if visit.endpoint == endpoint
            for order in visit.orders
            if isinstance(order, Stage)
        ),
        fence=Fence(generation=1, counter=world.recorded.version, head=world.recorded.head),
    )
    newer = Visit(endpoint=endpoint, orders=(Survey(),), fence=Fence(generation=2, counter=1))
    (first,) = world.fleet.run([newer])
    (second,) = world.fleet.run([late])

    assert isinstance(second, Refused)
    assert second.fenced
    assert not isinstance(first, Changed | Refused)
