"""Connections to jump hosts, shared by all visits that pass through them.

A jump host sees one login however many hosts lie behind it. While one visit logs in there, the others wait
for it and share what comes of it, a failure too; the next one to come tries anew.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future

from orchestrator.remote.connection import Connection
from orchestrator.remote.deadlines import Watch
from orchestrator.remote.handshake import NotReachedError
from orchestrator.remote.routes import Hop

Hops = tuple[Hop, ...]


class Jumps:
    """Open connections by the hops that lead to them. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hops, Future[Connection]] = {}
        self._retired: list[Connection] = []

    def through(self, hops: Hops, watch: Watch, connect: Callable[[], Connection]) -> Connection:
        """A connection to the last of some hops.

        Args:
            hops: the way to it, itself included.
            watch: of the visit that needs it; stands still while another visit logs in there.
            connect: makes the connection, if there is none.

        Raises:
            NotReachedError: names the jump host, and says why.
        """
        with self._lock:
            flight = self._flights.get(hops)
            mine = flight is None or _is_over(flight)
            if mine:
                self._retire(flight)
                flight = self._flights[hops] = Future()
        if flight is None:
            raise AssertionError("a flight was just made")
        if mine:
            _fly(flight, connect)
        with watch.off_the_clock():
            error = flight.exception()
        if error is None:
            return flight.result()
        if isinstance(error, NotReachedError):
            here = f"jump host {hops[-1].label!r} ({hops[-1].where}): "
            reason = error.reason if error.named else f"{here}{error.reason}"
            raise NotReachedError(reason, named=True) from error
        raise error

    def drop(self, connection: Connection) -> None:
        """Lets nobody else through a connection that does not answer; visits under way keep it."""
        with self._lock:
            for hops, flight in list(self._flights.items()):
                if flight.done() and flight.exception() is None and flight.result() is connection:
                    self._retire(self._flights.pop(hops))

    def close(self) -> None:
        """Closes all of them."""
        with self._lock:
            for flight in self._flights.values():
                if flight.done():
                    self._retire(flight)
            self._flights.clear()
            retired, self._retired = self._retired, []
        for connection in reversed(retired):
            connection.close()

    def _retire(self, flight: "Future[Connection] | None") -> None:
        if flight is not None and flight.exception() is None:
            self._retired.append(flight.result())


def _fly(flight: "Future[Connection]", connect: Callable[[], Connection]) -> None:
    try:
        flight.set_result(connect())
    except NotReachedError as error:
        flight.set_exception(error)
    except BaseException as error:
        flight.set_exception(error)
        raise


def _is_over(flight: "Future[Connection]") -> bool:
    """Whether a flight ended without a connection that still stands."""
    return flight.done() and (flight.exception() is not None or not flight.result().alive)
