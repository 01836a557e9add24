"""The comparison's formulas against a fleet that is walked through, host by host and visit by visit."""

import math
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.inventory.model import HostName, Inventory
from orchestrator.inventory.patterns import select
from orchestrator.policy.comparison import Comparison, compare
from orchestrator.policy.desired import Origin, Policy, Prove, RolloutSpec, Scope
from orchestrator.policy.playbook import Playbook
from orchestrator.policy.scopes import cut, cut_scopes, select_servers
from orchestrator.policy.upkeep import Inapplicable, Row
from orchestrator.rotation.waves import cut_waves
from tests.unit.policy.worlds import inventory_of, playbook_of
from tests.world import World

HOSTS = [f"h{number}" for number in range(9)]


def row_of(comparison: Comparison, policy: Policy) -> Row:
    (row,) = (row for row in comparison.rows if row.policy is policy)
    assert isinstance(row, Row)
    return row


class Walk:
    """One handover of some keys at once, made visit by visit on a fleet whose edges are all written out."""

    def __init__(
        self,
        keys: list[list[str]],
        listens: dict[str, set[str]],
        spec: RolloutSpec,
        *,
        generate: bool,
        vouched: bool,
    ) -> None:
        servers = [server for key in keys for server in key]
        heard_by = sorted(agent for agent, heard in listens.items() if heard & set(servers))
        agents = [] if vouched else heard_by
        batches = [servers] if generate else []
        batches += [servers, agents]
        waves = cut_waves([HostName(server) for server in servers], spec)
        for number, wave in enumerate(waves):
            verify = number == 0 or spec.prove is Prove.DIRECT
            confirming = [agent for agent in agents if listens[agent] & set(wave)] if verify else []
            batches += [list(wave), confirming]
        batches += [servers, agents, servers]
        self.batches = batches
        self.visits = sum(len(batch) for batch in batches)
        self.hosts = {host for batch in batches for host in batch}
        self.soaks = len(waves)

    def work(self, *, seconds: float, concurrency: int) -> timedelta:
        """Fill the rounds one visit at a time."""
        rounds = 0
        for batch in self.batches:
            waiting = list(batch)
            while waiting:
                del waiting[:concurrency]
                rounds += 1
        return timedelta(seconds=rounds * seconds)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Inventory, Playbook]:
    servers = draw(st.lists(st.sampled_from(HOSTS), min_size=1, unique=True))
    agents = draw(st.lists(st.sampled_from(HOSTS), min_size=1, unique=True))
    sites = {host: draw(st.sampled_from(["north", "south"])) for host in HOSTS}
    hears = {
        agent: draw(
            st.sampled_from(["servers", *servers, f"servers:!{servers[0]}:&all" if servers[1:] else "all"])
        )
        for agent in agents
    }
    inventory = inventory_of(
        {
            "servers": servers,
            "agents": agents,
            **{site: [host for host in HOSTS if sites[host] == site] for site in ("north", "south")},
        },
        {agent: {"keyrelay_servers": heard} for agent, heard in hears.items()},
    )
    playbook = playbook_of(
        policy="per-server",
        group_by=["north", "south"],
        key={"origin": draw(st.sampled_from(list(Origin))).value},
        certificate={
            "lifetime": f"{draw(st.integers(1, 700))}d",
            "renew_at": draw(st.sampled_from(["1/2", "2/3"])),
        },
        rollout={
            "waves": draw(st.sampled_from([["100%"], [1, "25%", "100%"], [1, 3], [2, "50%", 6]])),
            "prove": draw(st.sampled_from(list(Prove))).value,
        },
    )
    return inventory, playbook


@given(fleets(), st.integers(1, 5), st.sampled_from([0.25, 1.0, 2.5]))
def test_every_number_is_the_one_that_a_walk_through_the_fleet_counts(
    fleet: tuple[Inventory, Playbook], concurrency: int, seconds: float
) -> None:
    inventory, playbook = fleet
    servers = select_servers(playbook, inventory)
    listens = {
        str(agent): {
            str(name)
            for name in select(inventory, inventory.servers_pattern(agent) or "servers")
            if name in servers
        }
        for agent in select(inventory, "agents")
    }
    edges = [(server, agent) for agent, heard in listens.items() for server in heard]
    comparison = compare(playbook, inventory, seconds_a_visit=seconds, concurrency=concurrency)
    assert (comparison.servers, comparison.agents, comparison.edges) == (
        len(servers),
        len(listens),
        len(edges),
    )
    for policy in Policy:
        row = row_of(comparison, policy)
        scopes = cut_scopes(playbook, inventory, servers, policy)
        check_row(row, scopes, playbook, listens, edges)
        check_upkeep(row, scopes, playbook, listens, seconds=seconds, concurrency=concurrency)


