"""Named failpoints around everything that lasts, in the real program; for tests only.

``python -m tests.faults.crashing`` imports keyrelay once and then, for each request on its standard input,
runs ``keyrelay …`` in a child of its own. In that child the composition root's classes are wrapped, so that
each durable step is passed twice: before it is begun and after it was made. A request can name one of these
passes, at which the child kills itself (SIGKILL), or a command that is run there; the product knows nothing
of it. ``program.py`` is the other end of the pipe.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from select import select
from time import monotonic
from typing import Any

from orchestrator.cli import context, founding, main
from orchestrator.keys.secret import Secret
from orchestrator.records.ledger import SqlLedger
from orchestrator.records.vault import SqlVault
from orchestrator.remote import connection
from orchestrator.remote.dial import Patience
from orchestrator.remote.fleet import SshFleet
from orchestrator.rotation.events import Event
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.reports import Outcome
from orchestrator.rotation.visits import Visit


class Moment(StrEnum):
    """Which of the two passes of a step."""

    BEFORE = "before"
    AFTER = "after"


RECORDED = (
    "hosts-surveyed",
    "rollout-started",
    "lease-taken",
    "key-making-intended",
    "key-made",
    "certified",
    "visits-intended",
    "visits-ended",
    "key-destroyed",
    "rollout-ended",
    "lease-released",
)
"""Kinds of ledger entries that a handover appends."""

ORDERED = ("survey", "generate", "stage", "trust", "activate", "check", "disarm", "erase")
"""Kinds of visits that a handover makes."""

STEPS = (
    *(f"record {kind}" for kind in RECORDED),
    "vault put",
    "vault destroy",
    *(f"send {kind}" for kind in ORDERED),
    *(f"receive {kind}" for kind in ORDERED),
)
"""Every durable step of a handover. *send*: from no byte having left for the host to all having left, with
nothing heard yet. *receive*: from the outcome being there to the loop having taken it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One pass of a step, and what happens there.

    Attributes:
        nth: the first, second … time in one run.
        command: is run there, whatever it returns; empty: the program kills itself.
    """

    step: str
    moment: Moment
    nth: int = 1
    command: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Passes:
    """Notes each pass in a file, so that it is known after a kill too.

    Attributes:
        at: where something happens.
        visiting: the kind of the visit that a thread is making.
    """

    file: int
    at: Point | None
    visiting: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: Counter[tuple[str, Moment]] = field(default_factory=Counter)

    def of(self, moment: Moment, *steps: str) -> None:
        with self._lock:
            for step in steps:
                self._seen[step, moment] += 1
                os.write(self.file, f"{moment} {step}\n".encode())
                at = self.at
                if at is not None and (step, moment, self._seen[step, moment]) == (
                    at.step,
                    at.moment,
                    at.nth,
                ):
                    self._happen(at)

    def _happen(self, at: Point) -> None:
        if not at.command:
            os.kill(os.getpid(), signal.SIGKILL)
        subprocess.run(at.command, check=False, capture_output=True)
        os.write(self.file, b"happened\n")


def wrap(passes: Passes, deadline: timedelta | None) -> None:
    """Puts classes that tell of their steps into the composition root; ``deadline`` is that of each visit."""

    class Ledger(SqlLedger):
        def append(self, events: Sequence[Event], *, onto: Recorded, at: datetime) -> Recorded:
            steps = [f"record {event.kind}" for event in events]
            passes.of(Moment.BEFORE, *steps)
            after = super().append(events, onto=onto, at=at)
            passes.of(Moment.AFTER, *steps)
            return after

    class Vault(SqlVault):
        def put(self, record: str, purpose: str, secret: Secret) -> None:
            passes.of(Moment.BEFORE, "vault put")
            super().put(record, purpose, secret)
            passes.of(Moment.AFTER, "vault put")

        def destroy(self, *records: str) -> None:
            passes.of(Moment.BEFORE, "vault destroy")
            super().destroy(*records)
            passes.of(Moment.AFTER, "vault destroy")

    class Fleet(SshFleet):
        def __init__(self, **arguments: Any) -> None:
            if deadline is not None:
                patience = Patience(connect_s=deadline.total_seconds(), log_in_s=deadline.total_seconds())
                arguments |= {"deadline": deadline, "patience": patience}
            super().__init__(**arguments)

        def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
            kinds = {visit.endpoint.host: _kind(visit) for visit in visits}
            for outcome in super().run(visits):
                step = f"receive {kinds[outcome.host]}"
                passes.of(Moment.BEFORE, step)
                yield outcome
                passes.of(Moment.AFTER, step)

        def _visit(self, visit: Visit, *rest: Any) -> Outcome:
            passes.visiting.kind = _kind(visit)
            passes.of(Moment.BEFORE, f"send {_kind(visit)}")
            return super()._visit(visit, *rest)

    for name, wrapped in (("SqlLedger", Ledger), ("SqlVault", Vault), ("SshFleet", Fleet)):
        setattr(context, name, wrapped)
    for name, wrapped in (("SqlLedger", Ledger), ("SqlVault", Vault)):
        setattr(founding, name, wrapped)
    connection._send = _telling(connection._send, passes)


def _telling(send: Callable[..., None], passes: Passes) -> Callable[..., None]:
    def told(*arguments: Any) -> None:
        send(*arguments)
        passes.of(Moment.AFTER, f"send {passes.visiting.kind}")

    return told


def _kind(visit: Visit) -> str:
    """What the visit is for: its last order, since a visit with several ends with what matters."""
    return visit.orders[-1].kind


def _run(request: dict[str, Any]) -> int:
    """Within the child: becomes ``keyrelay``; returns its exit code."""
    os.chdir(request["folder"])
    for number, name in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
        opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    at = request["at"]
    point = None
    if at is not None:
        point = Point(
            step=at["step"], moment=Moment(at["moment"]), nth=at["nth"], command=tuple(at["command"])
        )
    file = os.open(request["passes"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    deadline = request["deadline_s"]
    wrap(Passes(file=file, at=point), None if deadline is None else timedelta(seconds=deadline))
    sys.argv = ["keyrelay", *request["arguments"]]
    try:
        main.run()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _child(request: dict[str, Any]) -> int:
    """Starts a child; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = _run(request)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _ended(pid: int, kill_after_s: float | None) -> int:
    """Waits for a child, or kills it when its time is over; its exit code, or less than 0: the signal."""
    descriptor = os.pidfd_open(pid)
    try:
        if not select([descriptor], [], [], kill_after_s)[0]:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(status)


def serve() -> None:
    """Answers a request on each line until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        began = monotonic()
        code = _ended(_child(request), request["kill_after_s"])
        sys.stdout.write(json.dumps({"code": code, "seconds": monotonic() - began}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    # The parent may be ended by a Ctrl-C that it handles itself; the end of its pipe ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    serve()
