import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.views.screen import grid
from orchestrator.views.sheets import sheet


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "-a_thumbprint"])
def test_no_cell_is_run_as_a_formula(cell: str) -> None:
    rows = list(csv.reader(io.StringIO(sheet(grid(("a",), [(cell,)])), newline="")))
    assert rows == [["a"], [f"'{cell}"]]


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), max_size=5))
def test_a_table_comes_back_with_a_row_for_each_row(rows: list[list[str]]) -> None:
    found = list(csv.reader(io.StringIO(sheet(grid(("a", "b"), rows)), newline="")))
    assert len(found) == len(rows) + 1
    for row in found:
        assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)
        assert all(cell.isprintable() for cell in row)
