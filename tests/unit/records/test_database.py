import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from orchestrator.errors import LedgerError, VaultError
from orchestrator.records import database as module
from orchestrator.records.database import Database, sqlite_path, sqlite_url
from orchestrator.records.schema import REVISION, metadata

MIGRATIONS = Path(module.__file__).parent / "migrations"
INSERT = text("INSERT INTO vault_records VALUES (:record, 1, '', x'00', x'00')")
COUNT = text("SELECT count(*) FROM vault_records")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def write(database: Database, record: str) -> None:
    with database.writing(failing_as=LedgerError) as connection:
        connection.execute(INSERT, {"record": record})


def count(database: Database) -> int:
    with database.reading(failing_as=LedgerError) as connection:
        return int(connection.execute(COUNT).scalar_one())


def raw(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize("mask", [0, 0o022, 0o777], ids=oct)
def test_no_umask_opens_a_file_to_others_or_locks_out_its_owner(private: Path, mask: int) -> None:
    with umask(mask):
        database = Database.create(sqlite_url(private / "keyrelay.db"))
        write(database, "oak")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in private.iterdir()}
    database.close()

    assert modes == dict.fromkeys(("keyrelay.db", "keyrelay.db-wal", "keyrelay.db-shm"), 0o600)


def test_every_connection_is_durable_bounded_and_forgets_what_is_deleted(database: Database) -> None:
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
        "busy_timeout": 10000,
    }

    for _ in range(2):
        with database.reading(failing_as=LedgerError) as connection:
            found = {name: connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in wanted}
        assert found == wanted


def test_what_was_written_is_there_when_it_is_opened_again(private: Path, database: Database) -> None:
    write(database, "oak")
    database.close()

    again = Database.open(sqlite_url(private / "keyrelay.db"))

    assert count(again) == 1
    again.close()


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.writing(failing_as=LedgerError) as connection:
            connection.execute(INSERT, {"record": "oak"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert count(database) == 0


def test_a_snapshot_does_not_see_what_is_written_meanwhile(database: Database) -> None:
    with database.reading(failing_as=LedgerError) as connection:
        assert connection.execute(COUNT).scalar_one() == 0
        write(database, "oak")
        assert connection.execute(COUNT).scalar_one() == 0

    assert count(database) == 1


def test_an_existing_database_is_never_made_anew(private: Path, database: Database) -> None:
    write(database, "oak")

    with pytest.raises(LedgerError, match="already"):
        Database.create(sqlite_url(private / "keyrelay.db"))

    assert count(database) == 1


def test_a_missing_database_is_not_made_by_opening_it(private: Path) -> None:
    with pytest.raises(LedgerError, match="no database") as caught:
        Database.open(sqlite_url(private / "keyrelay.db"))

    assert "keyrelay init" in caught.value.hint
    assert list(private.iterdir()) == []


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_that_others_may_read_is_refused(database: Database, suffix: str) -> None:
    path = database.path.with_name(f"keyrelay.db{suffix}")
    path.chmod(0o640)

    with pytest.raises(LedgerError, match="0640") as caught:
        Database.open(sqlite_url(database.path))

    assert f"chmod 600 {path}" in caught.value.hint


def test_a_folder_that_others_may_enter_is_refused(database: Database) -> None:
    database.path.parent.chmod(0o750)

    for use in (Database.open, Database.create):
        with pytest.raises(LedgerError, match=r"0750.*0700"):
            use(sqlite_url(database.path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(database: Database) -> None:
    os.chown(database.path, 12345, -1)

    with pytest.raises(LedgerError, match="belongs to user 12345"):
        Database.open(sqlite_url(database.path))


def test_a_link_in_the_place_of_the_file_is_refused(database: Database) -> None:
    other = database.path.with_name("other.db")
    other.symlink_to(database.path)

    with pytest.raises(LedgerError, match="expected a file"):
        Database.open(sqlite_url(other))


def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    raw(database.path, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(LedgerError, match=r"newer version.*9999.*up to 0001") as caught:
        Database.open(sqlite_url(database.path))

    assert "update keyrelay" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be looked at\n" * 100])
def test_a_file_that_is_no_database_of_ours_is_refused(private: Path, content: bytes) -> None:
    path = private / "keyrelay.db"
    path.touch(0o600)
    path.write_bytes(content)

    with pytest.raises(LedgerError, match=r"keyrelay\.db: .*not a database") as caught:
        Database.open(sqlite_url(path))

    assert "keyrelay init" in caught.value.hint


def test_the_migrations_make_exactly_the_tables_of_the_schema(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))

    assert ScriptDirectory.from_config(config).get_current_head() == REVISION
    with database.reading(failing_as=LedgerError) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = private / "keyrelay.db"
    path.touch(0o600)
    empty = Database(module._engine(path), path)

    def stops_at_the_end(config: Config, revision: str) -> None:
        command.upgrade(config, revision)
        raise LedgerError("the machine stops here")

    monkeypatch.setattr(module, "command", SimpleNamespace(upgrade=stops_at_the_end))
    with pytest.raises(LedgerError, match="stops here"):
        empty._migrate(new=True)
    empty.close()

    assert raw(path, "SELECT name FROM sqlite_schema") == []


def test_a_database_that_could_not_be_made_is_not_left_half_made(
    private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_config: Config, _revision: str) -> None:
        raise LedgerError("no room")

    monkeypatch.setattr(module, "command", SimpleNamespace(upgrade=breaks))
    with pytest.raises(LedgerError, match="no room"):
        Database.create(sqlite_url(private / "keyrelay.db"))

    assert list(private.iterdir()) == []


def test_a_writer_that_waits_too_long_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
    other = Database.open(sqlite_url(database.path))

    with (
        database.writing(failing_as=LedgerError),
        pytest.raises(LedgerError, match=r"keyrelay\.db: .*locked") as caught,
        other.writing(failing_as=LedgerError),
    ):
        pass
    other.close()

    assert "another keyrelay" in caught.value.hint


def test_scrubbing_waits_for_nobody_for_ever_and_says_what_is_left(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
    other = Database.open(sqlite_url(database.path))
    write(other, "oak")
    with database.reading(failing_as=LedgerError) as connection:
        connection.execute(COUNT)
        write(other, "elm")
        with pytest.raises(VaultError, match="another process reads"):
            other.scrub(failing_as=VaultError)

    other.scrub(failing_as=VaultError)
    other.close()

    assert database.path.with_name("keyrelay.db-wal").stat().st_size == 0


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://user:hunter2@db/fleet",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///relative.db",
        "sqlite:////srv/keyrelay.db?mode=ro",
        "sqlite+aiosqlite:////srv/keyrelay.db",
        "keyrelay.db",
        "",
    ],
)
def test_any_other_url_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(LedgerError, match="expected sqlite:///") as caught:
        sqlite_path(url)

    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("path", ["/srv/keyrelay.db", "/srv/a b/100%/ü?#x.db", "/srv/file:x.db"])
def test_a_path_comes_back_from_its_url(path: str) -> None:
    assert sqlite_path(sqlite_url(Path(path))) == Path(path)
