"""The ledger: every intent before a host is touched and every outcome after, in a chain of digests.

Entries are only ever added. What they say together is ``rotation/evolve.py``'s business; what is held here is
that they are all there, in order, unchanged, and that nobody adds to a state that is not the last (S8).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Row, Select, insert, select

from orchestrator.errors import ConflictError, LedgerError
from orchestrator.records import codec
from orchestrator.records.database import Database
from orchestrator.records.schema import entries as table
from orchestrator.rotation.chronology import refuse_going_back
from orchestrator.rotation.events import Entry, Event
from orchestrator.rotation.evolve import evolve
from orchestrator.rotation.home_events import ClockSetRight
from orchestrator.rotation.recorded import Recorded

_PAGE = 500
"""Rows fetched at once: a page of survey events of a large fleet is still some megabytes."""

_RESTORE = "put a copy of the database away, and restore a backup"


class SqlLedger:
    """The port ``Ledger`` over a database.

    It remembers the last state it folded, so a later ``read`` folds only what came since. Threads may share
    it: the state is a value, and what two threads find at once is the same.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known = Recorded()

    def read(self) -> Recorded:
        """The state that all entries add up to.

        Raises:
            LedgerError: an entry is damaged, missing, of an unknown kind, or is not the one that was read
                before; names it.
        """
        known = self._known
        with self._database.reading(failing_as=LedgerError) as connection:
            if known.version:
                _require_head(connection, known)
            for entry in _chain(connection, after=known.version, previous=known.head):
                known = _evolved(known, entry)
        self._known = known
        return known

    def append(self, events: Sequence[Event], *, onto: Recorded, at: datetime) -> Recorded:
        """Adds an entry for each event, all or none, durably, and returns the state after them.

        Raises:
            ConflictError: the ledger does not stand where ``onto`` does: another controller writes.
            RefusedError: ``at`` is before the last entry, and nothing says why.
            LedgerError: the database cannot be written.
            TypeError, ValueError: an event that cannot be written, or cannot follow ``onto``; a fault of
                this program.
        """
        recorded, rows = onto, []
        if not any(isinstance(event, ClockSetRight) for event in events):
            refuse_going_back(onto, at)
        for event in events:
            number, previous = recorded.version + 1, recorded.head
            entry, text = codec.make_entry(event, number=number, at=at, previous=previous)
            recorded = evolve(recorded, entry)
            rows.append(_row(entry, text))
        with self._database.writing(failing_as=LedgerError) as connection:
            _require_onto(connection, onto)
            if rows:
                connection.execute(insert(table), rows)
        self._known = recorded
        return recorded

    def heads(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The digests of the entries with these numbers, as far as there are such entries."""
        wanted = sorted(set(numbers))
        found: dict[int, str] = {}
        with self._database.reading(failing_as=LedgerError) as connection:
            for start in range(0, len(wanted), _PAGE):
                page = select(table.c.number, table.c.digest).where(
                    table.c.number.in_(wanted[start : start + _PAGE])
                )
                found |= {row.number: row.digest for row in connection.execute(page)}
        return found

    def entries(self, *, after: int = 0) -> Iterator[Entry]:
        """The entries numbered higher than ``after``, oldest first, each checked against the one before.

        Read page by page: no lock is held while the caller looks at one.

        Raises:
            LedgerError: as ``read``.
        """
        previous = ""
        while True:
            with self._database.reading(failing_as=LedgerError) as connection:
                if after and not previous:
                    row = connection.execute(select(table).where(table.c.number == after)).one_or_none()
                    if row is None:
                        return
                    previous = row.digest
                page = list(_chain(connection, after=after, previous=previous, limit=_PAGE))
            yield from page
            if len(page) < _PAGE:
                return
            after, previous = page[-1].number, page[-1].digest

    def verify(self) -> int:
        """Recomputes the chain and the state from the first entry on; returns the number of entries.

        A tail that was cut off leaves a sound chain: only who noted the head's digest can tell.

        Raises:
            LedgerError: names the first entry that does not fit.
        """
        recorded = Recorded()
        with self._database.reading(failing_as=LedgerError) as connection:
            for entry in _chain(connection, after=None, previous=""):
                recorded = _evolved(recorded, entry)
        return recorded.version


def _chain(
    connection: Connection, *, after: int | None, previous: str, limit: int | None = None
) -> Iterator[Entry]:
    """The entries of a snapshot; ``after=None`` looks at rows with impossible numbers too."""
    query: Select[tuple[int, str, str, str, str, str]] = select(table).order_by(table.c.number)
    if after is not None:
        query = query.where(table.c.number > after)
    if limit is not None:
        query = query.limit(limit)
    expected = (after or 0) + 1
    rows = connection.execution_options(yield_per=_PAGE).execute(query)
    for row in rows:
        entry = _entry(row, number=expected, previous=previous)
        yield entry
        expected, previous = entry.number + 1, entry.digest


def _entry(row: Row[tuple[int, str, str, str, str, str]], *, number: int, previous: str) -> Entry:
    if row.number != number:
        raise LedgerError(f"ledger entry {number} is missing: found {row.number!r}", hint=_RESTORE)
    columns = (row.at, row.kind, row.event, row.previous, row.digest)
    if not all(isinstance(column, str) for column in columns):
        raise _damaged(number, "a column is not text")
    if row.previous != previous:
        raise _damaged(number, "it does not follow the entry before it")
    if row.digest != codec.digest(number=number, at=row.at, previous=row.previous, event=row.event):
        raise _damaged(number, "its digest is another one")
    try:
        event = codec.decode(row.event)
        at = codec.read_instant(row.at)
    except ValueError as error:
        raise LedgerError(
            f"ledger entry {number} cannot be read: {error}",
            hint="if a newer keyrelay wrote it, update this one",
        ) from error
    if event.kind != row.kind:
        raise _damaged(number, f"its kind is {event.kind}, its row says {row.kind!r}")
    return Entry(number=number, at=at, event=event, previous=previous, digest=row.digest)


def _damaged(number: int, why: str) -> LedgerError:
    return LedgerError(f"ledger entry {number} was changed: {why}", hint=_RESTORE)


def _evolved(recorded: Recorded, entry: Entry) -> Recorded:
    try:
        return evolve(recorded, entry)
    except (ValueError, LookupError) as error:
        raise LedgerError(
            f"ledger entry {entry.number} ({entry.event.kind}) cannot follow the ones before it: {error}",
            hint=_RESTORE,
        ) from error


def _require_head(connection: Connection, known: Recorded) -> None:
    row = connection.execute(select(table.c.digest).where(table.c.number == known.version)).one_or_none()
    if row is None or row.digest != known.head:
        raise LedgerError(
            f"ledger entry {known.version} is no longer the one that was read before",
            hint="the database was replaced meanwhile: stop every keyrelay, and run: keyrelay ledger verify",
        )


def _require_onto(connection: Connection, onto: Recorded) -> None:
    newest = select(table.c.number, table.c.digest, table.c.at).order_by(table.c.number.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    number, head, since = (row.number, row.digest, row.at) if row is not None else (0, "", "its making")
    if (number, head) != (onto.version, onto.head):
        raise ConflictError(
            f"the ledger stands at entry {number} since {since}, this run has read up to {onto.version}",
            hint="another controller is writing; run again when it is done",
        )


def _row(entry: Entry, text: str) -> dict[str, object]:
    return {
        "number": entry.number,
        "at": codec.write_instant(entry.at),
        "kind": entry.event.kind,
        "event": text,
        "previous": entry.previous,
        "digest": entry.digest,
    }
