"""The threads that make the visits of one run.

A visit that takes long mostly waits for its host, so it stops counting after a while and another thread takes
its place: dead hosts do not hold up the living, however many they are.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Self

from orchestrator.keys.secret import Secret
from orchestrator.ports import NEVER, Stop
from orchestrator.remote.deadlines import Watch
from orchestrator.remote.questions import Answers, Question
from orchestrator.rotation.reports import Outcome
from orchestrator.rotation.visits import Visit

_SLOW_S = 1.0
_LOOK_S = 0.25
_MOST_THREADS = 256
_ENDING_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question of a visit, and where it waits for the answer."""

    question: Question
    reply: SimpleQueue[Secret | None]


class Crew:
    """The threads of one run; leaving it waits until they have ended.

    Args:
        visits: what is to be done.
        concurrency: threads, those not counted that wait for a slow host.
        answers: to what visits ask, given in the thread that waits for outcomes.
        stop: once it is asked for, no further visit is begun.
    """

    def __init__(
        self, visits: Sequence[Visit], concurrency: int, answers: Answers, stop: Stop = NEVER
    ) -> None:
        self._count = len(visits)
        self._concurrency = concurrency
        self._answers = answers
        self._stop = stop
        self._done: SimpleQueue[Outcome | BaseException | _Asked] = SimpleQueue()
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

    def outcomes(self, make: Callable[[Visit], Outcome]) -> Iterator[Outcome]:
        """Each outcome as its visit ends; raises what a visit raised, for that is a fault in this program."""
        while self._count and (done := self._next(make)) is not None:
            if isinstance(done, BaseException):
                raise done
            self._count -= 1
            yield done

    def close(self) -> None:
        """Makes no further visit; those under way are ended by the watchdog."""
        with self._lock:
            self._waiting.clear()

    def ask(self, question: Question, watch: Watch) -> Secret | None:
        """From within a visit: has the thread that waits for outcomes ask; None when the run has ended."""
        asked = _Asked(question=question, reply=SimpleQueue())
        self._done.put(asked)
        with watch.off_the_clock():
            while not watch.stopped:
                with suppress(Empty):
                    return asked.reply.get(timeout=_LOOK_S)
        return None

    def _next(self, make: Callable[[Visit], Outcome]) -> Outcome | BaseException | None:
        """The next outcome; None: there will be none, for the visits that are left were not begun."""
        while True:
            if self._stop.asked and self._let_go():
                return None
            self._reinforce(make)
            try:
                done = self._done.get(timeout=_LOOK_S)
            except Empty:
                continue
            if not isinstance(done, _Asked):
                return done
            done.reply.put(self._answers.of(done.question))

    def _let_go(self) -> bool:
        """Begins no further visit; whether those under way have ended, too."""
        with self._lock:
            self._count -= len(self._waiting)
            self._waiting.clear()
        return not self._count

    def _reinforce(self, make: Callable[[Visit], Outcome]) -> None:
        """Starts the threads that are missing."""
        now = monotonic()
        with self._lock:
            if now - self._looked_at < _LOOK_S:
                return
            self._looked_at = now
            wanted = min(len(self._waiting), self._places(now) - len(self._busy_since))
            for _ in range(wanted):
                thread = threading.Thread(
                    target=self._work, args=(make,), name="keyrelay-visits", daemon=True
                )
                self._busy_since[thread] = now
                thread.start()

    def _places(self, now: float) -> int:
        """How many threads there may be now (the lock is held)."""
        slow = sum(1 for since in self._busy_since.values() if now - since > _SLOW_S)
        return min(self._concurrency + slow, _MOST_THREADS)

    def _work(self, make: Callable[[Visit], Outcome]) -> None:
        me = threading.current_thread()
        while (visit := self._take(me)) is not None:
            try:
                self._done.put(make(visit))
            except BaseException as error:  # noqa: BLE001 - raised again where the run is waited for
                self._done.put(error)

    def _take(self, me: threading.Thread) -> Visit | None:
        """The next visit for a thread; None: it is not needed any more."""
        now = monotonic()
        with self._lock:
            self._busy_since[me] = now
            if self._stop.asked or not self._waiting or len(self._busy_since) > self._places(now):
                del self._busy_since[me]
                return None
            return self._waiting.popleft()
