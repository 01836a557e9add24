"""Controllers that are alive, killed, or killed and not yet buried, and what another takes them for."""

import getpass
import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orchestrator.cli.machine import SystemController
from tests.faults.program import unmeasured

TELL_NAME = """
import sys
from orchestrator.cli.machine import SystemController
print(SystemController().name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """Another controller; it lives until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", TELL_NAME],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=unmeasured(),
    ) as process:
        yield process


def name_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_controller_that_runs_is_not_gone(other: subprocess.Popen[str]) -> None:
    assert not SystemController().is_gone(name_of(other))


def test_a_controller_that_was_killed_is_gone_though_its_parent_has_not_noticed(
    other: subprocess.Popen[str],
) -> None:
    name = name_of(other)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert SystemController().is_gone(name)
    other.wait()
    assert SystemController().is_gone(name)


def test_a_controller_is_told_in_words_a_person_can_follow(other: subprocess.Popen[str]) -> None:
    name = name_of(other)
    told = SystemController().described(name)
    assert told.startswith(f"process {other.pid} of {getpass.getuser()} on {platform.node()} (")
    elsewhere = SystemController().described("admin1:1f0c9a52:4026531836:812:94731")
    assert elsewhere == "process 812 on admin1"
    assert SystemController().described("controller-2") == "controller-2"
    other.kill()
    other.wait()
    assert SystemController().described(name) == f"process {other.pid} on {platform.node()}"