def check_row(
    row: Row,
    scopes: tuple[Scope, ...],
    playbook: Playbook,
    listens: dict[str, set[str]],
    edges: list[tuple[str, str]],
) -> None:
    held = Counter(
        {agent: sum(bool(heard & set(scope.servers)) for scope in scopes) for agent, heard in listens.items()}
    )
    vouched = row.policy is Policy.DELEGATED
    assert row.keys == len(scopes)
    assert row.held_at_rest.most == (1 if vouched else max(held.values()))
    assert row.held_at_rest.mean == pytest.approx(1 if vouched else sum(held.values()) / len(held))
    assert row.held_in_handover.most == (1 if vouched else 2 * max(held.values()))
    assert row.leak.issuer_edges == (len(edges) if vouched else 0)
    assert row.leak.servers == max(len(scope.servers) for scope in scopes)
    assert row.leak.agents == max(
        sum(bool(heard & set(scope.servers)) for heard in listens.values()) for scope in scopes
    )
    assert row.leak.edges == max(sum(server in scope.servers for server, _ in edges) for scope in scopes)
    wide = any(len(scope.servers) > 1 for scope in scopes)
    lives_too_long = vouched and playbook.certificate.lifetime > timedelta(days=90)
    assert bool(row.note) is (lives_too_long or (wide and playbook.key.origin is Origin.SERVER))


def check_upkeep(
    row: Row,
    scopes: tuple[Scope, ...],
    playbook: Playbook,
    listens: dict[str, set[str]],
    *,
    seconds: float,
    concurrency: int,
) -> None:
    keys = [[str(server) for server in scope.servers] for scope in scopes]
    spec = playbook.rollout.spec()
    generate = playbook.key.origin is Origin.SERVER and all(len(key) == 1 for key in keys)
    vouched = row.policy is Policy.DELEGATED
    each = [Walk([key], listens, spec, generate=generate, vouched=vouched) for key in keys]
    everything = Walk(keys, listens, spec, generate=generate, vouched=vouched)
    messages = playbook.messages.validity + 2 * playbook.messages.clock_skew
    lifetime = playbook.certificate.lifetime
    if vouched:
        lifetime = lifetime if lifetime <= timedelta(days=90) else timedelta(days=7)
    assert row.rotation.visits == max(walk.visits for walk in each)
    assert (row.rotation.visits, row.rotation.hosts) in {(walk.visits, len(walk.hosts)) for walk in each}
    assert row.rotation_of_all.visits == everything.visits
    assert row.rotation_of_all.hosts == len(everything.hosts)
    assert row.rotation_of_all.work == everything.work(seconds=seconds, concurrency=concurrency)
    assert row.rotation_of_all.wait == everything.soaks * playbook.rollout.soak + messages
    assert row.rotation_of_all.duration == row.rotation_of_all.work + row.rotation_of_all.wait
    turns = 365 / (lifetime / timedelta(days=1) * float(playbook.certificate.renew_at))
    for year, walks in ((row.together, [everything]), (row.apart, each)):
        work = sum((walk.work(seconds=seconds, concurrency=concurrency) for walk in walks), timedelta())
        hour = timedelta(hours=1)
        assert math.isclose(year.handovers, turns * len(walks), rel_tol=1e-9)
        assert math.isclose(year.hosts, turns * sum(len(walk.hosts) for walk in walks), rel_tol=1e-9)
        assert math.isclose(year.visits, turns * sum(walk.visits for walk in walks), rel_tol=1e-9)
        assert math.isclose(year.work_hours, turns * (work / hour), rel_tol=1e-9, abs_tol=1e-12)
        waits = sum((walk.soaks * playbook.rollout.soak + messages for walk in walks), timedelta())
        assert math.isclose(year.hours, turns * ((work + waits) / hour), rel_tol=1e-9)


def uniform(servers: int, agents: int, *, sites: int = 1, **fields: Any) -> Comparison:
    """Sites of equal size, in which everybody listens to everybody."""
    names = [f"s{number}" for number in range(servers)]
    groups = {f"site{site}": names[site::sites] for site in range(sites)} if sites > 1 else {}
    inventory = inventory_of({"servers": names, "agents": [f"a{n}" for n in range(agents)], **groups})
    return compare(playbook_of(**fields), inventory)


