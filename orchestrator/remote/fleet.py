"""Many hosts at once: the ``Fleet`` of ``ports.py`` over SSH.

One visit is one exec over one connection, made by one of a few threads; more threads than ``concurrency``
cost more than they bring, since all of them share one interpreter (``crew``).

Connections are kept from one run to the next, as many as ``open_connections`` allows; the one that has been
idle the longest makes way. One that died meanwhile is made anew, once, since nothing had been said over it.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Self

from orchestrator.errors import KeyrelayError, told_fault
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.secret import Secret
from orchestrator.ports import NEVER, Clock, Entropy, Stop
from orchestrator.remote.answer_lines import between_markers, plain
from orchestrator.remote.become import SOMETHING_ELSE, Escalation, NotBecomeError, PasswordWantedError
from orchestrator.remote.connection import LOST, Answer, Connection
from orchestrator.remote.crew import Crew
from orchestrator.remote.deadlines import Watch, Watchdog
from orchestrator.remote.dial import DEFAULT_PATIENCE, Dialer, Patience
from orchestrator.remote.first_use import AcceptedKey, FirstUse
from orchestrator.remote.handshake import NotReachedError
from orchestrator.remote.questions import Answers, Ask, AskInVisit, Question, Wanted, nobody
from orchestrator.remote.wire import ANSWER_LIMIT_BYTES, BOOTSTRAP, decode, encode, time_needed
from orchestrator.rotation.capabilities import WRITE_ADVICE
from orchestrator.rotation.reports import Failed, Outcome, Refused, Unreachable
from orchestrator.rotation.visits import Visit

_NOT_ALLOWED = re.compile("cannot make .*: Permission denied")
_MARKER_BYTES = 16
_LEASE_SPARE = timedelta(seconds=30)
_TAIL_BYTES = 65536


class NoVisitError(ValueError):
    """What was to be done is no visit: a fault of this program that no host brings about."""


class SshFleet:
    """Hosts reached over SSH. A context manager: leaving it closes the connections that were kept.

    Args:
        clock: tells when a visit was sent and answered, for the hosts' skew.
        entropy: for markers and jitter.
        concurrency: visits under way at once, those that wait for a slow host not counted.
        deadline: what one visit may take in all, from resolving the host's name to its last byte; None:
            ``patience`` for each hop on the way to the host, and what its orders need.
        patience: how long reaching a host may take.
        open_connections: connections kept open between runs.
        ask: asks a person for passphrases and passwords, in the thread that waits for outcomes; each once.
        passwords: of hosts' login users, where an inventory has them; the others are asked for.
        first_use_file: where host keys stand that were believed on first use; they are known from then on.
        accept_new: whether keys of hosts of which nothing is known are believed and written there.
        vouched: fingerprints of the keys that hosts have now, by a person's word; they are written there in
            place of those that were known.
        stop: once it is asked for, no further visit is begun.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Entropy,
        concurrency: int = 16,
        deadline: timedelta | None = None,
        patience: Patience = DEFAULT_PATIENCE,
        open_connections: int = 128,
        ask: Ask = nobody,
        passwords: Mapping[HostName, Secret] | None = None,
        first_use_file: Path | None = None,
        accept_new: bool = False,
        vouched: Mapping[HostName, str] = MappingProxyType({}),
        stop: Stop = NEVER,
    ) -> None:
        if (accept_new or vouched) and first_use_file is None:
            raise ValueError("keys that are believed on first use are written into a file")
        self._clock = clock
        self._entropy = entropy
        self._concurrency = concurrency
        self._deadline = deadline
        self._patience = patience
        self._stop = stop
        self._answers = Answers(ask)
        self._passwords = dict(passwords or {})
        self._first_use = (
            FirstUse(first_use_file, accept=accept_new, now=clock.now) if first_use_file is not None else None
        )
        self._dialer = Dialer(
            entropy=entropy, clock=clock, patience=patience, first_use=self._first_use, vouched=vouched
        )
        self._kept = _Kept(open_connections)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections kept from earlier runs."""
        self._kept.close()
        self._dialer.close()

    @property
    def accepted(self) -> tuple[AcceptedKey, ...]:
        """The host keys that were believed on first use and written down, so far."""
        return () if self._first_use is None else self._first_use.accepted

    def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
        """Makes the visits, as ``ports.Fleet`` says."""
        watchdog = Watchdog()
        crew = Crew(visits, self._concurrency, self._answers, self._stop)
        with crew, watchdog, closing(crew):
            yield from crew.outcomes(self._make(watchdog, crew.ask))

    def _make(self, watchdog: Watchdog, ask: AskInVisit) -> Callable[[Visit], Outcome]:
        def make(visit: Visit) -> Outcome:
            needed = self._deadline
            if needed is None:
                reach_s = self._patience.connect_s + self._patience.log_in_s
                needed = time_needed(visit) + timedelta(seconds=reach_s * self._dialer.hops(visit.endpoint))
            try:
                return self._visit(visit, watchdog.watch(needed.total_seconds()), ask)
            except (KeyrelayError, NoVisitError):
                raise
            except Exception as error:  # noqa: BLE001 - what a host brings about ends its own visit alone
                return Failed(host=visit.endpoint.host, reason=told_fault(error))

        return make

    def _visit(self, visit: Visit, watch: Watch, ask: AskInVisit) -> Outcome:
        marker = self._entropy(_MARKER_BYTES).hex()
        try:
            heard = self._talk(visit, marker, watch, ask)
        except NotReachedError as error:
            return Unreachable(host=visit.endpoint.host, reason=error.reason)
        try:
            outcome = decode(
                visit,
                marker=marker,
                stdout=heard.answer.stdout,
                sent_at=heard.sent_at,
                received_at=heard.received_at,
            )
        except Exception as error:  # noqa: BLE001 - an answer that nobody foresaw is its host's alone
            return Failed(host=visit.endpoint.host, reason=told_fault(error))
        if isinstance(outcome, Refused):
            return _advised(outcome, visit.endpoint)
        if not isinstance(outcome, Failed):
            return outcome
        return _explained(outcome, heard.answer, marker, forced=heard.forced)

    def _talk(self, visit: Visit, marker: str, watch: Watch, ask: AskInVisit) -> "_Heard":
        """Over the kept connection if there is one and it still stands, else over a new one."""
        kept = self._kept.take(visit.endpoint)
        if kept is not None:
            try:
                return self._tell(kept, visit, marker, watch, ask)
            except NotBecomeError:
                raise
            except NotReachedError:
                if watch.expired:
                    raise
        return self._tell(self._dialer.connect(visit.endpoint, watch, ask), visit, marker, watch, ask)

    def _tell(
        self, connection: Connection, visit: Visit, marker: str, watch: Watch, ask: AskInVisit
    ) -> "_Heard":
        """As the user that the visit wants; the connection is kept if it can be used again."""
        usable = False
        try:
            heard = self._tell_as(connection, visit, marker, watch, ask)
            usable = heard.answer.broken is None and connection.alive
        finally:
            if usable:
                self._kept.put(visit.endpoint, connection)
            else:
                connection.close()
        return heard

    def _tell_as(
        self, connection: Connection, visit: Visit, marker: str, watch: Watch, ask: AskInVisit
    ) -> "_Heard":
        become, login = visit.endpoint.become, connection.user
        if become is None or become.user == login:
            return self._ask(connection, visit, marker, watch)
        question = Question(wanted=Wanted.PASSWORD, about=login)
        password = self._passwords.get(visit.endpoint.host) or self._answers.known(question)
        try:
            escalation = Escalation(become=become, login=login, password=password, forced=connection.forced)
            return self._ask(connection, visit, marker, watch, escalation)
        except PasswordWantedError:
            password = ask(question, watch)
        if password is None:
            raise NotBecomeError(
                f"sudo wants the password of {login!r}, and there is nobody to ask for it; "
                f"run keyrelay on a terminal, or add to sudoers: {login} ALL=({become.user}) NOPASSWD: ALL"
            )
        escalation = replace(escalation, password=password)
        return self._ask(connection, visit, marker, watch, escalation)

    def _ask(
        self,
        connection: Connection,
        visit: Visit,
        marker: str,
        watch: Watch,
        escalation: Escalation | None = None,
    ) -> "_Heard":
        # The host keeps its lock longer than anybody waits for it here.
        try:
            message = encode(visit, marker=marker, lease=timedelta(seconds=watch.left_s) + _LEASE_SPARE)
        except ValueError as error:
            raise NoVisitError(str(error)) from error
        sent_at = self._clock.now()
        answer = connection.ask(
            BOOTSTRAP if escalation is None else escalation.command,
            message,
            watch,
            limit_bytes=ANSWER_LIMIT_BYTES,
            complete=_end_of(marker),
            before=None if escalation is None else escalation.wait_until_ready,
        )
        return _Heard(answer=answer, sent_at=sent_at, received_at=self._clock.now(), forced=connection.forced)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """An answer, when the first byte was sent and when the last one came.

    Attributes:
        forced: that something else ran than what was asked for, where that is known beforehand.
    """

    answer: Answer
    sent_at: datetime
    received_at: datetime
    forced: str


class _Kept:
    """Idle connections by endpoint, the one idle the longest first."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._idle: OrderedDict[Endpoint, Connection] = OrderedDict()

    def take(self, endpoint: Endpoint) -> Connection | None:
        with self._lock:
            return self._idle.pop(endpoint, None)

    def put(self, endpoint: Endpoint, connection: Connection) -> None:
        with self._lock:
            surplus = [self._idle.pop(endpoint, None)]
            self._idle[endpoint] = connection
            if len(self._idle) > self._room:
                surplus.append(self._idle.popitem(last=False)[1])
        for one in surplus:
            if one is not None:
                one.close()

    def close(self) -> None:
        with self._lock:
            idle = list(self._idle.values())
            self._idle.clear()
        for connection in idle:
            connection.close()


