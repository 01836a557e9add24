from datetime import UTC, datetime, timedelta

from orchestrator.inventory.model import HostName
from orchestrator.operations.compare import mean_seconds
from orchestrator.rotation.events import Entry, Event, HostsSurveyed, VisitsEnded, VisitsIntended
from orchestrator.rotation.home_events import LeaseTaken
from orchestrator.rotation.reports import Unchanged

BEGAN = datetime(2031, 1, 1, tzinfo=UTC)


def history(*told: tuple[float, Event]) -> list[Entry]:
    """Entries at so many seconds after the beginning."""
    return [
        Entry(number=number, at=BEGAN + timedelta(seconds=at_s), event=event, previous="", digest="")
        for number, (at_s, event) in enumerate(told, start=1)
    ]


def ended(hosts: int) -> VisitsEnded:
    return VisitsEnded(
        outcomes=tuple(Unchanged(host=HostName(f"h{number}"), reports=()) for number in range(hosts))
    )


def test_a_fleet_without_history_has_no_mean() -> None:
    assert mean_seconds([]) is None
    assert mean_seconds(history((0, VisitsIntended(intents=())))) is None
    assert mean_seconds(history((5, ended(3)))) is None


def test_a_batch_counts_as_many_rounds_as_it_needs() -> None:
    batches = history(
        (0, VisitsIntended(intents=())), (2, ended(16)), (10, VisitsIntended(intents=())), (16, ended(17))
    )
    assert mean_seconds(batches[:2]) == 2.0
    assert mean_seconds(batches) == (2 + 6) / 3
    assert mean_seconds(batches, concurrency=1) == (2 + 6) / 33


def test_a_lease_that_is_renewed_meanwhile_does_not_hide_a_long_batch() -> None:
    renewal = LeaseTaken(holder="one", until=BEGAN + timedelta(hours=1))
    assert mean_seconds(history((0, VisitsIntended(intents=())), (30, renewal), (90, ended(1)))) == 90.0


def test_only_outcomes_that_follow_their_intents_are_measured() -> None:
    survey = HostsSurveyed(surveys={}, failures={})
    cut_short = history((0, VisitsIntended(intents=())), (100, survey), (101, survey))
    assert mean_seconds(cut_short) is None
    twice = history((0, VisitsIntended(intents=())), (2, ended(1)), (101, ended(1)))
    assert mean_seconds(twice) == 2.0
    again = history((0, VisitsIntended(intents=())), (100, VisitsIntended(intents=())), (101, ended(1)))
    assert mean_seconds(again) == 1.0


def test_a_clock_that_was_set_back_is_not_counted() -> None:
    assert mean_seconds(history((10, VisitsIntended(intents=())), (5, ended(1)))) is None
    assert mean_seconds(history((10, VisitsIntended(intents=())), (10, ended(1)))) is None
