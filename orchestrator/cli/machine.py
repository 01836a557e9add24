"""The machine that keyrelay runs on: the one place that reads its clock, waits, and draws randomness."""

import os
import platform
import pwd
import signal
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from orchestrator.ports import NEVER, Stop

_LONGEST_NAP_S = 1.0
_ENDED = "ZX"
_LONGEST_COMMAND = 80


class SystemClock:
    """The port ``Clock`` over the machine's.

    Args:
        stop: once it is asked for, nobody waits any longer.
    """

    def __init__(self, stop: Stop = NEVER) -> None:
        self._stop = stop

    def now(self) -> datetime:
        """The present, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the Clock port itself

    def elapsed(self) -> timedelta:
        """Since the machine was started, the time in which it slept included."""
        return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))

    def wait_until(self, instant: datetime) -> None:
        """Sleep in naps, so that a clock that is set meanwhile, and the wish to stop, are noticed."""
        while (left_s := (instant - self.now()).total_seconds()) > 0 and not self._stop.asked:
            time.sleep(min(left_s, _LONGEST_NAP_S))  # noqa: TID251 - the Clock port itself


class StopSignals:
    """The port ``Stop`` over SIGTERM and SIGINT: the first asks the run to end, the second ends it at once.

    A context manager: the signals mean what they meant before when it is left. For the main thread.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether one of the signals came."""
        return self._asked

    def _take(self, _number: int, _frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


class SystemController:
    """The port ``Controller`` over this process: machine, boot, process namespace, number and start."""

    @property
    def name(self) -> str:
        """For example ``admin1:1f0c9a52:4026531836:812:94731``."""
        pid = os.getpid()
        return f"{platform.node()}:{_boot()}:{_namespace()}:{pid}:{_start_ticks(pid)}"

    def is_gone(self, name: str) -> bool:
        """Whether no process of this boot and namespace is it; False for controllers elsewhere."""
        try:
            rest, pid, ticks = name.rsplit(":", 2)
            here = rest.endswith(f":{_boot()}:{_namespace()}")
            return here and _start_ticks(int(pid)) != ticks
        except ValueError:
            return False

    def described(self, name: str) -> str:
        """For example ``process 812 of operator on admin1 (keyrelay apply play.yml)``."""
        try:
            machine, _, _, pid, ticks = name.rsplit(":", 4)
            process = int(pid)
        except ValueError:
            return name
        words = f"process {process} on {machine}"
        rest = name.removesuffix(f":{pid}:{ticks}")
        if not rest.endswith(f":{_boot()}:{_namespace()}") or _start_ticks(process) != ticks:
            return words
        return f"process {process}{_owner(process)} on {machine}{_command(process)}"


def _owner(pid: int) -> str:
    try:
        return f" of {pwd.getpwuid(Path(f'/proc/{pid}').stat().st_uid).pw_name}"
    except (OSError, KeyError):
        return ""


def _command(pid: int) -> str:
    """What a process was started as, shortened; no secret is ever in a command line of keyrelay's."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    named = next((n for n, word in enumerate(words) if Path(word).name == "keyrelay"), 0)
    told = " ".join(words[named:]).strip().removeprefix(str(Path(words[named]).parent) + "/")
    return f" ({textwrap.shorten(told, _LONGEST_COMMAND, placeholder='...')})" if told else ""


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]


def _namespace() -> str:
    return Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")


def _start_ticks(pid: int) -> str:
    """When a process was started (proc(5), stat, field 22); empty: there is none, or it has ended.

    One that was killed stays as a zombie for as long as its parent does not ask for its end.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in _ENDED else fields[19]


def system_entropy(size_bytes: int) -> bytes:
    """The port ``Entropy`` over the kernel's generator (getrandom(2))."""
    return os.urandom(size_bytes)  # noqa: TID251 - the Entropy port itself
