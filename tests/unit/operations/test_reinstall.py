"""A host that was wiped gets back what it had, and no agent is stranded without a word."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import RefusedError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import apply
from orchestrator.operations.planning import prepare_to_change
from orchestrator.operations.reinstall import Reinstalled, reinstall
from orchestrator.operations.restore import Request, restore
from orchestrator.policy.desired import Desired, Origin, Policy
from orchestrator.rotation.lifecycle import KeyState
from tests.homes import copied, go_on_with
from tests.world import AGENTS, SERVERS, World, desired, endpoint

SERVER = SERVERS[0]
IN_VAULT = desired()
MADE_THERE = desired(origin=Origin.SERVER)


def world_of(wanted: Desired) -> World:
    world = World()
    world.apply(wanted)
    return world


def again(world: World, host: str = SERVER, *, wait: timedelta = timedelta(hours=1)) -> Reinstalled:
    return reinstall(world.ports, host, endpoint(HostName(host)), wait=wait)


def refused(world: World, wanted: Desired, *, new_key: bool = False) -> str:
    """Why apply does not do it; nothing has changed then."""
    before = {host: world.fleet.hosts[host] for host in (*SERVERS, *AGENTS)}, world.recorded.rollouts
    with pytest.raises(RefusedError) as caught:
        apply(world.ports, wanted, wait=timedelta(0), agree=lambda _: True, new_key=new_key)
    assert (
        {host: world.fleet.hosts[host] for host in (*SERVERS, *AGENTS)},
        world.recorded.rollouts,
    ) == before
    assert "keyrelay reinstall server-1" in caught.value.hint
    return caught.value.message


def test_a_server_gets_its_key_back_from_the_vault_and_no_agent_notices() -> None:
    world = world_of(IN_VAULT)
    live, agents = world.live_key(SERVER), [world.fleet.hosts[agent] for agent in AGENTS]
    world.wipe(SERVER)

    found = again(world)

    assert (found.complete, found.lost) == (True, ())
    assert world.live_key(SERVER) == live
    assert [world.fleet.hosts[agent] for agent in AGENTS] == agents
    assert world.orphans() == []
    assert world.apply(IN_VAULT).result is None


def test_a_key_that_was_on_the_server_alone_is_lost_and_its_agents_get_the_next_one_first() -> None:
    world = world_of(MADE_THERE)
    live = world.live_key(SERVER)
    world.wipe(SERVER)

    found = again(world, wait=timedelta(0))
    assert [one.state for one in found.lost] == [KeyState.LOST]
    assert found.lost[0].ended_why == "server-1 was set up anew, and nobody else had it"
    assert world.live_key(SERVER) not in {live, None}
    assert world.orphans() == []

    assert world.apply(MADE_THERE).complete
    assert world.recorded.credentials[found.lost[0].id].state is KeyState.REMOVED


def test_a_server_waits_for_an_agent_that_is_away_and_uses_no_key_meanwhile() -> None:
    world = world_of(MADE_THERE)
    world.wipe(SERVER)
    world.fleet.trouble(AGENTS[1], unreachable="off")
    found = again(world)
    assert not found.complete
    assert world.live_key(SERVER) is None
    world.fleet.heal(AGENTS[1])
    assert world.apply(MADE_THERE).complete
    assert world.orphans() == []


def test_a_wiped_agent_gets_its_trust_again() -> None:
    world = world_of(IN_VAULT)
    world.wipe(AGENTS[0])
    assert again(world, AGENTS[0]).complete
    assert world.orphans() == []


def test_a_shared_key_that_other_servers_have_is_never_called_lost() -> None:
    shared = desired(Policy.SHARED)
    world = world_of(shared)
    for name in list(world.vault.kept):
        if name != "issuer":
            world.vault.destroy(name)
    world.wipe(SERVER)
    found = again(world)
    assert found.lost == ()
    assert world.orphans() == []


def test_the_naive_way_is_refused_with_the_number_of_agents_it_strands() -> None:
    world = world_of(MADE_THERE)
    world.wipe(SERVER)
    assert refused(world, MADE_THERE) == (
        "server-1 lost the key in use: a new one strands the 3 agents that trust it, "
        "until each has the new one"
    )


def test_a_new_key_for_a_wiped_server_is_refused_though_the_vault_has_the_old_one() -> None:
    world = world_of(IN_VAULT)
    world.wipe(SERVER)
    assert "strands the 3 agents" in refused(world, IN_VAULT, new_key=True)
    (stranding,) = prepare_to_change(IN_VAULT, world.ports, new_key=True).plan.strandings
    assert (stranding.server, stranding.agents, stranding.kept) == (SERVER, AGENTS, True)
    assert world.apply(IN_VAULT).complete


def test_a_new_certificate_under_another_policy_is_refused_for_a_wiped_server_too() -> None:
    world = world_of(MADE_THERE)
    world.wipe(SERVER)
    assert "strands the 3 agents" in refused(world, desired(Policy.SHARED))


@pytest.mark.parametrize(
    "wanted", [IN_VAULT, MADE_THERE, desired(Policy.SHARED)], ids=["vault", "server", "shared"]
)
def test_a_new_key_is_refused_after_a_restore_too_though_the_backup_is_older_than_the_lost_key(
    wanted: Desired,
) -> None:
    world = world_of(wanted)
    older = copied(world)
    world.apply(wanted, new_key=True)
    world.wipe(SERVER)
    world.eye.takes_in_surveys()
    go_on_with(world, older, watched=False)
    assert restore(world.ports, Request(), agree=lambda effects: not effects.stranded) is not None
    go_on_with(world, older)

    assert "strands the 3 agents" in refused(world, wanted)
    assert again(world).complete
    assert world.orphans() == []
    assert world.apply(wanted).result is None


def test_a_server_that_still_signs_strands_nobody_with_a_new_key() -> None:
    world = world_of(MADE_THERE)
    assert prepare_to_change(MADE_THERE, world.ports, new_key=True).plan.strandings == ()


def test_a_server_that_never_signed_strands_nobody() -> None:
    world = World()
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(MADE_THERE)
    assert world.live_key(SERVER) is None
    world.wipe(SERVER)
    assert prepare_to_change(MADE_THERE, world.ports).plan.strandings == ()


def test_a_host_that_was_not_wiped_is_refused() -> None:
    world = world_of(IN_VAULT)
    with pytest.raises(RefusedError, match="server-1 was not wiped: it still has a key that it was given"):
        again(world)
    with pytest.raises(RefusedError, match="agent-1 was not wiped: it still has its trust bundle"):
        again(world, AGENTS[0])


def test_a_host_that_nobody_knows_or_reaches_is_refused() -> None:
    world = world_of(IN_VAULT)
    with pytest.raises(UsageError, match="no playbook that was applied has a host 'server-9'"):
        reinstall(world.ports, "server-9", endpoint(SERVER), wait=timedelta(0))
    world.fleet.trouble(SERVER, unreachable="off")
    with pytest.raises(RefusedError, match="server-1 cannot be asked what it holds: off"):
        again(world)


def test_a_host_that_is_reached_another_way_keeps_to_that() -> None:
    world = world_of(IN_VAULT)
    world.wipe(SERVER)
    there = replace(endpoint(SERVER), user="ops")
    assert reinstall(world.ports, SERVER, there, wait=timedelta(hours=1)).complete
    assert world.recorded.endpoints[SERVER] == there
