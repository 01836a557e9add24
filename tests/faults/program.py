"""keyrelay as a program that can be killed: the other end of ``crashing.py``'s pipe."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tests.faults.crashing import Moment, Point

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
"""How a run ends that was killed."""


def unmeasured() -> dict[str, str]:
    """The environment of processes that are killed, or watch: coverage would slow them and learn nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended, what it said, and which steps it passed, in order.

    Attributes:
        seconds: how long it ran.
        happened: whether the point's command was run.
    """

    command: str
    code: int
    out: str
    err: str
    seconds: float
    passed: tuple[tuple[Moment, str], ...]
    happened: bool

    @property
    def killed(self) -> bool:
        return self.code == KILLED

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def told(self) -> str:
        return f"$ {self.command}\nexit {self.code} after {self.seconds:.1f} s\n{self.out}\n{self.err}"

    def exited(self, code: int) -> "Ended":
        assert self.code == code, f"not {code}: {self.told()}"
        assert "Traceback" not in self.out + self.err, self.told()
        assert "fault in keyrelay" not in self.err, self.told()
        return self

    def named(self, *parts: str) -> str:
        """The first line that has all of these parts."""
        for line in (self.out + self.err).splitlines():
            if all(part in line for part in parts):
                return line
        raise AssertionError(f"no line with {parts}: {self.told()}")


class Program:
    """Runs ``keyrelay``, one command at a time, each in a fresh process that takes no time to start.

    Args:
        folder: where it is run.
        environment: besides the test's own; for every run.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crashing"],
            cwd=folder,
            env={**unmeasured(), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def kill(self) -> None:
        """Kills the command that runs; another thread waits for that."""
        server = self._process.pid
        children = Path(f"/proc/{server}/task/{server}/children").read_text(encoding="ascii")
        for child in children.split():
            os.kill(int(child), signal.SIGKILL)

    def __call__(
        self,
        *words: str | Path,
        at: Point | None = None,
        kill_after_s: float | None = None,
        deadline_s: float | None = None,
    ) -> Ended:
        """Runs a command to its end.

        Args:
            words: what stands after ``keyrelay``.
            at: where it kills itself, or where something is done to it.
            kill_after_s: when it is killed, if it has not ended by then.
            deadline_s: what every visit may take, instead of what it would be given.
        """
        arguments = [str(word) for word in words]
        out, err, passes = (self.folder / f".said.{name}" for name in ("out", "err", "passes"))
        request = {
            "arguments": arguments,
            "folder": str(self.folder),
            "out": str(out),
            "err": str(err),
            "passes": str(passes),
            "at": None if at is None else asdict(at),
            "kill_after_s": kill_after_s,
            "deadline_s": deadline_s,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline())
        noted = passes.read_text(encoding="ascii").splitlines() if passes.exists() else []
        pairs = [line.split(" ", 1) for line in noted if line != "happened"]
        return Ended(
            command=" ".join(("keyrelay", *arguments)),
            code=reply["code"],
            out=out.read_text(encoding="utf-8", errors="replace"),
            err=err.read_text(encoding="utf-8", errors="replace"),
            seconds=reply["seconds"],
            passed=tuple((Moment(moment), step) for moment, step in pairs),
            happened="happened" in noted,
        )
