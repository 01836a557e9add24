"""A file for others to read: wholly old or wholly new, and open to everybody whatever the umask."""

import os
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.records.published_file import publish


def test_it_takes_the_place_of_what_was_there_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "list.crl"
    before = os.umask(0o077)
    try:
        publish(path, b"one", suffix="a")
        first = path.open("rb")
        publish(path, b"two", suffix="b")
    finally:
        os.umask(before)
    with first:
        assert (first.read(), path.read_bytes()) == (b"one", b"two")
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_where_it_cannot_be_written_the_old_one_stays(tmp_path: Path) -> None:
    (tmp_path / "list.crl").mkdir()
    (tmp_path / "list.crl" / "kept").touch()
    with pytest.raises(UsageError, match=r"list\.crl: "):
        publish(tmp_path / "list.crl", b"two", suffix="b")
    assert [path.name for path in tmp_path.iterdir()] == ["list.crl"]
    with pytest.raises(UsageError, match="No such file"):
        publish(tmp_path / "nowhere" / "list.crl", b"two", suffix="b")
