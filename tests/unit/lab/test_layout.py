"""The lab's sizes, groups and record, without a process."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import LabError, UsageError
from orchestrator.lab.layout import MAX_HOSTS, HostOptions, Layout, check_size, network_for


def layout_of(servers: int, agents: int, sites: int) -> Layout:
    return Layout(
        servers=servers, agents=agents, sites=sites, user="root", port=2200, network="127.64.0",
        max_startups=10, options={},
    )  # fmt: skip


@given(st.integers(1, 32), st.integers(0, 32), st.integers(1, 26))
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
    network = network_for(Path(folder), attempt=attempt)
    assert ipaddress.ip_address(f"{network}.{MAX_HOSTS}") in ipaddress.ip_network("127.64.0.0/10")
    assert network == network_for(Path(folder), attempt=attempt)


def test_more_hosts_than_a_lab_holds_are_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"at most 64 hosts, each a real sshd process; .* 65 hosts") as error:
        check_size(servers=1, agents=64, sites=None)
    assert "fewer" in error.value.hint


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


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "complete": true}'])
def test_a_record_that_makes_no_sense_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(LabError, match=r"lab\.json: "):
        Layout.load(tmp_path / "lab.json")
