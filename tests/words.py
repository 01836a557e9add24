"""What a person reads of an answer."""

import io
from collections.abc import Iterable

from orchestrator.views.screen import Answer, Grid, Screen


def said(answer: Answer) -> str:
    """A whole answer, as it is printed into a pipe."""
    return words_of(answer.body)


def words_of(parts: Iterable[str | Grid]) -> str:
    """Parts of an answer, as they are printed into a pipe."""
    out = io.StringIO()
    Screen(out, io.StringIO()).answer(Answer(data={}, body=tuple(parts)), as_json=False)
    return out.getvalue()
