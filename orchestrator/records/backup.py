"""What is in a backup: everything that a home needs to go on, as it was at one instant.

The content of the sealed stream is lines of JSON: one that says which backup it is, one for each entry of the
ledger, the vault's lock, one for each secret (as the vault seals it, so a backup is locked twice), the files
beside the database, and one that counts the lines. All of the database is read in one transaction, so ledger
and vault agree, whatever is written meanwhile. Nothing that the database has deleted comes along.
"""

import base64
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select

from orchestrator.errors import BackupError, LedgerError, VaultError
from orchestrator.keys.material import Random
from orchestrator.keys.secret import Secret
from orchestrator.records import codec
from orchestrator.records.database import Database
from orchestrator.records.home import Home
from orchestrator.records.ledger import SqlLedger
from orchestrator.records.private_files import make_file
from orchestrator.records.schema import entries, vault_meta, vault_records
from orchestrator.records.sealed_stream import read_sealed, write_sealed

FORMAT = 1
FILES = ("root.key", "first_use_hosts")
"""What lies beside the database, as far as it is there."""

MOST_BYTES = 256 * 1024 * 1024
"""A line is never longer."""

_ROWS = 500
_TABLES: Mapping[str, Table] = {"entry": entries, "lock": vault_meta, "secret": vault_records}


class MovedOnError(Exception):
    """The vault holds keys by now that the ledger does not yet say are in the backup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        id: 16 hexadecimal digits.
        taken: when.
        entries: how many entries its ledger has.
        head: the digest of the last.
    """

    id: str
    taken: datetime
    entries: int
    head: str


def kept_keys(database: Database) -> frozenset[str]:
    """The names of all that the vault keeps."""
    with database.reading(failing_as=VaultError) as connection:
        return frozenset(connection.execute(select(vault_records.c.record)).scalars())


def write_backup(
    home: Home,
    database: Database,
    path: Path,
    passphrase: Secret,
    *,
    name: str,
    taken: datetime,
    covering: Collection[str],
    random: Random,
) -> tuple[str, int]:
    """Writes the backup of a home; others may go on writing the home meanwhile.

    Args:
        home: whose files come along.
        database: its ledger and vault.
        path: the file to write; the folder exists.
        passphrase: of this file alone.
        name: the backup's id.
        taken: now.
        covering: the names of what the ledger says is in it.
        random: gives keys and nonces.

    Returns:
        The file's SHA-256 (hex) and size.

    Raises:
        MovedOnError: the vault keeps more than that by now; nothing was written.
        BackupError: the file cannot be written, or there is one of that name.
    """
    with database.reading(failing_as=LedgerError) as connection:
        kept = set(connection.execute(select(vault_records.c.record)).scalars())
        if not kept <= set(covering):
            raise MovedOnError
        lines = _lines(home, connection, name, taken)
        return write_sealed(path, _numbered(lines), passphrase, random=random)


def reseal(path: Path, passphrase: Secret, *, without: Collection[str], random: Random) -> tuple[str, int]:
    """Writes a backup anew without some of its secrets, in the place of the old file."""
    old = (line for line in _read(path, passphrase) if line["kind"] != "end")
    kept = (line for line in old if line["kind"] != "secret" or line["record"] not in without)
    return write_sealed(path, _numbered(kept), passphrase, random=random, replace=True)


def unpack(path: Path, passphrase: Secret, home: Home) -> Manifest:
    """Makes the home of a backup, in a folder that is new and empty, and proves that its ledger is whole.

    Raises:
        BackupError: the file is not to be believed, or its content is not whole.
        LedgerError: its ledger is damaged, or of a newer version.
    """
    lines = _read(path, passphrase)
    first = next(lines, None)
    if first is None or first["kind"] != "backup" or first["format"] != FORMAT:
        raise BackupError(f"{path}: its content has no beginning that is known here")
    manifest = Manifest(
        id=first["id"],
        taken=codec.read_instant(first["taken"]),
        entries=first["entries"],
        head=first["head"],
    )
    with closing(Database.create(home.database_url)) as database:
        with database.writing(failing_as=LedgerError) as connection:
            _put_all(home, connection, lines)
        read = SqlLedger(database).read()
        if (read.version, read.head) != (manifest.entries, manifest.head):
            raise BackupError(
                f"{path}: its ledger has {read.version} entries, it says {manifest.entries}",
                hint="take another backup",
            )
    return manifest


