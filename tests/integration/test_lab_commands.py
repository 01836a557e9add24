"""``keyrelay lab``."""

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.errors import LabError, UsageError
from orchestrator.inventory.endpoints import Become
from orchestrator.inventory.model import HostName
from orchestrator.inventory.yaml_files import load
from orchestrator.lab import Lab


@pytest.fixture
def folder(lab_folder: Path) -> Iterator[str]:
    """Where a lab will be, which ends with the test."""
    yield str(lab_folder / "lab")
    if (lab_folder / "lab" / "lab.json").exists():
        Lab(lab_folder / "lab").down()


def kill_and_wait(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], 60)[0]
    finally:
        os.close(descriptor)


def test_the_commands_bring_a_lab_up_show_it_and_bring_it_down(folder: str) -> None:
    cli = CliRunner()
    up = cli.invoke(app, ["lab", "up", folder, "--servers", "1", "--agents", "1"], catch_exceptions=False)
    assert "The lab is up: 1 server, 1 agent, 1 site; 2 hosts started." in up.stdout
    again = cli.invoke(app, ["lab", "up", folder, "--servers", "1", "--agents", "1"], catch_exceptions=False)
    assert "Nothing changed" in again.stdout
    kill_and_wait(Lab(Path(folder)).host("agent-001").pid or 0)
    table = cli.invoke(app, ["lab", "status", folder], catch_exceptions=False).stdout
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [
        ["server-01", "running"],
        ["agent-001", "stopped"],
    ]
    shown = json.loads(cli.invoke(app, ["lab", "status", folder, "--json"], catch_exceptions=False).stdout)
    assert [(host["name"], host["running"]) for host in shown["hosts"]] == [
        ("server-01", True),
        ("agent-001", False),
    ]
    up_json = cli.invoke(
        app, ["lab", "up", folder, "--servers", "1", "--agents", "1", "--json"], catch_exceptions=False
    )
    assert json.loads(up_json.stdout)["started"] == ["agent-001"]
    down = cli.invoke(app, ["lab", "down", folder], catch_exceptions=False)
    assert down.stdout == "The lab is down: 2 of 2 hosts were running.\n"


def test_a_lab_may_have_hosts_with_busybox_alone_and_keeps_their_kind(folder: str) -> None:
    cli = CliRunner()
    size = ["lab", "up", folder, "--servers", "0", "--agents", "2", "--busybox", "agent-002"]
    assert "2 hosts started" in cli.invoke(app, size, catch_exceptions=False).stdout
    lab = Lab(Path(folder))
    shells = [
        subprocess.run(
            lab.ssh(name, "ls --help 2>&1 | head -1"), check=True, capture_output=True, text=True
        ).stdout
        for name in ("agent-001", "agent-002")
    ]
    assert ["BusyBox" in shell for shell in shells] == [False, True]
    assert cli.invoke(app, size, catch_exceptions=False).exit_code == 0
    with pytest.raises(LabError, match="agent-001 is another kind of host there"):
        cli.invoke(app, [*size[:-1], "agent-001"], catch_exceptions=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's labs let other accounts in")
def test_a_lab_may_let_another_account_in_that_becomes_root(folder: str, sudoer: str) -> None:
    cli = CliRunner()
    size = ["lab", "up", folder, "--servers", "0", "--agents", "1", "--sudo", sudoer]
    assert "1 host started" in cli.invoke(app, size, catch_exceptions=False).stdout
    endpoint = load([Path(folder) / "inventory.yml"]).endpoint(HostName("agent-001"))
    assert (endpoint.user, endpoint.become) == (sudoer, Become())
    with pytest.raises(UsageError, match="no sudo"):
        cli.invoke(app, [*size, "--busybox", "agent-001"], catch_exceptions=False)
