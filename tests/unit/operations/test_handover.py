"""The handover over hosts in memory, looked at after every visit (``tests/world.py``)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import ConflictError, RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Algorithm
from orchestrator.operations.apply import apply
from orchestrator.operations.rollouts import resume
from orchestrator.policy.desired import Origin, Policy
from orchestrator.rotation.lifecycle import KeyState, Step
from tests.fake_state import HostState
from tests.mortal import MortalVault
from tests.world import AGENTS, SERVERS, World, desired, with_agents


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("policy", "keys"),
    [(Policy.SHARED, 1), (Policy.PER_GROUP, 2), (Policy.PER_SERVER, 3), (Policy.DELEGATED, 3)],
)
def test_a_first_apply_gives_each_scope_its_key(world: World, policy: Policy, keys: int) -> None:
    applied = world.apply(desired(policy))
    assert applied.complete
    assert len(world.keys_in_use()) == keys
    assert world.orphans() == []
    assert {c.state for c in world.recorded.credentials.values()} == {KeyState.ACTIVE}
    assert not world.recorded.pending


@pytest.mark.parametrize("policy", list(Policy))
def test_a_second_apply_asks_and_does_nothing(world: World, policy: Policy) -> None:
    world.apply(desired(policy))
    before = dict(world.fleet.hosts), world.recorded.version
    applied = world.apply(desired(policy))
    assert applied.result is None
    assert applied.complete
    assert (dict(world.fleet.hosts), world.recorded.version) == before


@pytest.mark.parametrize("after", list(Policy))
@pytest.mark.parametrize("before", list(Policy))
def test_every_policy_can_become_every_other(world: World, before: Policy, after: Policy) -> None:
    world.apply(desired(before))
    applied = world.apply(desired(after))
    assert applied.complete
    assert world.orphans() == []
    held = {
        name for s in SERVERS for name in (*world.fleet.hosts[s].credentials, *world.fleet.hosts[s].disarmed)
    }
    assert len(held) == len(desired(after).scopes)
    live = [c for c in world.recorded.credentials.values() if c.state is KeyState.ACTIVE]
    gone = [c for c in world.recorded.credentials.values() if c.state is KeyState.REMOVED]
    assert len(live) + len(gone) == len(world.recorded.credentials)
    assert set(world.vault.kept) == {c.id for c in live}


def test_agents_trust_only_the_new_key_in_the_end(world: World) -> None:
    world.apply(desired())
    first = world.keys_in_use()
    world.apply(desired(), new_key=True)
    assert not first & world.keys_in_use()
    for agent in AGENTS:
        for server in SERVERS:
            assert world.trusted(agent, server) == {world.live_key(server)}


def test_the_old_key_is_dropped_only_after_the_messages_in_flight(world: World) -> None:
    world.apply(desired())
    world.clock.waits.clear()
    started = world.clock.now()
    world.apply(desired(soak=timedelta(minutes=10)), new_key=True)
    assert world.clock.now() - started >= timedelta(minutes=10) + timedelta(minutes=6)


def test_a_shorter_validity_does_not_shorten_the_wait_for_messages_of_the_old_key(world: World) -> None:
    world.apply(desired(soak=timedelta(0)))
    started = world.clock.now()
    quick = replace(desired(soak=timedelta(0)).messages, validity=timedelta(seconds=1))
    world.apply(replace(desired(soak=timedelta(0)), messages=quick), new_key=True)
    assert world.clock.now() - started >= timedelta(minutes=6)


def test_a_server_that_moves_to_a_playbook_with_longer_messages_brings_its_key_along(world: World) -> None:
    plain = desired(Policy.SHARED, soak=timedelta(0), servers=SERVERS[:2], agents=AGENTS[:1])
    quick = replace(plain, messages=replace(plain.messages, validity=timedelta(seconds=5)))
    world.apply(quick, wait=timedelta(0))
    world.fleet.trouble(SERVERS[0], unreachable="no route")
    alone = desired(Policy.SHARED, soak=timedelta(0), servers=SERVERS[:1], agents=())
    world.apply(replace(alone, messages=quick.messages), wait=timedelta(0))
    other = desired(Policy.SHARED, soak=timedelta(0), servers=SERVERS[1:2], agents=AGENTS[:1], name="other")
    world.apply(other, wait=timedelta(minutes=11))


def test_without_time_to_wait_it_stops_and_goes_on_later(world: World) -> None:
    world.apply(desired())
    applied = world.apply(desired(), new_key=True, wait=timedelta(0))
    assert applied.result is not None
    assert not applied.complete
    assert {wait.step for wait in applied.result.waits} == {Step.SOAK}
    world.clock.wait_until(world.clock.now() + timedelta(minutes=10))
    again = world.apply(desired(), wait=timedelta(0))
    assert again.prepared.plan.resumes is not None
    assert again.result is not None
    assert {wait.step for wait in again.result.waits} == {Step.WAIT}
    world.clock.wait_until(world.clock.now() + timedelta(minutes=6))
    assert world.apply(desired(), wait=timedelta(0)).complete
    assert world.apply(desired()).result is None


def test_keys_that_go_at_once_leave_the_vault_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes itself anew each time that something is destroyed."""
    world.apply(desired())
    old = set(world.vault.kept)
    destroyed: list[tuple[str, ...]] = []
    monkeypatch.setattr(MortalVault, "destroy", lambda _, *records: destroyed.append(records))
    world.apply(desired(), new_key=True)
    assert [set(records) for records in destroyed] == [old]


