"""A server that goes from one play to another: it signs at all times, with a key that is trusted."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import Applied, apply_together
from orchestrator.operations.audit import audit
from orchestrator.operations.compromise import end_key
from orchestrator.operations.planning import prepare_to_change_together, prepare_together, record_together
from orchestrator.operations.rollouts import revert
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import CommandSpec, Desired, Origin, PlaybookName, Policy
from orchestrator.policy.stores import Access, PemFiles, Stores, System
from orchestrator.rotation.drift import Drift
from orchestrator.rotation.events import RolloutStarted
from orchestrator.rotation.installing import Manifests
from orchestrator.rotation.reports import Outcome
from orchestrator.views.rollouts import rollout_answer
from tests.endings import assert_settled
from tests.mortal import KilledError
from tests.world import AGENTS, SERVERS, Silent, World, desired

A1, MOVED, B1 = SERVERS
ONLY_A, BOTH, ONLY_B = AGENTS
QUICK = timedelta(0)
STORES = Stores(server=(PemFiles(key="/a/key", certificate="/a/crt", access=Access(mode="600")),))


def play(name: str, policy: Policy, servers: Sequence[HostName], **asked: Any) -> Desired:
    """Play a, or b; one agent listens to both."""
    agents = (ONLY_A, BOTH) if name == "a" else (BOTH, ONLY_B)
    return desired(policy, servers=servers, agents=agents, name=name, **asked)


@dataclass(slots=True)
class Sentry(Silent):
    """Looks after each visit whether each server has a key that its agents trust.

    An agent that came with the move has to trust the next key before it is used, and none before.
    """

    world: World
    servers: Collection[HostName]
    seen: int = 0
    gaps: list[str] = field(default_factory=list)
    first: dict[HostName, str | None] = field(init=False)
    edges: set[tuple[HostName, HostName]] = field(init=False)

    def __post_init__(self) -> None:
        self.begins()

    def begins(self) -> None:
        """A move begins."""
        self.first = {server: self.world.live_key(server) for server in self.servers}
        self.edges = self.world.eye.edges()

    def visited(self, outcome: Outcome) -> None:
        self.seen += 1
        live = {server: self.world.live_key(server) for server in self.servers}
        self.gaps += [f"{server} has no key after {outcome}" for server in live if live[server] is None]
        self.gaps += [
            f"{agent} does not trust {server} after {outcome}"
            for agent, server in self.world.orphans()
            if server in live
            if (agent, server) in self.edges or live[server] != self.first[server]
        ]


def watched(*begun: Desired, servers: Collection[HostName] = (MOVED,)) -> tuple[World, Sentry]:
    """A fleet on which these plays have been applied, and a sentry that looks from now on."""
    world = World()
    for one in begun:
        assert world.apply(one).complete
    sentry = Sentry(world, servers)
    world.ports = replace(world.ports, progress=sentry)
    return world, sentry


def away(world: World) -> None:
    world.fleet.trouble(BOTH, unreachable="off")


MOVES: Mapping[str, tuple[Policy, Policy, Mapping[str, Any]]] = {
    "from a shared key to a shared key": (Policy.SHARED, Policy.SHARED, {}),
    "from a key of its own to a key of its own": (Policy.PER_SERVER, Policy.PER_SERVER, {}),
    "to a key that is made on it": (Policy.SHARED, Policy.PER_SERVER, {"origin": Origin.SERVER}),
    "to what an issuer vouches for": (Policy.PER_SERVER, Policy.DELEGATED, {}),
    "from what an issuer vouches for": (Policy.DELEGATED, Policy.SHARED, {}),
    "to other stores": (Policy.SHARED, Policy.SHARED, {"stores": STORES}),
}


@pytest.mark.parametrize("receiver_first", [False, True])
@pytest.mark.parametrize("name", MOVES)
def test_a_server_goes_to_another_play_and_is_never_without_a_key_that_its_agents_trust(
    name: str,
    receiver_first: bool,  # noqa: FBT001  # a parameter of the table
) -> None:
    left, joined, asked = MOVES[name]
    world, sentry = watched(play("a", left, (A1, MOVED)), play("b", joined, (B1,), **asked))
    old = world.live_key(MOVED)
    wanted = [play("a", left, (A1,)), play("b", joined, (MOVED, B1), **asked)]
    wanted = wanted[::-1] if receiver_first else wanted

    ended = world.apply_together(*wanted)

    assert [one.complete for one in ended] == [True, True]
    assert sentry.gaps == []
    assert sentry.seen > 10
    assert world.live_key(MOVED) not in {None, old}
    assert len(world.fleet.hosts[MOVED].credentials) == 1
    assert_settled(world, *wanted)


def test_a_store_that_both_plays_fill_goes_to_the_other_with_the_server() -> None:
    theirs = Stores(server=(PemFiles(key="/a/key", certificate="/b/crt", access=Access(mode="600")),))
    world, sentry = watched(
        play("a", Policy.SHARED, (A1, MOVED), stores=STORES), play("b", Policy.SHARED, (B1,), stores=theirs)
    )
    wanted = (
        play("a", Policy.SHARED, (A1,), stores=STORES),
        play("b", Policy.SHARED, (MOVED, B1), stores=theirs),
    )
    assert [one.complete for one in world.apply_together(*wanted)] == [True, True]
    assert sentry.gaps == []
    assert_settled(world, *wanted)


def test_agents_have_the_roots_of_both_plays_while_the_server_has_its_key_of_the_first() -> None:
    theirs = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n"
    their_ca = CommandSpec(argv=("/our-ca",), root=theirs, timeout=timedelta(seconds=30))
    anchors = Stores(agent=(System(name="ours"),))
    world, _ = watched(play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,), stores=anchors))
    first = replace(play("a", Policy.SHARED, (A1, MOVED)), issuer=their_ca)
    record_together(prepare_to_change_together((first,), world.ports), world.ports)
    begun = prepare_to_change_together(
        (
            replace(play("a", Policy.SHARED, (A1,)), issuer=their_ca),
            play("b", Policy.SHARED, (MOVED, B1), stores=anchors),
        ),
        world.ports,
    )
    record_together(begun, world.ports)
    assert theirs in Manifests.of(world.recorded).agent(ONLY_B)


def test_an_audit_in_the_middle_says_that_the_server_has_an_earlier_key() -> None:
    world, _ = watched(play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,)))
    away(world)
    world.apply_together(play("a", Policy.SHARED, (A1,)), play("b", Policy.SHARED, (MOVED, B1)))
    found = audit({}, ledger=world.ledger, fleet=world.fleet, clock=world.clock, progress=Silent())
    assert [one.drift for one in found.findings if one.host == MOVED] == [Drift.PREVIOUS]


@pytest.mark.parametrize("policy", [Policy.SHARED, Policy.PER_SERVER])
def test_two_servers_are_swapped_in_one_go(policy: Policy) -> None:
    world, sentry = watched(play("a", policy, (A1, MOVED)), play("b", policy, (B1,)), servers=SERVERS)
    wanted = (play("a", policy, (A1, B1)), play("b", policy, (MOVED,)))
    assert [one.complete for one in world.apply_together(*wanted)] == [True, True]
    assert sentry.gaps == []
    assert_settled(world, *wanted)


def test_the_servers_that_stay_sign_on_with_the_shared_key_until_their_next_one_is_proven() -> None:
    world, sentry = watched(
        play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,)), servers=(A1, MOVED)
    )
    shared = world.live_key(A1)
    world.fleet.trouble(ONLY_A, unreachable="off")
    wanted = (play("a", Policy.SHARED, (A1,)), play("b", Policy.SHARED, (MOVED, B1)))
    world.apply_together(*wanted)
    assert world.live_key(A1) == shared
    assert world.live_key(MOVED) != shared
    world.fleet.heal(ONLY_A)
    world.apply_together(*wanted)
    assert sentry.gaps == []
    assert_settled(world, *wanted)


@pytest.mark.parametrize("whose", ["a", "b"])
@pytest.mark.parametrize("trouble", [away, lambda world: world.fleet.trouble(B1, refuses="not now")])
def test_a_server_moves_while_a_rollout_of_either_play_is_under_way(
    whose: str, trouble: Callable[[World], None]
) -> None:
    a, b = play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,))
    world, sentry = watched(a, b)
    trouble(world)
    world.apply(a if whose == "a" else b, new_key=True, wait=QUICK)
    sentry.begins()
    wanted = (play("a", Policy.SHARED, (A1,)), play("b", Policy.SHARED, (MOVED, B1)))
    world.apply_together(*wanted)
    world.fleet.heal(BOTH)
    world.fleet.heal(B1)
    world.apply_together(*wanted)
    assert sentry.gaps == []
    assert_settled(world, *wanted)


def test_moved_back_in_the_middle_it_is_the_first_plays_again() -> None:
    before = (play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,)))
    world, sentry = watched(*before)
    world.apply_together(play("a", Policy.SHARED, (A1,)), play("b", Policy.SHARED, (MOVED, B1)), wait=QUICK)
    sentry.begins()
    world.apply_together(*before)
    assert sentry.gaps == []
    assert_settled(world, *before)


@pytest.mark.parametrize("whose", ["a", "b"])
def test_a_rollout_with_which_a_server_moved_is_not_taken_back_and_says_how_the_server_goes_back(
    whose: str,
) -> None:
    world, sentry = watched(play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,)))
    world.apply_together(play("a", Policy.SHARED, (A1,)), play("b", Policy.SHARED, (MOVED, B1)), wait=QUICK)
    rollout = world.recorded.running(PlaybookName(whose))
    assert rollout is not None
    with pytest.raises(
        RefusedError, match=f"{MOVED} (came from playbook 'a'|has gone to playbook 'b')"
    ) as no:
        revert(world.ports, rollout.id, wait=QUICK)
    assert "apply 'a' and 'b' together" in no.value.hint.replace("'b' and 'a'", "'a' and 'b'")
    assert sentry.gaps == []


def test_a_later_rollout_is_not_taken_back_to_the_key_of_the_play_that_was_left() -> None:
    world, _ = watched(play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,)))
    world.fleet.trouble(BOTH, unreachable="off")
    there = play("b", Policy.SHARED, (MOVED, B1))
    world.apply_together(play("a", Policy.SHARED, (A1,)), there, wait=QUICK)
    world.apply(there, new_key=True, wait=QUICK)
    rollout = world.recorded.running(PlaybookName("b"))
    assert rollout is not None
    with pytest.raises(RefusedError, match=f"{MOVED} has yet to leave its key of playbook 'a'"):
        revert(world.ports, rollout.id, wait=QUICK)


def test_killed_anywhere_the_next_run_ends_the_move() -> None:
    before = (
        play("a", Policy.PER_SERVER, (A1, MOVED), soak=QUICK),
        play("b", Policy.PER_SERVER, (B1,), soak=QUICK),
    )
    wanted = (
        play("a", Policy.PER_SERVER, (A1,), soak=QUICK),
        play("b", Policy.PER_SERVER, (MOVED, B1), soak=QUICK),
    )
    points, killed = 0, True
    while killed:
        world, sentry = watched(*before)
        world.life.dies_after(points)
        with suppress(KilledError):
            world.apply_together(*wanted)
        killed = world.life.rise()
        world.apply_together(*wanted)
        assert sentry.gaps == []
        assert_settled(world, *wanted)
        points += 5
    assert points > 50


def test_both_plays_begin_in_one_entry_after_the_other_and_nothing_is_between_them() -> None:
    world, _ = watched(play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,)))
    last = world.recorded.version
    world.apply_together(play("a", Policy.SHARED, (A1,)), play("b", Policy.SHARED, (MOVED, B1)), wait=QUICK)
    starts = [e for e in world.ledger.entries(after=last) if isinstance(e.event, RolloutStarted)]
    assert [e.number for e in starts] == [starts[0].number, starts[0].number + 1]
    losing, receiving = (e.event for e in starts)
    assert isinstance(losing, RolloutStarted)
    assert isinstance(receiving, RolloutStarted)
    assert (MOVED in losing.targets, receiving.targets[MOVED] is not None) == (False, True)
    assert f"{MOVED}: it moves from playbook 'a'" in receiving.reasons


def test_a_watch_goes_on_with_a_move_and_begins_none() -> None:
    before = (play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,)))
    wanted = (play("a", Policy.SHARED, (A1,)), play("b", Policy.SHARED, (MOVED, B1)))
    world, sentry = watched(*before)
    for one in wanted:
        with pytest.raises(RefusedError, match=r"asks for something else|belongs to playbook 'a'"):
            watch_once(world.ports, one)
    world.apply_together(*wanted, wait=QUICK)
    for _ in range(4):
        for one in wanted:
            watch_once(world.ports, one)
        world.clock.wait_until(world.clock.now() + timedelta(hours=1))
    assert sentry.gaps == []
    assert_settled(world, *wanted)


def test_the_plan_tells_from_where_a_server_comes_and_nothing_of_it_in_the_other_play() -> None:
    world, _ = watched(play("a", Policy.PER_SERVER, (A1, MOVED)), play("b", Policy.SHARED, (B1,)))
    wanted = (play("a", Policy.PER_SERVER, (A1,)), play("b", Policy.SHARED, (MOVED, B1)))
    left, joined = (
        one.plan
        for one in prepare_together(
            wanted, ledger=world.ledger, fleet=world.fleet, clock=world.clock, entropy=world.entropy,
            progress=Silent(),
        )
    )  # fmt: skip
    assert {(c.host, c.why) for c in joined.changes if c.role == "server"} == {
        (MOVED, "it moves from playbook 'a'")
    }
    assert MOVED not in {change.host for change in left.changes}


def test_a_play_that_was_not_asked_keeps_its_server_and_the_way_without_a_gap_is_told() -> None:
    world, _ = watched(play("a", Policy.SHARED, (A1, MOVED)))
    with pytest.raises(RefusedError, match=f"{MOVED} belongs to playbook 'a'") as refused:
        world.apply(play("b", Policy.SHARED, (MOVED, B1)))
    assert "apply both plays by one command" in refused.value.hint


def test_a_server_that_both_plays_list_is_refused() -> None:
    world, _ = watched(play("a", Policy.SHARED, (A1, MOVED)))
    with pytest.raises(RefusedError, match=f"{MOVED} belongs to playbook 'a'") as refused:
        world.apply_together(play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (MOVED, B1)))
    assert "one key" in refused.value.hint
    assert world.recorded.running(PlaybookName("b")) is None


def test_plays_that_exchange_nothing_begin_each_by_itself() -> None:
    world, _ = watched(play("a", Policy.SHARED, (A1,)))
    ended: Sequence[Applied] = world.apply_together(
        play("a", Policy.SHARED, (A1,)), play("b", Policy.SHARED, (MOVED, B1))
    )
    assert [len(one.prepared.answers.surveys) for one in ended] == [3, 4]


def test_where_a_person_declines_one_of_the_plans_neither_play_begins() -> None:
    world, _ = watched(play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,)))
    before = world.recorded.rollouts
    ended = apply_together(
        world.ports,
        (play("a", Policy.SHARED, (A1,)), play("b", Policy.SHARED, (MOVED, B1))),
        wait=QUICK,
        agree=lambda prepared: prepared.plan.desired.playbook == "a",
        digests=(None, None),
    )
    assert [one.agreed for one in ended] == [False, False]
    assert world.recorded.rollouts == before


def test_a_shared_key_that_leaks_during_the_move_is_left_by_the_servers_of_both_plays() -> None:
    wanted = (play("a", Policy.SHARED, (A1,)), play("b", Policy.SHARED, (MOVED, B1)))
    world, _ = watched(play("a", Policy.SHARED, (A1, MOVED)), play("b", Policy.SHARED, (B1,)))
    leaked = world.live_key(MOVED)
    assert leaked is not None
    away(world)
    world.apply_together(*wanted)
    assert (world.live_key(A1), world.live_key(MOVED)) == (leaked, leaked)
    world.eye.leaked.add(leaked)
    (public,) = (
        one.public
        for one in world.recorded.credentials.values()
        if one.public is not None and one.public.spki_digest == leaked
    )
    world.eye.begins()
    end_key(world.ports, public.thumbprint, lost=False, reason="a person says so", wait=QUICK)
    assert leaked not in {world.live_key(A1), world.live_key(MOVED)}
    world.fleet.heal(BOTH)
    assert_settled(world, *wanted)


def test_a_rollout_is_not_taken_back_to_a_server_that_is_forgotten_by_now() -> None:
    a = desired(servers=(A1, MOVED), agents=(ONLY_A, BOTH), name="a", soak=QUICK)
    b = desired(servers=(B1,), agents=(BOTH,), name="b", soak=QUICK)
    world, _ = watched(a, b)
    world.fleet.trouble(ONLY_B, unreachable="off")
    world.apply(desired(servers=(A1,), agents=(ONLY_A, BOTH, ONLY_B), name="a", soak=QUICK))
    world.apply(b, new_key=True)
    assert MOVED not in world.recorded.servers
    rollout = world.recorded.running(PlaybookName("a"))
    assert rollout is not None
    shown = rollout_answer(world.recorded, rollout, now=world.clock.now())
    assert shown.data["steps"][MOVED] == "done"
    with pytest.raises(RefusedError, match=f"{MOVED} has left, and has no old key"):
        revert(world.ports, rollout.id, wait=QUICK)
