"""What is told before a key is ended or a host is taken out."""

import pytest

from orchestrator.errors import UsageError
from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Origin, Policy
from orchestrator.views.farewells import before_ending, before_reinstall, before_removal
from orchestrator.views.screen import Grid
from tests.world import AGENTS, SERVERS, World, desired


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(desired(Policy.SHARED))
    return world


def said(body: tuple[str | Grid, ...]) -> str:
    lines = [part for part in body if isinstance(part, str)]
    cells = [str(cell) for part in body if isinstance(part, Grid) for row in part.rows for cell in row]
    return "\n".join((*lines, *cells))


def key_of(world: World, server: HostName) -> str:
    target = world.recorded.servers[server].target
    assert target is not None
    return target


def test_before_a_key_is_ended_its_holders_are_named(world: World) -> None:
    told = said(before_ending(world.recorded, key=key_of(world, SERVERS[0]), lost=False))
    assert "is active" in told
    assert f"it leaked: {', '.join(SERVERS)} will leave it" in told
    assert all(host in told for host in (*SERVERS, *AGENTS, "controller"))


def test_a_lost_key_is_replaced_by_the_usual_rules(world: World) -> None:
    told = said(before_ending(world.recorded, key=key_of(world, SERVERS[0]), lost=True))
    assert f"it is lost: {', '.join(SERVERS)} will get another key, and every agent has to prove" in told


def test_a_key_that_nobody_signs_with_costs_no_server(world: World) -> None:
    old = key_of(world, SERVERS[0])
    world.apply(desired(Policy.SHARED), new_key=True)
    told = said(before_ending(world.recorded, key=old, lost=False))
    assert "it leaked before it was removed" in told
    assert "no host is visited but agents that would believe it by its certificate" in told


def test_before_a_server_is_removed_those_that_share_its_key_are_named(world: World) -> None:
    told = said(before_removal(world.recorded, name=SERVERS[0], give_up=False))
    assert "all of it will be erased on the host" in told
    assert f"servers that share a key with it will get another: {', '.join(SERVERS[1:])}" in told


def test_before_a_server_is_given_up_its_keys_are_named_as_leaked(world: World) -> None:
    told = said(before_removal(world.recorded, name=SERVERS[0], give_up=True))
    assert "it will not be asked" in told
    assert "they end as leaked: key " in told


def test_an_agent_takes_no_private_key_with_it(world: World) -> None:
    told = said(before_removal(world.recorded, name=AGENTS[0], give_up=True))
    assert "leaked" not in told
    assert "share" not in told


def test_a_host_or_a_key_that_nobody_knows_is_an_error(world: World) -> None:
    with pytest.raises(UsageError, match="knows no host 'nowhere'"):
        before_removal(world.recorded, name="nowhere", give_up=False)
    with pytest.raises(UsageError, match="knows no key"):
        before_ending(world.recorded, key="none", lost=False)


def test_before_a_host_is_set_up_again_it_is_told_what_comes_back(world: World) -> None:
    told = said(before_reinstall(world.recorded, name=SERVERS[0]))
    assert f"{SERVERS[0]} gets key " in told
    assert "back, which its 3 agents trust" in told
    assert "gets its trust bundle again" in said(before_reinstall(world.recorded, name=AGENTS[0]))
    with pytest.raises(UsageError, match="no playbook that was applied has a host 'server-9'"):
        before_reinstall(world.recorded, name="server-9")


def test_before_a_host_is_set_up_again_it_is_told_that_its_own_key_is_lost() -> None:
    world = World()
    world.apply(desired(origin=Origin.SERVER))
    told = said(before_reinstall(world.recorded, name=SERVERS[0]))
    assert f"was on {SERVERS[0]} alone and is lost" in told
    assert "once its 3 agents have proven that" in told


def test_before_a_host_that_answers_is_given_up_it_is_said_that_it_could_be_erased(world: World) -> None:
    told = said(before_removal(world.recorded, name=SERVERS[0], give_up=True))
    assert f"keyrelay remove {SERVERS[0]} would erase all of it there" in told
    world.fleet.trouble(SERVERS[0], unreachable="off")
    world.apply(desired(Policy.SHARED), new_key=True)
    assert "would erase" not in said(before_removal(world.recorded, name=SERVERS[0], give_up=True))
