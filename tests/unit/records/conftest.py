"""What the tests of records share: a folder of one's own, and a database in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.records.database import Database, sqlite_url


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder 0700."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def database(private: Path) -> Iterator[Database]:
    made = Database.create(sqlite_url(private / "keyrelay.db"))
    yield made
    made.close()
