import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.views.screen import Answer, Screen, grid, together


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(answer: Answer, *, as_json: bool = False, out: io.StringIO | None = None) -> str:
    stream = out or io.StringIO()
    Screen(stream, io.StringIO()).answer(answer, as_json=as_json)
    return stream.getvalue()


@given(st.text())
def test_whatever_text_a_cell_or_a_line_has_no_control_character_is_printed(text: str) -> None:
    answer = Answer(data={"text": text}, body=(text, grid((text,), [(text,), ((text, text),)])))
    for said in (shown(answer), shown(answer, as_json=True)):
        assert all(sign.isprintable() or sign == "\n" for sign in said)
    assert json.loads(shown(answer, as_json=True)) == {"text": text}


def test_markup_and_emoji_codes_are_text() -> None:
    odd = "[bold]x[/bold] :smile: [link=http://x]y[/link]"
    assert shown(Answer(data={}, body=(odd, grid(("a",), [(odd,)])))).splitlines() == [odd, "a", odd]


def test_in_a_pipe_nothing_is_cut_folded_or_padded() -> None:
    long = "n" * 5000
    assert shown(Answer(data={}, body=(grid(("a", "b"), [(long, 1)]),))).splitlines()[1] == f"{long}  1"
    assert shown(Answer(data={}, body=(long,))) == f"{long}\n"


def test_in_a_terminal_long_names_fold_and_every_letter_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "".join(chr(ord("a") + number % 26) for number in range(90))
    said = shown(Answer(data={}, body=(grid(("name", "more"), [(name, "m")]),)), out=Tty())
    assert "…" not in said
    assert "".join(line.split(" ")[0] for line in said.splitlines()[1:]) == name


def test_a_cell_may_have_several_lines_and_a_line_break_in_a_name_makes_none() -> None:
    said = shown(Answer(data={}, body=(grid(("a", "b"), [(("one", "two"), "x\ny")]),)))
    assert said.splitlines() == ["a    b", "one  x\\ny", "two"]


def test_errors_and_notes_go_to_stderr() -> None:
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(out, err)
    screen.error("what happened\x1b\nmore", "what to do")
    screen.error("without a hint")
    screen.note("a note", grid(("c",), [("v",)]))
    assert out.getvalue() == ""
    assert err.getvalue() == (
        "error: what happened\\x1b\nmore\nhint: what to do\nerror: without a hint\na note\nc\nv\n"
    )
    assert not screen.interactive


@pytest.mark.parametrize(("typed", "agreed"), [("y", True), ("YES ", True), ("", False), ("yeah", False)])
def test_only_yes_is_yes(typed: str, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{typed}\n"))
    assert Screen(io.StringIO(), Tty()).ask("Do it?") is agreed


def test_no_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert Screen(io.StringIO(), Tty()).ask("Do it?") is False


def test_several_answers_become_one() -> None:
    both = together("plays", [Answer(data={"n": 1}, body=("one",)), Answer(data={"n": 2}, body=("two",))])
    assert both.data == {"plays": [{"n": 1}, {"n": 2}]}
    assert both.body == ("one", "", "two")
