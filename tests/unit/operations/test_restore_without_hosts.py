"""A home that is restored while hosts are away, lie, or joined since the backup."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import RefusedError, UsageError
from orchestrator.keys.bundle import Position
from orchestrator.operations.compromise import end_key
from orchestrator.operations.restore import Effects, Request, restore
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.visits import Fence
from tests.endings import assert_settled
from tests.homes import HomeCopy, copied, go_on_with
from tests.world import AGENTS, SERVERS, World, desired, endpoint

WANTED = desired(servers=SERVERS[:2], agents=AGENTS[:2])


def overtaken() -> tuple[World, HomeCopy]:
    """A fleet whose keys were all renewed after the copy was made."""
    world = World()
    world.apply(WANTED)
    copy = copied(world)
    world.apply(WANTED, new_key=True)
    world.eye.takes_in_surveys()
    go_on_with(world, copy, watched=False)
    return world, copy


def go_on(world: World, request: Request) -> Effects:
    effects = restore(world.ports, request, agree=lambda _: True)
    assert effects is not None
    return effects


def back(world: World, copy: HomeCopy) -> None:
    """The agent that was away answers again; what it trusts meanwhile is what nobody could ask it (S10)."""
    world.fleet.heal(AGENTS[0])
    world.eye.meddled.add(AGENTS[0])
    go_on_with(world, copy)


def test_a_host_that_does_not_answer_blocks_and_is_named_with_what_it_costs() -> None:
    world, _ = overtaken()
    world.fleet.trouble(AGENTS[0], unreachable="no route to host")
    before = world.recorded
    with pytest.raises(
        RefusedError, match=r"agent-1: no route to host \(without it keys that it alone remembers"
    ):
        go_on(world, Request())
    assert world.recorded == before


def test_an_agent_that_was_waived_is_met_when_it_is_back() -> None:
    world, copy = overtaken()
    world.fleet.trouble(AGENTS[0], unreachable="no route to host")
    effects = go_on(world, Request(waive=[AGENTS[0]]))
    assert (list(world.recorded.unmet), effects.stranded) == ([AGENTS[0]], ())
    back(world, copy)
    assert_settled(world, WANTED)
    assert not world.recorded.unmet


def test_a_key_that_only_a_waived_agent_remembers_as_removed_is_over_when_it_is_back() -> None:
    world, copy = overtaken()
    old = {c.id for c in world.recorded.credentials.values()}
    for host in (*SERVERS[:2], AGENTS[1]):
        state = world.fleet.hosts[host]
        world.fleet.hosts[host] = replace(state, ended=())
    world.fleet.trouble(AGENTS[0], unreachable="no route to host")
    go_on(world, Request(waive=[AGENTS[0]]))
    back(world, copy)
    assert_settled(world, WANTED)
    assert all(world.recorded.credentials[credential].over for credential in old)
    assert not any(credential.compromised for credential in world.recorded.credentials.values())


def test_agents_of_a_waived_server_with_a_newer_key_are_told_of_and_believe_it_again_later() -> None:
    world, copy = overtaken()
    world.fleet.trouble(SERVERS[0], unreachable="no route to host")
    effects = go_on(world, Request(waive=[SERVERS[0]]))
    assert {(one.agent, one.server) for one in effects.stranded} == {(a, SERVERS[0]) for a in AGENTS[:2]}
    world.eye.held = {edge for edge in world.eye.held if edge[1] != SERVERS[0]}
    live = world.live_key(SERVERS[0])
    assert live is not None
    world.eye.leaked.add(live)
    world.fleet.heal(SERVERS[0])
    go_on_with(world, copy, watched=False)
    assert_settled(world, WANTED)
    assert world.orphans() == []


def test_a_waived_server_is_listed_as_holding_the_newer_key_until_it_is_seen_again() -> None:
    world, copy = overtaken()
    live = world.live_key(SERVERS[0])
    world.fleet.trouble(SERVERS[0], unreachable="no route to host")
    go_on(world, Request(waive=[SERVERS[0]]))
    (newer,) = (c for c in world.recorded.credentials.values() if c.public and c.public.spki_digest == live)
    assert newer.public is not None
    for _ in range(2):
        ended = end_key(
            world.ports, newer.public.thumbprint, lost=False, reason="stolen", wait=timedelta(hours=1)
        )
        assert ended.credential.state is KeyState.COMPROMISED
        assert newer.id in world.recorded.may_hold(SERVERS[0])
        assert [block.host for block in ended.result.blocks] == [SERVERS[0]]
        assert {edge for edge in ended.broken if edge[0] == SERVERS[0]}
    world.eye.leaked.add(newer.public.spki_digest)
    world.eye.held = {edge for edge in world.eye.held if edge[1] != SERVERS[0]}
    world.fleet.heal(SERVERS[0])
    go_on_with(world, copy, watched=False)
    assert_settled(world, WANTED)
    assert world.orphans() == []


def test_a_host_that_claims_what_no_home_has_come_to_is_not_believed() -> None:
    world, _ = overtaken()
    state = world.fleet.hosts[AGENTS[0]]
    world.fleet.hosts[AGENTS[0]] = replace(state, fence=Fence(generation=2**40, counter=1))
    with pytest.raises(RefusedError, match="agent-1: it claims generation 1099511627776"):
        go_on(world, Request())
    with pytest.raises(UsageError, match="nobody waits for server-1"):
        go_on(world, Request(waive=[AGENTS[0], SERVERS[0]]))
    effects = go_on(world, Request(waive=[AGENTS[0]]))
    assert effects.opening.generation == 2


def test_a_host_that_claims_more_than_a_few_generations_is_believed_only_at_a_persons_word() -> None:
    world, _ = overtaken()
    state = world.fleet.hosts[AGENTS[0]]
    world.fleet.hosts[AGENTS[0]] = replace(state, fence=Fence(generation=1000, counter=1))
    with pytest.raises(RefusedError, match="agent-1: it claims generation 1000 and epoch 1, 999 ahead"):
        go_on(world, Request())
    effects = go_on(world, Request(believe=[AGENTS[0]]))
    assert effects.opening.generation == 1001


def test_generation_and_epoch_are_above_all_that_were_seen() -> None:
    world, _ = overtaken()
    state = world.fleet.hosts[AGENTS[0]]
    assert state.bundle is not None
    later = replace(state.bundle, position=Position(epoch=7, sequence=1))
    world.fleet.hosts[AGENTS[0]] = replace(state, bundle=later, fence=Fence(generation=5, counter=1))
    effects = go_on(world, Request())
    assert (effects.opening.generation, effects.opening.epoch) == (6, 8)
    assert all(host.fence is not None and host.fence.generation == 6 for host in world.fleet.hosts.values())


def test_hosts_that_joined_since_keep_their_trust_until_the_playbook_is_applied() -> None:
    world = World()
    world.apply(WANTED)
    copy = copied(world)
    everyone = desired(servers=SERVERS, agents=AGENTS)
    world.apply(everyone)
    world.eye.takes_in_surveys()
    go_on_with(world, copy, watched=False)
    with pytest.raises(
        RefusedError, match="listens to it, and neither the ledger nor the inventory says where"
    ):
        go_on(world, Request())
    joined = {host: endpoint(host) for host in (SERVERS[2], AGENTS[2])}
    effects = go_on(world, Request(endpoints=joined))
    assert effects.stranded == ()
    go_on_with(world, copy)
    assert_settled(world, everyone)


def test_what_is_declined_changes_nothing() -> None:
    world, _ = overtaken()
    before, hosts = world.recorded, dict(world.fleet.hosts)
    assert restore(world.ports, Request(), agree=lambda _: False) is None
    assert (world.recorded, world.fleet.hosts) == (before, hosts)


def test_a_restore_that_was_cut_short_writes_nothing_more_until_it_is_done_again() -> None:
    world, copy = overtaken()

    def agree_and_lose(_: Effects) -> bool:
        world.fleet.trouble(AGENTS[0], unreachable="no route to host")
        return True

    with pytest.raises(RefusedError, match="agent-1 answered at first and does not any more"):
        restore(world.ports, Request(), agree=agree_and_lose)
    stopped: Recorded = world.recorded
    assert "cut short" in stopped.stopped
    with pytest.raises(RefusedError, match="cut short"):
        world.apply(WANTED)
    world.fleet.heal(AGENTS[0])
    go_on(world, Request())
    go_on_with(world, copy)
    assert_settled(world, WANTED)
