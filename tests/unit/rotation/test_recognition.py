"""Hosts that are elsewhere now, and ledgers that hosts have overtaken (the latter in ``test_plan``)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Desired
from tests.world import AGENTS, SERVERS, World, desired, endpoint


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(desired())
    return world


def moved(host: HostName, *, address: str = "127.0.0.1", base: str = "/etc/keyrelay") -> Desired:
    wanted = desired()
    there = replace(endpoint(host), address=address, base=base)
    return replace(wanted, endpoints={**wanted.endpoints, host: there})


@pytest.mark.parametrize("host", [SERVERS[0], AGENTS[0]])
def test_keys_in_another_base_are_not_lost_sight_of(world: World, host: HostName) -> None:
    with pytest.raises(RefusedError, match=f"{host} holds keys at 127.0.0.1:22 in /etc/keyrelay; .*/opt"):
        world.apply(moved(host, base="/opt"))


@pytest.mark.parametrize("host", [SERVERS[0], AGENTS[0]])
def test_a_host_with_a_new_address_is_known_again_by_what_it_holds(world: World, host: HostName) -> None:
    assert world.apply(moved(host, address="192.0.2.7")).complete
    assert world.recorded.endpoints[host].address == "192.0.2.7"


@pytest.mark.parametrize("host", [SERVERS[0], AGENTS[0]])
def test_another_machine_under_the_name_of_one_that_holds_keys_is_refused(
    world: World, host: HostName
) -> None:
    world.wipe(host)
    with pytest.raises(RefusedError, match=f"keyrelay remove {host}|where they are not"):
        world.apply(moved(host, address="192.0.2.7"))


def test_a_host_that_does_not_answer_at_its_new_address_is_waited_for(world: World) -> None:
    world.fleet.trouble(AGENTS[0], unreachable="off")
    applied = world.apply(moved(AGENTS[0], address="192.0.2.7"), wait=timedelta(0))
    assert list(applied.unreachable) == [AGENTS[0]]


def test_a_host_that_holds_nothing_may_be_anywhere() -> None:
    world = World()
    world.fleet.trouble(SERVERS[0], unreachable="off")
    world.apply(desired())
    world.fleet.heal(SERVERS[0])
    assert world.apply(moved(SERVERS[0], base="/opt")).complete
