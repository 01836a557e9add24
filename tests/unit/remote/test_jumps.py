import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

import pytest

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.remote.connection import Connection
from orchestrator.remote.deadlines import Watchdog
from orchestrator.remote.handshake import NotReachedError
from orchestrator.remote.jumps import Jumps
from orchestrator.remote.routes import Hop, Router


@dataclass
class Line:
    """Stands for a connection; what makes real ones has its tests on the lab."""

    alive: bool = True
    closed: bool = field(default=False, init=False)

    def close(self) -> None:
        self.closed = True


def hops(name: str = "bastion") -> tuple[Hop, ...]:
    return Router().route(Endpoint(host=HostName(name), address=name, port=22))


def line(alive: bool = True) -> Connection:  # noqa: FBT001, FBT002 - the only thing a line has
    return cast("Connection", Line(alive=alive))


def test_those_who_come_while_somebody_logs_in_share_what_comes_of_it() -> None:
    jumps, made = Jumps(), []
    waiting = threading.Event()

    def connect() -> Connection:
        waiting.wait(10)
        made.append(line())
        return made[-1]

    with Watchdog() as watchdog, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(jumps.through, hops(), watchdog.watch(60), connect) for _ in range(4)]
        waiting.set()
        got = {id(one.result()) for one in asked}

    assert len(made) == 1
    assert got == {id(made[0])}


def test_a_failure_is_shared_and_the_next_one_tries_anew() -> None:
    jumps = Jumps()

    def fail() -> Connection:
        raise NotReachedError("the door is shut")

    with Watchdog() as watchdog:
        with pytest.raises(NotReachedError) as caught:
            jumps.through(hops(), watchdog.watch(60), fail)
        found = jumps.through(hops(), watchdog.watch(60), line)

    assert caught.value.reason == "jump host 'bastion' (bastion:22): the door is shut"
    assert found.alive


def test_a_fault_of_this_program_is_raised_to_all_who_wait() -> None:
    def break_down() -> Connection:
        raise ZeroDivisionError

    with Watchdog() as watchdog, pytest.raises(ZeroDivisionError):
        Jumps().through(hops(), watchdog.watch(60), break_down)


def test_a_connection_that_died_or_was_dropped_is_made_anew_and_closed_at_the_end() -> None:
    jumps = Jumps()
    with Watchdog() as watchdog:
        dead = jumps.through(hops(), watchdog.watch(60), lambda: line(alive=False))
        dropped = jumps.through(hops(), watchdog.watch(60), line)
        jumps.drop(dropped)
        last = jumps.through(hops(), watchdog.watch(60), line)
        other = jumps.through(hops("other"), watchdog.watch(60), line)
        assert len({id(one) for one in (dead, dropped, last, other)}) == 4
        assert jumps.through(hops(), watchdog.watch(60), line) is last

    jumps.close()
    assert all(cast("Line", one).closed for one in (dead, dropped, last, other))