def test_a_key_made_on_the_server_never_reaches_the_vault(world: World) -> None:
    applied = world.apply(desired(origin=Origin.SERVER))
    assert applied.complete
    assert not world.vault.kept
    assert len(world.keys_in_use()) == len(SERVERS)
    assert world.apply(desired(origin=Origin.SERVER), new_key=True).complete


def test_a_due_key_gets_a_successor(world: World) -> None:
    world.apply(desired())
    first = world.keys_in_use()
    world.clock.wait_until(world.clock.now() + timedelta(days=244))
    applied = world.apply(desired())
    assert applied.complete
    assert not first & world.keys_in_use()
    assert all("is due" in reason for reason in applied.prepared.plan.reasons if reason.startswith("server:"))


def test_a_changed_algorithm_is_a_rekey(world: World) -> None:
    world.apply(desired())
    world.apply(desired(algorithm=Algorithm.ECDSA_P256))
    assert {c.key.algorithm for c in world.recorded.credentials.values() if c.state is KeyState.ACTIVE} == {
        Algorithm.ECDSA_P256,
    }


@pytest.mark.parametrize("origin", list(Origin))
def test_rsa_keys_take_over_from_ed25519_and_give_way_again(world: World, origin: Origin) -> None:
    for algorithm in (Algorithm.ED25519, Algorithm.RSA_3072, Algorithm.ECDSA_P256):
        assert world.apply(desired(algorithm=algorithm, origin=origin)).complete
        assert {
            c.key.algorithm for c in world.recorded.credentials.values() if c.state is KeyState.ACTIVE
        } == {algorithm}
        assert world.orphans() == []


def test_what_is_beyond_the_openssl_of_a_host_is_refused_before_anything_is_made(world: World) -> None:
    world.set_host(AGENTS[1], HostState(openssl="OpenSSL 1.1.1w  11 Sep 2023"))
    before = world.recorded.version
    with pytest.raises(RefusedError, match="1 host cannot sign or verify with ed25519"):
        world.apply(desired())
    assert world.recorded.version == before
    assert {host.fence for host in world.fleet.hosts.values()} == {None}
    assert world.apply(desired(algorithm=Algorithm.RSA_3072)).complete
    assert world.orphans() == []


def test_a_host_whose_openssl_is_replaced_later_does_not_keep_the_others_from_renewing(world: World) -> None:
    world.apply(desired(algorithm=Algorithm.ECDSA_P256))
    first = world.keys_in_use()
    there = world.fleet.hosts[AGENTS[0]]
    world.set_host(AGENTS[0], replace(there, openssl="LibreSSL 3.8.2"))
    assert world.apply(desired(algorithm=Algorithm.ECDSA_P256), new_key=True).complete
    assert not first & world.keys_in_use()
    with pytest.raises(RefusedError, match=r"agent-1 has LibreSSL 3\.8\.2"):
        world.apply(desired(algorithm=Algorithm.RSA_3072))


def test_a_dead_agent_keeps_its_servers_from_switching(world: World) -> None:
    world.apply(desired())
    first = world.keys_in_use()
    world.fleet.trouble(AGENTS[0], unreachable="connection refused")
    applied = world.apply(desired(), new_key=True)
    assert applied.result is not None
    assert not applied.complete
    (block,) = applied.result.blocks
    assert block.host == AGENTS[0]
    assert block.servers == SERVERS
    assert set(block.steps) == {Step.PUBLISH}
    assert "connection refused" in block.reason
    assert world.keys_in_use() == first
    world.fleet.heal(AGENTS[0])
    assert world.apply(desired()).complete
    assert not first & world.keys_in_use()


