import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConflictError, LedgerError
from orchestrator.records import codec
from orchestrator.records import ledger as module
from orchestrator.records.database import Database, sqlite_url
from orchestrator.records.ledger import SqlLedger
from orchestrator.rotation.events import Entry, Event, HostsSurveyed
from orchestrator.rotation.evolve import evolve
from orchestrator.rotation.home_events import FleetFounded
from orchestrator.rotation.recorded import Recorded
from tests.fakes import NOON

FOUNDED = FleetFounded(fleet="orchard", root="a root", issuer="an issuer")
ROWS = 4
LATER = NOON + timedelta(minutes=ROWS)
TEXTS = ("at", "kind", "event", "previous", "digest")


def asked(reason: str) -> Event:
    return HostsSurveyed(surveys={}, failures={"oak": reason})  # type: ignore[dict-item]  # a HostName is a str


def filled(database: Database) -> SqlLedger:
    ledger = SqlLedger(database)
    recorded = ledger.append([FOUNDED], onto=ledger.read(), at=NOON)
    for number in range(1, ROWS):
        later = NOON + timedelta(minutes=number)
        recorded = ledger.append([asked(f"no route {number}")], onto=recorded, at=later)
    return ledger


def raw(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def text_of(path: Path, row: int, column: str) -> bytes:
    [(found,)] = raw(path, f"SELECT CAST({column} AS BLOB) FROM entries WHERE number = ?", row)  # noqa: S608  # one of TEXTS
    assert isinstance(found, bytes)
    return found


def set_text(path: Path, row: int, column: str, data: bytes) -> None:
    raw(path, f"UPDATE entries SET {column} = CAST(? AS TEXT) WHERE number = ?", data, row)  # noqa: S608  # one of TEXTS


@pytest.fixture
def ledger(database: Database) -> SqlLedger:
    return filled(database)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A filled ledger that each test leaves as it found it."""
    folder = tmp_path_factory.mktemp("kept")
    folder.chmod(0o700)
    database = Database.create(sqlite_url(folder / "keyrelay.db"))
    filled(database)
    yield database
    database.close()


@given(row=st.integers(1, ROWS), column=st.sampled_from(TEXTS), data=st.data())
def test_any_changed_byte_of_any_text_is_found(
    kept: Database, row: int, column: str, data: st.DataObject
) -> None:
    before = text_of(kept.path, row, column)
    if not before:
        return
    changed = bytearray(before)
    changed[data.draw(st.integers(0, len(before) - 1))] ^= data.draw(st.integers(1, 255))
    set_text(kept.path, row, column, bytes(changed))
    try:
        with pytest.raises(LedgerError, match=f"ledger entry {row} "):
            SqlLedger(kept).verify()
        with pytest.raises(LedgerError, match=f"ledger entry {row} "):
            SqlLedger(kept).read()
    finally:
        set_text(kept.path, row, column, before)
    assert SqlLedger(kept).verify() == ROWS


@given(
    row=st.integers(1, ROWS), column=st.sampled_from(TEXTS), cut=st.integers(0, 3), more=st.binary(max_size=3)
)
def test_text_that_is_cut_or_grows_is_found(
    kept: Database, row: int, column: str, cut: int, more: bytes
) -> None:
    before = text_of(kept.path, row, column)
    changed = before[: len(before) - cut] + more
    if changed == before:
        return
    set_text(kept.path, row, column, changed)
    try:
        with pytest.raises(LedgerError, match=f"ledger entry {row} "):
            SqlLedger(kept).verify()
    finally:
        set_text(kept.path, row, column, before)


@given(row=st.integers(1, ROWS), bit=st.integers(0, 62))
def test_any_changed_bit_of_a_number_is_found(kept: Database, row: int, bit: int) -> None:
    changed = row ^ (1 << bit)
    if 1 <= changed <= ROWS:
        return  # SQLite itself refuses two rows of one number
    raw(kept.path, "UPDATE entries SET number = ? WHERE number = ?", changed, row)
    try:
        with pytest.raises(LedgerError, match=r"ledger entry \d+ is missing"):
            SqlLedger(kept).verify()
    finally:
        raw(kept.path, "UPDATE entries SET number = ? WHERE number = ?", row, changed)


@pytest.mark.parametrize("number", [0, -1, -(2**63)])
def test_an_only_row_with_an_impossible_number_is_no_empty_ledger(database: Database, number: int) -> None:
    SqlLedger(database).append([FOUNDED], onto=Recorded(), at=NOON)
    raw(database.path, "UPDATE entries SET number = ?", number)

    with pytest.raises(LedgerError, match="entry 1 is missing"):
        SqlLedger(database).verify()


@pytest.mark.parametrize("column", TEXTS)
def test_a_column_of_another_kind_is_found(ledger: SqlLedger, database: Database, column: str) -> None:
    raw(database.path, f"UPDATE entries SET {column} = CAST({column} AS BLOB) WHERE number = 2")  # noqa: S608  # one of TEXTS

    with pytest.raises(LedgerError, match="entry 2 was changed: a column is not text"):
        ledger.verify()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_missing_entry_is_found(ledger: SqlLedger, database: Database, number: int) -> None:
    raw(database.path, "DELETE FROM entries WHERE number = ?", number)

    with pytest.raises(LedgerError, match=f"entry {number} is missing"):
        ledger.verify()


def test_an_entry_put_into_the_middle_is_found(ledger: SqlLedger, database: Database) -> None:
    assert ledger.verify() == ROWS
    raw(database.path, "UPDATE entries SET number = number + 1000 WHERE number > 2")
    raw(database.path, "UPDATE entries SET number = number - 999 WHERE number > 2")
    [(second,)] = raw(database.path, "SELECT digest FROM entries WHERE number = 2")
    text = codec.encode(asked("made up"))
    at = codec.write_instant(NOON)
    digest = codec.digest(number=3, at=at, previous=str(second), event=text)
    raw(
        database.path,
        "INSERT INTO entries VALUES (3, ?, 'hosts-surveyed', ?, ?, ?)",
        at,
        text,
        second,
        digest,
    )

    with pytest.raises(LedgerError, match="entry 4 was changed: it does not follow"):
        SqlLedger(database).verify()


def test_two_entries_that_changed_places_are_found(ledger: SqlLedger, database: Database) -> None:
    for before, after in ((2, 99), (3, 2), (99, 3)):
        raw(database.path, "UPDATE entries SET number = ? WHERE number = ?", after, before)

    with pytest.raises(LedgerError, match="entry 2 was changed"):
        ledger.verify()


def test_only_a_noted_head_tells_that_the_tail_was_cut_off(ledger: SqlLedger, database: Database) -> None:
    noted = ledger.read()
    raw(database.path, "DELETE FROM entries WHERE number = ?", ROWS)

    assert SqlLedger(database).verify() == ROWS - 1
    assert SqlLedger(database).read().head != noted.head
    with pytest.raises(LedgerError, match=f"entry {ROWS} is no longer the one that was read before"):
        ledger.read()


def test_an_entry_of_an_unknown_kind_is_named(ledger: SqlLedger, database: Database) -> None:
    _append_raw(database, kind="key-lost", event='{"credential":"0","kind":"key-lost"}')

    for use in (ledger.read, ledger.verify, lambda: list(ledger.entries())):
        with pytest.raises(LedgerError, match=r"entry 5 cannot be read: .*key-lost") as caught:
            use()
        assert "newer keyrelay" in caught.value.hint


def test_an_entry_that_cannot_have_happened_is_named(ledger: SqlLedger, database: Database) -> None:
    _append_raw(database, kind="key-destroyed", event='{"credential":"0","kind":"key-destroyed"}')

    with pytest.raises(LedgerError, match=r"entry 5 \(key-destroyed\) cannot follow"):
        ledger.verify()


def test_a_row_whose_kind_is_not_its_events_is_named(ledger: SqlLedger, database: Database) -> None:
    _append_raw(database, kind="key-made", event=codec.encode(asked("no route")))

    with pytest.raises(LedgerError, match="entry 5 was changed: its kind is hosts-surveyed"):
        ledger.verify()


def _append_raw(database: Database, *, kind: str, event: str) -> None:
    """An entry with a sound digest, as a program of another version might write it."""
    [(previous,)] = raw(database.path, "SELECT digest FROM entries WHERE number = ?", ROWS)
    at = codec.write_instant(NOON)
    digest = codec.digest(number=ROWS + 1, at=at, previous=str(previous), event=event)
    raw(
        database.path,
        "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)",
        ROWS + 1,
        at,
        kind,
        event,
        previous,
        digest,
    )


def test_a_later_read_folds_only_what_is_new(
    ledger: SqlLedger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SqlLedger(database)
    other.append([asked("again")], onto=other.read(), at=LATER)
    folded: list[int] = []

    def counting(recorded: Recorded, entry: Entry) -> Recorded:
        folded.append(entry.number)
        return evolve(recorded, entry)

    monkeypatch.setattr(module, "evolve", counting)

    assert ledger.read() == other.read()
    assert folded == [ROWS + 1]


def test_a_state_read_again_is_the_same_whoever_folded_it(ledger: SqlLedger, database: Database) -> None:
    written = ledger.append([asked("again")], onto=ledger.read(), at=LATER)

    assert SqlLedger(database).read() == written == ledger.read()


def test_a_conflict_says_where_the_ledger_stands_and_since_when(ledger: SqlLedger) -> None:
    with pytest.raises(ConflictError) as caught:
        ledger.append([asked("again")], onto=Recorded(), at=LATER)

    assert caught.value.message == (
        f"the ledger stands at entry {ROWS} since 2030-01-01T12:03:00.000000Z, this run has read up to 0"
    )
    assert "another controller" in caught.value.hint


def test_the_same_number_with_another_past_is_a_conflict(ledger: SqlLedger) -> None:
    known = ledger.read()

    with pytest.raises(ConflictError):
        ledger.append([asked("again")], onto=replace(known, head="0" * 64), at=LATER)


def test_entries_come_page_by_page(ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    for page in range(1, ROWS + 2):
        monkeypatch.setattr(module, "_PAGE", page)
        assert [entry.number for entry in ledger.entries()] == [1, 2, 3, 4]
        assert [entry.number for entry in ledger.entries(after=2)] == [3, 4]


def test_a_ledger_can_grow_while_its_entries_are_looked_at(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 1)
    entries = ledger.entries()
    assert next(entries).number == 1

    ledger.append([asked("again")], onto=ledger.read(), at=LATER)

    assert [entry.number for entry in entries] == [2, 3, 4, 5]


def test_text_of_hosts_in_any_script_is_kept(database: Database) -> None:
    ledger = SqlLedger(database)
    reason = "путь \x00\x1b[31m \u202e 🔑"

    ledger.append([FOUNDED, asked(reason)], onto=ledger.read(), at=LATER)

    event = list(SqlLedger(database).entries())[1].event
    assert isinstance(event, HostsSurveyed)
    assert dict(event.failures) == {"oak": reason}
