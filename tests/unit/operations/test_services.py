"""Services that go on with a key of their own, over hosts in memory: noticed before any agent is orphaned."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import generate
from orchestrator.keys.secret import Secret
from orchestrator.operations.compromise import end_key
from orchestrator.operations.prove import Edge, prove
from orchestrator.operations.remove import remove
from orchestrator.operations.rollouts import resume
from orchestrator.policy.desired import Desired, Policy
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.recorded import Credential
from tests.fake_fleet import counting_random
from tests.world import AGENTS, SERVERS, Silent, World, desired

SERVER, OTHER = SERVERS[:2]
LATER = timedelta(minutes=30)


def wanted(policy: Policy = Policy.PER_SERVER, **changes: object) -> Desired:
    commands = dict.fromkeys(SERVERS, "ask the service")
    return replace(desired(policy, prove_commands=commands), **changes)  # type: ignore[arg-type]  # Desired's own


@pytest.fixture
def world() -> World:
    """Every server has its first key, and its service signs with it."""
    world = World()
    assert world.apply(wanted()).complete
    return world


def key_of(world: World, server: HostName = SERVER) -> Secret:
    host = world.fleet.hosts[server]
    assert host.current is not None
    key = host.credentials[host.current].private_key
    assert key is not None
    return key


def used_by(world: World, server: HostName = SERVER) -> Credential:
    current = world.fleet.hosts[server].current
    return next(c for c in world.recorded.credentials.values() if c.id == current)


def thumbprint(credential: Credential) -> str:
    assert credential.public is not None
    return credential.public.thumbprint[:10]


def edges(world: World) -> list[Edge]:
    fleet, entropy = world.fleet, world.entropy
    return [
        edge
        for edge in prove({}, ledger=world.ledger, fleet=fleet, entropy=entropy, progress=Silent())
        if not edge.holds
    ]


@pytest.mark.parametrize("policy", list(Policy))
def test_a_service_that_keeps_its_key_takes_its_server_back_and_is_named_with_it(policy: Policy) -> None:
    world = World()
    world.apply(wanted(policy))
    old = used_by(world)
    world.fleet.trouble(SERVER, serves=key_of(world))

    applied = world.apply(wanted(policy), new_key=True)

    assert applied.result is not None
    reasons = {block.host: block.reason for block in applied.result.blocks}
    assert reasons[SERVER] == (
        f"after 60s the service still signs with key {thumbprint(old)}; back on key {thumbprint(old)}"
    )
    assert "1 of 3 went back: server-1" in applied.result.paused
    assert used_by(world) == old
    assert world.orphans() == []
    assert edges(world) == []


def test_a_service_is_given_the_time_that_the_playbook_allows(world: World) -> None:
    world.fleet.trouble(SERVER, serves=key_of(world))

    applied = world.apply(wanted(prove_within=timedelta(minutes=3)), new_key=True)

    assert applied.result is not None
    assert any(block.reason.startswith("after 180s ") for block in applied.result.blocks)


def test_a_service_with_its_own_old_key_keeps_it_from_being_dropped_until_it_follows(world: World) -> None:
    old = used_by(world)
    before = key_of(world)
    world.apply(wanted(), new_key=True, wait=timedelta(0))
    assert used_by(world) != old
    world.fleet.trouble(SERVER, serves=before)

    for _ in range(3):
        applied = world.apply(wanted(), wait=LATER)
        assert not applied.complete

    assert applied.result is not None
    reasons = {block.host: block.reason for block in applied.result.blocks}
    assert reasons[SERVER] == f"it still signs with {name_of(old)}, not with {name_of(used_by(world))}"
    assert old.id in world.fleet.hosts[SERVER].credentials
    assert world.orphans() == []
    world.fleet.heal(SERVER)
    assert world.apply(wanted(), wait=LATER).complete
    assert old.id not in world.fleet.hosts[SERVER].credentials


def test_a_proof_of_all_edges_names_the_service_and_the_key_it_really_uses(world: World) -> None:
    old = used_by(world)
    before = key_of(world)
    assert world.apply(wanted(), new_key=True, wait=LATER).complete
    assert edges(world) == []
    world.fleet.trouble(SERVER, serves=before)

    broken = edges(world)

    detail = f"{SERVER}: it still signs with {name_of(old)}, not with {name_of(used_by(world))}"
    assert [(edge.server, edge.agent) for edge in broken] == [(SERVER, agent) for agent in AGENTS]
    assert {(edge.asked, edge.detail) for edge in broken} == {(True, detail)}


def test_a_key_that_the_ledger_does_not_know_is_none_that_a_service_should_have(world: World) -> None:
    stranger = generate(wanted().key.algorithm, random=counting_random("stranger")).private
    world.fleet.trouble(SERVER, serves=stranger)

    assert {edge.detail for edge in edges(world)} == {
        f"{SERVER}: its signature over a fresh nonce does not verify with the key it should have"
    }


def test_a_service_that_goes_on_with_a_leaked_key_is_named_and_nobody_goes_on_believing_it(
    world: World,
) -> None:
    leaked = used_by(world)
    assert leaked.public is not None
    world.fleet.trouble(SERVER, serves=key_of(world))
    world.eye.leaked.add(leaked.public.spki_digest)

    ended = end_key(world.ports, leaked.public.thumbprint, lost=False, reason="stolen", wait=timedelta(0))

    reasons = {block.host: block.reason for block in ended.result.blocks}
    assert reasons[SERVER] == (
        f"after 60s the service still signs with key {thumbprint(leaked)}; "
        f"still on key {thumbprint(used_by(world))}"
    )
    assert used_by(world) != leaked
    assert not [agent for agent in AGENTS if leaked.public.spki_digest in world.trusted(agent, SERVER)]
    world.fleet.heal(SERVER)
    (rollout,) = (r for r in world.recorded.rollouts.values() if r.ended is None)
    assert resume(world.ports, rollout.id, wait=LATER).result.complete


def test_without_a_command_nobody_notices_which_is_what_it_is_for() -> None:
    world = World()
    world.apply(desired())
    world.fleet.trouble(SERVER, serves=key_of(world))

    world.apply(desired(), new_key=True, wait=timedelta(0))

    assert edges(world) == []


def test_only_the_command_has_changed_and_the_next_apply_takes_it_over(world: World) -> None:
    other = replace(wanted(), prove_commands=dict.fromkeys(SERVERS, "ask otherwise"))

    world.apply(other)
    edges(world)

    asked = [order for visit in world.fleet.visits for order in visit.orders if order.kind == "sign"]
    assert [order.prove.command for order in asked if order.prove][-3:] == ["ask otherwise"] * 3


def test_a_server_that_was_removed_is_asked_no_more(world: World) -> None:
    remove(world.ports, OTHER, wait=LATER, give_up=False)

    assert OTHER not in world.recorded.playbooks[wanted().playbook].prove_commands
