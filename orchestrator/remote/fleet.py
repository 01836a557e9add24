"""Many hosts at once: the ``Fleet`` of ``ports.py`` over SSH.

One visit is one exec over one connection, made by one of a few threads; more threads than ``concurrency``
cost more than they bring, since all of them share one interpreter. A visit that takes long mostly waits for
its host, so it stops counting after a while and another thread takes its place: dead hosts do not hold up
the living, however many they are.

Connections are kept from one run to the next, as many as ``open_connections`` allows; the one that has been
idle the longest makes way. One that died meanwhile is made anew, once, since nothing had been said over it.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Self

from orchestrator.inventory.model import Endpoint
from orchestrator.ports import Clock, Entropy
from orchestrator.remote.answer_lines import plain
from orchestrator.remote.connection import Answer, Connection
from orchestrator.remote.deadlines import Watch, Watchdog
from orchestrator.remote.dial import DEFAULT_PATIENCE, Dialer, Patience
from orchestrator.remote.handshake import NotReachedError
from orchestrator.remote.wire import ANSWER_LIMIT_BYTES, BOOTSTRAP, decode, encode, time_needed
from orchestrator.rotation.visits import Failed, Outcome, Unreachable, Visit

_MARKER_BYTES = 16
_SLOW_S = 1.0
_LOOK_S = 0.25
_MOST_THREADS = 256
_ENDING_S = 5.0
_LEASE_SPARE = timedelta(seconds=30)
_TAIL_BYTES = 65536


class SshFleet:
    """Hosts reached over SSH. A context manager: leaving it closes the connections that were kept.

    Args:
        clock: tells when a visit was sent and answered, for the hosts' skew.
        entropy: for markers and jitter.
        concurrency: visits under way at once, those that wait for a slow host not counted.
        deadline: what one visit may take in all, from resolving the host's name to its last byte; None:
            ``patience`` to reach the host, and what its orders need.
        patience: how long reaching a host may take.
        open_connections: connections kept open between runs.
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
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._concurrency = concurrency
        self._deadline = deadline
        self._patience = patience
        self._dialer = Dialer(entropy=entropy, patience=patience)
        self._kept = _Kept(open_connections)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections kept from earlier runs."""
        self._kept.close()

    def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
        """Makes the visits, as ``ports.Fleet`` says."""
        watchdog = Watchdog()
        with _Crew(visits, self._concurrency, self._make(watchdog)) as crew, watchdog, closing(crew):
            yield from crew.outcomes()

    def _make(self, watchdog: Watchdog) -> Callable[[Visit], Outcome]:
        def make(visit: Visit) -> Outcome:
            reach_s = self._patience.connect_s + self._patience.log_in_s
            needed = self._deadline or time_needed(visit) + timedelta(seconds=reach_s)
            return self._visit(visit, watchdog.watch(needed.total_seconds()))

        return make

    def _visit(self, visit: Visit, watch: Watch) -> Outcome:
        marker = self._entropy(_MARKER_BYTES).hex()
        try:
            heard = self._talk(visit, marker, watch)
        except NotReachedError as error:
            return Unreachable(host=visit.endpoint.host, reason=error.reason)
        outcome = decode(
            visit,
            marker=marker,
            stdout=heard.answer.stdout,
            sent_at=heard.sent_at,
            received_at=heard.received_at,
        )
        return _explained(outcome, heard.answer) if isinstance(outcome, Failed) else outcome

    def _talk(self, visit: Visit, marker: str, watch: Watch) -> "_Heard":
        """Over the kept connection if there is one and it still stands, else over a new one."""
        kept = self._kept.take(visit.endpoint)
        if kept is not None:
            try:
                return self._ask(kept, visit, marker, watch)
            except NotReachedError:
                if watch.expired:
                    raise
        return self._ask(self._dialer.connect(visit.endpoint, watch), visit, marker, watch)

    def _ask(self, connection: Connection, visit: Visit, marker: str, watch: Watch) -> "_Heard":
        answer = None
        try:
            # The host keeps its lock longer than anybody waits for it here.
            message = encode(visit, marker=marker, lease=timedelta(seconds=watch.left_s) + _LEASE_SPARE)
            sent_at = self._clock.now()
            answer = connection.ask(
                BOOTSTRAP, message, watch, limit_bytes=ANSWER_LIMIT_BYTES, complete=_end_of(marker)
            )
            return _Heard(answer=answer, sent_at=sent_at, received_at=self._clock.now())
        finally:
            if answer is not None and answer.broken is None and connection.alive:
                self._kept.put(visit.endpoint, connection)
            else:
                connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """An answer, when the first byte was sent and when the last one came."""

    answer: Answer
    sent_at: datetime
    received_at: datetime


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


class _Crew:
    """The threads of one run; leaving it waits until they have ended."""

    def __init__(self, visits: Sequence[Visit], concurrency: int, make: Callable[[Visit], Outcome]) -> None:
        self._count = len(visits)
        self._concurrency = concurrency
        self._make = make
        self._done: SimpleQueue[Outcome | BaseException] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = deque(visits)
        self._busy_since: dict[threading.Thread, float] = {}
        self._looked_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            threads = tuple(self._busy_since)
        for thread in threads:
            thread.join(_ENDING_S)

    def outcomes(self) -> Iterator[Outcome]:
        """Each outcome as its visit ends; raises what a visit raised, for that is a fault in this program."""
        for _ in range(self._count):
            done = self._next()
            if isinstance(done, BaseException):
                raise done
            yield done

    def close(self) -> None:
        """Makes no further visit; those under way are ended by the watchdog."""
        with self._lock:
            self._waiting.clear()

    def _next(self) -> Outcome | BaseException:
        while True:
            self._reinforce()
            try:
                return self._done.get(timeout=_LOOK_S)
            except Empty:
                continue

    def _reinforce(self) -> None:
        """Starts the threads that are missing."""
        now = monotonic()
        with self._lock:
            if now - self._looked_at < _LOOK_S:
                return
            self._looked_at = now
            wanted = min(len(self._waiting), self._places(now) - len(self._busy_since))
            for _ in range(wanted):
                thread = threading.Thread(target=self._work, name="keyrelay-visits", daemon=True)
                self._busy_since[thread] = now
                thread.start()

    def _places(self, now: float) -> int:
        """How many threads there may be now (the lock is held)."""
        slow = sum(1 for since in self._busy_since.values() if now - since > _SLOW_S)
        return min(self._concurrency + slow, _MOST_THREADS)

    def _work(self) -> None:
        me = threading.current_thread()
        while (visit := self._take(me)) is not None:
            try:
                self._done.put(self._make(visit))
            except BaseException as error:  # noqa: BLE001 - raised again where the run is waited for
                self._done.put(error)

    def _take(self, me: threading.Thread) -> Visit | None:
        """The next visit for a thread; None: it is not needed any more."""
        now = monotonic()
        with self._lock:
            self._busy_since[me] = now
            if not self._waiting or len(self._busy_since) > self._places(now):
                del self._busy_since[me]
                return None
            return self._waiting.popleft()


def _end_of(marker: str) -> Callable[[bytearray], bool]:
    """Whether an answer has come to its end marker, which stands in its last few bytes then."""
    end = f"\nkeyrelay {marker} end\n".encode()
    return lambda stdout: stdout.find(end, max(0, len(stdout) - _TAIL_BYTES)) >= 0


def _explained(outcome: Failed, answer: Answer) -> Failed:
    """The outcome of an answer that may have been cut, with what the connection knows of the cause."""
    if answer.broken is not None:
        return replace(outcome, reason=answer.broken)
    if answer.exit_status is None:
        return outcome
    said = plain(" ".join(answer.stderr.decode(errors="replace").split()))
    words = f"status {answer.exit_status}: {said}" if said else f"status {answer.exit_status}"
    return replace(outcome, reason=f"{outcome.reason} ({words})")
