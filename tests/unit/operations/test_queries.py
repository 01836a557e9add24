"""What the ledger answers by itself."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import UsageError
from orchestrator.operations.queries import (
    CONTROLLER,
    Half,
    Holding,
    holders,
    holdings,
)
from orchestrator.policy.desired import Origin, Policy
from orchestrator.rotation.events import KeyMakingIntended, VisitsIntended
from orchestrator.rotation.lookup import credential_named, rollout_named
from orchestrator.rotation.recorded import Evidence, Installed, Intent, Recorded, TrustLine
from orchestrator.rotation.visits import CredentialId
from tests.unit.rotation.chronicle import after
from tests.world import AGENTS, SERVERS, World, desired

WANTED = desired(servers=SERVERS[:2], agents=AGENTS[:2])


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(WANTED)
    return world


def target(recorded: Recorded, number: int = 0) -> CredentialId:
    wanted = recorded.servers[SERVERS[number]].target
    assert wanted is not None
    return wanted


def told(found: tuple[Holding, ...]) -> list[tuple[str, str, str]]:
    return [(h.host, h.half, h.standing) for h in found]


def test_a_key_in_use_is_held_by_its_server_the_vault_and_the_agents(world: World) -> None:
    key = world.recorded.credentials[target(world.recorded)].public
    assert key is not None
    found = holders(world.recorded, key.thumbprint[:12])
    assert told(found) == [
        (CONTROLLER, Half.PRIVATE, "vault"),
        (SERVERS[0], Half.PRIVATE, "active"),
        (AGENTS[0], Half.PUBLIC, "trusted for server-1"),
        (AGENTS[1], Half.PUBLIC, "trusted for server-1"),
    ]
    assert {h.evidence for h in found} == {Evidence.REPORTED}
    assert all(h.since is not None for h in found)


def test_nobody_holds_a_key_that_was_handed_over(world: World) -> None:
    old = target(world.recorded)
    world.apply(WANTED, new_key=True)
    assert holders(world.recorded, old) == ()


def test_a_shared_key_is_trusted_for_each_of_its_servers() -> None:
    world = World()
    world.apply(desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:1]))
    found = holders(world.recorded, target(world.recorded))
    assert told(found)[-2:] == [
        (AGENTS[0], Half.PUBLIC, "trusted for server-1"),
        (AGENTS[0], Half.PUBLIC, "trusted for server-2"),
    ]


def test_what_a_visit_may_have_brought_counts_as_held(world: World) -> None:
    other = target(world.recorded, 1)
    line = TrustLine(server=SERVERS[1], credential=other)
    bundle = Installed(position=world.recorded.position, digest="d", content="c", lines=(line,))
    newcomer = AGENTS[2]
    recorded = after(
        world.recorded,
        VisitsIntended(
            intents=(Intent(host=SERVERS[0], stages=(other,)), Intent(host=newcomer, bundle=bundle))
        ),
    )
    unsure = [h for h in holders(recorded, other) if h.evidence is Evidence.INTENDED]
    assert [(h.host, h.half, h.standing, h.since) for h in unsure] == [
        (SERVERS[0], Half.PRIVATE, "not known", None),
        (newcomer, Half.PUBLIC, "trusted for server-2", None),
    ]


def test_a_line_that_an_agent_has_and_may_get_again_is_told_once(world: World) -> None:
    installed = world.recorded.agents[AGENTS[0]].installed
    assert installed is not None
    recorded = after(world.recorded, VisitsIntended(intents=(Intent(host=AGENTS[0], bundle=installed),)))
    assert holdings(recorded, AGENTS[0]) == holdings(world.recorded, AGENTS[0])


def test_a_host_holds_what_it_holds_in_both_roles(world: World) -> None:
    assert told(holdings(world.recorded, SERVERS[0])) == [(SERVERS[0], Half.PRIVATE, "active")]
    assert len(holdings(world.recorded, AGENTS[0])) == 2
    assert {h.half for h in holdings(world.recorded, CONTROLLER)} == {Half.PRIVATE}
    assert len(holdings(world.recorded, CONTROLLER)) == 2


def test_a_key_made_on_its_server_is_not_held_by_the_controller() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1], origin=Origin.SERVER))
    assert holdings(world.recorded, CONTROLLER) == ()


def test_a_key_that_is_about_to_be_made_counts_as_held() -> None:
    world = World()
    world.fleet.trouble(SERVERS[0], unreachable="off")
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1], origin=Origin.SERVER))
    intended = KeyMakingIntended(credential=target(world.recorded))
    (holding,) = holdings(after(world.recorded, intended), CONTROLLER)
    assert holding.evidence is Evidence.INTENDED


def test_a_host_that_is_known_and_holds_nothing_holds_nothing() -> None:
    world = World()
    world.fleet.trouble(SERVERS[0], unreachable="off")
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    assert holdings(world.recorded, SERVERS[0]) == ()


def test_a_host_that_nobody_knows_is_an_error(world: World) -> None:
    with pytest.raises(UsageError, match="knows no host 'elsewhere'"):
        holdings(world.recorded, "elsewhere")


def test_a_key_is_named_by_any_unambiguous_beginning(world: World) -> None:
    wanted = world.recorded.credentials[target(world.recorded)]
    assert wanted.public is not None
    for name in (wanted.id, wanted.id[:16], wanted.public.thumbprint, wanted.public.thumbprint[:12]):
        assert credential_named(world.recorded, name) is wanted


def test_an_ambiguous_beginning_is_an_error(world: World) -> None:
    one = world.recorded.credentials[target(world.recorded)]
    names = (CredentialId("ab1"), CredentialId("ab2"))
    alike = replace(world.recorded, credentials={name: replace(one, id=name) for name in names})
    with pytest.raises(UsageError, match="2 keys begin with 'ab'"):
        credential_named(alike, "ab")


def test_an_unknown_beginning_is_an_error(world: World) -> None:
    with pytest.raises(UsageError, match="knows no key"):
        credential_named(world.recorded, "!")


def test_an_empty_name_is_never_a_match() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    with pytest.raises(UsageError, match="an empty text names no key"):
        credential_named(world.recorded, "")
    with pytest.raises(UsageError, match="an empty text names no rollout"):
        rollout_named(world.recorded, "")


def test_a_rollout_is_named_by_any_unambiguous_beginning(world: World) -> None:
    world.apply(WANTED, new_key=True, wait=timedelta(0))
    for rollout in world.recorded.rollouts.values():
        assert rollout_named(world.recorded, rollout.id) is rollout
    with pytest.raises(UsageError, match="no rollout begins with 'zz'"):
        rollout_named(world.recorded, "zz")
