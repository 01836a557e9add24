"""What plan, apply and watch begin with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from orchestrator.errors import ConflictError
from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import apply
from orchestrator.operations.planning import Prepared, record
from orchestrator.policy.desired import Desired
from orchestrator.rotation.events import EndpointsChanged, HostsSurveyed, RolloutStarted
from orchestrator.rotation.reports import Outcome
from orchestrator.rotation.visits import Visit
from tests.world import AGENTS, SERVERS, World, desired, endpoint

WANTED = desired(servers=SERVERS[:2], agents=AGENTS[:2])


def prepared(world: World, wanted: Desired) -> Prepared:
    return world.prepare(wanted)


def asked(world: World) -> set[str]:
    return {visit.endpoint.host for visit in world.fleet.visits}


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(WANTED)
    world.fleet.visits.clear()
    return world


def test_planning_changes_neither_hosts_nor_ledger(world: World) -> None:
    world.wipe(SERVERS[0])
    before = dict(world.fleet.hosts), world.recorded
    assert prepared(world, WANTED).plan.changes
    assert (dict(world.fleet.hosts), world.recorded) == before


def test_hosts_that_have_left_are_asked_until_they_are_done_with(world: World) -> None:
    fewer = desired(servers=SERVERS[:1], agents=AGENTS[:1])
    prepared(world, fewer)
    assert asked(world) == set(WANTED.endpoints)
    world.apply(fewer)
    world.fleet.visits.clear()
    prepared(world, fewer)
    assert asked(world) == set(fewer.endpoints)


def test_hosts_of_other_playbooks_are_left_alone(world: World) -> None:
    prepared(world, desired(servers=SERVERS[2:], agents=AGENTS[2:], name="other"))
    assert asked(world) == {SERVERS[2], AGENTS[2]}


def test_a_host_that_has_left_is_asked_though_another_playbook_has_it_too() -> None:
    """Or a visit would forget what an earlier one, whose answer was lost, may have brought (S3)."""
    world, host = World(), SERVERS[2]
    other = desired(servers=SERVERS[:1], agents=[host], name="other")
    world.apply(desired(servers=SERVERS[1:], agents=AGENTS[:2]))
    world.apply(other)
    world.ports = replace(world.ports, fleet=Losing(world, host))
    world.apply(other, new_key=True)
    may_trust = {line for bundle in world.recorded.bundles(host) for line in bundle.lines}
    assert host in world.recorded.pending

    world.fleet.heal(host)
    world.fleet.trouble(host, unreachable="off")
    applied = world.apply(desired(servers=SERVERS[1:2], agents=AGENTS[:2]))

    assert applied.unreachable == {host: "off"}
    assert {line for bundle in world.recorded.bundles(host) for line in bundle.lines} == may_trust


@dataclass(slots=True)
class Losing:
    """A fleet that loses the answers of one host to whatever changes it."""

    world: World
    host: HostName

    def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
        for visit in visits:
            if visit.endpoint.host == self.host and visit.fence is not None:
                self.world.fleet.trouble(self.host, breaks_after=1)
            yield from self.world.fleet.run([visit])


def test_what_was_found_and_what_begins_is_written_in_one_go(world: World) -> None:
    world.wipe(AGENTS[0])
    before = world.recorded.version
    record(prepared(world, WANTED), world.ports)
    kinds = [type(entry.event) for entry in world.ledger.entries(after=before)]
    assert kinds == [HostsSurveyed, RolloutStarted]


def test_with_nothing_new_nothing_is_written(world: World) -> None:
    before = world.recorded
    assert record(prepared(world, WANTED), world.ports) == before


def test_another_way_to_a_host_is_written_without_a_rollout(world: World) -> None:
    moved = {**WANTED.endpoints, SERVERS[0]: replace(endpoint(SERVERS[0]), address="192.0.2.7")}
    before = world.recorded.version
    record(prepared(world, replace(WANTED, endpoints=moved)), world.ports)
    assert [type(e.event) for e in world.ledger.entries(after=before)] == [EndpointsChanged]


def test_a_ledger_that_has_grown_meanwhile_is_a_conflict(world: World) -> None:
    world.wipe(AGENTS[0])
    stale = prepared(world, WANTED)
    record(prepared(world, WANTED), world.ports)
    with pytest.raises(ConflictError):
        record(stale, world.ports)


def test_a_plan_that_nobody_agrees_to_is_not_carried_out(world: World) -> None:
    before = dict(world.fleet.hosts), world.recorded
    applied = apply(world.ports, WANTED, wait=timedelta(0), agree=lambda _: False, new_key=True)
    assert not applied.agreed
    assert not applied.complete
    assert (dict(world.fleet.hosts), world.recorded) == before


def test_a_plan_is_carried_out_under_any_beginning_of_its_digest(world: World) -> None:
    digest = prepared(world, replace(WANTED, rollout=replace(WANTED.rollout, soak=timedelta(0)))).plan.digest[
        :12
    ]
    applied = apply(
        world.ports,
        replace(WANTED, rollout=replace(WANTED.rollout, soak=timedelta(0))),
        wait=timedelta(0),
        agree=lambda _: True,
        digest=digest,
    )
    assert applied.agreed


def test_what_another_playbook_has_under_way_is_no_reason_to_begin_anything(world: World) -> None:
    mine = desired(servers=SERVERS[:1], agents=AGENTS[:1])
    other = desired(servers=SERVERS[1:2], agents=AGENTS[:1], name="other")
    world.apply(mine)
    world.apply(other)
    for minutes in (0, 10, 16):
        world.apply(other, new_key=not minutes, wait=timedelta(minutes=minutes))
        assert world.apply(mine).prepared.plan.start is None
    assert world.apply(other).complete
    assert world.orphans() == []
