"""Keys that leaked or are lost: nobody waits for them, and only they lose their protection."""

from datetime import timedelta
from functools import partial

import pytest

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.revocation import Reason
from orchestrator.operations.apply import apply
from orchestrator.operations.audit import audit
from orchestrator.operations.compromise import Ended, end_key
from orchestrator.operations.crl import sign_lists
from orchestrator.operations.due import Owed, Wants, due
from orchestrator.operations.rollouts import pause, revert
from orchestrator.policy.desired import Policy, RolloutSpec, Share
from orchestrator.rotation.lifecycle import KeyState, Phase
from orchestrator.views.keys import due_answer
from orchestrator.views.results import ended_answer
from orchestrator.views.rollouts import rollout_answer
from tests.endings import assert_settled
from tests.words import said
from tests.world import AGENTS, SERVERS, Silent, World, desired


@pytest.fixture
def world() -> World:
    return World()


def key_of(world: World, server: HostName) -> str:
    target = world.recorded.servers[server].target
    assert target is not None
    public = world.recorded.credentials[target].public
    assert public is not None
    return public.thumbprint


def end(world: World, key: str, *, lost: bool = False) -> Ended:
    leaked = next(c for c in world.recorded.credentials.values() if c.public and c.public.thumbprint == key)
    if not lost and leaked.public is not None:
        world.eye.leaked.add(leaked.public.spki_digest)
    return end_key(world.ports, key, lost=lost, reason="found on a train", wait=timedelta(0))


@pytest.mark.parametrize("policy", list(Policy))
def test_a_leaked_key_is_replaced_and_gone_without_any_wait(world: World, policy: Policy) -> None:
    world.apply(desired(policy))
    leaked = world.live_key(SERVERS[0])
    ended = end(world, key_of(world, SERVERS[0]))
    assert ended.result.complete
    assert ended.broken == ()
    assert ended.credential.state is KeyState.REMOVED
    assert leaked not in world.keys_in_use()
    for agent in AGENTS:
        assert leaked not in world.trusted(agent, SERVERS[0])
    assert world.orphans() == []
    assert world.clock.waits == [] or world.clock.waits[-1] <= world.clock.now()


def test_other_keys_are_left_alone(world: World) -> None:
    world.apply(desired())
    others = {server: world.live_key(server) for server in SERVERS[1:]}
    end(world, key_of(world, SERVERS[0]))
    assert {server: world.live_key(server) for server in SERVERS[1:]} == others


def test_a_dead_agent_keeps_no_server_on_a_leaked_key(world: World) -> None:
    world.apply(desired())
    leaked = world.live_key(SERVERS[0])
    world.fleet.trouble(AGENTS[0], unreachable="off")
    ended = end(world, key_of(world, SERVERS[0]))
    assert world.live_key(SERVERS[0]) not in {leaked, None}
    assert ended.broken == ((SERVERS[0], AGENTS[0]),)
    assert ended.credential.state is KeyState.COMPROMISED
    assert not ended.result.complete
    assert [block.host for block in ended.result.blocks] == [AGENTS[0]]
    world.fleet.heal(AGENTS[0])
    assert world.apply(desired()).complete
    assert world.recorded.credentials[ended.credential.id].state is KeyState.REMOVED


def test_agents_drop_a_leaked_key_even_if_its_server_is_dead(world: World) -> None:
    world.apply(desired())
    leaked = world.live_key(SERVERS[0])
    world.fleet.trouble(SERVERS[0], unreachable="off")
    ended = end(world, key_of(world, SERVERS[0]))
    for agent in AGENTS:
        assert leaked not in world.trusted(agent, SERVERS[0])
    assert [block.host for block in ended.result.blocks] == [SERVERS[0]]
    assert ended.broken == tuple((SERVERS[0], agent) for agent in AGENTS)
    world.fleet.heal(SERVERS[0])
    assert world.apply(desired()).complete
    assert world.orphans() == []


def test_no_server_goes_back_to_a_leaked_key(world: World) -> None:
    wanted = desired(hooks={SERVERS[0]: "systemctl reload it"})
    world.apply(wanted)
    leaked = world.live_key(SERVERS[0])
    world.fleet.trouble(SERVERS[0], hook_fails="no such unit")
    end(world, key_of(world, SERVERS[0]))
    assert world.live_key(SERVERS[0]) != leaked


def test_a_key_that_leaks_while_it_is_handed_over_is_dropped_and_the_old_one_kept(world: World) -> None:
    world.apply(desired())
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(desired(), new_key=True)
    incoming = key_of(world, SERVERS[0])
    first = world.live_key(SERVERS[0])
    end(world, incoming)
    assert world.live_key(SERVERS[0]) == first
    world.fleet.heal(AGENTS[0])
    assert world.apply(desired()).complete
    assert world.live_key(SERVERS[0]) != first
    assert world.orphans() == []


