"""Hosts of the lab that are reached in other ways: through jump hosts, as another user, by IPv6."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import LabError
from orchestrator.lab import HostOptions, Lab, networks
from orchestrator.lab.paths import DaemonFiles
from tests.conftest import SUDO_PASSWORD, MakeLab

CHAIN = {
    "jump-02": HostOptions(behind="jump-01"),
    "agent-001": HostOptions(behind="jump-01"),
    "agent-002": HostOptions(behind="jump-02"),
}


def run(lab: Lab, host: str, command: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        lab.ssh(host, command), input=given, capture_output=True, text=True, timeout=60, check=False
    )


def variables(lab: Lab) -> dict[str, dict[str, Any]]:
    """What Ansible makes of the inventory, by host."""
    answer = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(lab.inventory_file), "--list"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    hosts: dict[str, dict[str, Any]] = json.loads(answer.stdout)["_meta"]["hostvars"]
    return hosts


@pytest.fixture
def chain(make_lab: MakeLab, networks: None) -> Lab:
    """One agent behind a jump host, another behind a second jump host that is behind the first."""
    del networks
    return make_lab(servers=1, agents=2, jump_hosts=2, options=CHAIN)


def test_hosts_behind_jump_hosts_are_reached_through_them_alone(chain: Lab) -> None:
    assert [host.jumps for host in chain.hosts] == [(), ("jump-01",), ("jump-01", "jump-02")]
    for host in chain.hosts[1:]:
        assert run(chain, host.name, "echo $HOME").stdout.strip() == str(host.home)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host.address, host.port))
    hidden = chain.host("agent-002")
    look = run(chain, "jump-01", f"bash -c 'exec 3<>/dev/tcp/{hidden.address}/{hidden.port}'")
    assert "Connection refused" in look.stderr, "the first jump host sees what is behind the second"


def test_the_inventory_names_the_jump_hosts_on_the_way(chain: Lab) -> None:
    found = variables(chain)
    one, two = (f"root@{host.address}:{host.port}" for host in chain.jump_hosts)
    assert found["agent-001"]["ansible_ssh_common_args"] == f"-J {one}"
    assert found["agent-002"]["ansible_ssh_common_args"] == f"-J {one},{two}"
    assert "ansible_ssh_common_args" not in found["server-01"]
    assert found.keys() == {"server-01", "agent-001", "agent-002"}


def test_without_its_jump_host_a_host_is_not_reached(chain: Lab) -> None:
    chain.stop("jump-01")
    assert chain.host("agent-001").pid is not None
    answer = run(chain, "agent-001", "true")
    assert "Connection refused" in answer.stderr
    chain.start("jump-01")
    assert run(chain, "agent-002", "echo back").stdout == "back\n"


def test_a_host_behind_a_jump_host_can_be_stopped_started_and_replaced(chain: Lab) -> None:
    chain.stop("agent-002")
    assert "Connection refused" in run(chain, "agent-002", "true").stderr
    chain.start("agent-002")
    assert run(chain, "agent-002", "echo back").stdout == "back\n"
    chain.replace_host_key("agent-002")
    assert "Host key verification failed" in run(chain, "agent-002", "true").stderr


def test_nothing_of_a_lab_with_jump_hosts_is_left_when_it_is_down(chain: Lab) -> None:
    keepers = [
        networks.started(DaemonFiles(control=chain.directory / "control" / jump.name))
        for jump in chain.jump_hosts
    ]
    assert all(keeper is not None and keeper.running for keeper in keepers)
    assert len(chain.down()) == 5
    assert not any(keeper is not None and keeper.running for keeper in keepers)
    again = Lab.up(chain.directory, servers=1, agents=2, jump_hosts=2)
    assert run(again, "agent-002", "echo back").stdout == "back\n"


@pytest.mark.usefixtures("networks")
def test_a_host_behind_a_jump_host_that_does_not_come_up_leaves_nothing(make_lab: MakeLab) -> None:
    broken = HostOptions(behind="jump-01", config=("NoSuchOption yes",))
    with pytest.raises(LabError, match=r"agent-001: sshd does not answer .*NoSuchOption") as error:
        make_lab(servers=1, agents=1, jump_hosts=1, options={"agent-001": broken})
    folder = Path(error.value.hint.removeprefix("its log is ")).parents[2]
    assert {host.pid for host in Lab(folder).hosts + Lab(folder).jump_hosts} == {None}
    assert networks.started(DaemonFiles(control=folder / "control" / "jump-01")) is None


@pytest.mark.usefixtures("networks")
def test_whole_sites_can_be_behind_jump_hosts(make_lab: MakeLab) -> None:
    lab = make_lab(servers=2, agents=2, sites=2, jump_sites=1)
    assert {host.name: host.jumps for host in lab.hosts} == {
        "server-01": (), "agent-001": (), "server-02": ("jump-01",), "agent-002": ("jump-01",),
    }  # fmt: skip
    assert run(lab, "server-02", "echo in").stdout == "in\n"


def test_a_network_that_is_gone_is_an_error() -> None:
    with pytest.raises(LabError, match="cannot be entered"):
        networks.seen_from(0, lambda: None)


def test_a_user_becomes_root_by_sudo_unasked(make_lab: MakeLab, sudoer: str) -> None:
    option = HostOptions(user=sudoer, variables={"ansible_become": True})
    lab = make_lab(servers=1, agents=1, options={"agent-001": option})
    assert run(lab, "agent-001", "id -un; sudo -n id -un; echo $HOME; : >$HOME/mine").stdout.split() == [
        sudoer, "root", str(lab.host("agent-001").home),
    ]  # fmt: skip
    base = lab.host("agent-001").base
    assert "Permission denied" in run(lab, "agent-001", f"mkdir {base}").stderr
    assert run(lab, "agent-001", f"sudo -n mkdir {base}").returncode == 0
    assert base.owner() == "root"
    assert run(lab, "server-01", "id -un").stdout == "root\n"
    found = variables(lab)
    assert (found["agent-001"]["ansible_user"], found["agent-001"]["ansible_become"]) == (sudoer, True)


def test_a_user_becomes_root_by_sudo_with_the_password_alone(make_lab: MakeLab, asked_sudoer: str) -> None:
    lab = make_lab(servers=1, agents=0, options={"server-01": HostOptions(user=asked_sudoer)})
    assert "a password is required" in run(lab, "server-01", "sudo -n id -un").stderr
    for _ in range(2):
        answer = run(lab, "server-01", "sudo -S -p asked: id -un", SUDO_PASSWORD + "\n")
        assert answer.stdout == "root\n"
        assert "asked:" in answer.stderr
    assert run(lab, "server-01", "sudo -S -p '' id -un", "wrong\n").returncode != 0


def test_a_user_becomes_root_by_doas(make_lab: MakeLab, doas_user: str) -> None:
    lab = make_lab(servers=1, agents=0, options={"server-01": HostOptions(user=doas_user)})
    assert run(lab, "server-01", "id -un; doas -n id -un").stdout.split() == [doas_user, "root"]


def test_a_host_that_lets_another_user_in_lets_root_not_in(make_lab: MakeLab, sudoer: str) -> None:
    lab = make_lab(servers=1, agents=0, options={"server-01": HostOptions(user=sudoer)})
    command = lab.ssh("server-01", "true")
    command[1:1] = ["-l", "root"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Permission denied" in answer.stderr


def test_a_user_who_cannot_enter_the_labs_folder_is_named(
    make_lab: MakeLab, lab_folder: Path, sudoer: str
) -> None:
    lab_folder.chmod(0o700)
    with pytest.raises(LabError, match=f"{sudoer} cannot enter {lab_folder}"):
        make_lab(servers=1, agents=0, options={"server-01": HostOptions(user=sudoer)})


def test_a_host_with_busybox_alone_has_its_applets_and_openssl(make_lab: MakeLab) -> None:
    lab = make_lab(servers=1, agents=0, options={"server-01": HostOptions(busybox=True)})
    shell = run(lab, "server-01", "readlink /proc/$$/exe; type dd openssl; openssl version; type python3 ssh")
    programs = lab.host("server-01").home.with_name("bin")
    lines = shell.stdout.splitlines()
    assert lines[0].endswith("/busybox")
    assert lines[1:3] == [f"dd is {programs}/dd", f"openssl is {programs}/openssl"]
    assert lines[3].startswith("OpenSSL")
    assert "python3: not found" in shell.stdout + shell.stderr


@pytest.mark.usefixtures("ipv6")
def test_a_host_listens_on_the_ipv6_loopback(make_lab: MakeLab) -> None:
    lab = make_lab(servers=1, agents=1, options={"agent-001": HostOptions(ipv6=True)})
    host = lab.host("agent-001")
    assert run(lab, "agent-001", "echo $SSH_CONNECTION").stdout.split()[2:] == ["::1", str(host.port)]
    assert variables(lab)["agent-001"]["ansible_host"] == "::1"
    assert f"[::1]:{host.port} ssh-ed25519" in lab.known_hosts.read_text()
