"""``keyrelay watch`` as a daemon on real hosts: it hands over what comes due, and ends when it is told to."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from orchestrator.records.database import Database, sqlite_url
from orchestrator.records.ledger import SqlLedger
from tests.cli.conftest import MakeFleet
from tests.cli.terminal import ROOT, Terminal, keys_in_use

INVENTORY = ("-i", "lab/inventory.yml")
PLAY = "playbooks/shared.yml"
LIFE = "lifetime: 2m, renew_at: 1/24"
PATIENCE_S = 60.0


def wait_for(file: Path, words: str = "") -> None:
    """Until the file is there and has these words in it."""
    until, pause = monotonic() + PATIENCE_S, Event()
    while not (file.exists() and words in file.read_text(encoding="utf-8")):
        assert monotonic() < until, f"{file} with {words!r} did not come"
        pause.wait(0.05)


@contextmanager
def running(keyrelay: Terminal, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    with (keyrelay.folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *words],
            cwd=keyrelay.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **keyrelay.environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def due_soon(make_fleet: MakeFleet) -> Terminal:
    """A fleet of two hosts whose key comes due every five seconds.

    Its server takes the ``seconds`` of a file to take over a key, and says when it begins and ends.
    """
    keyrelay, _ = make_fleet(servers=1, agents=1)
    play = keyrelay.folder / PLAY
    text = play.read_text(encoding="utf-8").replace("lifetime: 365d, renew_at: 2/3", LIFE)
    folder = keyrelay.folder
    hook = f"touch {folder}/begun; sleep $(cat {folder}/seconds); touch {folder}/ended"
    play.write_text(f"{text}  hooks: {{activated: {hook!r}}}\n", encoding="utf-8")
    keyrelay.write("seconds", "0")
    keyrelay("apply", PLAY, *INVENTORY, "--yes").ended(0)
    for file in ("begun", "ended"):
        (folder / file).unlink()
    return keyrelay


def test_a_daemon_hands_over_what_is_due_and_ends_the_visits_in_hand_when_it_is_told_to_end(
    due_soon: Terminal,
) -> None:
    folder = due_soon.folder
    first = keys_in_use(folder / "lab" / "hosts")
    with running(due_soon, "watch", PLAY, *INVENTORY, "--every", "1s") as process:
        wait_for(folder / "said", "done: 2 hosts changed")
        assert not first & keys_in_use(folder / "lab" / "hosts")
        due_soon.write("seconds", "3")
        for file in ("begun", "ended"):
            (folder / file).unlink()
        wait_for(folder / "begun")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert (folder / "ended").exists()
    said = (folder / "said").read_text(encoding="utf-8")
    assert "stopped: the next apply or watch goes on" in said
    assert said.count("nothing to do") <= said.count("done: 2 hosts changed") + 1, "no news is not told"
    assert due_soon("prove", *INVENTORY).ended(0)


def test_a_daemon_that_is_told_twice_ends_at_once_and_the_next_run_goes_on(due_soon: Terminal) -> None:
    due_soon.write("seconds", str(int(PATIENCE_S)))
    with running(due_soon, "watch", PLAY, *INVENTORY, "--every", "1s") as process:
        wait_for(due_soon.folder / "begun")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S / 2) == 3
    assert not (due_soon.folder / "ended").exists()
    assert "error: interrupted" in (due_soon.folder / "said").read_text(encoding="utf-8")
    assert due_soon("prove", *INVENTORY).ended(0)


def test_an_apply_that_is_told_to_end_says_so_and_gives_its_lease_back(due_soon: Terminal) -> None:
    due_soon.write("seconds", str(int(PATIENCE_S)))
    with running(due_soon, "apply", PLAY, *INVENTORY, "--yes", "--new-key") as process:
        wait_for(due_soon.folder / "begun")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S / 2) == 3
    said = (due_soon.folder / "said").read_text(encoding="utf-8")
    assert "error: interrupted" in said
    assert "Traceback" not in said
    database = Database.open(sqlite_url(due_soon.folder / ".keyrelay" / "keyrelay.db"))
    assert SqlLedger(database).read().lease is None
