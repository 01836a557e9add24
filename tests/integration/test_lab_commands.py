"""``keyrelay lab``."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.lab import Lab


@pytest.fixture
def folder(lab_folder: Path) -> Iterator[str]:
    """Where a lab will be, which ends with the test."""
    yield str(lab_folder / "lab")
    if (lab_folder / "lab" / "lab.json").exists():
        Lab(lab_folder / "lab").down()


def test_the_commands_bring_a_lab_up_show_it_and_bring_it_down(folder: str) -> None:
    cli = CliRunner()
    up = cli.invoke(app, ["lab", "up", folder, "--servers", "1", "--agents", "1"], catch_exceptions=False)
    assert "The lab is up: 1 server, 1 agent, 1 site; 2 hosts started." in up.stdout
    again = cli.invoke(app, ["lab", "up", folder, "--servers", "1", "--agents", "1"], catch_exceptions=False)
    assert "Nothing changed" in again.stdout
    os.kill(Lab(Path(folder)).host("agent-001").pid or 0, signal.SIGKILL)
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
