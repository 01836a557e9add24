"""Where answers, notes and errors go: results to stdout, everything else to stderr.

An ``Answer`` has two forms: tables and lines for people, and JSON for programs. Whatever is printed for
people is escaped here (``text.escaped``), and nothing is read as markup. In a terminal tables fold into its
width; in a pipe they are as wide as their content, so that no name and no thumbprint is ever cut.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.views.text import escaped

_PIPE_COLUMNS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table for people; cells are shown as they are, escaped. A tuple is a cell of several lines."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command has to say.

    Attributes:
        data: for ``--json``: plain JSON values.
        body: for people, from top to bottom.
    """

    data: Mapping[str, Any]
    body: tuple[str | Grid, ...] = field(default=())


def grid(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Grid:
    """A table from any rows."""
    return Grid(columns=tuple(columns), rows=tuple(tuple(row) for row in rows))


def together(name: str, answers: Sequence[Answer]) -> Answer:
    """Several answers as one: a list called ``name`` as JSON, one below the other for people."""
    body: list[str | Grid] = []
    for number, answer in enumerate(answers):
        body += [*([""] if number else []), *answer.body]
    return Answer(data={name: [answer.data for answer in answers]}, body=tuple(body))


class Screen:
    """The two streams of a command."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self.out = _console(out)
        self.err = _console(err)

    @property
    def interactive(self) -> bool:
        """Whether notes are read by a person as they come."""
        return self.err.is_terminal

    def answer(self, answer: Answer, *, as_json: bool) -> None:
        """Print a result."""
        if as_json:
            self.json(answer.data)
            return
        for part in answer.body:
            _print(self.out, part)

    def json(self, data: Mapping[str, Any]) -> None:
        """Print JSON."""
        self.raw(as_json(data))

    def raw(self, text: str) -> None:
        """Print text of a fixed form, such as CSV or PEM, which holds nothing that a terminal obeys."""
        self.out.print(Text(text.removesuffix("\n")), soft_wrap=True)

    def note(self, *parts: str | Grid) -> None:
        """Tell what is no result."""
        for part in parts:
            _print(self.err, part)

    def error(self, message: str, hint: str = "") -> None:
        """Tell what went wrong, and what to do about it."""
        self.err.print(Text(f"error: {escaped(message, lines=True)}"), soft_wrap=True)
        if hint:
            self.err.print(Text(f"hint: {escaped(hint, lines=True)}"), soft_wrap=True)

    def ask(self, question: str) -> bool:
        """A question to be answered with yes or no; only ``y`` and ``yes`` are a yes."""
        self.err.print(Text(f"{escaped(question)} [y/N] "), end="", soft_wrap=True)
        try:
            return input().strip().lower() in {"y", "yes"}
        except EOFError:
            return False


def as_json(data: Mapping[str, Any]) -> str:
    """JSON in ASCII alone, so that no terminal obeys it."""
    return json.dumps(data, indent=2, ensure_ascii=True).replace("\x7f", "\\u007f")


def _console(stream: TextIO) -> Console:
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
    return console


def _print(console: Console, part: str | Grid) -> None:
    if isinstance(part, str):
        console.print(Text(escaped(part)), soft_wrap=True)
    elif console.is_terminal:
        console.print(_table(part))
    else:
        with console.capture() as captured:
            console.print(_table(part))
        text = "\n".join(line.rstrip() for line in captured.get().splitlines())
        console.print(Text(text), soft_wrap=True)


def _table(part: Grid) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in part.columns:
        table.add_column(Text(escaped(name)), overflow="fold")
    for row in part.rows:
        table.add_row(*(Text(_cell(cell)) for cell in row))
    return table


def _cell(cell: object) -> str:
    return "\n".join(escaped(line) for line in cell) if isinstance(cell, tuple) else escaped(cell)
