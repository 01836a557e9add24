"""A program on the controller that the operator's playbook names, run with bounds on everything.

There is no shell, and nothing of the controller's environment. What the program has started ends with it.
"""

import os
import re
import selectors
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import IO

from orchestrator.errors import IssuerError
from orchestrator.policy.durations import format_duration

MOST_BYTES = 256 * 1024
"""Of an answer, and of what the program says on stderr."""

HTTP_01 = "the program for http-01"
"""What the program is that makes hosts answer an ACME server, for errors."""

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_TOLD_CHARACTERS = 300
_CHUNK = 64 * 1024
_NOT_SHOWN = re.compile(r"[^!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program and how long it may take.

    Attributes:
        argv: its absolute path and its arguments.
        what: what it is, for errors.
    """

    argv: Sequence[str]
    timeout: timedelta
    what: str

    @property
    def name(self) -> str:
        """For errors."""
        return f"{self.what} {self.argv[0]}"

    def why_not(self) -> str:
        """Why it could not be run, as far as its file tells without running it; empty: it could."""
        try:
            mode = Path(self.argv[0]).stat().st_mode
        except (OSError, ValueError) as error:
            return f"{self.name} cannot be run: {getattr(error, 'strerror', None) or 'it has no such name'}"
        if not stat.S_ISREG(mode) or not os.access(self.argv[0], os.X_OK):
            return f"{self.name} cannot be run: it is no file that may be executed"
        return ""

    def run(self, request: bytes, environment: Mapping[str, str]) -> bytes:
        """Give it ``request`` on stdin, and return what it says on stdout.

        Args:
            request: shorter than any pipe, so that nobody is waited for.
            environment: beside ``PATH`` and ``LC_ALL=C``, all that it has.

        Raises:
            IssuerError: it cannot be run, fails, takes too long, or says too much. Names it.
        """
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own playbook names it; there is no shell
                tuple(self.argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={**_ENVIRONMENT, **environment},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it has a byte that cannot be in a command"
            raise IssuerError(f"{self.name} cannot be run: {reason}") from error
        try:
            answer, complaint = self._listen(process, request)
        finally:
            # Whatever it has started goes with it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
        return self._ended(process.returncode, answer, complaint)

    def _listen(self, process: subprocess.Popen[bytes], request: bytes) -> tuple[bytes, bytes]:
        """Give it the request, and take what it says on stdout and stderr until it has ended."""
        deadline = monotonic() + self.timeout.total_seconds()
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise AssertionError("a pipe that was asked for is missing")
        with suppress(BrokenPipeError):  # a program may know what it does without reading to the end
            process.stdin.write(request)
            process.stdin.close()
        said: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
        with selectors.DefaultSelector() as open_pipes:
            for pipe in said:
                open_pipes.register(pipe, selectors.EVENT_READ)
            while open_pipes.get_map():
                for key, _ in open_pipes.select(self._left(deadline)):
                    pipe = next(one for one in said if one is key.fileobj)
                    chunk = os.read(key.fd, _CHUNK)
                    said[pipe] += chunk
                    if not chunk:
                        open_pipes.unregister(pipe)
                    if len(said[pipe]) > MOST_BYTES:
                        raise IssuerError(f"{self.name} says more than {MOST_BYTES} bytes")
        try:
            process.wait(self._left(deadline))
        except subprocess.TimeoutExpired:
            self._left(deadline)
        return bytes(said[process.stdout]), bytes(said[process.stderr])

    def _left(self, deadline: float) -> float:
        """Seconds until the deadline; raises ``IssuerError`` when there are none."""
        left = deadline - monotonic()
        if left <= 0:
            raise IssuerError(
                f"{self.name} has not ended within {format_duration(self.timeout)}",
                hint="issuer.timeout in the playbook says how long it may take",
            )
        return left

    def _ended(self, code: int, answer: bytes, complaint: bytes) -> bytes:
        if code == 0:
            return answer
        how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        # The last thing a program says is most often why; it may have any bytes in it.
        words = _NOT_SHOWN.sub(" ", complaint.decode("ascii", "replace")).strip()[-_TOLD_CHARACTERS:]
        raise IssuerError(f"{self.name} {how}" + (f": {words}" if words else ", and did not say why"))
