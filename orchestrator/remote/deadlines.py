"""Deadlines that hold.

A timeout on each call does not bound a visit: calls add up, and some of paramiko's wait without one (a
write to a socket that the other side does not read is tried for ever). So every visit has one deadline,
and a watchdog that closes its socket when that has passed, which ends every call that waits for it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Self


class Watchdog:
    """Ends what outlives its deadline; one thread for all visits of a run.

    A context manager: leaving it ends everything that is still guarded, and what is guarded afterwards
    is ended at once.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._guarded: dict[object, tuple[float, Callable[[], None]]] = {}
        self._next = float("inf")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keyrelay-watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with self._changed:
            self._changed.notify()
        self._thread.join()

    def watch(self, timeout_s: float) -> "Watch":
        """A deadline ``timeout_s`` seconds from now."""
        return Watch(self, monotonic() + timeout_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            for end in self._due(monotonic()):
                end()
        for end in self._due(float("inf")):
            end()

    def _due(self, now: float) -> list[Callable[[], None]]:
        """Takes out and returns what is due; if nothing is, waits until something may be."""
        with self._changed:
            due = [key for key, (at, _) in self._guarded.items() if at <= now]
            if due:
                return [self._guarded.pop(key)[1] for key in due]
            if not self._stopped.is_set():
                self._next = min((at for at, _ in self._guarded.values()), default=float("inf"))
                self._changed.wait(None if self._next == float("inf") else self._next - now)
            return []

    def _guard(self, key: object, at: float, end: Callable[[], None]) -> bool:
        """Whether the guard stands; a stopped watchdog takes none."""
        with self._changed:
            if self._stopped.is_set():
                return False
            self._guarded[key] = (at, end)
            if at < self._next:
                self._changed.notify()
            return True

    def _release(self, key: object) -> None:
        with self._changed:
            self._guarded.pop(key, None)


class Watch:
    """One visit's deadline; made by ``Watchdog.watch``."""

    __slots__ = ("_at", "_watchdog")

    def __init__(self, watchdog: Watchdog, at: float) -> None:
        self._watchdog = watchdog
        self._at = at

    @property
    def stopped(self) -> bool:
        """Whether the whole run was ended early."""
        return self._watchdog._stopped.is_set()  # noqa: SLF001 - the two are one thing

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; 0.0 when it has passed or the run was ended."""
        return 0.0 if self.stopped else max(0.0, self._at - monotonic())

    @property
    def expired(self) -> bool:
        """Whether nothing more may be waited for."""
        return self.left_s <= 0.0

    def pause(self, seconds: float) -> None:
        """Waits, but not past the deadline or the end of the run."""
        self._watchdog._stopped.wait(min(seconds, self.left_s))  # noqa: SLF001 - the two are one thing

    @contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """Lets the time within the block not count, as when a person is asked; for blocks without a guard."""
        started = monotonic()
        try:
            yield
        finally:
            self._at += monotonic() - started

    @contextmanager
    def guarding(self, end: Callable[[], None]) -> Iterator[None]:
        """Calls ``end``, from another thread, if the deadline passes within the block."""
        key = object()
        if not self._watchdog._guard(key, self._at, end):  # noqa: SLF001 - the two are one thing
            end()
        try:
            yield
        finally:
            self._watchdog._release(key)  # noqa: SLF001 - the two are one thing