@pytest.mark.parametrize("lost", [False, True])
def test_a_leak_does_not_wait_for_a_paused_rollout_but_a_loss_does(world: World, *, lost: bool) -> None:
    waves = (Share(number=1), Share(number=100, percent=True))
    wanted = desired(rollout=RolloutSpec(soak=timedelta(minutes=10), waves=waves))
    world.apply(wanted)
    old, in_use = key_of(world, SERVERS[1]), world.live_key(SERVERS[1])
    world.apply(wanted, new_key=True, wait=timedelta(0))
    (running,) = (r for r in world.recorded.rollouts.values() if r.ended is None)
    pause(world.ledger, running.id, clock=world.clock, reason="the weekend")
    ended = end(world, old, lost=lost)
    assert ended.result.paused == "the weekend"
    assert (world.live_key(SERVERS[1]) == in_use) is lost


def test_a_leaked_key_goes_from_a_server_that_has_gone_to_another_playbook(world: World) -> None:
    moved, stays = SERVERS[0], SERVERS[1]
    shared = desired(Policy.SHARED, servers=(moved, stays))
    world.apply(shared)
    key = key_of(world, moved)
    world.fleet.trouble(moved, unreachable="off")
    world.apply(desired(Policy.SHARED, servers=(stays,)), wait=timedelta(0))
    world.apply(desired(servers=(moved,), name="other"))
    world.fleet.heal(moved)

    ended = end(world, key)

    assert [playbook for playbook, _ in ended.others] == ["other"]
    assert ended.complete
    assert ended.credential.id not in world.fleet.hosts[moved].credentials
    assert world.orphans() == []


def test_a_run_that_is_refused_keeps_a_leaked_key_on_no_server_of_another_playbook(world: World) -> None:
    moved, stays = SERVERS[0], SERVERS[1]
    world.apply(desired(Policy.SHARED, servers=(moved, stays), agents=AGENTS[:2]))
    key = key_of(world, moved)
    world.fleet.trouble(moved, unreachable="off")
    world.apply(desired(Policy.SHARED, servers=(stays,), agents=AGENTS[:2]), wait=timedelta(0))
    world.apply(desired(servers=(moved,), agents=AGENTS[2:], name="other"))
    world.fleet.heal(moved)
    for host in (stays, *AGENTS[:2]):
        world.fleet.trouble(host, skew=timedelta(hours=1))

    with pytest.raises(RefusedError, match="clock"):
        end(world, key)

    leaked = next(c.id for c in world.recorded.credentials.values() if c.compromised)
    assert leaked not in world.fleet.hosts[moved].credentials
    assert leaked in world.fleet.hosts[stays].credentials


def test_a_lost_key_is_handed_over_by_the_rules(world: World) -> None:
    world.apply(desired())
    world.wipe(SERVERS[0])
    ended = end(world, key_of(world, SERVERS[0]), lost=True)
    assert not ended.result.complete
    assert world.apply(desired(), wait=timedelta(hours=2)).complete
    assert world.recorded.credentials[ended.credential.id].state is KeyState.REMOVED


def test_a_key_that_is_gone_cannot_be_lost(world: World) -> None:
    world.apply(desired())
    key = key_of(world, SERVERS[0])
    world.apply(desired(), new_key=True)
    with pytest.raises(RefusedError, match="nobody holds"):
        end(world, key, lost=True)


def test_a_key_that_is_gone_may_have_leaked_before_and_no_host_is_visited_for_it(world: World) -> None:
    world.apply(desired())
    key = key_of(world, SERVERS[0])
    world.apply(desired(), new_key=True)
    in_use, visited = world.keys_in_use(), dict(world.fleet.hosts)

    ended = end(world, key)

    assert ended.complete
    assert ended.result.visits == 0
    assert (ended.credential.state, ended.credential.ended) == (KeyState.REMOVED, KeyState.COMPROMISED)
    assert (world.keys_in_use(), world.fleet.hosts) == (in_use, visited)
    assert "nobody holds it; compromised since" in said(ended_answer(ended))
    sign_lists(world.ledger, world.issuer, clock=world.clock, valid=timedelta(days=7))
    reasons = sorted(one.reason for one in world.recorded.revoked.values())
    assert reasons == sorted([Reason.KEY_COMPROMISE, Reason.SUPERSEDED, Reason.SUPERSEDED])
    assert world.apply(desired()).result is None


def test_what_was_said_of_a_key_first_is_what_the_ledger_keeps(world: World) -> None:
    world.apply(desired())
    world.fleet.trouble(AGENTS[0], unreachable="off")
    key = key_of(world, SERVERS[0])
    first = end(world, key)
    assert first.before == ""
    since = world.clock.now()
    again = end_key(world.ports, key, lost=False, reason="seen on a forum", wait=timedelta(0))
    assert again.before == f"compromised since {since:%Y-%m-%d %H:%M:%SZ}: found on a train"
    assert "it was said before to be compromised since" in said(ended_answer(again))


