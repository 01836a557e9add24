"""Waves, the failure budget, waivers, and a person's hand on a rollout, over hosts in memory."""

from dataclasses import replace
from datetime import timedelta
from itertools import count as counting

import pytest

from orchestrator.errors import RefusedError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import apply
from orchestrator.operations.rollouts import pause, resume, revert
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import Desired, Policy, Prove, RolloutSpec, Share
from orchestrator.rotation.holdups import Block
from orchestrator.rotation.lifecycle import KeyState, Step
from orchestrator.rotation.recorded import Rollout
from orchestrator.views.results import how_it_ended, result_data, standstill
from orchestrator.views.rollouts import rollout_answer
from tests.words import said, words_of
from tests.world import AGENTS, SERVERS, World, desired

SOAK = timedelta(minutes=10)
ONE_BY_ONE = RolloutSpec(soak=SOAK, waves=(Share(number=1), Share(number=2), Share(number=100, percent=True)))
HOOKS = dict.fromkeys(SERVERS, "systemctl reload it")


def in_waves(policy: Policy = Policy.PER_SERVER, spec: RolloutSpec = ONE_BY_ONE) -> Desired:
    return desired(policy, rollout=spec, hooks=HOOKS)


@pytest.fixture
def world() -> World:
    return World()


def running(world: World) -> Rollout:
    (rollout,) = (r for r in world.recorded.rollouts.values() if r.ended is None)
    return rollout


def switched(world: World, first: dict[HostName, str | None]) -> int:
    return sum(world.live_key(server) != first[server] for server in SERVERS)


def live(world: World) -> dict[HostName, str | None]:
    return {server: world.live_key(server) for server in SERVERS}


@pytest.mark.parametrize("policy", list(Policy))
def test_each_wave_soaks_before_the_next_one_switches(world: World, policy: Policy) -> None:
    world.apply(in_waves(policy))
    first = live(world)
    for count in (1, 2, 3):
        applied = world.apply(in_waves(policy), new_key=count == 1, wait=timedelta(0))
        assert applied.result is not None
        assert switched(world, first) == count
        assert {wait.step for wait in applied.result.waits} <= {Step.WAVE, Step.SOAK}
        world.clock.wait_until(world.clock.now() + SOAK)
    assert world.apply(in_waves(policy)).complete
    assert world.orphans() == []


def test_no_old_key_is_put_away_before_the_last_wave_has_soaked(world: World) -> None:
    world.apply(in_waves())
    world.apply(in_waves(), new_key=True, wait=timedelta(minutes=15))
    assert len(world.fleet.hosts[SERVERS[0]].credentials) == 2
    assert not world.fleet.hosts[SERVERS[0]].disarmed


def test_the_canarys_agents_verify_what_it_signs_after_the_switch(world: World) -> None:
    world.apply(in_waves())
    world.fleet.visits.clear()
    world.apply(in_waves(), new_key=True, wait=timedelta(0))
    checks = [v.endpoint.host for v in world.fleet.visits if any(o.kind == "check" for o in v.orders)]
    assert sorted(checks) == sorted(AGENTS)


def test_with_prove_direct_every_wave_is_verified(world: World) -> None:
    spec = replace(ONE_BY_ONE, prove=Prove.DIRECT)
    world.apply(in_waves(spec=spec))
    world.fleet.visits.clear()
    assert world.apply(in_waves(spec=spec), new_key=True).complete
    checks = [v for v in world.fleet.visits if any(o.kind == "check" for o in v.orders)]
    assert len(checks) == len(SERVERS) * len(AGENTS)


def test_a_canary_that_goes_back_pauses_the_rollout(world: World) -> None:
    world.apply(in_waves())
    first = live(world)
    world.fleet.trouble(SERVERS[0], hook_fails="no such unit")
    applied = world.apply(in_waves(), new_key=True)
    assert applied.result is not None
    assert "wave 1" in applied.result.paused
    assert SERVERS[0] in applied.result.paused
    assert live(world) == first
    again = world.apply(in_waves())
    assert again.result is not None
    assert again.result.visits == 0
    assert not again.complete
    world.fleet.heal(SERVERS[0])
    assert resume(world.ports, running(world).id, wait=timedelta(hours=2)).result.complete
    assert switched(world, first) == len(SERVERS)