def test_a_dead_agent_holds_up_only_the_servers_it_listens_to(world: World) -> None:
    listens = {AGENTS[0]: SERVERS[:1], AGENTS[1]: SERVERS[1:], AGENTS[2]: SERVERS[1:]}
    world.apply(desired(listens=listens))
    first = {server: world.live_key(server) for server in SERVERS}
    world.fleet.trouble(AGENTS[0], unreachable="connection refused")
    applied = world.apply(desired(listens=listens), new_key=True)
    assert not applied.complete
    assert world.live_key(SERVERS[0]) == first[SERVERS[0]]
    assert world.live_key(SERVERS[1]) != first[SERVERS[1]]
    assert world.live_key(SERVERS[2]) != first[SERVERS[2]]


def test_a_dead_server_holds_up_only_itself(world: World) -> None:
    world.apply(desired())
    first = {server: world.live_key(server) for server in SERVERS}
    world.fleet.trouble(SERVERS[0], unreachable="no route")
    applied = world.apply(desired(), new_key=True)
    assert not applied.complete
    assert world.live_key(SERVERS[0]) == first[SERVERS[0]]
    assert world.live_key(SERVERS[1]) != first[SERVERS[1]]
    world.fleet.heal(SERVERS[0])
    assert world.apply(desired()).complete
    assert world.orphans() == []


def test_lost_answers_are_found_out_by_the_next_survey(world: World) -> None:
    world.apply(desired())
    for host in (*SERVERS, *AGENTS):
        for _ in range(8):
            world.fleet.trouble(host, breaks_after=1)
            world.apply(desired(), wait=timedelta(minutes=20))
            world.fleet.heal(host)
            world.apply(desired(), new_key=False, wait=timedelta(0))
        world.apply(desired(), new_key=True)
    assert world.apply(desired()).complete
    assert world.orphans() == []


def test_a_failing_hook_leaves_the_server_on_its_old_key(world: World) -> None:
    wanted = desired(hooks={SERVERS[0]: "systemctl reload it"})
    world.apply(wanted)
    first = world.live_key(SERVERS[0])
    world.fleet.trouble(SERVERS[0], hook_fails="no such unit")
    applied = world.apply(wanted, new_key=True)
    assert not applied.complete
    assert world.live_key(SERVERS[0]) == first
    assert applied.result is not None
    assert "no such unit" in applied.result.blocks[0].reason
    world.fleet.heal(SERVERS[0])
    assert world.apply(wanted).result is not None
    assert world.live_key(SERVERS[0]) == first
    (rollout,) = [r for r in world.recorded.rollouts.values() if r.paused]
    assert "server-1" in rollout.paused
    resume(world.ports, rollout.id, wait=timedelta(hours=1))
    assert world.apply(wanted).complete
    assert world.live_key(SERVERS[0]) != first


def test_an_agent_with_a_wrong_clock_proves_nothing(world: World) -> None:
    world.fleet.trouble(AGENTS[0], skew=timedelta(hours=1))
    applied = world.apply(desired())
    assert applied.result is not None
    (block,) = applied.result.blocks
    assert block.host == AGENTS[0]
    assert "clock is 3600 s ahead" in block.reason
    assert world.keys_in_use() == set()
    world.fleet.heal(AGENTS[0])
    assert world.apply(desired()).complete


def test_a_wiped_server_gets_its_key_back_from_the_vault(world: World) -> None:
    world.apply(desired())
    first = world.live_key(SERVERS[0])
    world.wipe(SERVERS[0])
    applied = world.apply(desired())
    assert applied.complete
    assert world.live_key(SERVERS[0]) == first


def test_a_wiped_server_whose_key_was_made_there_hands_over_to_a_new_one(world: World) -> None:
    world.apply(desired(origin=Origin.SERVER))
    first = world.live_key(SERVERS[0])
    world.wipe(SERVERS[0])
    assert world.says_lost(desired(origin=Origin.SERVER))
    applied = world.apply(desired(origin=Origin.SERVER))
    assert applied.complete
    assert world.live_key(SERVERS[0]) not in {first, None}
    assert world.orphans() == []
    for agent in AGENTS:
        assert first not in world.trusted(agent, SERVERS[0])


def test_a_wiped_agent_gets_its_bundle_back_and_proves_it(world: World) -> None:
    world.apply(desired())
    world.wipe(AGENTS[1])
    assert world.orphans()
    assert world.apply(desired()).complete
    assert world.orphans() == []


def test_an_agent_that_joins_is_taught_before_anything_else(world: World) -> None:
    world.apply(desired(agents=AGENTS[:2]))
    keys = world.keys_in_use()
    assert world.apply(desired()).complete
    assert world.keys_in_use() == keys
    assert world.orphans() == []


