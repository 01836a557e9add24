"""The program behind a jump host, as far as it runs without a network of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.lab import jump, networks
from orchestrator.lab.processes import Started, end_trees, wait_until


def test_a_door_runs_a_command_on_each_connection(tmp_path: Path) -> None:
    """Entering its own network is what only root can do; here the door stays where it is."""
    if os.geteuid() != 0:
        pytest.skip("only root enters networks")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = networks.program("door", str(tmp_path), "127.0.0.1", str(port), str(os.getpid()), "/bin/cat")
    door = Started.spawn(command, marker=tmp_path, log=tmp_path / "log")
    try:
        for said in (b"one", b"two"):
            assert wait_until(lambda: _connects(port), timeout_s=30)
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(16) == said
    finally:
        end_trees([door])
    assert not door.running


def test_a_program_that_is_called_wrongly_says_how_it_is_called() -> None:
    for arguments in ([], ["door", "marker", "127.0.0.1", "22", "1"], ["nonsense"]):
        with pytest.raises(SystemExit, match=r"jump\.py hold MARKER"):
            jump.main(arguments)


def test_the_program_needs_the_standard_library_alone() -> None:
    answer = subprocess.run(
        networks.program("help"), capture_output=True, text=True, check=False, cwd="/", env={}
    )
    assert "jump.py hold MARKER" in answer.stderr
    assert networks.program()[0] == sys.executable


def test_a_process_that_does_not_exist_has_no_network() -> None:
    with pytest.raises(FileNotFoundError):
        jump.enter(0)


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
