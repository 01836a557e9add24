"""Tables as CSV (RFC 4180), for spreadsheets.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula and runs it. Such a
cell gets an apostrophe in front, which spreadsheets take for "this is text"; other signs are escaped as
everywhere.
"""

import csv
import io

from orchestrator.views.screen import Grid
from orchestrator.views.text import escaped

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def sheet(grid: Grid) -> str:
    """A table, a line for each row below the one with its columns."""
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerow([_cell(column) for column in grid.columns])
    writer.writerows([_cell(cell) for cell in row] for row in grid.rows)
    return written.getvalue()


def _cell(cell: object) -> str:
    text = " ".join(map(str, cell)) if isinstance(cell, tuple) else str(cell)
    shown = escaped(text)
    return f"'{shown}" if shown.startswith(_FORMULAS) else shown
