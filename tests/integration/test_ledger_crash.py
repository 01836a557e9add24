"""The ledger under processes that are killed and processes that write at once.

A kill leaves what the kernel was given, not what the disk was: that a commit survives a loss of power
too rests on SQLite's ``synchronous=FULL``, which is checked elsewhere.
"""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event as Signal

import pytest

from orchestrator.errors import ConflictError
from orchestrator.records.database import Database, sqlite_url
from orchestrator.records.ledger import SqlLedger
from orchestrator.rotation.events import Event, FleetFounded, HostsSurveyed
from tests.fakes import NOON, SeededEntropy

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["orchestrator.records.ledger"])

KILLS = 40
ROUNDS = 15


def asked(reason: str) -> Event:
    return HostsSurveyed(surveys={}, failures={"oak": reason})  # type: ignore[dict-item]  # a HostName is a str


def append_until_killed(url: str, acks: Connection) -> None:
    """Appends one to five entries at a time, and tells each time how far the ledger has come."""
    ledger = SqlLedger(Database.open(url))
    recorded = ledger.read()
    while True:
        events = [asked("x" * 400 * n) for n in range(1 + recorded.version % 5)]
        recorded = ledger.append(events, onto=recorded, at=NOON)
        acks.send(recorded.version)


def append_when_told(url: str, name: str, turns: Connection) -> None:
    """For each turn: reads, says so, waits for the word, appends; then tells whether it was the one."""
    ledger = SqlLedger(Database.open(url))
    while turns.recv():
        recorded = ledger.read()
        turns.send(recorded.version)
        turns.recv()
        try:
            turns.send(ledger.append([asked(name)], onto=recorded, at=NOON).version)
        except ConflictError:
            turns.send(None)


@pytest.fixture
def url(tmp_path: Path) -> str:
    tmp_path.chmod(0o700)
    url = sqlite_url(tmp_path / "keyrelay.db")
    database = Database.create(url)
    ledger = SqlLedger(database)
    ledger.append([FleetFounded(fleet="orchard", root="", issuer="")], onto=ledger.read(), at=NOON)
    database.close()
    return url


def test_a_writer_killed_at_any_moment_loses_nothing_it_has_acknowledged(url: str) -> None:
    random = SeededEntropy("kills")
    for kill in range(KILLS):
        acks, theirs = CONTEXT.Pipe(duplex=False)
        writer = CONTEXT.Process(target=append_until_killed, args=(url, theirs))
        writer.start()
        theirs.close()
        acknowledged = [acks.recv() for _ in range(1 + random(1)[0] % 6)]
        # Any moment of the writer's work is a good one; this spreads them over its first milliseconds.
        Signal().wait(random(1)[0] / 256 * 0.006)
        writer.kill()
        writer.join()
        try:
            while True:
                acknowledged.append(acks.recv())
        except EOFError:
            acks.close()

        database = Database.open(url)
        found = SqlLedger(database).verify()
        database.close()
        assert found >= acknowledged[-1], f"kill {kill}"
        # All or none: at most the one append that had no time to tell, and all of it.
        unacknowledged = found - acknowledged[-1]
        assert unacknowledged in (0, 1 + acknowledged[-1] % 5), f"kill {kill}"


def test_of_two_writers_exactly_one_gets_each_number(url: str) -> None:
    pipes, writers = [], []
    for name in ("one", "two"):
        ours, theirs = CONTEXT.Pipe()
        writers.append(CONTEXT.Process(target=append_when_told, args=(url, name, theirs)))
        writers[-1].start()
        theirs.close()
        pipes.append(ours)
    for turn in range(ROUNDS):
        for pipe in pipes:
            pipe.send("go on")
        assert [pipe.recv() for pipe in pipes] == [turn + 1, turn + 1]
        for pipe in pipes:
            pipe.send("go on")
        ends = [pipe.recv() for pipe in pipes]
        assert sorted(end is None for end in ends) == [False, True], ends
        assert turn + 2 in ends
    for pipe, writer in zip(pipes, writers, strict=True):
        pipe.send("")
        writer.join()
        assert writer.exitcode == 0
        pipe.close()

    database = Database.open(url)
    assert SqlLedger(database).verify() == ROUNDS + 1
    database.close()