def test_failures_below_the_budget_do_not_stop_the_others(world: World) -> None:
    spec = RolloutSpec(soak=SOAK, max_failures=Share(number=2))
    world.apply(in_waves(spec=spec))
    first = live(world)
    world.fleet.trouble(SERVERS[0], hook_fails="no such unit")
    applied = world.apply(in_waves(spec=spec), new_key=True)
    assert applied.result is not None
    assert not applied.result.paused
    assert switched(world, first) == 2
    world.fleet.heal(SERVERS[0])
    assert world.apply(in_waves(spec=spec)).complete


def test_a_hook_that_was_cut_short_runs_before_anything_else_is_believed(world: World) -> None:
    world.apply(in_waves())
    world.fleet.trouble(SERVERS[0], breaks_at_hook=True)
    world.apply(in_waves(), new_key=True)
    world.fleet.heal(SERVERS[0])
    assert world.fleet.hosts[SERVERS[0]].hook_pending
    world.fleet.visits.clear()
    assert world.apply(in_waves()).complete
    orders = [o.kind for v in world.fleet.visits if v.endpoint.host == SERVERS[0] for o in v.orders]
    assert [kind for kind in orders if kind in {"activate", "disarm"}] == ["activate", "disarm"]
    assert not any(host.hook_pending for host in world.fleet.hosts.values())


def test_a_hook_that_was_cut_short_and_fails_takes_the_server_back(world: World) -> None:
    world.apply(in_waves())
    first = live(world)
    world.fleet.trouble(SERVERS[0], breaks_at_hook=True)
    world.apply(in_waves(), new_key=True)
    world.fleet.heal(SERVERS[0])
    world.fleet.trouble(SERVERS[0], hook_fails="no such unit")
    applied = world.apply(in_waves())
    assert applied.result is not None
    assert "wave 1" in applied.result.paused
    assert live(world) == first


def test_a_lost_answer_is_no_failure(world: World) -> None:
    world.apply(in_waves())
    world.fleet.trouble(SERVERS[0], breaks_at_hook=True)
    applied = world.apply(in_waves(), new_key=True)
    assert applied.result is not None
    assert not applied.result.paused
    world.fleet.heal(SERVERS[0])
    assert world.apply(in_waves(), wait=timedelta(hours=2)).complete


def test_a_paused_rollout_does_nothing_until_it_is_resumed(world: World) -> None:
    world.apply(in_waves())
    first = live(world)
    world.apply(in_waves(), new_key=True, wait=timedelta(0))
    pause(world.ledger, running(world).id, clock=world.clock, reason="weekend")
    applied = world.apply(in_waves())
    assert applied.result is not None
    assert applied.result.paused == "weekend"
    assert switched(world, first) == 1
    with pytest.raises(RefusedError, match=r"paused already since .*: weekend"):
        pause(world.ledger, running(world).id, clock=world.clock, reason="again")
    assert resume(world.ports, running(world).id, wait=timedelta(hours=2)).result.complete


@pytest.mark.parametrize("waited", [0, 10, 20])
def test_a_rollout_can_be_taken_back_after_every_wave(world: World, waited: int) -> None:
    world.apply(in_waves())
    first = live(world)
    world.apply(in_waves(), new_key=True, wait=timedelta(minutes=waited))
    assert switched(world, first) == waited // 10 + 1
    result = revert(world.ports, running(world).id, wait=timedelta(hours=2)).result
    assert result.complete
    assert live(world) == first
    assert world.orphans() == []
    assert [c.state for c in world.recorded.credentials.values()].count(KeyState.REMOVED) == len(SERVERS)
    for agent in AGENTS:
        for server in SERVERS:
            assert world.trusted(agent, server) == {first[server]}


def test_a_policy_change_can_be_taken_back(world: World) -> None:
    world.apply(in_waves(Policy.SHARED))
    first = live(world)
    world.apply(in_waves(), wait=timedelta(0))
    assert revert(world.ports, running(world).id, wait=timedelta(hours=2)).result.complete
    assert live(world) == first
    assert world.recorded.playbooks[in_waves().playbook].policy is Policy.SHARED


