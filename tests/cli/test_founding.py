"""A home in the making: whole or not there at all, whoever is killed meanwhile."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.cli.founding import home_in_the_making
from tests.cli.terminal import ROOT

BEGINS = """
import sys
from pathlib import Path
from orchestrator.cli.founding import home_in_the_making
with home_in_the_making(Path(sys.argv[1])) as home:
    (home.path / "root.key").write_bytes(b"sealed")
    print("begun", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_keyrelay(target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has begun a home at ``target``, and goes on once its stdin ends."""
    with subprocess.Popen(
        [sys.executable, "-c", BEGINS, target],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield process


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_a_killed_program_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    with another_keyrelay(tmp_path / "home") as killed:
        killed.send_signal(signal.SIGKILL)
    (left,) = names(tmp_path)
    assert left.startswith("home.new-")

    with home_in_the_making(tmp_path / "home") as made:
        assert names(tmp_path) == [made.path.name]
        assert made.path.name != left

    assert names(tmp_path) == ["home"]


def test_what_another_program_is_making_is_left_alone(tmp_path: Path) -> None:
    with another_keyrelay(tmp_path / "home") as living:
        (theirs,) = names(tmp_path)
        with home_in_the_making(tmp_path / "home") as made:
            assert set(names(tmp_path)) == {theirs, made.path.name}
            (made.path / "root.key").write_bytes(b"sealed")
        assert living.stdin is not None
        living.stdin.close()
        assert living.wait(60) != 0, "the other one was first"
    assert names(tmp_path) == ["home"]


def test_what_only_looks_like_it_is_left_alone(tmp_path: Path) -> None:
    for name in ("home.new-1", "home.new-00000000.old", "other.new-00000000"):
        (tmp_path / name).mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "home.new-11111111").symlink_to(tmp_path / "kept")
    (tmp_path / "home.new-22222222").write_text("a file", encoding="ascii")
    before = names(tmp_path)
    with home_in_the_making(tmp_path / "home"):
        pass
    assert names(tmp_path) == sorted([*before, "home"])


def test_whoever_fails_removes_what_was_begun(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), home_in_the_making(tmp_path / "home"):
        (tmp_path / "no backup").read_bytes()
    assert names(tmp_path) == []
