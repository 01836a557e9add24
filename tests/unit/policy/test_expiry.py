from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.desired import CertificateSpec
from orchestrator.policy.expiry import due_at, part_of, room

START = datetime(2026, 1, 1, tzinfo=UTC)
LIVES = st.integers(1, 10**15).map(lambda count: timedelta(microseconds=count))
PARTS = st.fractions(min_value=0, max_value=1, max_denominator=10**6).filter(lambda part: 0 < part < 1)
QUARTER = CertificateSpec(
    lifetime=timedelta(days=90), renew_at=Fraction(2, 3), grace=timedelta(0), jitter=timedelta(days=5)
)


def spec(part: Fraction, **changes: timedelta) -> CertificateSpec:
    return replace(QUARTER, renew_at=part, **{"jitter": timedelta(0), **changes})


@given(LIVES, PARTS)
def test_a_key_is_due_at_the_exact_part_of_its_life_rounded_down(life: timedelta, part: Fraction) -> None:
    passed = due_at("c", START, START + life, spec(part)) - START
    exact = Fraction(life // timedelta(microseconds=1)) * part
    assert 0 <= exact - passed // timedelta(microseconds=1) < 1
    assert passed < life


@given(LIVES, PARTS, PARTS)
def test_a_larger_part_is_never_due_earlier(life: timedelta, one: Fraction, other: Fraction) -> None:
    small, large = sorted([one, other])
    assert due_at("c", START, START + life, spec(small)) <= due_at("c", START, START + life, spec(large))


@given(st.text(), PARTS, LIVES)
def test_jitter_makes_a_key_due_earlier_by_less_than_itself_and_always_by_the_same(
    name: str, part: Fraction, jitter: timedelta
) -> None:
    end = START + timedelta(days=90)
    due = due_at(name, START, end, spec(part, jitter=jitter))
    latest = due_at(name, START, end, spec(part))
    assert latest - due < max(jitter, timedelta(microseconds=1))
    assert START <= due <= latest
    assert due == due_at(name, START, end, spec(part, jitter=jitter))


def test_jitter_spreads_keys_that_were_made_together_over_all_of_it() -> None:
    end = START + timedelta(days=90)
    days = [(due_at(f"{number:032x}", START, end, QUARTER) - START).days for number in range(500)]
    assert {day: days.count(day) > 60 for day in set(days)} == dict.fromkeys(range(55, 60), True)


def test_two_thirds_of_90_days_are_60_days_and_leave_30() -> None:
    assert part_of(timedelta(days=90), Fraction(2, 3)) == timedelta(days=60)
    assert room(QUARTER) == timedelta(days=30)


@pytest.mark.parametrize("part", [Fraction(0), Fraction(1), Fraction(-1, 2), Fraction(3, 2)])
def test_a_part_that_is_none_is_refused(part: Fraction) -> None:
    with pytest.raises(ValueError, match="renew_at"):
        due_at("c", START, START + timedelta(days=1), spec(part))


def test_a_life_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        due_at("c", START, START, QUARTER)