def test_nothing_goes_back_to_a_key_that_leaked(world: World) -> None:
    world.apply(desired())
    key = key_of(world, SERVERS[0])
    world.fleet.trouble(SERVERS[0], unreachable="off")
    end(world, key)
    world.fleet.heal(SERVERS[0])
    (running,) = (r for r in world.recorded.rollouts.values() if r.ended is None)
    with pytest.raises(RefusedError, match="a key it came from is compromised"):
        revert(world.ports, running.id, wait=timedelta(0))


def test_a_server_that_has_left_a_leaked_key_is_shown_as_switched_and_has_no_way_back(world: World) -> None:
    world.apply(desired())
    world.fleet.trouble(AGENTS[0], unreachable="off")
    end(world, key_of(world, SERVERS[0]))
    (running,) = (r for r in world.recorded.rollouts.values() if r.ended is None)
    shown = rollout_answer(world.recorded, running, now=world.clock.now())
    assert shown.data["phases"][SERVERS[0]] == Phase.RETIRE
    assert "it has left a leaked key without waiting" in said(shown)
    with pytest.raises(RefusedError, match=rf"{SERVERS[0]} has left key \S+ of \S+, which leaked") as refused:
        revert(world.ports, running.id, wait=timedelta(0))
    assert refused.value.hint.endswith("It can only go forward: keyrelay apply")


def test_a_key_that_leaked_cannot_be_called_lost_afterwards(world: World) -> None:
    world.apply(desired())
    key = key_of(world, SERVERS[0])
    world.fleet.trouble(SERVERS[0], unreachable="off")
    end(world, key)
    with pytest.raises(RefusedError, match=r"the key is compromised since .*: found on a train"):
        end_key(world.ports, key, lost=True, reason="really", wait=timedelta(0))


@pytest.mark.parametrize("policy", [Policy.PER_SERVER, Policy.SHARED, Policy.DELEGATED])
def test_a_leaked_key_of_a_waived_host_that_does_not_answer_is_named_with_all_that_breaks(
    world: World, policy: Policy
) -> None:
    """The host is a server and an agent of the other server; nobody waits for it as an agent."""
    away, other, agent = SERVERS[0], SERVERS[1], AGENTS[0]
    wanted = desired(policy, servers=(away, other), agents=(agent, away), listens={away: (other,)})
    world.apply(wanted)
    world.fleet.trouble(away, unreachable="no route to host")
    world.eye.waived.add(away)
    asked = partial(apply, world.ports, wanted, wait=timedelta(hours=1), agree=lambda _: True)
    asked(new_key=True)
    waived = asked(waive=[away])
    told = world.recorded.waived(wanted.playbook)[away]
    breaks = "none of its edges change" if policy is Policy.DELEGATED else f"it will not believe {other}"
    assert told.startswith(breaks)
    assert waived.result is not None
    assert [(block.host, block.servers) for block in waived.result.blocks] == [(away, (away,))]
    leaked = world.live_key(away)
    (known,) = (c for c in world.recorded.credentials.values() if c.public and c.public.spki_digest == leaked)
    assert known.public is not None

    ended = end(world, known.public.thumbprint)

    expected = {(away, agent)} if policy is Policy.DELEGATED else {(away, agent), (other, away)}
    assert set(ended.broken) == expected
    assert [(block.host, block.servers) for block in ended.result.blocks] == [(away, (away,))]
    assert ended.credential.state is KeyState.COMPROMISED
    assert leaked not in world.trusted(agent, away)
    world.fleet.heal(away)
    assert_settled(world, wanted)
    assert world.recorded.credentials[known.id].state is KeyState.REMOVED


@pytest.mark.parametrize("policy", list(Policy))
def test_whoever_still_trusts_a_leaked_key_is_named_until_it_is_told(world: World, policy: Policy) -> None:
    wanted = desired(policy)
    world.apply(wanted)
    away = AGENTS[0]
    world.fleet.trouble(away, unreachable="off")
    ended = end(world, key_of(world, SERVERS[0]))
    world.eye.waived.add(away)
    asked = partial(apply, world.ports, wanted, wait=timedelta(hours=1), agree=lambda _: True)
    asked(waive=[away])

    (owed,) = due(world.ledger, world.clock).keys

    assert (owed.credential.id, owed.wants) == (ended.credential.id, Wants.TAKING_AWAY)
    assert owed.leaked_on == (away,)
    assert [(one.host, one.reason) for one in owed.away] == [(away, "off")]
    told = said(due_answer(due(world.ledger, world.clock), now=world.clock.now()))
    assert f"{away} may still hold or trust it" in told
    found = audit({}, ledger=world.ledger, fleet=world.fleet, clock=world.clock, progress=Silent())
    (unreachable,) = (one for one in found.findings if one.host == away)
    key = ended.credential.public
    assert key is not None
    assert f"by the ledger it may still hold or trust key {key.thumbprint[:10]}, which leaked" in (
        unreachable.detail
    )

    world.fleet.heal(away)
    assert_settled(world, wanted)
    assert due(world.ledger, world.clock) == Owed()
