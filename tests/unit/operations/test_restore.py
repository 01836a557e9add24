"""A home that is restored from a backup, at any moment, onto the fleet as it is at any later one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.asking import survey
from orchestrator.operations.compromise import end_key
from orchestrator.operations.remove import remove
from orchestrator.operations.restore import Effects, Request, asked_hosts, foresee, restore
from orchestrator.policy.desired import Desired, Origin, Policy
from orchestrator.rotation.hearsay import ended_in
from orchestrator.rotation.reports import Outcome
from orchestrator.rotation.visits import Survey, Visit
from tests.endings import assert_settled
from tests.fakes import SeededEntropy
from tests.homes import HomeCopy, copied, go_on_with, live
from tests.mortal import KilledError
from tests.world import AGENTS, SERVERS, Silent, WatchedFleet, World, desired

SMALL = desired(servers=SERVERS[:2], agents=AGENTS[:2])
NOTHING_SAID = Request()
ENOUGH = 7
"""A story has more rounds of visits than this."""

DELEGATED = desired(Policy.DELEGATED, servers=SERVERS[:2], agents=AGENTS[:2])
KINDS = {
    "vouched for": DELEGATED,
    "shared": desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:2]),
    "delegated": desired(Policy.DELEGATED, servers=SERVERS[:2], agents=AGENTS[:2]),
    "made on servers": desired(servers=SERVERS[:2], agents=AGENTS[:2], origin=Origin.SERVER),
}


@dataclass(slots=True)
class Chaptered:
    """Counts the rounds of visits that change something; copies the home before one, dies before another."""

    world: World
    inner: WatchedFleet
    copies_at: int
    dies_at: int
    rounds: int = 0
    copy: HomeCopy | None = None
    phases: list[str] = field(default_factory=list)

    def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
        changing = [o for visit in visits for o in visit.orders if not isinstance(o, Survey)]
        if changing:
            self.begins("+".join(sorted({order.kind for order in changing})))
        yield from self.inner.run(visits)

    def begins(self, phase: str) -> None:
        if self.rounds == self.copies_at:
            self.copy = copied(self.world)
        if self.rounds == self.dies_at:
            raise KilledError
        self.phases.append(phase)
        self.rounds += 1


def lived(story: Callable[[World], None], *, copies_at: int, dies_at: int) -> tuple[World, Chaptered]:
    """A world in which the story was told until the home was lost, and what was copied on the way."""
    world = World()
    chapters = Chaptered(world, WatchedFleet(world.fleet, world), copies_at, dies_at)
    world.ports = replace(world.ports, fleet=chapters)
    with suppress(KilledError):
        story(world)
        chapters.begins("after all")
    return world, chapters


def renews(wanted: Desired) -> Callable[[World], None]:
    def story(world: World) -> None:
        world.apply(wanted)
        world.apply(wanted, new_key=True)

    return story


def renews_twice(wanted: Desired) -> Callable[[World], None]:
    def story(world: World) -> None:
        renews(wanted)(world)
        world.apply(wanted, new_key=True)

    return story


def loses_a_key(wanted: Desired) -> Callable[[World], None]:
    def story(world: World) -> None:
        world.apply(wanted)
        target = world.recorded.servers[SERVERS[0]].target
        assert target is not None
        public = world.recorded.credentials[target].public
        assert public is not None
        world.eye.leaked.add(public.spki_digest)
        world.eye.begins()
        end_key(world.ports, public.thumbprint, lost=False, reason="it leaked", wait=timedelta(hours=1))
        world.apply(wanted, new_key=True)

    return story


def rounds_of(story: Callable[[World], None]) -> int:
    world, chapters = lived(story, copies_at=-1, dies_at=-1)
    assert world.orphans() == []
    return chapters.rounds


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_of_any_phase_restored_in_any_later_one_orphans_nobody(kind: str) -> None:
    check_all_pairs(renews(KINDS[kind]), KINDS[kind])


@pytest.mark.long
def test_a_backup_from_before_one_renewal_restored_during_the_next_orphans_nobody() -> None:
    check_all_pairs(renews_twice(SMALL), SMALL)


@pytest.mark.parametrize(
    ("before", "after"),
    [(SMALL, DELEGATED), pytest.param(DELEGATED, SMALL, marks=pytest.mark.long)],
    ids=["there", "back"],
)
def test_a_backup_from_before_a_policy_was_changed_orphans_nobody(before: Desired, after: Desired) -> None:
    def story(world: World) -> None:
        world.apply(before)
        world.apply(after)

    check_all_pairs(story, after)


def test_a_key_that_leaked_never_comes_back_whenever_the_backup_was_taken() -> None:
    check_all_pairs(loses_a_key(SMALL), SMALL)


def check_all_pairs(story: Callable[[World], None], wanted: Desired) -> None:
    rounds = rounds_of(story)
    assert rounds > ENOUGH
    for lost in range(1, rounds):
        for taken in range(lost + 1):
            world, chapters = lived(story, copies_at=taken, dies_at=lost)
            assert chapters.copy is not None
            older = live(world)
            restored(world, chapters.copy, what_only_the_ledger_knows(world), believing=True)
            assert_settled(world, wanted)
            trusted = {key for a in AGENTS[:2] for s in SERVERS[:2] for key in world.trusted(a, s)}
            assert not world.eye.leaked & trusted
            go_on_with(world, older, watched=False)
            with pytest.raises(RefusedError):
                world.apply(wanted, new_key=True)
            assert world.recorded.stopped


def what_only_the_ledger_knows(world: World) -> Request:
    """The word of the older ledger, where a leak was written down, and no host has heard of it yet."""
    heard = {stone.key for host in world.fleet.hosts.values() for stone in host.ended}
    return NOTHING_SAID if world.eye.leaked <= heard else Request(ended=ended_in(world.recorded))


def restored(
    world: World, home: HomeCopy, request: Request = NOTHING_SAID, *, believing: bool = False
) -> Effects:
    """The world with another home, which has been restored; the eye looks again when that is done.

    Args:
        world: the fleet.
        home: what is restored.
        request: what the person asks for.
        believing: whether the person believes every host that says that a key has leaked.
    """
    world.eye.takes_in_surveys()
    go_on_with(world, home, watched=False)
    if believing:
        request = replace(request, believe=accusers(world, request))
    effects = restore(world.ports, request, agree=lambda _: True)
    assert effects is not None
    go_on_with(world, home)
    world.eye.look("after the restore")
    return effects


def accusers(world: World, request: Request) -> tuple[HostName, ...]:
    """The hosts that say of a key that it has leaked, while others rely on it."""
    recorded = world.recorded
    answers = survey(world.fleet, asked_hosts(recorded, request).values(), Silent(), whole=True)
    effects = foresee(recorded, answers, request, random=SeededEntropy("a look ahead"))
    return tuple(sorted({one.host for one in effects.accused}))


def test_a_server_that_the_backup_has_in_another_playbook_can_be_moved_again() -> None:
    world = World()
    moved, wanted = SERVERS[2], desired()
    world.apply(desired(servers=SERVERS[:2]))
    world.apply(desired(servers=(moved,), name="Second"))
    backup = copied(world)
    world.eye.begins()
    remove(world.ports, moved, wait=timedelta(hours=1), give_up=False)
    assert world.apply(wanted).complete

    restored(world, backup)

    with pytest.raises(RefusedError, match="belongs to playbook 'Second'") as refused:
        world.apply(wanted)
    assert f"keyrelay remove {moved}, then apply" in refused.value.hint
    world.eye.begins()
    removed = remove(world.ports, moved, wait=timedelta(hours=1), give_up=False)
    assert (removed.clean, removed.complete) == (True, True)
    assert_settled(world, wanted)


def test_a_plan_after_a_restore_says_of_no_server_that_it_gets_the_key_that_it_has() -> None:
    world = World()
    world.apply(SMALL)
    backup = copied(world)
    world.apply(SMALL, new_key=True)
    restored(world, backup)

    applied = world.apply(SMALL)

    assert applied.result is not None
    told = {change.host: change.what for change in applied.prepared.plan.changes}
    still = {host for host, what in told.items() if all(one.startswith("signs anew with") for one in what)}
    assert still == set(SERVERS[:2])
    assert applied.result.changed == told.keys() - still