def test_the_policies_come_in_the_order_of_their_security() -> None:
    comparison = uniform(6, 10, sites=3)
    assert [row.policy for row in comparison.rows] == list(Policy)
    rows = [row_of(comparison, policy) for policy in Policy]
    assert [row.keys for row in rows] == [1, 3, 6, 6]
    for weaker, stronger in pairwise(rows[:3]):
        assert weaker.leak.edges > stronger.leak.edges
        assert weaker.apart.visits < stronger.apart.visits
        assert weaker.together.visits == stronger.together.visits


def test_a_delegated_key_costs_what_one_of_a_server_does_and_its_renewal_touches_no_agent() -> None:
    certificate = {"lifetime": "7d", "renew_at": "1/2", "grace": "1d"}
    comparison = uniform(6, 1000, policy="delegated", certificate=certificate)
    per_server, delegated = (row_of(comparison, p) for p in (Policy.PER_SERVER, Policy.DELEGATED))
    assert (delegated.leak.servers, delegated.leak.agents, delegated.leak.edges) == (1, 1000, 1000)
    assert delegated.leak.issuer_edges == comparison.edges == 6000
    assert per_server.leak.issuer_edges == 0
    assert (delegated.rotation.hosts, delegated.rotation.visits) == (1, 4)
    assert (delegated.rotation_of_all.hosts, delegated.rotation_of_all.visits) == (6, 24)
    assert delegated.note == ""


def test_certificates_that_live_too_long_to_be_believed_are_counted_with_a_week() -> None:
    row = row_of(uniform(6, 10), Policy.DELEGATED)
    assert row.note == "certificate.lifetime: 7d"
    assert row.together.handovers == pytest.approx(365 / (7 * 2 / 3))


def test_groups_are_proposed_where_the_playbook_names_none() -> None:
    comparison = uniform(6, 10, sites=3)
    assert comparison.proposed
    assert comparison.group_by == ("site0", "site1", "site2")
    assert not uniform(6, 10, sites=3, group_by=["site0", "site1", "site2"]).proposed


def test_per_group_is_marked_where_no_groups_fit() -> None:
    comparison = uniform(3, 3)
    assert comparison.rows[1] == Inapplicable(
        policy=Policy.PER_GROUP, reason="no groups of this inventory hold every server exactly once"
    )
    wrong = uniform(3, 3, group_by="agents").rows[1]
    assert isinstance(wrong, Inapplicable)
    assert "server s0 is in no group of group_by" in wrong.reason


def test_a_duration_rests_on_measurement_or_says_that_it_does_not() -> None:
    assert uniform(1, 1).seconds_a_visit == 1.0
    assert not uniform(1, 1).measured
    inventory = inventory_of({"servers": ["s"], "agents": ["a"]})
    measured = compare(playbook_of(), inventory, seconds_a_visit=0.5)
    assert measured.measured
    assert row_of(measured, Policy.SHARED).rotation.work == timedelta(seconds=3.5)


def test_one_server_needs_no_policy() -> None:
    recommendation = uniform(1, 50).recommendation
    assert recommendation.policy is Policy.SHARED
    assert recommendation.reasons == (
        "with one server every policy makes one key, and shared is the plainest",
    )


def test_per_server_is_recommended_where_its_upkeep_is_bearable() -> None:
    recommendation = uniform(3, 8).recommendation
    assert recommendation.policy is Policy.PER_SERVER
    assert recommendation.reasons == (
        "one leaked key costs at most 1 of 3 servers and opens 8 of 24 edges; with shared it is all of them",
        (
            "its upkeep is bearable even if each key comes due on its own: up to 3 keys an agent, "
            "126 visits and "
            "a minute of work a year"
        ),
    )


def test_keys_made_on_their_servers_leave_policies_of_one_server() -> None:
    origin = {"origin": "server"}
    recommendation = uniform(3, 8, policy="per-server", key=origin).recommendation
    assert recommendation.policy is Policy.PER_SERVER
    assert "cannot be shared" in recommendation.reasons[0]
    assert uniform(60, 10, policy="per-server", key=origin).recommendation.policy is Policy.DELEGATED
    hardly = uniform(900, 10, policy="per-server", key=origin, rollout=SLOW).recommendation
    assert hardly.policy is Policy.PER_SERVER
    assert hardly.reasons[-1].startswith("per-server all the same")


