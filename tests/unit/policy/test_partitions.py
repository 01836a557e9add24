from hypothesis import given
from hypothesis import strategies as st

from orchestrator.inventory.model import HostName
from orchestrator.policy import partitions
from orchestrator.policy.partitions import propose_groups
from tests.unit.policy.worlds import Members, inventory_of


def proposed(groups: Members, servers: list[str]) -> tuple[str, ...]:
    return tuple(propose_groups(inventory_of(groups), [HostName(name) for name in servers]))


def test_sites_that_hold_every_server_once_are_proposed() -> None:
    groups = {"servers": ["s1", "s2", "s3"], "agents": ["a1"], "oslo": ["s3", "a1"], "paris": ["s1", "s2"]}
    assert proposed(groups, ["s1", "s2", "s3"]) == ("oslo", "paris")


def test_of_several_cuts_the_one_with_few_keys_and_small_groups_is_proposed() -> None:
    servers = [f"s{number}" for number in range(9)]
    groups = {
        "large": servers[:8],
        "small": servers[8:],
        **{f"site{number}": servers[number * 3 : number * 3 + 3] for number in range(3)},
        **{f"only{number}": [server] for number, server in enumerate(servers)},
    }
    assert proposed(groups, servers) == ("site0", "site1", "site2")


def test_nothing_is_proposed_where_a_server_would_be_left_out_or_be_in_two() -> None:
    assert proposed({"servers": ["s1", "s2"], "one": ["s1"]}, ["s1", "s2"]) == ()
    assert proposed({"a": ["s1", "s2"], "b": ["s2", "s3"], "c": ["s1", "s3"]}, ["s1", "s2", "s3"]) == ()


def test_a_search_that_grows_too_large_ends_with_what_it_has() -> None:
    servers = [f"s{number}" for number in range(40)]
    groups = {f"{kind}{number}": [server] for kind in "ab" for number, server in enumerate(servers)}
    found = propose_groups(inventory_of(groups), [HostName(name) for name in servers])
    assert len(found) == 40
    assert partitions.MAX_STEPS <= 100_000


@given(st.lists(st.lists(st.sampled_from([f"s{n}" for n in range(6)]), unique=True), max_size=6))
def test_a_proposal_holds_every_server_exactly_once(members: list[list[str]]) -> None:
    servers = [f"s{number}" for number in range(6)]
    groups = {"servers": servers} | {f"g{number}": names for number, names in enumerate(members)}
    found = proposed(groups, servers)
    if found:
        assert sorted(server for group in found for server in groups[group]) == servers
        assert len(found) > 1
