from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.expiry import Due, Urgency, due_at, judge, part_of

START = datetime(2026, 1, 1, tzinfo=UTC)
LIVES = st.integers(1, 10**15).map(lambda count: timedelta(microseconds=count))
PARTS = st.fractions(min_value=0, max_value=1, max_denominator=10**6).filter(lambda part: 0 < part < 1)


def judged(after: timedelta, *, within: timedelta = timedelta()) -> Due:
    return judge(
        "c",
        not_before=START,
        not_after=START + timedelta(days=90),
        renew_at=Fraction(2, 3),
        now=START + after,
        within=within,
    )


@given(LIVES, PARTS)
def test_a_credential_is_due_at_the_exact_part_of_its_life_rounded_down(
    life: timedelta, part: Fraction
) -> None:
    passed = due_at(START, START + life, part) - START
    exact = Fraction(life // timedelta(microseconds=1)) * part
    assert 0 <= exact - passed // timedelta(microseconds=1) < 1
    assert passed < life


@given(LIVES, PARTS, PARTS)
def test_a_larger_part_is_never_due_earlier(life: timedelta, one: Fraction, other: Fraction) -> None:
    small, large = sorted([one, other])
    assert due_at(START, START + life, small) <= due_at(START, START + life, large)


def test_two_thirds_of_90_days_are_60_days() -> None:
    assert part_of(timedelta(days=90), Fraction(2, 3)) == timedelta(days=60)


@pytest.mark.parametrize(
    ("after", "urgency"),
    [
        (timedelta(days=60) - timedelta(microseconds=1), Urgency.OK),
        (timedelta(days=60), Urgency.DUE),
        (timedelta(days=90) - timedelta(microseconds=1), Urgency.DUE),
        (timedelta(days=90), Urgency.EXPIRED),
        (timedelta(days=-1), Urgency.OK),
    ],
)
def test_an_instant_belongs_to_what_begins_with_it(after: timedelta, urgency: Urgency) -> None:
    assert judged(after).urgency is urgency


@pytest.mark.parametrize(
    ("within", "urgency"),
    [
        (timedelta(days=10), Urgency.EXPIRING),
        (timedelta(days=10) - timedelta(microseconds=1), Urgency.OK),
        (timedelta.max, Urgency.EXPIRING),
    ],
)
def test_looking_ahead_reaches_to_the_last_microsecond(within: timedelta, urgency: Urgency) -> None:
    assert judged(timedelta(days=50), within=within).urgency is urgency


def test_looking_ahead_makes_nothing_less_urgent() -> None:
    assert judged(timedelta(days=70), within=timedelta(days=365)).urgency is Urgency.DUE


def test_the_most_urgent_comes_first_and_then_what_ends_first() -> None:
    days = [50, 95, 10, 70, 91]
    found = sorted((judged(timedelta(days=day), within=timedelta(days=10)) for day in days), key=Due.order)
    assert [due.urgency for due in found] == [
        Urgency.EXPIRED,
        Urgency.EXPIRED,
        Urgency.DUE,
        Urgency.EXPIRING,
        Urgency.OK,
    ]
    assert [urgency.rank for urgency in Urgency] == [0, 1, 2, 3]


def test_only_a_credential_far_from_its_end_needs_no_action() -> None:
    assert not judged(timedelta(days=1)).needs_action
    assert judged(timedelta(days=61)).needs_action


def test_what_is_left_is_negative_after_the_end() -> None:
    assert judged(timedelta(days=91)).left == timedelta(days=-1)


@pytest.mark.parametrize("part", [Fraction(0), Fraction(1), Fraction(-1, 2), Fraction(3, 2)])
def test_a_part_that_is_none_is_refused(part: Fraction) -> None:
    with pytest.raises(ValueError, match="renew_at"):
        due_at(START, START + timedelta(days=1), part)


def test_a_life_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        due_at(START, START, Fraction(1, 2))
