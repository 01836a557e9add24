"""Asking hosts, and what of their answers is news."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.operations.asking import Answers, news, survey, taken_in
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from tests.world import AGENTS, SERVERS, Silent, World, desired, endpoint

WANTED = desired(servers=SERVERS[:1], agents=AGENTS[:1])


def asked(world: World) -> Answers:
    return survey(world.fleet, WANTED.endpoints.values(), Silent())


def applied() -> World:
    world = World()
    world.apply(WANTED)
    return world


def test_every_host_that_is_asked_is_in_exactly_one_of_the_two() -> None:
    world = applied()
    world.fleet.trouble(SERVERS[0], unreachable="no route")
    answers = asked(world)
    assert set(answers.surveys) == {AGENTS[0]}
    assert answers.failures == {SERVERS[0]: "no route"}


def test_an_answer_without_a_survey_is_a_failure() -> None:
    class Mute:
        def run(self, visits: Sequence[vs.Visit]) -> Iterator[rp.Outcome]:
            for visit in visits:
                yield rp.Unchanged(host=visit.endpoint.host, reports=())

    answers = survey(Mute(), [endpoint(SERVERS[0])], Silent())
    assert answers.failures == {SERVERS[0]: "it did not answer the survey"}


def test_hosts_as_they_are_known_are_no_news() -> None:
    world = applied()
    later = world.clock.now() + timedelta(hours=1)
    assert not news(world.recorded, asked(world), at=later)


def test_a_host_that_changed_is_news() -> None:
    world = applied()
    world.wipe(SERVERS[0])
    told = news(world.recorded, asked(world), at=world.clock.now())
    assert list(told.surveys) == [SERVERS[0]]


def test_of_what_a_host_tells_only_what_the_ledger_can_use_is_kept() -> None:
    world = applied()
    answers = asked(world)
    told = answers.surveys[AGENTS[0]]
    assert told.bundle is not None
    (edge, *_) = told.bundle.edges
    unknown = [SpkiDigest(f"{number:064x}") for number in range(100)]
    names = [HostName(f"made-up-{number}") for number in range(100)]
    more = (
        *(replace(edge, server=name) for name in names),
        *(replace(edge, key=key) for key in unknown),
    )
    large = replace(
        told.bundle,
        digest="f" * 64,
        edges=(*told.bundle.edges, *more),
        keys=(*told.bundle.keys, *unknown),
        denied=tuple(unknown),
    )
    hostile = replace(answers, surveys={**answers.surveys, AGENTS[0]: replace(told, bundle=large)})

    (kept,) = news(world.recorded, hostile, at=world.clock.now()).surveys.values()

    assert kept.bundle is not None
    assert len(kept.bundle.edges) == len(told.bundle.edges) + 1
    assert kept.bundle.keys == told.bundle.keys
    assert kept.bundle.denied == ()
    lines = taken_in(world.recorded, hostile, at=world.clock.now()).agents[AGENTS[0]].installed
    assert lines is not None
    assert {line.server for line in lines.lines} == {*(e.server for e in told.bundle.edges), names[-1]}


def test_a_host_with_a_visit_whose_end_is_not_known_is_asked_behind_a_fence() -> None:
    wanted = desired(servers=SERVERS[:1], agents=AGENTS[:1], hooks={SERVERS[0]: "systemctl reload it"})
    world = World()
    world.fleet.trouble(SERVERS[0], breaks_at_hook=True)
    world.apply(wanted)
    assert list(world.recorded.pending) == [SERVERS[0]]
    world.fleet.heal(SERVERS[0])
    world.fleet.visits.clear()
    assert world.apply(wanted).complete
    asked_behind = [v.endpoint.host for v in world.fleet.visits if v.orders == (vs.Survey(),) and v.fence]
    assert asked_behind == [SERVERS[0]]


def test_a_first_failure_is_news_and_the_same_again_is_not() -> None:
    world = applied()
    world.fleet.trouble(SERVERS[0], unreachable="off")
    answers = asked(world)
    assert news(world.recorded, answers, at=world.clock.now())
    known = world.ledger.append([answers.event()], onto=world.recorded, at=world.clock.now())
    assert not news(known, answers, at=world.clock.now() + timedelta(hours=1))


def test_taking_in_writes_nothing() -> None:
    world = applied()
    world.wipe(SERVERS[0])
    before = world.recorded
    after = taken_in(before, asked(world), at=world.clock.now())
    assert not after.servers[SERVERS[0]].placements
    assert world.recorded is before
