"""What every ledger does, the tests' own and the real one."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.errors import ConflictError, RefusedError
from orchestrator.ports import Ledger
from orchestrator.records.database import Database, sqlite_url
from orchestrator.records.ledger import SqlLedger
from orchestrator.rotation.events import Event, HostsSurveyed, KeyDestroyed
from orchestrator.rotation.evolve import fold
from orchestrator.rotation.home_events import ClockSetRight, FleetFounded
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.visits import CredentialId
from tests.fakes import NOON, FakeLedger

FOUNDED = FleetFounded(fleet="orchard", root="a root", issuer="an issuer")


def asked(reason: str) -> Event:
    return HostsSurveyed(surveys={}, failures={"oak": reason})  # type: ignore[dict-item]  # a HostName is a str


@pytest.fixture(params=["fake", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "fake":
        yield FakeLedger()
        return
    tmp_path.chmod(0o700)
    database = Database.create(sqlite_url(tmp_path / "keyrelay.db"))
    yield SqlLedger(database)
    database.close()


def test_a_new_ledger_holds_nothing(ledger: Ledger) -> None:
    assert ledger.read() == Recorded()
    assert list(ledger.entries()) == []
    assert ledger.verify() == 0


def test_what_was_appended_is_what_is_read(ledger: Ledger) -> None:
    after = ledger.append([FOUNDED, asked("no route")], onto=ledger.read(), at=NOON)

    assert after.version == 2
    assert after.fleet == "orchard"
    assert ledger.read() == after
    assert ledger.verify() == 2


def test_entries_come_oldest_first_and_in_a_chain(ledger: Ledger) -> None:
    after = ledger.append([FOUNDED], onto=ledger.read(), at=NOON)
    ledger.append([asked("one"), asked("two")], onto=after, at=NOON + timedelta(minutes=1))

    first, second, third = ledger.entries()

    assert [first.event, second.event, third.event] == [FOUNDED, asked("one"), asked("two")]
    assert [first.number, second.number, third.number] == [1, 2, 3]
    assert [first.previous, second.previous, third.previous] == ["", first.digest, second.digest]
    assert [first.at, third.at] == [NOON, NOON + timedelta(minutes=1)]


def test_entries_can_be_read_from_the_middle_on(ledger: Ledger) -> None:
    ledger.append([FOUNDED, asked("one"), asked("two")], onto=ledger.read(), at=NOON)

    assert [entry.number for entry in ledger.entries(after=1)] == [2, 3]
    assert list(ledger.entries(after=3)) == []
    assert list(ledger.entries(after=99)) == []


def test_the_state_is_what_the_entries_add_up_to(ledger: Ledger) -> None:
    after = ledger.append([FOUNDED, asked("no route")], onto=ledger.read(), at=NOON)

    assert fold(Recorded(), ledger.entries()) == after


def test_whoever_read_before_another_wrote_is_refused(ledger: Ledger) -> None:
    before = ledger.read()
    ledger.append([FOUNDED], onto=before, at=NOON)

    with pytest.raises(ConflictError, match="stands at entry 1"):
        ledger.append([FOUNDED], onto=before, at=NOON)

    assert ledger.verify() == 1


def test_a_state_of_another_ledger_is_refused(ledger: Ledger) -> None:
    ledger.append([FOUNDED], onto=ledger.read(), at=NOON)
    other = FakeLedger()
    elsewhere = other.append([asked("no route")], onto=other.read(), at=NOON)

    with pytest.raises(ConflictError):
        ledger.append([asked("again")], onto=elsewhere, at=NOON)


def test_nothing_is_written_of_events_one_of_which_cannot_follow(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="which is not known"):
        ledger.append([FOUNDED, KeyDestroyed(credential=CredentialId("0" * 32))], onto=ledger.read(), at=NOON)

    assert ledger.read() == Recorded()


def test_appending_nothing_changes_nothing_but_still_finds_a_conflict(ledger: Ledger) -> None:
    before = ledger.read()
    after = ledger.append([FOUNDED], onto=before, at=NOON)

    assert ledger.append([], onto=after, at=NOON) == after
    with pytest.raises(ConflictError):
        ledger.append([], onto=before, at=NOON)


def test_a_time_without_a_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="time zone"):
        ledger.append([FOUNDED], onto=ledger.read(), at=NOON.replace(tzinfo=None))


def test_an_entry_before_the_last_one_is_refused_unless_hosts_have_said_what_time_it_is(
    ledger: Ledger,
) -> None:
    after = ledger.append([FOUNDED], onto=ledger.read(), at=NOON)
    earlier = NOON - timedelta(hours=1)

    with pytest.raises(RefusedError, match="last entry is of 2030-01-01 12:00:00Z"):
        ledger.append([asked("no route")], onto=after, at=earlier)
    assert ledger.read() == after

    right = ledger.append([ClockSetRight(ahead=NOON)], onto=after, at=earlier)
    ledger.append([asked("no route")], onto=right, at=earlier)
    assert ledger.verify() == 3


def test_a_clock_that_was_moved_a_little_writes_on(ledger: Ledger) -> None:
    after = ledger.append([FOUNDED], onto=ledger.read(), at=NOON)
    ledger.append([asked("no route")], onto=after, at=NOON - timedelta(seconds=20))
    assert ledger.verify() == 2