def test_delegated_is_recommended_where_agents_would_hold_too_many_keys() -> None:
    recommendation = uniform(60, 10, sites=6).recommendation
    assert recommendation.policy is Policy.DELEGATED
    assert recommendation.reasons[0] == "per-server: an agent would hold 60 keys, above 50"
    assert "can speak on 600 edges, so guard it well" in recommendation.reasons[2]


SLOW = {"waves": ["100%"], "soak": "2h"}
"""So that many short-lived certificates keep a handover under way all the time."""


def test_per_group_is_recommended_where_short_lived_certificates_are_too_much() -> None:
    recommendation = uniform(60, 10, sites=6, rollout=SLOW).recommendation
    assert recommendation.policy is Policy.PER_GROUP
    assert recommendation.reasons[0] == "per-server: an agent would hold 60 keys, above 50"
    assert recommendation.reasons[1].startswith("delegated: a handover under way for up to")
    assert (
        recommendation.reasons[2]
        == "the servers can be cut by group_by: [site0, site1, site2, site3, site4, site5]"
    )


def test_shared_is_recommended_where_nothing_else_is_bearable() -> None:
    recommendation = uniform(60, 10, rollout=SLOW).recommendation
    assert recommendation.policy is Policy.SHARED
    assert recommendation.reasons[0] == "per-server: an agent would hold 60 keys, above 50"
    assert recommendation.reasons[2].startswith("per-group does not apply")


def test_groups_that_are_hardly_smaller_than_the_fleet_are_not_recommended() -> None:
    names = [f"s{number}" for number in range(60)]
    inventory = inventory_of({"servers": names, "agents": ["a"], "most": names[:50], "rest": names[50:]})
    recommendation = compare(playbook_of(rollout=SLOW), inventory).recommendation
    assert recommendation.policy is Policy.SHARED
    assert (
        "per-group: one leaked key would still open 50 of 60 edges, more than half" in recommendation.reasons
    )


def test_keys_that_live_too_short_for_so_many_handovers_speak_against_many_keys() -> None:
    certificate = {"lifetime": "12h", "renew_at": "1/2"}
    recommendation = uniform(12, 4, certificate=certificate).recommendation
    assert recommendation.policy is Policy.SHARED
    assert any("visits a host a year, above 365" in reason for reason in recommendation.reasons)
    assert any("hours a year, above 4,380" in reason for reason in recommendation.reasons)


@pytest.mark.parametrize(("seconds", "concurrency"), [(0.0, 16), (-1.0, 16), (1.0, 0), (float("nan"), 16)])
def test_numbers_that_make_no_sense_are_refused(seconds: float, concurrency: int) -> None:
    inventory = inventory_of({"servers": ["s"], "agents": ["a"]})
    with pytest.raises(ValueError, match="above zero"):
        compare(playbook_of(), inventory, seconds_a_visit=seconds, concurrency=concurrency)


def test_a_playbook_that_selects_nobody_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="selects no host"):
        compare(playbook_of(servers="servers:!servers"), inventory_of({"servers": ["s"], "agents": ["a"]}))


def test_a_large_fleet_is_compared_without_writing_its_edges_out() -> None:
    comparison = uniform(400, 50_000, sites=20)
    assert comparison.edges == 20_000_000
    assert row_of(comparison, Policy.PER_SERVER).leak.edges == 50_000


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("prove", list(Prove))
def test_the_visits_are_those_that_a_handover_makes(policy: Policy, prove: Prove) -> None:
    servers, agents = [f"s{n}" for n in range(6)], [f"a{n}" for n in range(3)]
    inventory = inventory_of(
        {"servers": servers, "agents": agents, "north": servers[:2], "south": servers[2:]},
        {"a0": {"keyrelay_servers": "north"}},
    )
    playbook = playbook_of(
        policy=policy.value,
        group_by=["north", "south"],
        rollout={"waves": [1, "50%"], "prove": prove.value},
        certificate={"lifetime": "80d"},
    )
    world, wanted = World(), cut(playbook, inventory, digest="")
    world.apply(wanted)
    began = world.clock.now()
    result = world.apply(wanted, new_key=True, wait=timedelta(hours=2)).result
    told = row_of(compare(playbook, inventory), policy).rotation_of_all
    assert result is not None
    assert (result.visits, world.clock.now() - began) == (told.visits, told.wait)