def test_an_agent_that_leaves_ends_up_trusting_nobody(world: World) -> None:
    world.apply(desired())
    assert world.apply(desired(agents=AGENTS[:2])).complete
    bundle = world.fleet.hosts[AGENTS[2]].bundle
    assert bundle is not None
    assert not any(key.signs for key in bundle.keys)
    assert AGENTS[2] not in world.recorded.agents


def test_a_server_that_joins_a_shared_scope_gets_its_key(world: World) -> None:
    world.apply(desired(Policy.SHARED, servers=SERVERS[:2]))
    (key,) = world.keys_in_use()
    assert world.apply(desired(Policy.SHARED)).complete
    assert world.keys_in_use() == {key}
    assert world.orphans() == []


def test_a_server_that_leaves_a_shared_scope_makes_it_rekey(world: World) -> None:
    world.apply(desired(Policy.SHARED))
    (key,) = world.keys_in_use()
    applied = world.apply(desired(Policy.SHARED, servers=SERVERS[:2]))
    assert applied.complete
    assert key not in world.keys_in_use()
    assert world.live_key(SERVERS[2]) is None
    assert not world.fleet.hosts[SERVERS[2]].disarmed
    assert SERVERS[2] not in world.recorded.servers
    for agent in AGENTS:
        assert world.trusted(agent, SERVERS[2]) == set()


def test_an_agent_that_stops_listening_to_one_server_drops_it(world: World) -> None:
    world.apply(desired())
    listens = {AGENTS[0]: SERVERS[:2]}
    assert world.apply(desired(listens=listens)).complete
    assert world.trusted(AGENTS[0], SERVERS[2]) == set()
    assert world.trusted(AGENTS[1], SERVERS[2]) != set()


def test_a_rollout_that_is_replaced_leaves_nothing_behind(world: World) -> None:
    world.apply(desired())
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(desired(), new_key=True)
    world.apply(desired(), new_key=True)
    world.fleet.heal(AGENTS[0])
    assert world.apply(desired()).complete
    for server in SERVERS:
        assert len(world.fleet.hosts[server].credentials) == 1
        assert not world.fleet.hosts[server].disarmed
    assert len(world.vault.kept) == len(SERVERS)
    ended = [r for r in world.recorded.rollouts.values() if r.ended is None]
    assert ended == []


def test_two_playbooks_share_agents_without_overwriting_each_other(world: World) -> None:
    one = desired(servers=SERVERS[:1], name="one")
    other = desired(Policy.SHARED, servers=SERVERS[1:], name="other")
    assert world.apply(one).complete
    assert world.apply(other).complete
    assert world.apply(one, new_key=True).complete
    for agent in AGENTS:
        for server in SERVERS:
            assert world.trusted(agent, server) == {world.live_key(server)}


def test_a_server_of_another_playbook_is_refused(world: World) -> None:
    world.apply(desired(name="one"))
    with pytest.raises(RefusedError, match="belongs to playbook 'one'"):
        world.apply(desired(name="two"))


def test_a_ledger_older_than_the_fleet_is_refused(world: World) -> None:
    old = World()
    old.apply(desired())
    world.apply(desired())
    world.apply(desired(), new_key=True)
    world.apply(desired(), new_key=True)
    for host, state in world.fleet.hosts.items():
        old.set_host(host, state)
    with pytest.raises(RefusedError, match="newer than this one"):
        old.apply(desired())


def test_a_plan_that_changed_since_it_was_agreed_to_is_refused(world: World) -> None:
    with pytest.raises(ConflictError, match="the plan has changed"):
        apply(
            world.ports,
            desired(),
            wait=timedelta(0),
            agree=lambda _: True,
            digest="ab" * 32,
        )


def test_hosts_that_come_to_an_inventory_in_any_order_end_the_same(world: World) -> None:
    steps = [desired(Policy.SHARED, servers=SERVERS[:1], agents=AGENTS[:1]), desired(Policy.SHARED)]
    for wanted in (*steps, with_agents(desired(), AGENTS[1:]), desired(Policy.PER_GROUP)):
        assert world.apply(wanted).complete
    assert world.orphans() == []


def test_the_ledger_verifies_after_all_that(world: World) -> None:
    world.apply(desired())
    world.apply(desired(Policy.SHARED), new_key=True)
    assert world.ledger.verify() == world.recorded.version


def test_a_host_that_is_server_and_agent_is_both(world: World) -> None:
    both = HostName("server-1")
    wanted = desired(servers=SERVERS[:2], agents=(both, AGENTS[0]), listens={both: SERVERS[1:2]})
    assert world.apply(wanted).complete
    assert world.apply(wanted, new_key=True).complete
    assert world.orphans() == []
