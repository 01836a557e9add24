"""The lab's sizes, groups and record, without a process."""

import ipaddress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import LabError, UsageError
from orchestrator.lab.layout import MAX_HOSTS, Layout, behind_by_site, check_size, network_for, site_name
from orchestrator.lab.options import HostOptions


def layout_of(
    servers: int, agents: int, sites: int, jump_hosts: int = 0, options: dict[str, HostOptions] | None = None
) -> Layout:
    return Layout(
        servers=servers, agents=agents, sites=sites, user="root", port=2200, network="127.64.0",
        max_startups=10, options=options or {}, jump_hosts=jump_hosts,
    )  # fmt: skip


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 40))
def test_each_server_is_in_exactly_one_site_and_no_site_is_without_a_server(
    servers: int, agents: int, sites: int
) -> None:
    if sites > servers:
        with pytest.raises(UsageError, match="each site needs a server"):
            check_size(servers=servers, agents=agents, sites=sites)
        return
    layout = layout_of(servers, agents, check_size(servers=servers, agents=agents, sites=sites))
    groups = [layout.groups(name) for name in layout.names]
    assert [role for role, _ in groups] == ["servers"] * servers + ["agents"] * agents
    assert len({site for role, site in groups if role == "servers"}) == sites
    counts = [sum(site == other for _, other in groups) for site in {site for _, site in groups}]
    assert max(counts) - min(counts) <= 2


@given(st.text(min_size=1), st.integers(0, 7))
def test_every_address_is_a_loopback_address(folder: str, attempt: int) -> None:
    for hosts in (1, 254, 255, MAX_HOSTS + 16):
        network = network_for(Path(folder), attempt=attempt, hosts=hosts)
        block = ipaddress.ip_network(f"{network}.0/{24 if hosts <= 254 else 22}")
        assert isinstance(block, ipaddress.IPv4Network)
        assert block.subnet_of(ipaddress.IPv4Network("127.64.0.0/10"))
        assert hosts <= block.num_addresses - 2
        assert network == network_for(Path(folder), attempt=attempt, hosts=hosts)


@given(st.integers(1, 1000), st.integers(0, 16), st.integers(0, 3))
def test_every_host_has_one_address_and_one_sshd_of_at_most_sixteen(
    count: int, jumps: int, sites: int
) -> None:
    layout = layout_of(min(count, 5), max(0, count - 5), min(count, 3), jump_hosts=jumps)
    sites = min(sites, layout.sites, jumps)
    layout = replace(layout, options=behind_by_site(layout, sites))
    assert len({layout.address(name) for name in layout.everyone}) == count + jumps
    assert sorted(host for each in layout.daemons for host in each.hosts) == sorted(layout.everyone)
    assert max(len(each.hosts) for each in layout.daemons) <= (1 if count <= 64 else 16)
    for daemon in layout.daemons:
        assert {layout.option(host).behind for host in daemon.hosts} == {daemon.behind}


def test_the_last_sites_are_behind_jump_hosts_of_their_own() -> None:
    layout = layout_of(3, 3, 3, jump_hosts=2, options={"agent-003": HostOptions(busybox=True)})
    options = behind_by_site(layout, 2)
    assert {name: option.behind for name, option in options.items()} == {
        "server-02": "jump-01", "agent-002": "jump-01", "server-03": "jump-02", "agent-003": "jump-02",
    }  # fmt: skip
    assert options["agent-003"].busybox
    with pytest.raises(UsageError, match="4 sites behind jump hosts, of 3 in all"):
        behind_by_site(layout, 4)


def test_a_host_behind_two_jump_hosts_is_reached_through_both_in_order() -> None:
    options = {"jump-02": HostOptions(behind="jump-01"), "agent-001": HostOptions(behind="jump-02")}
    layout = layout_of(1, 1, 1, jump_hosts=2, options=options)
    assert layout.jumps_to("agent-001") == ("jump-01", "jump-02")
    assert layout.jumps_to("jump-02") == ("jump-01",)
    assert layout.jumps_to("server-01") == layout.groups("jump-01") == ()
    assert layout.size == "1 server, 1 agent, 1 site, 2 jump hosts"


def test_sites_are_named_by_letters() -> None:
    assert [site_name(index) for index in (0, 25, 26, 51, 52)] == [
        "site_a", "site_z", "site_aa", "site_az", "site_ba",
    ]  # fmt: skip


def test_a_large_lab_has_a_site_for_each_fifty_hosts_but_none_without_a_server() -> None:
    assert check_size(servers=50, agents=950, sites=None) == 20
    assert check_size(servers=5, agents=995, sites=None) == 5


@pytest.mark.parametrize(("agents", "jump_hosts", "words"), [(1000, 0, "1000 hosts"), (1, 17, "16 jump")])
def test_more_hosts_than_a_lab_holds_are_refused(agents: int, jump_hosts: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_size(servers=1, agents=agents, sites=None, jump_hosts=jump_hosts)


@pytest.mark.parametrize(("servers", "agents"), [(0, 0), (-1, 5), (5, -1)])
def test_a_lab_without_hosts_is_refused(servers: int, agents: int) -> None:
    with pytest.raises(UsageError, match="has no hosts"):
        check_size(servers=servers, agents=agents, sites=None)


@pytest.mark.parametrize(("servers", "sites"), [(0, 1), (1, 1), (2, 2), (9, 2)])
def test_two_sites_are_the_default_where_there_are_servers_for_them(servers: int, sites: int) -> None:
    assert check_size(servers=servers, agents=1, sites=None) == sites


def test_the_record_gives_back_what_was_saved(tmp_path: Path) -> None:
    options = {"agent-001": HostOptions(environment={"PATH": "/bin"}, config=("Banner none",))}
    layout = Layout(
        servers=1, agents=1, sites=1, user="root", port=2200, network="127.64.0", max_startups=10,
        options=options,
    )  # fmt: skip
    layout.save(tmp_path / "lab.json", complete=True)
    assert Layout.load(tmp_path / "lab.json") == (layout, True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 2, "complete": true}'])
def test_a_record_that_makes_no_sense_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(LabError, match=r"lab\.json: "):
        Layout.load(tmp_path / "lab.json")