def _end_of(marker: str) -> Callable[[bytearray], bool]:
    """Whether an answer has come to its end marker, which stands in its last few bytes then."""
    end = f"\nkeyrelay {marker} end\n".encode()
    return lambda stdout: stdout.find(end, max(0, len(stdout) - _TAIL_BYTES)) >= 0


def _advised(outcome: Refused, endpoint: Endpoint) -> Refused:
    """The outcome, with what to do where the login user may not write."""
    if endpoint.become is not None or not _NOT_ALLOWED.fullmatch(outcome.reason):
        return outcome
    return replace(outcome, reason=f"{outcome.reason}; {WRITE_ADVICE}")


def _explained(outcome: Failed, answer: Answer, marker: str, *, forced: str = "") -> Failed:
    """The outcome of an answer that may have been cut, with what the connection knows of the cause."""
    reason = answer.broken or outcome.reason
    if answer.broken != LOST and not between_markers(answer.stdout, marker).begun:
        reason += f"; {forced or SOMETHING_ELSE}"
    if answer.exit_status is None:
        return replace(outcome, reason=reason)
    said = plain(" ".join(answer.stderr.decode(errors="replace").split()))
    words = f"status {answer.exit_status}: {said}" if said else f"status {answer.exit_status}"
    return replace(outcome, reason=f"{reason} ({words})")
