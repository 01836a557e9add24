"""Every edge, directly: what servers use now against what agents trust now."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import pytest

from orchestrator.errors import UsageError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Algorithm, generate
from orchestrator.operations.apply import apply
from orchestrator.operations.prove import Edge, prove
from orchestrator.policy.desired import Policy
from orchestrator.ports import Fleet
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lookup import name_of
from tests.fake_fleet import counting_random
from tests.world import AGENTS, SERVERS, Silent, World, desired

WANTED = desired(servers=SERVERS[:2], agents=AGENTS[:2])


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(WANTED)
    return world


def proven(world: World, fleet: Fleet | None = None) -> tuple[Edge, ...]:
    return prove(
        {},
        ledger=world.ledger,
        fleet=fleet or world.fleet,
        entropy=world.entropy,
        progress=Silent(),
    )


def key_name(world: World, server: HostName) -> str:
    target = world.recorded.servers[server].target
    assert target is not None
    return name_of(world.recorded.credentials[target])


def failing(edges: Sequence[Edge]) -> dict[tuple[HostName, HostName], tuple[bool, str]]:
    return {(e.server, e.agent): (e.asked, e.detail) for e in edges if not e.holds}


@dataclass(slots=True)
class Twisted:
    """A fleet whose outcomes are changed before anyone sees them."""

    fleet: Fleet
    twist: Callable[[rp.Outcome], rp.Outcome]

    def run(self, visits: Sequence[vs.Visit]) -> Iterator[rp.Outcome]:
        yield from map(self.twist, self.fleet.run(visits))


def test_without_a_playbook_there_is_nothing_to_prove() -> None:
    with pytest.raises(UsageError, match="nothing was applied yet"):
        proven(World())


def test_every_edge_of_a_settled_fleet_holds(world: World) -> None:
    edges = proven(world)
    assert [(e.server, e.agent) for e in edges] == [(s, a) for s in SERVERS[:2] for a in AGENTS[:2]]
    assert all(e.holds and e.asked and e.detail == "valid" for e in edges)


def test_proving_changes_nothing(world: World) -> None:
    before = dict(world.fleet.hosts), world.recorded
    proven(world)
    assert (dict(world.fleet.hosts), world.recorded) == before


def test_a_server_that_cannot_be_reached_leaves_its_edges_unknown(world: World) -> None:
    world.fleet.trouble(SERVERS[0], unreachable="no route")
    told = (False, "server-1: no route")
    assert failing(proven(world)) == {(SERVERS[0], a): told for a in AGENTS[:2]}


def test_a_server_without_a_key_breaks_its_edges(world: World) -> None:
    world.wipe(SERVERS[0])
    told = (True, "server-1: no credential is in use")
    assert failing(proven(world)) == {(SERVERS[0], a): told for a in AGENTS[:2]}


def test_a_server_that_signs_with_a_stolen_place_is_found_out(world: World) -> None:
    state = world.fleet.hosts[SERVERS[0]]
    private = generate(Algorithm.ED25519, random=counting_random("thief")).private
    folders = {n: replace(f, private_key=private) for n, f in state.credentials.items()}
    world.set_host(SERVERS[0], replace(state, credentials=folders))
    told = (True, "server-1: its signature over a fresh nonce does not verify with the key it should have")
    assert failing(proven(world)) == {(SERVERS[0], a): told for a in AGENTS[:2]}


def test_an_agent_that_cannot_be_reached_leaves_its_edges_unknown(world: World) -> None:
    world.fleet.trouble(AGENTS[0], unreachable="no route")
    told = (False, "agent-1: no route")
    assert failing(proven(world)) == {(s, AGENTS[0]): told for s in SERVERS[:2]}


def test_an_agent_without_a_bundle_breaks_its_edges(world: World) -> None:
    world.wipe(AGENTS[0])
    told = (True, "agent-1: no bundle is in use")
    assert failing(proven(world)) == {(s, AGENTS[0]): told for s in SERVERS[:2]}


def test_an_agent_that_distrusts_one_server_is_told_for_that_one(world: World) -> None:
    state = world.fleet.hosts[AGENTS[0]]
    assert state.bundle is not None
    kept = tuple(key for key in state.bundle.keys if SERVERS[0] not in key.servers)
    world.set_host(AGENTS[0], replace(state, bundle=replace(state.bundle, keys=kept)))
    (told,) = failing(proven(world)).items()
    trusts = f"untrusted: by the ledger it trusts {key_name(world, SERVERS[0])} for {SERVERS[0]}"
    assert told == ((SERVERS[0], AGENTS[0]), (True, trusts))


def test_an_agent_that_was_waived_is_told_as_such_with_the_key_it_trusts(world: World) -> None:
    trusted = key_name(world, SERVERS[0])
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(WANTED, new_key=True)
    world.eye.waived.add(AGENTS[0])
    agree = partial(apply, world.ports, WANTED, wait=timedelta(hours=1), agree=lambda _: True)
    agree(waive=[AGENTS[0]])
    world.fleet.heal(AGENTS[0])
    held, detail = failing(proven(world))[SERVERS[0], AGENTS[0]]
    assert held
    assert detail.startswith(f"untrusted: by the ledger it trusts {trusted} for {SERVERS[0]}")
    assert detail.endswith("nobody waits for it, it is waived")


def test_verdicts_that_are_missing_prove_nothing(world: World) -> None:
    def fewer(outcome: rp.Outcome) -> rp.Outcome:
        if isinstance(outcome, rp.Unchanged) and isinstance(outcome.reports[0], rp.Checked):
            return replace(outcome, reports=(replace(outcome.reports[0], verdicts=()),))
        return outcome

    edges = proven(world, Twisted(world.fleet, fewer))
    assert {detail for _, detail in failing(edges).values()} == {
        "agent-1: it did not answer what it was asked",
        "agent-2: it did not answer what it was asked",
    }


def test_an_answer_without_a_signature_proves_nothing(world: World) -> None:
    def mute(outcome: rp.Outcome) -> rp.Outcome:
        return replace(outcome, reports=()) if isinstance(outcome, rp.Unchanged) else outcome

    edges = proven(world, Twisted(world.fleet, mute))
    assert not any(edge.holds for edge in edges)
    assert all(edge.asked for edge in edges)


def test_more_than_a_hundred_servers_are_proven_in_several_visits() -> None:
    world = World()
    many = tuple(HostName(f"server-{n}") for n in range(1, 131))
    world.apply(desired(Policy.SHARED, servers=many, agents=AGENTS[:1]))
    world.fleet.visits.clear()
    edges = proven(world)
    assert len(edges) == 130
    assert all(edge.holds for edge in edges)
    checks = [o for v in world.fleet.visits for o in v.orders if isinstance(o, vs.Check)]
    assert [len(check.claims) for check in checks] == [100, 30]