def test_once_an_old_key_is_put_away_there_is_no_way_back(world: World) -> None:
    world.apply(in_waves())
    world.apply(in_waves(), new_key=True, wait=timedelta(minutes=31))
    with pytest.raises(RefusedError, match="no old key within reach"):
        revert(world.ports, running(world).id, wait=timedelta(0))


def until_an_old_key_is_put_away(world: World) -> None:
    """The controller is killed when server-1 has put its old key away, before it can write that down."""
    world.apply(in_waves())
    world.apply(in_waves(), new_key=True, wait=2 * SOAK)
    world.clock.wait_until(world.clock.now() + SOAK)
    for points in counting(1):
        world.apply_and_die(in_waves(), after=points)
        if world.fleet.hosts[SERVERS[0]].disarmed:
            break
    assert world.recorded.pending[SERVERS[0]].disarms


def test_a_server_that_may_have_put_its_old_key_away_is_asked_before_a_revert(world: World) -> None:
    until_an_old_key_is_put_away(world)
    world.fleet.heal(SERVERS[0])
    before = running(world)
    with pytest.raises(RefusedError, match="no old key within reach"):
        revert(world.ports, before.id, wait=timedelta(0))
    assert running(world) == before
    assert world.recorded.lease is None
    assert world.apply(in_waves()).complete


def test_a_rollout_is_not_taken_back_while_nobody_knows_whether_an_old_key_is_there(world: World) -> None:
    until_an_old_key_is_put_away(world)
    world.fleet.trouble(SERVERS[0], unreachable="off")
    with pytest.raises(
        RefusedError, match="server-1 may have put its old key away, and has not answered since"
    ):
        revert(world.ports, running(world).id, wait=timedelta(0))
    world.fleet.heal(SERVERS[0])
    assert world.apply(in_waves()).complete


def test_the_first_and_the_ended_rollout_cannot_be_taken_back(world: World) -> None:
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(in_waves())
    with pytest.raises(RefusedError, match="nothing was before it"):
        revert(world.ports, running(world).id, wait=timedelta(0))
    rollout = running(world)
    world.fleet.heal(AGENTS[0])
    world.apply(in_waves())
    with pytest.raises(RefusedError, match="has ended"):
        revert(world.ports, rollout.id, wait=timedelta(0))


def test_watch_says_of_a_change_of_policy_that_was_taken_back_that_it_was(world: World) -> None:
    world.apply(in_waves())
    shared = replace(in_waves(), policy=Policy.SHARED, scopes=desired(Policy.SHARED).scopes, digest="b" * 64)
    world.apply(shared, wait=timedelta(0))
    revert(world.ports, running(world).id, wait=timedelta(hours=2))
    with pytest.raises(RefusedError, match="taken back by a person"):
        watch_once(world.ports, shared)
    assert world.apply(shared).complete


def test_watch_does_not_go_forward_again_by_itself_after_a_revert(world: World) -> None:
    world.apply(in_waves())
    world.clock.wait_until(world.clock.now() + timedelta(days=244))
    world.apply(in_waves(), wait=timedelta(0))
    revert(world.ports, running(world).id, wait=timedelta(hours=2))
    with pytest.raises(RefusedError, match="taken back by a person"):
        watch_once(world.ports, in_waves())
    assert world.apply(in_waves()).complete


def test_a_waived_agent_is_not_waited_for_and_catches_up_later(world: World) -> None:
    world.apply(in_waves())
    first = live(world)
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.eye.waived.add(AGENTS[0])
    applied = apply(
        world.ports,
        in_waves(),
        wait=timedelta(hours=2),
        agree=lambda _: True,
        new_key=True,
        waive=[AGENTS[0]],
    )
    assert applied.result is not None
    assert not applied.result.blocks
    assert switched(world, first) == len(SERVERS)
    (rollout,) = (r for r in world.recorded.rollouts.values() if r.waived)
    assert rollout.ended is not None
    assert "will not believe server-1" in rollout.waived[AGENTS[0]]
    assert world.trusted(AGENTS[0], SERVERS[0]) == {first[SERVERS[0]]}
    world.fleet.heal(AGENTS[0])
    assert world.apply(in_waves()).complete
    assert world.orphans() == []