def _lines(home: Home, connection: Connection, name: str, taken: datetime) -> Iterator[Mapping[str, Any]]:
    newest = connection.execute(select(entries.c.digest).order_by(entries.c.number.desc()).limit(1)).scalar()
    number = connection.execute(select(func.count()).select_from(entries)).scalar_one()
    yield {
        "kind": "backup",
        "format": FORMAT,
        "id": name,
        "taken": codec.write_instant(taken),
        "entries": number,
        "head": newest or "",
    }
    for kind, table in _TABLES.items():
        order = select(table).order_by(*table.primary_key.columns)
        for row in connection.execution_options(yield_per=_ROWS).execute(order):
            yield {
                "row": {column: _packed(value) for column, value in row._asdict().items()},
                **_kind(kind, row),
            }
    for file in FILES:
        if (home.path / file).exists():
            data = (home.path / file).read_bytes()
            yield {"kind": "file", "name": file, "data": base64.b64encode(data).decode("ascii")}


def _kind(kind: str, row: Any) -> Mapping[str, str]:
    return {"kind": kind, "record": row.record} if kind == "secret" else {"kind": kind}


def _numbered(lines: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    count = 0
    for line in lines:
        yield json.dumps(line, separators=(",", ":"), sort_keys=True).encode("ascii") + b"\n"
        count += 1
    yield json.dumps({"kind": "end", "lines": count}).encode("ascii") + b"\n"


def _read(path: Path, passphrase: Secret) -> Iterator[dict[str, Any]]:
    """The lines of a backup, the last one checked."""
    ended = False
    for count, text in enumerate(_split(read_sealed(path, passphrase))):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise BackupError(f"{path}: line {count + 1} of its content is no JSON") from error
        if ended or not isinstance(line, dict) or not isinstance(line.get("kind"), str):
            raise BackupError(f"{path}: line {count + 1} of its content is of no known kind")
        ended = line["kind"] == "end"
        if ended and line.get("lines") != count:
            raise BackupError(f"{path}: its content has {count} lines, it says {line.get('lines')}")
        yield line
    if not ended:
        raise BackupError(f"{path}: its content has no end")


def _split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        if b"\n" in piece:
            *whole, rest = bytes(held).split(b"\n")
            yield from whole
            held = bytearray(rest)
        if len(held) > MOST_BYTES:
            raise BackupError("a line of its content is longer than any honest one")
    if held:
        raise BackupError("its content ends in the middle of a line")


def _put_all(home: Home, connection: Connection, lines: Iterable[Mapping[str, Any]]) -> None:
    held: list[dict[str, Any]] = []
    table: Table | None = None
    for line in lines:
        known = _TABLES.get(line["kind"])
        if table is not None and (known is not table or len(held) >= _ROWS):
            connection.execute(insert(table), held)
            held = []
        table = known
        if known is not None:
            held.append({column: _unpacked(value) for column, value in line["row"].items()})
        elif line["kind"] == "file":
            _put_file(home, line["name"], base64.b64decode(line["data"], validate=True))
        elif line["kind"] != "end":
            raise BackupError(f"its content has a line of kind {line['kind']!r}", hint="update keyrelay here")


def _put_file(home: Home, name: str, data: bytes) -> None:
    if name not in FILES:
        raise BackupError(f"its content has a file {name!r}", hint="update keyrelay here")
    with open(make_file(home.path / name), "wb") as file:  # noqa: PTH123 - of a descriptor
        file.write(data)


def _packed(value: object) -> object:
    return {"b64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def _unpacked(value: object) -> object:
    return base64.b64decode(value["b64"], validate=True) if isinstance(value, dict) else value
