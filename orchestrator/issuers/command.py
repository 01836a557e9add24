"""The issuer that is a program on the controller: a request goes in on stdin, a chain comes out on stdout.

The program is named by its path in the playbook and gets its arguments as they are written there; there is no
shell. Of the controller's environment it sees nothing; what is wanted of it stands in variables of its own.
What it answers is believed only as far as it can be checked (``keys/foreign.py``).
"""

import os
import re
import selectors
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import IO

from orchestrator.errors import IssuerError, KeyMaterialError
from orchestrator.keys.authority import read_request
from orchestrator.keys.foreign import Expected, accept, parse_roots
from orchestrator.policy.desired import CommandSpec
from orchestrator.policy.durations import format_duration
from orchestrator.ports import CertificateOrder, Issued

MOST_BYTES = 256 * 1024
"""Of an answer, and of what the program says on stderr."""

LATE = timedelta(days=1)
"""How far beyond what was asked a certificate may end, since many programs count whole days or hours."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOLD_CHARACTERS = 300
_CHUNK = 64 * 1024
_NOT_SHOWN = re.compile(r"[^!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandIssuer:
    """Has keys certified by a program.

    Attributes:
        spec: the program, the roots its chains end at, and how long it may take.
    """

    spec: CommandSpec

    def issue(self, order: CertificateOrder, *, now: datetime) -> Issued:
        """Has the key of a request certified.

        The program's environment is ``PATH``, ``LC_ALL=C``, and: ``KEYRELAY_NAMES``, comma between them;
        ``KEYRELAY_NOT_BEFORE`` and ``KEYRELAY_NOT_AFTER``, the period as ``20300101120000Z``.

        Raises:
            IssuerError: the program cannot be run, fails, takes too long, says too much, or answers something
                other than what was asked for. Names it.
            KeyMaterialError: the request is damaged, unproven, or asks for other names.
        """
        request = read_request(order.request_pem, names=order.names)
        begin, end = _second(now - order.backdate), _second(order.not_after)
        environment = {
            "PATH": _PATH,
            "LC_ALL": "C",
            "KEYRELAY_NAMES": ",".join(order.names),
            "KEYRELAY_NOT_BEFORE": f"{begin:%Y%m%d%H%M%SZ}",
            "KEYRELAY_NOT_AFTER": f"{end:%Y%m%d%H%M%SZ}",
        }
        answer = self._run(request.pem.encode("ascii"), environment)
        expected = Expected(
            public=request.public,
            names=order.names,
            at=now,
            begins_by=begin,
            ends_from=end,
            ends_by=end + LATE,
        )
        try:
            accepted = accept(answer, expected, parse_roots(self.spec.root))
        except KeyMaterialError as error:
            raise IssuerError(
                f"{self._name} answered what is not used: {error.message}",
                hint="the program is told names and times in its environment: KEYRELAY_NAMES and others",
            ) from error
        return Issued(certificate_pem=accepted.certificate.pem, chain_pem=accepted.chain_pem)

    @property
    def _name(self) -> str:
        return f"the issuer's command {self.spec.argv[0]}"

    def _run(self, request: bytes, environment: dict[str, str]) -> bytes:
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own playbook names it; there is no shell
                self.spec.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it has a byte that cannot be in a command"
            raise IssuerError(f"{self._name} cannot be run: {reason}") from error
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
        deadline = monotonic() + self.spec.timeout.total_seconds()
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise AssertionError("a pipe that was asked for is missing")
        with suppress(BrokenPipeError):  # a program may know what it does without reading to the end
            process.stdin.write(request)  # shorter than any pipe, so nobody is waited for
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
                        raise IssuerError(f"{self._name} says more than {MOST_BYTES} bytes")
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
                f"{self._name} has not ended within {format_duration(self.spec.timeout)}",
                hint="issuer.timeout in the playbook says how long it may take",
            )
        return left

    def _ended(self, code: int, answer: bytes, complaint: bytes) -> bytes:
        if code == 0:
            return answer
        how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        # The last thing a program says is most often why; it may have any bytes in it.
        words = _NOT_SHOWN.sub(" ", complaint.decode("ascii", "replace")).strip()[-_TOLD_CHARACTERS:]
        raise IssuerError(f"{self._name} {how}" + (f": {words}" if words else ", and did not say why"))


def _second(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)
