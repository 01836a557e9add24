"""Processes that the lab has started: recognised for sure, and ended with all that came from them.

A process id alone is no proof, for the kernel gives it away again. Before a signal is sent, the process
must have started at the very clock tick that was noted (``proc(5)``, ``/proc/PID/stat`` field 22) and must
name its configuration file, which lies in the lab's folder, on its command line. While the kernel lays out a
program that is being executed, the command line is empty, which says nothing either way: it is read again.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator.errors import LabError
from orchestrator.lab import folder

_POLL_S = 0.005
_EXEC_S = 5.0
# sshd writes its title over its arguments and environment; this much room keeps the file's name readable.
_TITLE_ROOM = {"KEYRELAY_LAB": "." * 512}


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A process of the lab.

    Attributes:
        pid: its process id.
        start_ticks: when it started, in clock ticks since the machine booted.
        marker: the file that it names on its command line.
    """

    pid: int
    start_ticks: int
    marker: str

    @classmethod
    def spawn(cls, arguments: list[str], *, marker: Path, log: Path) -> Self:
        """Starts a program in a session of its own, with nothing on stdin and both outputs going to ``log``.

        Raises:
            LabError: the program cannot be executed.
        """
        environment = {"PATH": os.defpath} | _TITLE_ROOM
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            pid = os.posix_spawn(
                arguments[0],
                arguments,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            raise LabError(f"{arguments[0]}: cannot be started: {error.strerror}") from error
        return cls(pid=pid, start_ticks=_stat(pid)[2], marker=str(marker))

    def save(self, file: Path) -> None:
        """Notes the process in its pid file."""
        folder.write(file, f"{self.pid} {self.start_ticks}\n".encode())

    @classmethod
    def load(cls, file: Path, *, marker: Path) -> Self | None:
        """The process noted in a pid file, or None if there is no such file or it is damaged."""
        try:
            pid, start_ticks = file.read_text(encoding="ascii").split()
            return cls(pid=int(pid), start_ticks=int(start_ticks), marker=str(marker))
        except (OSError, ValueError):
            return None

    @property
    def running(self) -> bool:
        """Whether exactly this process still runs; one that has ended but was not waited for does not."""
        command_line = b""

        def told() -> bool:
            nonlocal command_line
            command_line = _command_line(self.pid)
            return bool(command_line) or not self._alive()

        wait_until(told, timeout_s=_EXEC_S)
        return self._alive() and self.marker.encode() in command_line

    def _alive(self) -> bool:
        """Whether a process of this id and start time has not ended."""
        _reap(self.pid)
        state, _, start_ticks = _stat(self.pid)
        return state not in "ZX" and start_ticks == self.start_ticks


def signal_trees(roots: Iterable[Started], number: signal.Signals) -> None:
    """Sends a signal to these processes, as far as they still run, and to all their descendants."""
    for pid in _trees(roots):
        _send(pid, number)


def end_trees(roots: Iterable[Started], *, timeout_s: float = 5.0) -> None:
    """Ends these processes and all their descendants: asks, waits up to ``timeout_s``, then kills."""
    pids = _trees(roots)
    ticks = {pid: _stat(pid)[2] for pid in pids}
    for number in (signal.SIGTERM, signal.SIGCONT):
        for pid in pids:
            _send(pid, number)
    if wait_until(lambda: not _left(ticks), timeout_s=timeout_s):
        return
    for pid in _left(ticks):
        _send(pid, signal.SIGKILL)
    wait_until(lambda: not _left(ticks), timeout_s=timeout_s)


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Polls a condition; returns whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)  # noqa: TID251 - real processes are waited for; there is no Clock port in the lab
    return True


def _left(ticks: dict[int, int]) -> list[int]:
    """Which of these processes, given with their start ticks, have not ended yet."""
    for pid in ticks:
        _reap(pid)
    return [pid for pid, start in ticks.items() if (now := _stat(pid))[2] == start and now[0] not in "ZX"]


def _trees(roots: Iterable[Started]) -> list[int]:
    """The ids of the running processes among these and of all their descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(_stat(int(entry.name))[1], []).append(int(entry.name))
    found = [root.pid for root in roots if root.running]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _command_line(pid: int) -> bytes:
    """What a process was started with; empty if it has ended or is being laid out."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent and start ticks of a process; ``("X", 0, 0)`` if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "X", 0, 0
    # The program's name, in parentheses, may itself hold spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[1]), int(fields[19])


def _reap(pid: int) -> None:
    """Collects a process that has ended, if it is a child of ours."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
