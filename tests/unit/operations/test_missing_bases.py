"""A base that is not mounted: what lies in it is out of sight, and the services that loaded it sign on."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import apply
from orchestrator.operations.compromise import end_key
from orchestrator.operations.handover import Result
from orchestrator.operations.reinstall import reinstall
from orchestrator.operations.remove import remove
from orchestrator.operations.rollouts import resume, revert
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import Desired, Origin, Policy, RolloutSpec, Share
from orchestrator.rotation.recorded import Credential, Rollout
from tests.world import AGENTS, SERVERS, World, desired, endpoint

SERVER, OTHER, LAST = SERVERS
HOUR = timedelta(hours=1)
IN_WAVES = RolloutSpec(soak=timedelta(minutes=10), waves=(Share(number=1), Share(number=100, percent=True)))
MADE_THERE = desired(origin=Origin.SERVER, rollout=RolloutSpec(soak=timedelta(0)))
IN_VAULT = desired(rollout=IN_WAVES)


def world_of(wanted: Desired) -> World:
    world = World()
    world.apply(wanted)
    return world


def key_of(world: World, server: HostName) -> Credential:
    return next(
        one
        for one in world.recorded.credentials.values()
        if one.public is not None and one.public.spki_digest == world.live_key(server)
    )


def thumbprint(world: World, server: HostName) -> str:
    public = key_of(world, server).public
    assert public is not None
    return public.thumbprint


def watches(world: World) -> Result | None:
    return watch_once(world.ports, world.recorded.playbooks[MADE_THERE.playbook]).result


def removes_an_agent(world: World) -> Result | None:
    ((_, result),) = remove(world.ports, AGENTS[2], wait=HOUR, give_up=False).results
    return result


def ends_another_key(world: World) -> Result | None:
    return end_key(world.ports, thumbprint(world, OTHER), lost=False, reason="it leaked", wait=HOUR).result


def reinstalls_another_server(world: World) -> Result | None:
    world.wipe(OTHER)
    ((_, result),) = reinstall(world.ports, OTHER, endpoint(OTHER), wait=HOUR).results
    return result


@pytest.mark.parametrize("does", [watches, removes_an_agent, ends_another_key, reinstalls_another_server])
def test_no_run_makes_a_new_key_for_a_server_whose_base_is_away(
    does: Callable[[World], Result | None],
) -> None:
    world = world_of(MADE_THERE)
    if does is ends_another_key:
        world.eye.leaked.add(str(world.live_key(OTHER)))
    target = world.recorded.servers[SERVER].target
    world.base_goes(SERVER)

    result = does(world)
    world.clock.wait_until(world.clock.now() + HOUR)

    assert result is not None
    (block,) = [one for one in result.blocks if one.host == SERVER]
    assert "lost the key in use" in block.reason
    assert "keyrelay reinstall server-1" in block.reason
    assert world.recorded.servers[SERVER].target == target
    assert world.live_key(SERVER) is None
    does_again = watches(world)
    assert does_again is not None
    assert not does_again.complete

    world.base_comes_back(SERVER)
    assert world.orphans() == []
    assert watch_once(world.ports, world.recorded.playbooks[MADE_THERE.playbook]).complete
    assert world.recorded.servers[SERVER].target == target


def test_a_watch_renews_what_is_due_on_other_servers_meanwhile() -> None:
    world = world_of(MADE_THERE)
    world.base_goes(SERVER)
    before = {server: world.live_key(server) for server in (OTHER, LAST)}
    world.clock.wait_until(world.clock.now() + timedelta(days=244))

    watches(world)
    world.clock.wait_until(world.clock.now() + HOUR)
    watches(world)

    assert all(world.live_key(server) != key for server, key in before.items())
    world.base_comes_back(SERVER)
    assert world.orphans() == []


def test_a_server_that_shares_its_key_gets_it_back_and_the_next_one_after_the_others() -> None:
    shared = desired(Policy.SHARED, rollout=RolloutSpec(soak=timedelta(0)))
    world = world_of(shared)
    before = world.live_key(SERVER)
    world.wipe(SERVER)
    world.clock.wait_until(world.clock.now() + timedelta(days=244))

    watch_once(world.ports, shared)
    assert world.live_key(SERVER) == before
    for _ in range(3):
        world.clock.wait_until(world.clock.now() + HOUR)
        applied = watch_once(world.ports, shared)

    assert applied.complete
    assert len(world.keys_in_use()) == 1
    assert world.live_key(SERVER) != before


def under_way(world: World) -> Rollout:
    """A rollout to keys in the vault, whose second wave waits with its first keys."""
    world.apply(IN_VAULT, wait=timedelta(seconds=1))
    rollout = world.recorded.running(IN_VAULT.playbook)
    assert rollout is not None
    return rollout


def test_a_key_that_is_out_of_sight_in_the_middle_of_a_rollout_is_trusted_on() -> None:
    world = world_of(MADE_THERE)
    under_way(world)
    old = world.live_key(OTHER)
    world.base_goes(OTHER)

    applied = apply(world.ports, IN_VAULT, wait=HOUR, agree=lambda _: True)
    world.clock.wait_until(world.clock.now() + HOUR)
    applied = apply(world.ports, IN_VAULT, wait=HOUR, agree=lambda _: True)

    assert applied.result is not None
    (block,) = applied.result.blocks
    assert block.host == OTHER
    assert "keyrelay reinstall server-2" in block.reason
    assert all(old in world.trusted(agent, OTHER) for agent in AGENTS)

    world.base_comes_back(OTHER)
    assert world.live_key(OTHER) == old
    assert world.orphans() == []
    assert world.apply(IN_VAULT).complete


@pytest.mark.parametrize("server", [SERVER, OTHER], ids=["has switched", "is yet to switch"])
def test_a_server_whose_next_key_is_out_of_sight_too_is_left_as_it_is_and_named(server: HostName) -> None:
    in_waves = desired(origin=Origin.SERVER, rollout=IN_WAVES)
    world = world_of(in_waves)
    world.apply(in_waves, new_key=True, wait=timedelta(seconds=1))
    world.base_goes(server)

    result = watch_once(world.ports, in_waves).result

    assert result is not None
    (reason,) = [block.reason for block in result.blocks if block.host == server]
    assert f"keyrelay reinstall {server}" in reason
    assert not world.fleet.hosts[server].credentials
    world.base_comes_back(server)
    assert world.orphans() == []
    assert world.apply(in_waves).complete


def test_a_person_who_says_that_the_host_was_set_up_anew_ends_the_wait() -> None:
    world = world_of(MADE_THERE)
    under_way(world)
    world.wipe(OTHER)
    apply(world.ports, IN_VAULT, wait=HOUR, agree=lambda _: True)
    assert world.recorded.running(IN_VAULT.playbook) is not None

    assert reinstall(world.ports, OTHER, endpoint(OTHER), wait=HOUR).complete
    assert world.orphans() == []
    assert world.apply(IN_VAULT).result is None


def test_a_shared_key_that_one_wiped_server_had_is_dropped_once_a_person_said_that_it_was_set_up_anew() -> (
    None
):
    shared = desired(Policy.SHARED, rollout=IN_WAVES)
    world = world_of(shared)
    world.apply(shared, new_key=True, wait=timedelta(seconds=1))
    world.wipe(OTHER)
    assert not apply(world.ports, shared, wait=HOUR, agree=lambda _: True).complete

    found = reinstall(world.ports, OTHER, endpoint(OTHER), wait=HOUR)
    assert (found.complete, found.lost) == (True, ())
    assert world.orphans() == []


def test_a_rollout_that_a_person_resumes_names_the_server_and_strands_nobody() -> None:
    world = world_of(MADE_THERE)
    rollout = under_way(world)
    world.base_goes(OTHER)

    result = resume(world.ports, rollout.id, wait=HOUR).result
    world.clock.wait_until(world.clock.now() + HOUR)

    assert [block.host for block in result.blocks] == [OTHER]
    world.base_comes_back(OTHER)
    assert world.orphans() == []
    assert world.apply(IN_VAULT).complete


def test_a_rollout_that_a_person_takes_back_strands_nobody() -> None:
    world = world_of(MADE_THERE)
    rollout = under_way(world)
    world.base_goes(OTHER)

    result = revert(world.ports, rollout.id, wait=HOUR).result
    world.clock.wait_until(world.clock.now() + HOUR)

    assert [block.host for block in result.blocks] == [OTHER]
    assert "lost the key in use" in result.blocks[0].reason
    world.base_comes_back(OTHER)
    assert world.orphans() == []
    assert world.apply(IN_VAULT).complete


SOAKS_NOT = RolloutSpec(soak=timedelta(0))
SHARED = desired(Policy.SHARED, rollout=SOAKS_NOT)
DELEGATED = desired(Policy.DELEGATED, origin=Origin.SERVER, rollout=SOAKS_NOT)
DELEGATED_IN_VAULT = desired(Policy.DELEGATED, rollout=SOAKS_NOT)


def agrees_to(world: World, wanted: Desired) -> str:
    """A person applies; why the server that is out of sight is not gone on with, empty where it is."""
    try:
        applied = apply(world.ports, wanted, wait=HOUR, agree=lambda _: True)
    except RefusedError as error:
        return error.message
    world.clock.wait_until(world.clock.now() + HOUR)
    assert applied.result is not None
    return " ".join(block.reason for block in applied.result.blocks)


@pytest.mark.parametrize("then", [MADE_THERE, IN_VAULT, SHARED])
@pytest.mark.parametrize("first", [DELEGATED, DELEGATED_IN_VAULT])
def test_a_key_that_the_issuer_vouches_for_is_believed_on_when_the_policy_changes_while_it_is_out_of_sight(
    first: Desired, then: Desired
) -> None:
    world = world_of(first)
    old = world.live_key(SERVER)
    world.base_goes(SERVER)
    assert agrees_to(world, DELEGATED if first is DELEGATED_IN_VAULT else DELEGATED_IN_VAULT) == ""
    assert "keyrelay reinstall server-1" in agrees_to(world, then)

    world.base_comes_back(SERVER)
    assert world.live_key(SERVER) == old
    assert world.orphans() == []
    assert world.apply(then).complete


def test_a_key_that_the_issuer_vouches_for_counts_until_its_certificate_has_ended() -> None:
    world = world_of(DELEGATED)
    world.base_goes(SERVER)
    assert agrees_to(world, DELEGATED_IN_VAULT) == ""
    del world.eye.away[SERVER]
    world.eye.look("once its disk was thrown away")
    world.clock.wait_until(world.clock.now() + timedelta(days=365 + 30))
    assert agrees_to(world, SHARED) == ""
    assert not world.recorded.servers[SERVER].missing


@pytest.mark.parametrize("middle", [MADE_THERE, IN_VAULT, DELEGATED, DELEGATED_IN_VAULT])
@pytest.mark.parametrize("server", [SERVER, OTHER], ids=["has switched", "is yet to switch"])
def test_a_base_that_goes_in_the_middle_of_a_change_of_policy_and_back_strands_nobody(
    middle: Desired, server: HostName
) -> None:
    world = world_of(SHARED)
    in_waves = replace(middle, rollout=IN_WAVES)
    world.apply(in_waves, wait=timedelta(seconds=1))
    world.base_goes(server)
    told = [agrees_to(world, wanted) for wanted in (in_waves, SHARED, SHARED)]
    assert told[0]

    if server in world.eye.away:
        world.base_comes_back(server)
    assert world.orphans() == []
    assert world.apply(SHARED).complete


def test_an_agent_that_joins_learns_the_key_that_is_out_of_sight() -> None:
    few = replace(desired(origin=Origin.SERVER, agents=AGENTS[:2]), rollout=RolloutSpec(soak=timedelta(0)))
    world = world_of(few)
    old = world.live_key(SERVER)
    world.base_goes(SERVER)
    with pytest.raises(RefusedError, match="lost the key in use"):
        apply(world.ports, MADE_THERE, wait=HOUR, agree=lambda _: True)
    world.base_comes_back(SERVER)
    assert world.apply(MADE_THERE).complete
    assert old in world.trusted(AGENTS[2], SERVER)


def test_a_server_that_leaves_while_its_base_is_away_is_not_called_clean() -> None:
    world = world_of(MADE_THERE)
    world.base_goes(SERVER)
    found = remove(world.ports, SERVER, wait=HOUR, give_up=False)
    assert not found.complete
    ((_, result),) = found.results
    assert [block.host for block in result.blocks] == [SERVER]
    assert "keyrelay compromise" in result.blocks[0].reason
