from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.durations import format_duration, parse_duration, parse_fraction

WHOLE_SECONDS = st.integers(min_value=0, max_value=10**12).map(lambda count: timedelta(seconds=count))


@given(WHOLE_SECONDS)
def test_a_duration_reads_back_as_it_was_written(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.tuples(*[st.integers(0, 10**6)] * 4))
def test_a_duration_is_the_sum_of_its_parts(counts: tuple[int, int, int, int]) -> None:
    days, hours, minutes, seconds = counts
    expected = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s") == expected


@given(st.text(max_size=12))
def test_any_other_text_is_no_duration_or_is_one_to_the_last_character(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert text.isascii()
    assert text[-1] in "dhms"
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "d",
        "5 m",
        " 5m",
        "5m ",
        "5m\n",
        "-5m",
        "+5m",
        "1.5h",
        "5M",
        "1h1d",
        "5m5m",
        "1w",
        "٣d",
        "1d,2h",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_a_duration_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        parse_duration("999999999d24h")


@pytest.mark.parametrize("duration", [timedelta(seconds=-1), timedelta(milliseconds=1)])
def test_what_cannot_be_written_as_a_duration_is_refused(duration: timedelta) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        format_duration(duration)


@given(
    st.integers(1, 10**9 - 2).flatmap(lambda low: st.tuples(st.just(low), st.integers(low + 1, 10**9 - 1)))
)
def test_a_fraction_is_exact(parts: tuple[int, int]) -> None:
    numerator, denominator = parts
    fraction = Fraction(numerator, denominator)
    assert parse_fraction(f"{numerator}/{denominator}") == fraction
    assert parse_fraction(str(fraction)) == fraction


@given(st.integers(1, 10**9 - 1))
def test_a_decimal_fraction_is_exact(digits: int) -> None:
    assert parse_fraction(f"0.{digits:09d}") == Fraction(digits, 10**9)


@pytest.mark.parametrize(
    "text", ["", "1", "0", "1.5", "-1/2", "1 / 2", "1/2\n", "1e-1", "50%", "½", "two thirds"]
)
def test_what_is_no_fraction_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no fraction"):
        parse_fraction(text)


@pytest.mark.parametrize("text", ["0/5", "5/5", "7/5", "0.0", ".000000000"])
def test_a_fraction_that_is_not_between_0_and_1_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        parse_fraction(text)


def test_a_fraction_over_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="divides by zero"):
        parse_fraction("1/0")
