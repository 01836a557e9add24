"""The networks behind jump hosts, as the lab handles them; ``jump.py`` is the program that runs in them."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from orchestrator.errors import LabError
from orchestrator.lab import folder, jump, machine
from orchestrator.lab.paths import DaemonFiles
from orchestrator.lab.processes import Started, end_trees, wait_until

Seen = TypeVar("Seen")

_READY_S = 20.0


def started(files: DaemonFiles) -> Started | None:
    """The process that keeps a network, whether or not it still runs."""
    return Started.load(files.network.pid, marker=files.network.control)


def keep(files: DaemonFiles) -> int:
    """Makes the network behind a jump host unless it is there; gives the process that keeps it.

    Raises:
        LabError: it cannot be made.
    """
    if (keeper := started(files)) and keeper.running:
        return keeper.pid
    network = files.network
    folder.make_folder(network.control, owner=(-1, -1))
    network.log.unlink(missing_ok=True)
    keeper = Started.spawn(program("hold", str(network.control)), marker=network.control, log=network.log)
    try:
        keeper.save(network.pid)
        wait_until(lambda: _said(network.log) == jump.READY or not keeper.running, timeout_s=_READY_S)
    except BaseException:
        end_trees([keeper])
        raise
    if (said := _said(network.log)) != jump.READY:
        end_trees([keeper])
        raise LabError(f"no network behind {files.control.name}: {said or 'it wrote nothing'}")
    return keeper.pid


def program(*arguments: str) -> list[str]:
    """The command line of ``jump.py`` with these arguments."""
    return [sys.executable, "-I", "-S", jump.__file__, *arguments]


def inside(pid: int | None, command: list[str]) -> list[str]:
    """A command, or the same in the network of a process."""
    if pid is None:
        return command
    return [machine.find("nsenter", package="util-linux"), f"--net=/proc/{pid}/ns/net", "--", *command]


def seen_from(pid: int | None, look: Callable[[], Seen]) -> Seen:
    """What ``look`` says here, or in the network of a process.

    A thread alone moves there, and ends; this one stays where it is.

    Raises:
        LabError: there is no such network; or whatever ``look`` raises.
    """
    if pid is None:
        return look()

    def move_and_look() -> Seen:
        try:
            jump.enter(pid)
        except OSError as error:
            raise LabError(f"the network of process {pid} cannot be entered: {error.strerror}") from error
        return look()

    with ThreadPoolExecutor(1) as there:
        return there.submit(move_and_look).result()


def _said(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
