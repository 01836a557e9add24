import unicodedata
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.views.text import (
    LONGEST_REASON,
    broken,
    count,
    escaped,
    instant,
    named,
    packed,
    shortened,
    span,
    stamp,
)

AT = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


@given(st.text())
def test_nothing_that_is_shown_can_move_the_cursor_or_turn_the_text_around(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    assert not {unicodedata.category(sign) for sign in shown} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S"))))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert escaped(text) == text


def test_escapes_say_which_character_it_was() -> None:
    assert escaped("\x1b[31m\u202e\u200b\x07\x9b\ud800") == r"\x1b[31m\u202e\u200b\x07\x9b\ud800"
    assert escaped("a\nb\tc") == r"a\nb\tc"
    assert escaped("a\nb\x1bc", lines=True) == "a\nb\\x1bc"


def test_instants_are_told_in_utc() -> None:
    assert instant(AT.astimezone(timezone(timedelta(hours=5)))) == "2031-05-06 07:08:09Z"
    assert stamp(AT) == "2031-05-06T07:08:09.123456Z"
    assert (instant(None), stamp(None)) == ("-", None)


def test_spans_are_told_in_their_two_largest_units() -> None:
    told = [span(timedelta(seconds=s)) for s in (0, 59.9, 60, 3601, 90061, -61, -0.5)]
    assert told == ["0s", "59s", "1m", "1h 1s", "1d 1h", "-1m 1s", "0s"]


def test_names_are_told_all_or_the_first_few() -> None:
    names = tuple(f"host-{number}" for number in range(6))
    assert named(names) == "host-0, host-1, host-2, host-3 and 2 more"
    assert named(names[:2]) == "host-0, host-1"
    assert (named(()), packed(())) == ("-", ("-",))
    assert packed(names, columns=16) == ("host-0, host-1", "host-2, host-3", "host-4, host-5")
    assert (count(1, "host"), count(2, "host")) == ("1 host", "2 hosts")


def test_a_long_reason_is_told_by_its_beginning_and_its_end() -> None:
    assert shortened("x" * LONGEST_REASON) == "x" * LONGEST_REASON
    told = shortened("begins " + "x" * 2_000 + " ends")
    assert len(told) <= LONGEST_REASON
    assert told.startswith("begins x")
    assert told.endswith("x ends")
    assert " [...] " in told


def test_a_clause_that_lists_much_goes_on_in_lines_that_can_be_read() -> None:
    places = [f"/etc/app-{number:02}/key.pem" for number in range(20)]
    lines = broken(("gets a key", f"fills {', '.join(places)}", "empties /etc/old"))
    assert (lines[0], lines[-1]) == ("gets a key", "empties /etc/old")
    assert all(line.startswith("  /etc/app-") for line in lines[2:-1])
    assert max(map(len, lines)) <= 162
    assert ", ".join(line.strip() for line in lines[1:-1]) == f"fills {', '.join(places)}"
