"""The ledger under processes that are killed, processes that write at once, and disks that fail.

A kill leaves what the kernel was given, not what the disk was: that a commit survives a loss of power
too rests on SQLite's ``synchronous=FULL``, which is checked elsewhere.
"""

import multiprocessing
import os
import subprocess
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event as Signal

import pytest

from orchestrator.errors import ConflictError, LedgerError
from orchestrator.records.database import Database, sqlite_url
from orchestrator.records.ledger import SqlLedger
from orchestrator.rotation.events import Event, HostsSurveyed
from orchestrator.rotation.home_events import FleetFounded
from tests.fakes import NOON, SeededEntropy

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "orchestrator.records.ledger", "tests.fakes"])

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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_harms_nothing(small_disk: Path) -> None:
    database = Database.create(sqlite_url(small_disk / "keyrelay.db"))
    ledger = SqlLedger(database)
    recorded = ledger.append([asked("x" * 1000)], onto=ledger.read(), at=NOON)
    ballast = small_disk / "ballast"
    left = os.statvfs(small_disk)
    ballast.write_bytes(bytes(left.f_bavail * left.f_frsize))

    with pytest.raises(LedgerError, match=r"keyrelay\.db: .*full") as caught:
        ledger.append([asked("x" * 9000)] * 20, onto=recorded, at=NOON)
    assert "make room" in caught.value.hint
    assert ledger.verify() == 1
    assert ledger.read() == recorded

    ballast.unlink()
    assert ledger.append([asked("x" * 9000)], onto=recorded, at=NOON).version == 2
    assert ledger.verify() == 2
    database.close()


def test_a_disk_that_became_read_only_is_named(small_disk: Path) -> None:
    url = sqlite_url(small_disk / "keyrelay.db")
    Database.create(url).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.raises(LedgerError, match=r"keyrelay\.db: ") as caught:
        Database.open(url)

    assert "writable" in caught.value.hint or "read-only" in caught.value.hint
