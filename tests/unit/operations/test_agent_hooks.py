"""Programs of agents that load their bundle when they start, and the hook that tells them of another one."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import apply
from orchestrator.operations.audit import audit
from orchestrator.operations.compromise import end_key
from orchestrator.operations.planning import prepare_to_change
from orchestrator.operations.prove import prove
from orchestrator.operations.queries import holders
from orchestrator.operations.reinstall import reinstall
from orchestrator.operations.remove import remove
from orchestrator.operations.rollouts import revert
from orchestrator.policy.desired import Policy, RolloutSpec, Share
from orchestrator.rotation.drift import Drift
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.visits import CredentialId, Trust
from tests.endings import assert_settled
from tests.world import AGENTS, SERVERS, Silent, World, desired, endpoint, with_agents

AGENT, SERVER = AGENTS[0], SERVERS[0]
HOOKS = dict.fromkeys(AGENTS, "reload it")
WANTED = desired(trusted_hooks=HOOKS)
LONG = timedelta(hours=2)


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(WANTED)
    return world


def target(world: World) -> CredentialId:
    found = world.recorded.servers[SERVER].target
    assert found is not None
    return found


def hooks_run(world: World, agent: HostName = AGENT) -> list[tuple[str, ...]]:
    """The hooks that came with each bundle of an agent."""
    orders = [order for v in world.fleet.visits if v.endpoint.host == agent for order in v.orders]
    return [tuple(hook.command for hook in order.hooks) for order in orders if isinstance(order, Trust)]


def test_no_server_switches_before_its_agents_programs_were_told(world: World) -> None:
    first = world.keys_in_use()
    world.fleet.trouble(AGENT, hook_fails="no such unit")

    applied = world.apply(WANTED, new_key=True)

    assert applied.result is not None
    (block,) = applied.result.blocks
    assert block.host == AGENT
    assert block.reason.endswith("is in use, but the hook exited 1: no such unit")
    assert world.keys_in_use() == first
    world.apply(WANTED)
    assert world.keys_in_use() == first
    world.fleet.heal(AGENT)
    assert world.apply(WANTED).complete
    assert not world.keys_in_use() & first
    assert world.orphans() == []


def test_a_key_that_was_dropped_counts_as_trusted_until_programs_were_told(world: World) -> None:
    old = target(world)
    world.apply(WANTED, new_key=True, wait=timedelta(minutes=10))
    world.fleet.trouble(AGENT, hook_fails="no such unit")

    for _ in range(2):
        assert not world.apply(WANTED, wait=LONG).complete

    assert world.fleet.hosts[AGENT].untold
    assert world.recorded.credentials[old].state is KeyState.RETIRED
    assert AGENT in {one.host for one in holders(world.recorded, old)}
    (change,) = (c for c in prepare_to_change(WANTED, world.ports).plan.changes if c.host == AGENT)
    assert "runs the hook that has yet to tell its programs of their bundle" in change.what
    world.fleet.heal(AGENT)
    assert world.apply(WANTED, wait=LONG).complete
    assert world.recorded.credentials[old].state is KeyState.REMOVED
    assert_settled(world, WANTED)


def test_a_visit_that_dies_before_its_hook_has_run_is_made_up_for(world: World) -> None:
    world.fleet.trouble(AGENT, breaks_at_hook=True)
    world.apply(WANTED, new_key=True)
    world.fleet.heal(AGENT)
    assert world.fleet.hosts[AGENT].untold
    assert_settled(world, WANTED)


def test_a_hook_that_is_due_when_nothing_else_is_runs_with_the_next_apply(world: World) -> None:
    world.set_host(AGENT, replace(world.fleet.hosts[AGENT], untold=True))
    (found,) = (
        one
        for one in audit(
            {}, ledger=world.ledger, fleet=world.fleet, clock=world.clock, progress=Silent()
        ).findings
        if one.drift is not Drift.OK
    )
    assert (found.host, found.drift) == (AGENT, Drift.MISMATCH)
    assert found.detail == "its hook has yet to run well: what listens may use an earlier bundle"

    applied = world.apply(WANTED)

    assert applied.complete
    (change,) = applied.prepared.plan.changes
    assert change.what == ("runs the hook that has yet to tell its programs of their bundle",)
    assert change.why == "its programs may use an earlier trust bundle"
    assert_settled(world, WANTED)


def test_an_edge_is_not_proven_while_programs_may_use_an_earlier_bundle(world: World) -> None:
    world.set_host(AGENT, replace(world.fleet.hosts[AGENT], untold=True))
    edges = prove({}, ledger=world.ledger, fleet=world.fleet, entropy=world.entropy, progress=Silent())
    assert {edge.agent for edge in edges if not edge.holds} == {AGENT}
    (why,) = {edge.detail for edge in edges if not edge.holds}
    assert why.endswith("has yet to run well")


def test_a_hook_that_the_playbook_names_no_more_is_due_no_longer(world: World) -> None:
    world.fleet.trouble(AGENT, hook_fails="no such unit")
    world.apply(WANTED, new_key=True)
    assert_settled(world, desired())
    assert not world.fleet.hosts[AGENT].untold


def test_without_hooks_nothing_is_asked_of_agents_beyond_their_bundle(world: World) -> None:
    world.fleet.visits.clear()
    world.apply(desired(), new_key=True)
    assert set(hooks_run(world)) == {()}


def test_a_hook_that_is_added_runs_with_the_next_bundle() -> None:
    world = World()
    world.apply(desired())
    world.fleet.visits.clear()
    assert world.apply(WANTED).complete
    assert hooks_run(world) == []
    world.apply(WANTED, new_key=True)
    assert set(hooks_run(world)) == {("reload it",)}


def test_an_agent_that_joins_proves_nothing_before_its_programs_were_told() -> None:
    world = World()
    world.apply(with_agents(WANTED, AGENTS[1:]))
    first = world.keys_in_use()
    world.fleet.trouble(AGENT, hook_fails="no such unit")
    assert not world.apply(WANTED, new_key=True).complete
    assert world.keys_in_use() == first
    world.fleet.heal(AGENT)
    assert world.apply(WANTED).complete
    assert world.orphans() == []


def leaves(world: World) -> None:
    assert world.apply(
        with_agents(desired(trusted_hooks=dict.fromkeys(AGENTS[1:], "reload it")), AGENTS[1:])
    ).complete


def is_removed(world: World) -> None:
    assert remove(world.ports, AGENT, wait=LONG, give_up=False).clean


@pytest.mark.parametrize("goes", [leaves, is_removed])
def test_an_agent_that_leaves_tells_its_programs_to_trust_nobody(
    world: World, goes: Callable[[World], None]
) -> None:
    world.fleet.visits.clear()
    goes(world)
    assert hooks_run(world) == [("reload it",)]
    assert world.trusted(AGENT, SERVER) == set()
    assert AGENT not in world.recorded.agents


def test_an_agent_that_leaves_is_listed_until_its_programs_were_told(world: World) -> None:
    world.fleet.trouble(AGENT, hook_fails="no such unit")
    removed = remove(world.ports, AGENT, wait=LONG, give_up=False)
    assert not removed.complete
    world.apply(world.recorded.playbooks[WANTED.playbook])
    assert AGENT in {one.host for one in holders(world.recorded, target(world))}
    world.fleet.heal(AGENT)
    assert world.apply(world.recorded.playbooks[WANTED.playbook]).complete
    assert AGENT not in world.recorded.agents
    assert hooks_run(world)[-1] == ("reload it",)


def test_an_agent_that_was_set_up_anew_tells_its_programs_of_their_bundle(world: World) -> None:
    world.wipe(AGENT)
    world.fleet.visits.clear()
    assert reinstall(world.ports, AGENT, endpoint(AGENT), wait=LONG).complete
    assert hooks_run(world) == [("reload it",)]
    assert world.orphans() == []


def test_programs_that_were_not_told_may_believe_a_leaked_key_and_are_listed(world: World) -> None:
    leaked = target(world)
    key = world.live_key(SERVER)
    public = world.recorded.credentials[leaked].public
    assert key is not None
    assert public is not None
    world.eye.leaked.add(key)
    world.fleet.trouble(AGENT, hook_fails="no such unit")

    ended = end_key(world.ports, public.thumbprint, lost=False, reason="stolen", wait=LONG)

    assert world.live_key(SERVER) not in {key, None}
    assert not ended.result.complete
    assert {one.host for one in holders(world.recorded, leaked) if one.host in AGENTS} == {AGENT}
    world.fleet.heal(AGENT)
    assert world.apply(WANTED, wait=LONG).complete
    assert world.recorded.credentials[leaked].state is KeyState.REMOVED
    assert world.orphans() == []


def test_a_server_goes_back_only_once_programs_were_told(world: World) -> None:
    waves = RolloutSpec(soak=timedelta(minutes=10), waves=(Share(number=1), Share(number=100, percent=True)))
    wanted = replace(WANTED, rollout=waves)
    world.apply(wanted)
    first = {server: world.live_key(server) for server in SERVERS}
    world.apply(wanted, new_key=True, wait=timedelta(0))
    assert world.live_key(SERVER) != first[SERVER]
    (running,) = (r for r in world.recorded.rollouts.values() if r.ended is None)
    world.fleet.trouble(AGENT, hook_fails="no such unit")
    stuck = revert(world.ports, running.id, wait=LONG)
    assert AGENT in {block.host for block in stuck.result.blocks}
    world.fleet.heal(AGENT)
    assert_settled(world, wanted)
    assert {server: world.live_key(server) for server in SERVERS} == first


@pytest.mark.parametrize("policy", list(Policy))
def test_a_policy_is_changed_only_once_programs_were_told(world: World, policy: Policy) -> None:
    wanted = desired(policy, trusted_hooks=HOOKS)
    world.fleet.trouble(AGENT, hook_fails="no such unit")
    world.apply(wanted, new_key=True, wait=LONG)
    world.fleet.heal(AGENT)
    assert_settled(world, wanted)


def test_an_agent_of_two_playbooks_runs_the_hooks_of_both_and_none_twice() -> None:
    world = World()
    first = desired(servers=SERVERS[:1], trusted_hooks=HOOKS)
    second = desired(servers=SERVERS[1:], name="other", trusted_hooks={AGENT: "tell", AGENTS[1]: "reload it"})
    world.apply(first)
    world.apply(second)
    assert hooks_run(world)[-1] == ("reload it", "tell")
    assert hooks_run(world, AGENTS[1])[-1] == ("reload it",)
    left = replace(with_agents(first, AGENTS[1:]), trusted_hooks=dict.fromkeys(AGENTS[1:], "reload it"))
    world.apply(left, wait=LONG)
    world.apply(second)
    assert hooks_run(world)[-1] == ("tell", "reload it")
    assert_settled(world, left, second)


def test_a_waived_agent_whose_programs_were_not_told_is_not_waited_for(world: World) -> None:
    world.fleet.trouble(AGENT, hook_fails="no such unit")
    first = world.keys_in_use()
    world.eye.waived.add(AGENT)
    applied = apply(world.ports, WANTED, wait=LONG, agree=lambda _: True, new_key=True, waive=[AGENT])
    assert applied.complete
    assert not world.keys_in_use() & first
    world.fleet.heal(AGENT)
    assert_settled(world, WANTED)
