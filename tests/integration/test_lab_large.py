"""A lab of more than 64 hosts, in which 16 share an sshd."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import HostOptions, Lab, sshd
from tests.conftest import MakeLab


def run(lab: Lab, host: str, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(lab.ssh(host, command), capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def large(make_lab: MakeLab) -> Lab:
    """Eighty hosts, five sshds."""
    return make_lab(servers=5, agents=75)


def test_sixteen_hosts_share_an_sshd_and_each_has_its_own_address_home_and_base(large: Lab) -> None:
    pids = [host.pid for host in large.hosts]
    assert None not in pids
    assert {pids.count(pid) for pid in pids} == {16}
    for name in ("server-01", "agent-011", "agent-012", "agent-075"):
        host = large.host(name)
        connection, home = run(large, name, "echo $SSH_CONNECTION; echo $HOME").stdout.splitlines()
        assert connection.split()[2] == host.address
        assert home == str(host.home)
    assert len({host.base for host in large.hosts}) == len({host.address for host in large.hosts}) == 80


@pytest.mark.parametrize("action", ["start", "stop", "freeze", "thaw", "replace_host_key"])
def test_nothing_is_done_to_one_host_of_an_sshd_that_others_share(large: Lab, action: str) -> None:
    before = [host.pid for host in large.hosts]
    with pytest.raises(UsageError, match="agent-001 shares its sshd with 15 other hosts") as error:
        getattr(large, action)("agent-001")
    assert "at most 64 hosts" in error.value.hint
    assert [host.pid for host in large.hosts] == before


def test_a_host_that_does_not_exist_is_refused_without_naming_all_that_do(large: Lab) -> None:
    with pytest.raises(UsageError, match=r"no host 'agent-076'; it has server-01 … agent-075$"):
        large.host("agent-076")


def test_hosts_that_share_an_sshd_can_differ(make_lab: MakeLab) -> None:
    options = {
        "agent-001": HostOptions(environment={"PATH": "/nowhere"}),
        "agent-002": HostOptions(force_command="echo forced"),
        "agent-003": HostOptions(busybox=True),
    }
    lab = make_lab(servers=1, agents=69, options=options)
    assert run(lab, "agent-001", "echo $PATH").stdout == "/nowhere\n"
    assert run(lab, "agent-002", "echo mine").stdout == "forced\n"
    assert run(lab, "agent-003", "readlink /proc/$$/exe").stdout.endswith("/busybox\n")
    assert run(lab, "agent-004", "echo mine").stdout == "mine\n"


@pytest.mark.usefixtures("networks")
def test_whole_sites_of_a_large_lab_are_behind_jump_hosts(make_lab: MakeLab) -> None:
    lab = make_lab(servers=4, agents=66, sites=2, jump_sites=1)
    behind = [host for host in lab.hosts if host.jumps == ("jump-01",)]
    assert len(behind) == 35
    assert {host.pid for host in behind}.isdisjoint(host.pid for host in lab.hosts if not host.jumps)
    assert run(lab, behind[-1].name, "echo $HOME").stdout.strip() == str(behind[-1].home)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((behind[-1].address, behind[-1].port))


def test_a_line_that_cannot_differ_between_hosts_of_one_sshd_is_named(make_lab: MakeLab) -> None:
    with pytest.raises(LabError, match=r"'MaxStartups' is not allowed within a Match block"):
        make_lab(servers=1, agents=69, options={"agent-001": HostOptions(config=("MaxStartups 1",))})


def test_a_thousand_hosts_come_up_and_go_down(make_lab: MakeLab) -> None:
    lab = make_lab(servers=50, agents=950)
    hosts = lab.hosts
    assert len({host.pid for host in hosts}) == 63
    assert not any(sshd.is_free(host.address, host.port) for host in hosts)
    assert len({site for host in hosts for site in host.groups if site.startswith("site")}) == 20
    assert all(sshd.answers(host.address, host.port) for host in hosts[::100])
    assert len(lab.down()) == 1000
    assert all(sshd.is_free(host.address, host.port) for host in hosts)


def test_an_sshd_that_leaves_a_host_out_is_not_believed(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sshd lives on if only some of its addresses can be bound."""
    real = os.posix_spawn

    def leave_one_out(path: str, arguments: list[str], *rest: object, **named: object) -> int:
        config = Path(arguments[arguments.index("-f") + 1])
        other = "ListenAddress 127.127.127.127:"
        config.write_text(re.sub(r"ListenAddress 127\.\d+\.\d+\.6:", other, config.read_text()))
        return real(path, arguments, *rest, **named)  # type: ignore[arg-type]  # passed on as they come

    monkeypatch.setattr(os, "posix_spawn", leave_one_out)
    with pytest.raises(LabError, match=r"agent-001: sshd does not answer on 127\.\d+\.\d+\.6 "):
        make_lab(servers=5, agents=75)
