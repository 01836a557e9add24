"""Processes are recognised for sure, and ended with their descendants."""

import signal
from pathlib import Path

import pytest

from orchestrator.errors import LabError
from orchestrator.lab.processes import Started, end_trees, signal_trees, wait_until


def spawn(folder: Path, script: str) -> Started:
    marker = folder / "marker"
    return Started.spawn(["/bin/sh", "-c", script, str(marker)], marker=marker, log=folder / "log")


def test_a_process_that_ignores_the_request_to_end_is_killed_with_its_children(tmp_path: Path) -> None:
    started = spawn(tmp_path, "trap '' TERM; sleep 600 & echo $!; while :; do wait; done")
    log = tmp_path / "log"
    assert wait_until(lambda: log.read_text().endswith("\n"), timeout_s=30)
    child = Path(f"/proc/{log.read_text().strip()}/stat")
    assert started.running
    end_trees([started], timeout_s=0.2)
    assert not started.running
    assert not child.exists() or " Z " in child.read_text()


def test_a_process_stands_still_while_it_is_stopped(tmp_path: Path) -> None:
    started = spawn(tmp_path, "while :; do :; done")
    stat = Path(f"/proc/{started.pid}/stat")
    signal_trees([started], signal.SIGSTOP)
    assert wait_until(lambda: " T " in stat.read_text(), timeout_s=30)
    assert started.running
    end_trees([started])
    assert not started.running


def test_a_process_of_another_start_time_or_another_file_is_not_ours(tmp_path: Path) -> None:
    started = spawn(tmp_path, "sleep 600; :")
    other_time = Started(pid=started.pid, start_ticks=started.start_ticks + 1, marker=started.marker)
    other_file = Started(pid=started.pid, start_ticks=started.start_ticks, marker="/other/marker")
    end_trees([other_time, other_file])
    assert started.running
    end_trees([started])


def test_a_process_runs_from_the_moment_it_is_started(tmp_path: Path) -> None:
    """Between execve and the new program's first page, /proc/PID/cmdline is empty."""
    all_started = []
    for _ in range(200):
        all_started.append(spawn(tmp_path, "sleep 600; :"))
        assert all_started[-1].running
    end_trees(all_started)
    assert not any(started.running for started in all_started)


def test_a_command_line_that_is_empty_yet_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = spawn(tmp_path, "sleep 600; :")
    other_file = Started(pid=started.pid, start_ticks=started.start_ticks, marker="/other/marker")
    real = Path.read_bytes
    for process, runs in ((started, True), (other_file, False)):
        empty = [b"", b""]
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda path, left=empty: left.pop() if left else real(path))
            assert process.running is runs
        assert not empty
    end_trees([started])


def test_a_process_that_never_has_a_command_line_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = spawn(tmp_path, "sleep 600; :")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda _: b"")
        patch.setattr("orchestrator.lab.processes._EXEC_S", 0.01)
        assert not started.running
    end_trees([started])
    assert not started.running


def test_a_process_that_has_ended_is_not_running_and_leaves_nothing_to_wait_for(tmp_path: Path) -> None:
    started = spawn(tmp_path, "exit 0")
    assert wait_until(lambda: not started.running, timeout_s=30)
    assert not Path(f"/proc/{started.pid}").exists()
    end_trees([started])


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="/no/such/program: cannot be started"):
        Started.spawn(["/no/such/program"], marker=tmp_path, log=tmp_path / "log")


def test_a_pid_file_gives_back_the_process(tmp_path: Path) -> None:
    started = Started(pid=7, start_ticks=9, marker="/lab/sshd_config")
    started.save(tmp_path / "pid")
    assert Started.load(tmp_path / "pid", marker=Path("/lab/sshd_config")) == started
    assert Started.load(tmp_path / "none", marker=Path("/lab/sshd_config")) is None


def test_waiting_ends_when_the_time_is_over() -> None:
    assert not wait_until(lambda: False, timeout_s=0.01)
