from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError, RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.inventory.patterns import select
from orchestrator.policy.desired import Desired, Policy
from orchestrator.policy.playbook import Playbook, load_playbooks, read_playbooks
from orchestrator.policy.scopes import cut, refuse_overlap
from tests.unit.policy.worlds import inventory_of, playbook_of

FLEET = inventory_of(
    {
        "servers": ["s1", "s2", "s3"],
        "agents": ["a1", "a2", "a3", "a4"],
        "paris": ["s1", "s2", "a1"],
        "oslo": ["s3", "a2"],
        "nobody": [],
    },
    {
        "a1": {"keyrelay_servers": "paris"},
        "a2": {"keyrelay_servers": "s3"},
        "a3": {"keyrelay_servers": "paris"},
    },
)


def scopes_of(desired: Desired) -> dict[str, tuple[str, ...]]:
    return {str(scope.name): tuple(scope.servers) for scope in desired.scopes}


def written(*lines: str) -> Playbook:
    """A play from a file, so that it knows its places; a line replaces the one of its field."""
    fields = {
        "name": "- name: Test",
        "servers": "  servers: servers",
        "agents": "  agents: agents",
        "policy": "  policy: shared",
        "service": "  service: follows",
    }
    for line in lines:
        fields[line.strip().split(":")[0]] = line
    return read_playbooks("\n".join(fields.values()).encode(), file="p.yml")[0]


def refusal(*lines: str, inventory: Any = FLEET) -> InputError:
    with pytest.raises(InputError) as refused:
        cut(written(*lines), inventory, digest="d")
    return refused.value


@pytest.mark.parametrize(
    ("fields", "scopes"),
    [
        ({"policy": "shared"}, {"all": ("s1", "s2", "s3")}),
        (
            {"policy": "per-server"},
            {"server:s1": ("s1",), "server:s2": ("s2",), "server:s3": ("s3",)},
        ),
        (
            {"policy": "per-group", "group_by": ["oslo", "nobody", "paris"]},
            {"group:oslo": ("s3",), "group:paris": ("s1", "s2")},
        ),
        ({"policy": "per-group", "group_by": "servers"}, {"group:servers": ("s1", "s2", "s3")}),
    ],
)
def test_a_policy_cuts_the_servers_into_scopes(
    fields: dict[str, Any], scopes: dict[str, tuple[str, ...]]
) -> None:
    assert scopes_of(cut(playbook_of(**fields), FLEET, digest="d")) == scopes


def test_agents_that_listen_to_the_same_servers_share_a_trust_set() -> None:
    desired = cut(playbook_of(), FLEET, digest="d")
    assert [(one.servers, one.agents) for one in desired.trust_sets] == [
        (("s1", "s2"), ("a1", "a3")),
        (("s3",), ("a2",)),
        (("s1", "s2", "s3"), ("a4",)),
    ]


def test_an_agent_listens_only_to_servers_of_the_playbook() -> None:
    desired = cut(playbook_of(servers="s1", agents="a1"), FLEET, digest="d")
    assert [one.servers for one in desired.trust_sets] == [("s1",)]


def test_a_host_may_be_both_server_and_agent() -> None:
    desired = cut(playbook_of(agents="agents:s1"), FLEET, digest="d")
    assert "s1" in desired.servers()
    assert "s1" in desired.agents()
    assert sorted(desired.endpoints) == ["a1", "a2", "a3", "a4", "s1", "s2", "s3"]


