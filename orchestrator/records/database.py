"""The database that holds ledger and vault: how it is made, opened, migrated, and what its errors mean.

SQLite in WAL mode with ``synchronous=FULL``: what a commit has acknowledged survives a crash of the program
and of the machine (https://sqlite.org/pragma.html#pragma_synchronous). ``secure_delete`` overwrites what is
deleted. The file is made 0600 before SQLite opens it, and SQLite gives its ``-wal`` and ``-shm`` files the
mode of the database.

SQLite's driver would begin transactions by itself, and late; here they are begun by hand, writing ones with
``BEGIN IMMEDIATE``, so that what a transaction reads is still true when it writes.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from orchestrator.errors import KeyrelayError, LedgerError
from orchestrator.records.private_files import check_file, check_folder, make_file, sync_folder
from orchestrator.records.schema import REVISION

BUSY_TIMEOUT_S = 10
"""How long to wait for another process's transaction; keyrelay's own take milliseconds."""

_BEGIN = "keyrelay_begin"
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    "trusted_schema = OFF",
    "temp_store = MEMORY",
)
_COMPANIONS = ("-wal", "-shm", "-journal")
_HINTS: Mapping[str, str] = MappingProxyType(
    {
        "SQLITE_BUSY": "another keyrelay has been writing for long; run again when it is done",
        "SQLITE_FULL": "make room on its file system; nothing of this change was written",
        "SQLITE_IOERR": "look at its file system and the kernel's log",
        "SQLITE_READONLY": "its file system or the file is read-only",
        "SQLITE_CANTOPEN": "its folder must be writable: SQLite keeps two files beside the database",
        "SQLITE_CORRUPT": "the file is damaged: put a copy of it away, and restore a backup",
        "SQLITE_NOTADB": "this file was not made by keyrelay init",
    },
)


class Database:
    """One open database. Threads may share it; a process that forks must not use it on both sides."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self.path = path

    @classmethod
    def create(cls, url: str) -> Self:
        """Makes a new database with empty tables, in a folder that exists.

        Raises:
            LedgerError: there is one already, its folder is open to others, or it cannot be written.
        """
        path = sqlite_path(url)
        check_folder(path.parent, failing_as=LedgerError)
        try:
            os.close(make_file(path))
            sync_folder(path.parent)
        except FileExistsError as error:
            raise LedgerError(f"{path}: there is a database already") from error
        except OSError as error:
            raise LedgerError(f"{path}: {error.strerror}") from error
        database = cls(_engine(path), path)
        try:
            database._migrate(new=True)
        except KeyrelayError:
            database.close()
            path.unlink()
            raise
        return database

    @classmethod
    def open(cls, url: str) -> Self:
        """Opens a database and brings an older one up to date.

        Raises:
            LedgerError: missing, open to others, damaged, newer than this program, or not keyrelay's.
        """
        path = sqlite_path(url)
        check_folder(path.parent, failing_as=LedgerError)
        if not path.exists():
            raise LedgerError(f"{path}: there is no database", hint="run: keyrelay init")
        check_file(path, failing_as=LedgerError)
        for companion in _COMPANIONS:
            if (beside := path.with_name(path.name + companion)).exists():
                check_file(beside, failing_as=LedgerError)
        database = cls(_engine(path), path)
        try:
            database._migrate(new=False)
        except KeyrelayError:
            database.close()
            raise
        return database

    @contextmanager
    def reading(self, *, failing_as: type[KeyrelayError]) -> Iterator[Connection]:
        """One snapshot of the database; its own errors are raised as ``failing_as``."""
        with self._connection("BEGIN", failing_as) as connection:
            yield connection

    @contextmanager
    def writing(self, *, failing_as: type[KeyrelayError]) -> Iterator[Connection]:
        """One transaction, alone in writing: durable at the end, or without effect if anything is raised."""
        with self._connection("BEGIN IMMEDIATE", failing_as) as connection:
            yield connection

    def scrub(self, *, failing_as: type[KeyrelayError]) -> None:
        """Leave nothing of what was deleted in any of the files.

        ``secure_delete`` has overwritten it in the pages; this moves the pages into the database file and
        cuts the write-ahead log, which still has the pages of before, to nothing.

        Raises:
            KeyrelayError: as ``failing_as``: another process is reading, so that the log has to stay.
        """
        with self._connection("", failing_as) as connection:
            busy = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar_one()
        if busy:
            raise failing_as(
                f"{self.path}: another process reads it, so deleted data is still in its log",
                hint="run again when no other keyrelay is running",
            )

    def close(self) -> None:
        """Close every connection; the database can be used no more."""
        self._engine.dispose()

    def _migrate(self, *, new: bool) -> None:
        with self.reading(failing_as=LedgerError) as connection:
            found = MigrationContext.configure(connection).get_current_heads()
        if found == (REVISION,):
            return
        config = Config()
        config.set_main_option(
            "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
        )
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if not found and not new:
            raise LedgerError(f"{self.path}: not a database of keyrelay's", hint=_HINTS["SQLITE_NOTADB"])
        if not known.issuperset(found):
            raise LedgerError(
                f"{self.path}: written by a newer version of keyrelay (format {', '.join(found)};"
                f" this one knows up to {REVISION})",
                hint="update keyrelay on this machine",
            )
        with self.writing(failing_as=LedgerError) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, REVISION)

    @contextmanager
    def _connection(self, begin: str, failing_as: type[KeyrelayError]) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                connection.execution_options(**{_BEGIN: begin})
                with connection.begin():
                    yield connection
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            name = getattr(cause, "sqlite_errorname", "")
            hint = next((hint for code, hint in _HINTS.items() if name.startswith(code)), "")
            raise failing_as(f"{self.path}: {cause}", hint=hint) from error


def sqlite_path(url: str) -> Path:
    """The file that a database URL such as ``sqlite:////srv/keyrelay/keyrelay.db`` names.

    Raises:
        LedgerError: another kind of database, no absolute path, or options after the path.
    """
    expected = "expected sqlite:///, an absolute path, and nothing after it"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise LedgerError(f"not a database URL; {expected}") from error
    path = Path(parsed.database or "")
    if parsed != URL.create("sqlite", database=str(path)) or not path.is_absolute():
        # A password in a URL stays out of messages.
        raise LedgerError(f"database {parsed.render_as_string(hide_password=True)}; {expected}")
    return path


def sqlite_url(path: Path) -> str:
    """The URL of a database file."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string(hide_password=False)


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S},
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    # A damaged row must reach the ledger's own check, which can name it.
    connection.text_factory = _lenient
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(_BEGIN, "")
    if statement:
        connection.exec_driver_sql(statement)


def _lenient(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
