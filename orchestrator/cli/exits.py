"""How keyrelay ends: the documented exit codes, for people, cron and CI."""

from collections.abc import Iterable
from enum import IntEnum

import typer


class Code(IntEnum):
    """Exit codes; ``docs/reference/command-line.md`` explains them."""

    DONE = 0
    """Nothing to do, or done."""
    FAILED = 1
    WRONG = 2
    """Wrong usage, or a wrong input file."""
    PARTLY = 3
    """Partly done: the same command goes on."""
    DUE = 4
    """Something is due, or has drifted."""


_GRAVEST_FIRST = (Code.FAILED, Code.WRONG, Code.DUE, Code.PARTLY, Code.DONE)


def leave(code: Code) -> None:
    """End the command with ``code``; return where that is ``DONE``.

    Raises:
        Exit: for any other.
    """
    if code is not Code.DONE:
        raise typer.Exit(int(code))


def gravest(codes: Iterable[Code]) -> Code:
    """The code that tells most about several parts of one run."""
    found = set(codes)
    return next((code for code in _GRAVEST_FIRST if code in found), Code.DONE)