def test_what_the_playbook_says_is_carried_over() -> None:
    play = written(
        "  rollout: {soak: 1m, waves: [50%], offline: proceed-after 2d}", "  key: {algorithm: ecdsa-p256}"
    )
    desired = cut(play, FLEET, digest=play.digest)
    assert desired.playbook == "Test"
    assert desired.digest == play.digest
    assert desired.policy is Policy.SHARED
    assert desired.key == play.key.spec()
    assert desired.certificate == play.certificate.spec()
    assert desired.messages == play.messages.spec()
    assert desired.rollout == play.rollout.spec()


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        (
            ["  servers: nobody"],
            (
                "p.yml:2:12: servers is 'nobody', which selects no host of the inventory; "
                "allowed: a pattern that selects at least one"
            ),
            "keyrelay inventory graph",
        ),
        (
            ["  agents: agents:!agents"],
            "p.yml:3:11: agents is 'agents:!agents', which selects no host",
            "keyrelay inventory graph",
        ),
        (
            ["  servers: severs"],
            (
                "p.yml:2:12: servers is no pattern of this inventory: "
                "the inventory has no host or group 'severs'"
            ),
            "did you mean servers?",
        ),
        (
            ["  policy: per-group", "  group_by: [paris, osol]"],
            "p.yml:6:21: group_by names 'osol', and the inventory has no such group",
            "did you mean oslo?",
        ),
        (
            ["  policy: per-group", "  group_by: paris"],
            "p.yml:6:13: server s3 is in no group of group_by; allowed: exactly one of paris",
            "change the inventory's groups",
        ),
        (
            ["  policy: per-group", "  group_by: [paris, servers]"],
            (
                "p.yml:6:13: server s1 is in several groups of group_by: servers, paris; "
                "allowed: exactly one of paris, servers"
            ),
            "change the inventory's groups",
        ),
        (
            ["  policy: per-group", "  group_by: [paris, oslo]", "  key: {origin: server}"],
            (
                "p.yml:7:17: key.origin is server, but s1, s2 share the key of scope group:paris; "
                "a key that never leaves its server cannot be shared"
            ),
            "use policy per-server",
        ),
    ],
)
def test_what_does_not_fit_the_inventory_is_refused_at_the_line_to_change(
    lines: list[str], message: str, hint: str
) -> None:
    error = refusal(*lines)
    assert error.message.startswith(message)
    assert error.hint.startswith(hint)


def test_keys_made_on_servers_may_be_cut_by_groups_of_one_server() -> None:
    play = playbook_of(
        policy="per-group", group_by=["oslo"], servers="s3", agents="a2", key={"origin": "server"}
    )
    assert scopes_of(cut(play, FLEET, digest="d")) == {"group:oslo": ("s3",)}


def test_an_agent_that_would_listen_to_nobody_is_refused_at_its_variable() -> None:
    error = refusal("  servers: s1")
    assert error.message == (
        "hosts.yml:9:2: keyrelay_servers of host a2 is 's3', which selects no server of the playbook 'Test'; "
        "its servers are s1"
    )
    assert error.hint == "change the pattern, or leave the agent out: agents: agents:!a2"


def test_a_pattern_of_an_agent_that_names_nothing_is_refused_at_its_variable() -> None:
    fleet = inventory_of({"servers": ["s1"], "agents": ["a1"]}, {"a1": {"keyrelay_servers": "web"}})
    assert refusal(inventory=fleet).message.startswith(
        "hosts.yml:9:2: keyrelay_servers of host a1 is no pattern"
    )


def test_a_host_that_cannot_be_reached_as_written_is_refused() -> None:
    fleet = inventory_of({"servers": ["s1"], "agents": ["a1"]}, {"s1": {"ansible_port": 0}})
    assert refusal(inventory=fleet).message.startswith("hosts.yml:9:2: ansible_port of host s1 is 0")


@pytest.mark.parametrize(
    "other", [{"ansible_host": "192.0.2.1"}, {"ansible_host": "192.0.2.1", "ansible_port": 22}]
)
def test_two_names_for_one_machine_are_refused_with_the_lines_of_both(other: dict[str, Any]) -> None:
    fleet = inventory_of(
        {"servers": ["s1"], "agents": ["a1"]}, {"s1": {"ansible_host": "192.0.2.1"}, "a1": other}
    )
    assert refusal(inventory=fleet).message == (
        "hosts.yml:1: host a1 is at 192.0.2.1, port 22, with keyrelay_base /etc/keyrelay, and so is host s1 "
        "(hosts.yml:1); allowed: one name for each machine, or a keyrelay_base for each"
    )


