"""The lab, with the OpenSSH client and Ansible as witnesses."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import HostOptions, Lab, layout, machine, sshd
from orchestrator.lab.processes import Started
from tests.conftest import MakeLab


def run(lab: Lab, host: str, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(lab.ssh(host, command), capture_output=True, text=True, timeout=30, check=False)


def pids(lab: Lab) -> dict[str, int | None]:
    return {host.name: host.pid for host in lab.hosts}


def written(lab: Lab) -> dict[Path, int]:
    """When each file that clients and hosts read was last written."""
    files = (path for path in lab.directory.rglob("[!.]*") if path.name != "log")
    return {path: path.stat().st_mtime_ns for path in files}


def test_every_host_is_a_process_of_its_own_that_the_openssh_client_logs_in_to(lab: Lab) -> None:
    assert len({host.pid for host in lab.hosts}) == len({host.address for host in lab.hosts}) == 3
    for host in lab.hosts:
        answer = run(lab, host.name, "id -un; echo $SSH_CONNECTION; echo $HOME")
        user, connection, home = answer.stdout.splitlines()
        assert user == lab.user
        assert connection.split()[2:] == [host.address, str(host.port)]
        assert home == str(host.home)


def test_sixty_four_hosts_come_up_and_go_down(make_lab: MakeLab) -> None:
    lab = make_lab(servers=8, agents=56)
    assert all(sshd.answers(host.address, host.port) for host in lab.hosts)
    assert len(lab.down()) == 64
    assert not any(sshd.answers(host.address, host.port) for host in lab.hosts)


def test_a_host_lets_nobody_in_without_the_labs_key(lab: Lab) -> None:
    command = lab.ssh("server-01", "true")
    command[1:1] = ["-o", "PubkeyAuthentication=no"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Permission denied (publickey)" in answer.stderr


@pytest.mark.parametrize(
    "algorithm",
    ["Ciphers=aes128-cbc", "MACs=hmac-sha1", "KexAlgorithms=diffie-hellman-group14-sha1"],
)
def test_a_host_offers_modern_algorithms_alone(lab: Lab, algorithm: str) -> None:
    command = lab.ssh("server-01", "true")
    # Without the cipher, a MAC is not negotiated at all: the AEAD ciphers bring their own.
    command[1:1] = ["-o", algorithm, *(["-o", "Ciphers=aes128-ctr"] if algorithm.startswith("MAC") else [])]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "no matching" in answer.stderr


def test_ansible_reads_the_inventory_and_finds_servers_and_agents_dealt_to_sites(make_lab: MakeLab) -> None:
    lab = make_lab(servers=3, agents=5, sites=2)
    answer = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(lab.inventory_file), "--list"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    inventory = json.loads(answer.stdout)
    groups = {name: group["hosts"] for name, group in inventory.items() if "hosts" in group}
    assert groups == {
        "servers": ["server-01", "server-02", "server-03"],
        "agents": ["agent-001", "agent-002", "agent-003", "agent-004", "agent-005"],
        "site_a": ["server-01", "server-03", "agent-001", "agent-003", "agent-005"],
        "site_b": ["server-02", "agent-002", "agent-004"],
    }
    host = lab.host("agent-002")
    assert inventory["_meta"]["hostvars"]["agent-002"] == {
        "ansible_host": host.address,
        "ansible_port": host.port,
        "ansible_user": lab.user,
        "ansible_ssh_private_key_file": str(lab.key_file),
        "keyrelay_base": str(lab.directory / "hosts" / "agent-002" / "keyrelay"),
        "keyrelay_known_hosts": str(lab.known_hosts),
    }


def test_no_start_up_file_runs_in_a_session(lab: Lab) -> None:
    host = lab.host("agent-001")
    for name in (".bashrc", ".profile", ".bash_profile", ".zshenv", ".zshrc", ".tcshrc", ".cshrc"):
        (host.home / name).write_text("echo noise\n", encoding="ascii")
    assert run(lab, "agent-001", "echo answer").stdout == "answer\n"


def test_private_files_are_closed_whatever_the_umask(lab_folder: Path) -> None:
    old = os.umask(0)
    try:
        lab = Lab.up(lab_folder / "lab", servers=1, agents=0)
        lab.down()
    finally:
        os.umask(old)
    for path in lab.directory.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_folder_with_a_space_in_its_name_is_a_good_place_for_a_lab(lab_folder: Path) -> None:
    lab = Lab.up(lab_folder / "my lab", servers=1, agents=0)
    try:
        assert run(lab, "server-01", "echo $HOME").stdout.strip() == str(lab.host("server-01").home)
    finally:
        lab.down()


def test_bringing_up_a_lab_that_is_up_changes_nothing(lab: Lab) -> None:
    before = pids(lab), written(lab)
    again = Lab.up(lab.directory, servers=1, agents=2)
    assert again.started_now == ()
    assert before == (pids(lab), written(lab))


def test_bringing_up_starts_only_the_hosts_that_do_not_run(lab: Lab) -> None:
    before = pids(lab)
    lab.stop("agent-001")
    assert lab.host("agent-001").pid is None
    assert Lab.up(lab.directory, servers=1, agents=2).started_now == ("agent-001",)
    assert {name: pid for name, pid in pids(lab).items() if before[name] != pid}.keys() == {"agent-001"}


def test_a_lab_comes_up_again_with_its_keys_and_its_hosts_data(lab: Lab) -> None:
    run(lab, "server-01", f"mkdir {lab.host('server-01').base}")
    known = lab.known_hosts.read_bytes()
    lab.down()
    again = Lab.up(lab.directory, servers=1, agents=2)
    assert again.known_hosts.read_bytes() == known
    assert again.host("server-01").base.is_dir()


def test_a_lab_that_came_up_only_in_part_is_cleared_away_first(lab: Lab) -> None:
    record = lab.directory / "lab.json"
    record.write_text(record.read_text().replace('"complete": true', '"complete": false'))
    before = set(pids(lab).values())
    again = Lab.up(lab.directory, servers=1, agents=2)
    assert len(again.started_now) == 3
    assert before.isdisjoint(pids(again).values())


def test_a_lab_of_another_size_is_refused_and_left_alone(lab: Lab) -> None:
    before = pids(lab)
    with pytest.raises(
        LabError, match=r"already holds a lab of 1 server, 2 agents, 1 site .* not of 2 servers"
    ):
        Lab.up(lab.directory, servers=2, agents=2)
    assert pids(lab) == before


def test_a_folder_with_a_foreign_inventory_is_left_alone(lab_folder: Path) -> None:
    (lab_folder / "inventory.yml").write_text("all: {}\n")
    with pytest.raises(LabError, match="no lab's"):
        Lab.up(lab_folder, servers=1, agents=0)


def test_a_folder_that_others_can_write_to_is_refused(lab_folder: Path) -> None:
    lab_folder.chmod(0o777)
    with pytest.raises(LabError, match="other users can change"):
        Lab.up(lab_folder / "lab", servers=1, agents=0)


def test_a_folder_that_cannot_be_made_is_named(lab_folder: Path) -> None:
    (lab_folder / "file").touch()
    with pytest.raises(LabError, match="cannot be written"):
        Lab.up(lab_folder / "file" / "lab", servers=1, agents=0)


def test_a_machine_without_sshd_is_told_what_to_install(
    lab_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(lab_folder))
    monkeypatch.setattr(machine, "SBIN", "")
    with pytest.raises(LabError, match="sshd is not installed") as error:
        Lab.up(lab_folder / "lab", servers=1, agents=0)
    assert "openssh-server" in error.value.hint


def test_a_port_that_is_taken_everywhere_is_named(lab_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with socket.create_server(("", port)), pytest.raises(LabError, match=f"port {port} is taken"):
        Lab.up(lab_folder / "lab", servers=1, agents=0, port=port)


def test_a_lab_listens_on_the_port_that_was_asked_for(make_lab: MakeLab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    lab = make_lab(servers=1, agents=0, port=port)
    assert lab.host("server-01").port == port
    with pytest.raises(LabError, match="runs on port"):
        Lab.up(lab.directory, servers=1, agents=0, port=port - 1)


def test_a_lab_moves_to_other_addresses_when_its_own_are_taken(
    lab: Lab, make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = lab.host("server-01")
    network = taken.address.rpartition(".")[0]
    real = layout.network_for
    monkeypatch.setattr(
        "orchestrator.lab.settling.network_for",
        lambda folder, *, attempt, hosts: (
            network if attempt == 0 else real(folder, attempt=attempt, hosts=hosts)
        ),
    )
    other = make_lab(servers=1, agents=0, port=taken.port)
    assert other.host("server-01").port == taken.port
    assert other.host("server-01").address != taken.address
    assert run(other, "server-01", "echo $HOME").stdout.strip() == str(other.host("server-01").home)


def test_a_host_whose_sshd_refuses_its_configuration_is_named_and_no_host_is_left(make_lab: MakeLab) -> None:
    with pytest.raises(LabError, match=r"agent-001: sshd does not answer .*NoSuchOption") as error:
        make_lab(servers=1, agents=1, options={"agent-001": HostOptions(config=("NoSuchOption yes",))})
    assert "log" in error.value.hint
    lab = Lab(Path(error.value.hint.removeprefix("its log is ")).parents[2])
    assert set(pids(lab).values()) == {None}


def test_an_sshd_that_was_started_and_could_not_be_noted_is_ended(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.stop("agent-001")
    spawned: list[Started] = []

    def fail(started: Started, file: Path) -> None:
        spawned.append(started)
        raise LabError(f"{file}: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Started, "save", fail)
        with pytest.raises(LabError, match="the disk is full"):
            lab.start("agent-001")
    assert [started.running for started in spawned] == [False]


def test_a_host_that_never_answers_leaves_no_sshd_behind(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.stop("agent-001")
    with monkeypatch.context() as patch:
        patch.setattr(sshd, "answers", lambda *_, **__: False)
        patch.setattr("orchestrator.lab.daemons._ANSWER_S", 0.1)
        with pytest.raises(LabError, match="agent-001: sshd does not answer"):
            lab.start("agent-001")
    assert lab.host("agent-001").pid is None
    lab.start("agent-001")
    assert run(lab, "agent-001", "echo up").stdout == "up\n"


def test_a_stopped_host_refuses_connections_and_ends_its_sessions(lab: Lab) -> None:
    with subprocess.Popen(lab.ssh("agent-001", "echo in; exec sleep 600"), stdout=subprocess.PIPE) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"in\n"
        lab.stop("agent-001")
        assert session.wait(timeout=30) == 255
    host = lab.host("agent-001")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host.address, host.port))
    assert run(lab, "agent-002", "echo up").stdout == "up\n"
    lab.start("agent-001")
    assert run(lab, "agent-001", "echo up").stdout == "up\n"


def test_a_frozen_host_accepts_and_says_nothing_until_it_is_thawed(lab: Lab) -> None:
    host = lab.host("agent-001")
    lab.freeze("agent-001")
    with socket.create_connection((host.address, host.port), timeout=0.2) as connection:
        with pytest.raises(TimeoutError):
            connection.recv(4)
        lab.thaw("agent-001")
        connection.settimeout(30)
        assert connection.recv(4) == b"SSH-"


def test_a_frozen_host_can_be_brought_down(lab: Lab) -> None:
    lab.freeze("agent-001")
    assert lab.down() == ("server-01", "agent-001", "agent-002")


def test_a_host_with_a_new_key_is_refused_until_the_key_is_accepted(lab: Lab) -> None:
    lab.replace_host_key("server-01")
    assert "Host key verification failed" in run(lab, "server-01", "true").stderr
    lab.accept_host_keys()
    assert run(lab, "server-01", "true").returncode == 0


def test_hosts_can_differ_in_environment_shell_and_command(make_lab: MakeLab) -> None:
    lab = make_lab(
        servers=1,
        agents=3,
        options={
            "agent-001": HostOptions(environment={"PATH": "/nowhere"}),
            "agent-002": HostOptions(force_command="echo forced"),
            "agent-003": HostOptions(config=("Banner none", "PermitTTY no"), login_shell="/bin/dash"),
        },
    )
    assert run(lab, "agent-001", "echo $PATH").stdout == "/nowhere\n"
    assert run(lab, "agent-002", "echo mine").stdout == "forced\n"
    assert run(lab, "agent-003", 'readlink /proc/$$/exe; echo "a  b"').stdout.endswith("dash\na  b\n")


def test_options_for_hosts_that_do_not_exist_are_refused(lab_folder: Path) -> None:
    with pytest.raises(UsageError, match="agent-009"):
        Lab.up(lab_folder / "lab", servers=1, agents=0, options={"agent-009": HostOptions()})


def test_a_host_that_the_lab_does_not_have_is_refused_with_those_it_has(lab: Lab) -> None:
    with pytest.raises(UsageError, match=r"no host 'server-02'; it has server-01, agent-001, agent-002"):
        lab.stop("server-02")


def test_down_ends_nothing_that_the_lab_did_not_start(lab: Lab) -> None:
    """A pid file may name a process that came after; a start time and a command line tell them apart."""
    pid_file = lab.directory / "control" / "agent-001" / "pid"
    config = pid_file.with_name("sshd_config")
    own = Started.load(pid_file, marker=config)
    assert own is not None
    with subprocess.Popen(["sleep", "600"]) as stranger:
        ticks = int(Path(f"/proc/{stranger.pid}/stat").read_text().split()[21])
        for false_ticks in (ticks, own.start_ticks):
            Started(pid=stranger.pid, start_ticks=false_ticks, marker=str(config)).save(pid_file)
            assert "agent-001" not in lab.down()
            assert stranger.poll() is None
        stranger.terminate()
    assert own.running
    own.save(pid_file)
    assert lab.down() == ("agent-001",)


def test_a_damaged_pid_file_means_that_no_process_is_known(lab: Lab) -> None:
    pid_file = lab.directory / "control" / "agent-001" / "pid"
    saved = pid_file.read_text()
    pid_file.write_text("no number")
    assert lab.host("agent-001").pid is None
    pid_file.write_text(saved)


def test_an_ordinary_user_has_a_lab_of_their_own(make_lab: MakeLab, ordinary_user: str) -> None:
    lab = make_lab(servers=1, agents=1, user=ordinary_user)
    host = lab.host("agent-001")
    answer = run(lab, "agent-001", f"id -un; mkdir {host.base} && echo made; cat /etc/shadow")
    assert answer.stdout == f"{ordinary_user}\nmade\n"
    assert "Permission denied" in answer.stderr
    assert host.base.owner() == ordinary_user
    assert Path(f"/proc/{host.pid}").owner() == ordinary_user


def test_an_ordinary_user_who_cannot_enter_the_folder_is_named(lab_folder: Path, ordinary_user: str) -> None:
    lab_folder.chmod(0o700)
    with pytest.raises(LabError, match=f"{ordinary_user} cannot enter"):
        Lab.up(lab_folder / "lab", servers=1, agents=0, user=ordinary_user)


def test_a_user_who_does_not_exist_is_refused(lab_folder: Path) -> None:
    with pytest.raises(UsageError, match="nobody-at-all"):
        Lab.up(lab_folder / "lab", servers=1, agents=0, user="nobody-at-all")


def test_a_folder_without_a_lab_is_named(lab_folder: Path) -> None:
    with pytest.raises(LabError, match="there is no lab here"):
        Lab(lab_folder)


def test_a_lab_whose_lock_cannot_be_opened_is_named(lab: Lab) -> None:
    lock = lab.directory / ".lock"
    lock.unlink()
    lock.mkdir()
    with pytest.raises(LabError, match="cannot be changed: Is a directory"):
        lab.down()
    lock.rmdir()


def test_root_without_the_privilege_separation_folder_is_told(
    lab_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lab_folder / "file").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine, "_PRIVILEGE_SEPARATION", lab_folder / "file" / "sshd")
    with pytest.raises(LabError, match="root's sshd needs this folder"):
        machine.prepare()