def test_a_revert_does_not_wait_for_an_agent_that_was_waived(world: World) -> None:
    spec = replace(ONE_BY_ONE, proof_age=timedelta(hours=1))
    world.apply(in_waves(spec=spec))
    first = live(world)
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.eye.waived.add(AGENTS[0])
    apply(
        world.ports,
        in_waves(spec=spec),
        wait=timedelta(0),
        agree=lambda _: True,
        new_key=True,
        waive=[AGENTS[0]],
    )
    world.clock.wait_until(world.clock.now() + timedelta(hours=2))
    revert(world.ports, running(world).id, wait=timedelta(hours=2))
    assert live(world) == first


def test_an_agent_that_nobody_waits_for_cannot_be_waived(world: World) -> None:
    world.apply(in_waves())
    with pytest.raises(UsageError, match="nothing waits for an agent"):
        apply(world.ports, in_waves(), wait=SOAK, agree=lambda _: True, waive=[AGENTS[0]])


def test_only_agents_of_the_playbook_can_be_waived(world: World) -> None:
    with pytest.raises(UsageError, match="no agent of playbook"):
        apply(world.ports, in_waves(), wait=SOAK, agree=lambda _: True, waive=[HostName("agent-9")])
    assert world.recorded.running(in_waves().playbook) is None


def test_an_agent_that_is_away_for_longer_than_the_playbook_waits_is_waived(world: World) -> None:
    spec = replace(ONE_BY_ONE, offline=timedelta(days=7))
    world.apply(in_waves(spec=spec))
    world.fleet.trouble(AGENTS[0], unreachable="off")
    applied = world.apply(in_waves(spec=spec), new_key=True)
    assert applied.result is not None
    assert [block.host for block in applied.result.blocks] == [AGENTS[0]]
    world.eye.waived.add(AGENTS[0])
    world.clock.wait_until(world.clock.now() + timedelta(days=7))
    applied = world.apply(in_waves(spec=spec), wait=timedelta(hours=2))
    assert applied.result is not None
    assert not applied.result.blocks


def test_a_host_that_answers_and_lets_nothing_be_changed_is_named_with_when_that_began(world: World) -> None:
    world.apply(in_waves())
    began = world.clock.now()
    world.fleet.trouble(AGENTS[0], refuses="no space left")
    told = [block for day in range(3) for block in blocks_of_a_watch(world, new_key=day < 2)]
    world.fleet.trouble(AGENTS[0], refuses=None, unreachable="off")
    told += blocks_of_a_watch(world)
    assert {(block.host, block.since) for block in told} == {(AGENTS[0], began)}
    assert {block.reason for block in told} == {"no space left", "off"}


def test_a_host_that_did_its_part_meanwhile_is_named_with_when_it_failed_again(world: World) -> None:
    world.apply(in_waves())
    world.fleet.trouble(AGENTS[0], refuses="no space left")
    blocks_of_a_watch(world, new_key=True)
    world.fleet.heal(AGENTS[0])
    assert blocks_of_a_watch(world) == ()
    world.fleet.trouble(AGENTS[0], refuses="no space left")
    failed_again = world.clock.now()
    assert [block.since for block in blocks_of_a_watch(world)] == [failed_again]


def test_an_agent_that_lets_nothing_be_changed_is_waived_when_one_that_is_away_would_be(world: World) -> None:
    spec = replace(ONE_BY_ONE, offline=timedelta(days=7))
    world.apply(in_waves(spec=spec))
    world.fleet.trouble(AGENTS[0], refuses="no space left")
    world.eye.waived.add(AGENTS[0])
    told = [blocks_of_a_watch(world, spec=spec, new_key=day == 0) for day in range(9)]
    assert [len(blocks) for blocks in told] == [1] * 7 + [0] * 2


def blocks_of_a_watch(
    world: World, *, spec: RolloutSpec = ONE_BY_ONE, new_key: bool = False
) -> tuple[Block, ...]:
    """Whom a run that waits for nothing names, a day after the one before."""
    applied = world.apply(in_waves(spec=spec), wait=timedelta(0), new_key=new_key)
    world.clock.wait_until(world.clock.now() + timedelta(days=1))
    assert applied.result is not None
    return applied.result.blocks