@pytest.mark.parametrize(
    "apart",
    [
        {"ansible_port": 2222},
        {"keyrelay_base": "/opt/keyrelay"},
        {"ansible_ssh_common_args": "-o ProxyJump=gate.example"},
    ],
)
def test_one_address_may_have_several_hosts_that_can_be_told_apart(apart: dict[str, Any]) -> None:
    fleet = inventory_of(
        {"servers": ["s1"], "agents": ["a1"]},
        {"s1": {"ansible_host": "192.0.2.1"}, "a1": {"ansible_host": "192.0.2.1", **apart}},
    )
    assert sorted(cut(written(), fleet, digest="d").endpoints) == ["a1", "s1"]


def test_a_server_of_two_plays_is_refused() -> None:
    one = cut(playbook_of(name="One"), FLEET, digest="d")
    two = cut(playbook_of(name="Two", servers="s2", agents="a1"), FLEET, digest="d")
    with pytest.raises(RefusedError, match="server s2 is in two plays: 'One' and 'Two'"):
        refuse_overlap([one, two])
    refuse_overlap([one])


HOSTS = [f"h{number}" for number in range(8)]
SUBSETS = st.lists(st.sampled_from(HOSTS), min_size=1, unique=True)


@given(
    servers=SUBSETS,
    agents=SUBSETS,
    sites=st.lists(st.sampled_from(["north", "south", "west"]), min_size=8, max_size=8),
    hears=st.lists(
        st.sampled_from([None, "servers", "h0", "h1", "all:!h0", "north", "h*"]), min_size=8, max_size=8
    ),
    policy=st.sampled_from(list(Policy)),
)
def test_every_server_is_in_one_scope_and_every_agent_in_one_trust_set_or_the_reason_is_told(
    servers: list[str], agents: list[str], sites: list[str], hears: list[str | None], policy: Policy
) -> None:
    groups = {
        name: [host for host, site in zip(HOSTS, sites, strict=True) if site == name] for name in set(sites)
    }
    fleet = inventory_of(
        {"north": [], **groups, "servers": servers, "agents": agents},
        {host: {"keyrelay_servers": heard} for host, heard in zip(HOSTS, hears, strict=True) if heard},
    )
    listens = {
        agent: set(select(fleet, hears[HOSTS.index(agent)] or "servers")) & set(servers) for agent in agents
    }
    play = playbook_of(policy=str(policy), group_by=sorted(groups), certificate={"lifetime": "80d"})
    if not all(listens.values()):
        with pytest.raises(InputError, match="selects no server of the playbook"):
            cut(play, fleet, digest="d")
        return
    desired = cut(play, fleet, digest="d")
    assert sorted(desired.servers()) == sorted(servers)
    assert all(scope.servers for scope in desired.scopes)
    assert len({scope.name for scope in desired.scopes}) == len(desired.scopes)
    assert sorted(desired.agents()) == sorted(agents)
    assert len({trust_set.servers for trust_set in desired.trust_sets}) == len(desired.trust_sets)
    for trust_set in desired.trust_sets:
        assert all(listens[agent] == set(trust_set.servers) for agent in trust_set.agents)
    assert set(desired.endpoints) == {HostName(name) for name in [*servers, *agents]}


def test_a_hundred_thousand_agents_share_the_work_of_a_few_patterns() -> None:
    agents = [f"a{number}" for number in range(100_000)]
    variables = {agent: {"keyrelay_servers": f"s{number % 5}"} for number, agent in enumerate(agents)}
    fleet = inventory_of({"servers": [f"s{number}" for number in range(5)], "agents": agents}, variables)
    desired = cut(playbook_of(), fleet, digest="d")
    assert [len(trust_set.agents) for trust_set in desired.trust_sets] == [20_000] * 5


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "playbooks").glob("*.yml")), ids=lambda path: path.name
)
def test_a_shipped_playbook_fits_a_fleet_of_two_sites(path: Path) -> None:
    fleet = inventory_of(
        {
            "servers": ["s1", "s2", "s3"],
            "agents": ["a1", "a2"],
            "site_a": ["s1", "s3", "a1"],
            "site_b": ["s2", "a2"],
        }
    )
    (play,) = load_playbooks(path)
    desired = cut(play, fleet, digest=play.digest)
    assert sorted(desired.servers()) == ["s1", "s2", "s3"]
    assert len(desired.scopes) == {"shared": 1, "per-group": 2, "per-server": 3, "delegated": 3}[play.policy]
