"""The audit over whole fleets; ``tests/unit/rotation/test_drift.py`` does each kind of damage to a host."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import UsageError
from orchestrator.operations.audit import Audited, audit
from orchestrator.rotation.drift import Drift
from tests.world import AGENTS, SERVERS, Silent, World, desired, endpoint

WANTED = desired(servers=SERVERS[:2], agents=AGENTS[:2])


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(WANTED)
    return world


def audited(world: World) -> Audited:
    return audit({}, ledger=world.ledger, fleet=world.fleet, clock=world.clock, progress=Silent())


def test_without_a_playbook_there_is_nothing_to_audit() -> None:
    with pytest.raises(UsageError, match="nothing was applied yet"):
        audited(World())


def test_every_host_of_a_settled_fleet_has_the_one_finding_ok(world: World) -> None:
    found = audited(world)
    assert [(f.host, f.drift) for f in found.findings] == [
        (host, Drift.OK) for host in sorted((*SERVERS[:2], *AGENTS[:2]))
    ]
    assert not found.drifted
    assert not found.unreachable


def test_a_host_that_cannot_be_asked_is_no_drift_and_not_ok(world: World) -> None:
    world.fleet.trouble(AGENTS[0], unreachable="no route")
    found = audited(world)
    assert found.unreachable
    assert not found.drifted
    assert [f.detail for f in found.findings if f.host == AGENTS[0]] == ["no route"]
    assert found.answers.failures == {AGENTS[0]: "no route"}


def test_a_host_that_drifted_is_not_called_ok_as_well(world: World) -> None:
    world.wipe(SERVERS[0])
    found = audited(world)
    assert found.drifted
    assert {f.drift for f in found.findings if f.host == SERVERS[0]} == {Drift.MISSING}


def test_a_host_of_two_playbooks_is_ok_only_when_both_are_content(world: World) -> None:
    world.apply(desired(servers=SERVERS[2:], agents=AGENTS[:1], name="other"))
    assert not audited(world).drifted
    world.wipe(AGENTS[0])
    assert Drift.OK not in {f.drift for f in audited(world).findings if f.host == AGENTS[0]}


def test_a_host_that_leaves_is_named_as_long_as_it_holds_anything(world: World) -> None:
    smaller = desired(servers=SERVERS[:1], agents=AGENTS[:1])
    world.fleet.trouble(AGENTS[1], unreachable="away")
    world.apply(smaller, wait=timedelta(0))
    world.fleet.heal(AGENTS[1])
    told = {(f.host, f.drift): f.detail for f in audited(world).findings}
    assert told[SERVERS[1], Drift.PREVIOUS].startswith("it has left, and still has key ")
    assert told[AGENTS[1], Drift.EXTRA_TRUST].startswith("it has left, and still trusts ")
    world.fleet.trouble(SERVERS[1], unreachable="away")
    told = {(f.host, f.drift): f.detail for f in audited(world).findings}
    assert told[SERVERS[1], Drift.UNREACHABLE] == "it has left, and may still hold what it was given: away"
    world.fleet.heal(SERVERS[1])
    world.apply(smaller)
    assert {f.drift for f in audited(world).findings} == {Drift.OK}


def test_an_audit_changes_neither_hosts_nor_ledger(world: World) -> None:
    before = dict(world.fleet.hosts), world.recorded
    world.fleet.trouble(AGENTS[0], unreachable="off")
    audited(world)
    assert (dict(world.fleet.hosts), world.recorded) == before


def test_hosts_are_reached_as_the_inventory_says(world: World) -> None:
    moved = replace(endpoint(SERVERS[0]), address="192.0.2.7")
    world.fleet.visits.clear()
    audit(
        {SERVERS[0]: moved},
        ledger=world.ledger,
        fleet=world.fleet,
        clock=world.clock,
        progress=Silent(),
    )
    assert {v.endpoint for v in world.fleet.visits if v.endpoint.host == SERVERS[0]} == {moved}