def test_a_proof_that_is_too_old_is_taken_again_before_the_next_wave(world: World) -> None:
    spec = replace(ONE_BY_ONE, soak=timedelta(hours=20), proof_age=timedelta(hours=24))
    world.apply(in_waves(spec=spec))
    world.apply(in_waves(spec=spec), new_key=True, wait=timedelta(0))
    world.clock.wait_until(world.clock.now() + timedelta(hours=30))
    world.fleet.trouble(AGENTS[0], unreachable="off")
    first = live(world)
    applied = world.apply(in_waves(spec=spec), wait=timedelta(0))
    assert applied.result is not None
    assert [block.host for block in applied.result.blocks] == [AGENTS[0]]
    assert live(world) == first
    world.fleet.heal(AGENTS[0])
    world.apply(in_waves(spec=spec), wait=timedelta(0))
    assert live(world) != first


def test_what_is_paused_in_retire_is_offered_no_way_back(world: World) -> None:
    wanted = desired(soak=timedelta(0))
    world.apply(wanted)
    world.apply(wanted, new_key=True, wait=timedelta(0))
    pause(world.ledger, running(world).id, clock=world.clock, reason="the weekend")
    paused = world.apply(wanted).result
    assert paused is not None
    assert how_it_ended(paused) == (
        "not finished: keyrelay rollout resume goes on from here; there is no way back"
    )
    assert result_data(paused)["revertible"] is False
    with pytest.raises(RefusedError, match="the retirement has begun") as refused:
        revert(world.ports, running(world).id, wait=timedelta(0))
    assert refused.value.hint == "It can only go forward: keyrelay rollout resume."


def test_what_is_paused_before_retire_may_be_taken_back(world: World) -> None:
    world.apply(in_waves())
    world.apply(in_waves(), new_key=True, wait=timedelta(0))
    pause(world.ledger, running(world).id, clock=world.clock, reason="the weekend")
    paused = world.apply(in_waves()).result
    assert paused is not None
    assert how_it_ended(paused).endswith("keyrelay rollout revert goes back")
    assert result_data(paused)["revertible"] is True


def test_who_waits_for_an_agent_is_told_what_it_would_cost_to_waive_it(world: World) -> None:
    world.apply(in_waves())
    for agent in AGENTS[:2]:
        world.fleet.trouble(agent, unreachable="off")
    blocked = world.apply(in_waves(), new_key=True).result
    assert blocked is not None
    cost = f"it will not believe {', '.join(SERVERS)} until it is reached again"
    assert blocked.costs == dict.fromkeys(AGENTS[:2], cost)
    assert [block["waiving_costs"] for block in result_data(blocked)["blocks"]] == [cost, cost]
    table = words_of(standstill(blocked))
    assert table.count(cost) == 1
    assert "keyrelay apply --waive" in table
    shown = rollout_answer(world.recorded, running(world), now=world.clock.now())
    assert cost in said(shown)
    assert [one["waiving_costs"] for one in shown.data["failing"]] == [cost, cost]

    waived = apply(
        world.ports, in_waves(), wait=timedelta(hours=2), agree=lambda _: True, waive=AGENTS[:1]
    ).result
    assert waived is not None
    assert list(waived.costs) == [AGENTS[1]]


def test_a_server_that_blocks_cannot_be_waived(world: World) -> None:
    world.apply(in_waves())
    world.fleet.trouble(SERVERS[0], unreachable="off")
    blocked = world.apply(in_waves(), new_key=True).result
    assert blocked is not None
    assert [block.host for block in blocked.blocks] == [SERVERS[0]]
    assert blocked.costs == {}


def test_who_pauses_a_second_time_is_told_since_when_and_how_to_go_on(world: World) -> None:
    world.apply(in_waves())
    world.apply(in_waves(), new_key=True, wait=timedelta(0))
    since = f"{world.clock.now():%Y-%m-%d %H:%M:%SZ}"
    paused = pause(world.ledger, running(world).id, clock=world.clock, reason="the weekend")
    assert f"paused since {since}" in said(rollout_answer(world.recorded, paused, now=world.clock.now()))
    world.clock.wait_until(world.clock.now() + SOAK)
    with pytest.raises(RefusedError, match=f"is paused already since {since}: the weekend") as refused:
        pause(world.ledger, paused.id, clock=world.clock, reason="again")
    assert "keyrelay rollout resume" in refused.value.hint
    assert resume(world.ports, paused.id, wait=timedelta(0)).result.paused == ""
    assert running(world).paused_since is None
