"""Diagrams show what the tables say, and the page shows the diagrams."""

import runpy
from pathlib import Path

import pytest

from orchestrator.rotation.lifecycle import ENDED, KEY_MOVES, STEPS, SUSPENDED
from orchestrator.views.diagrams import handover_diagram, keys_diagram

DOCS = Path(__file__).parents[3] / "docs"


def test_every_step_is_in_the_diagram_with_its_words_and_in_its_order() -> None:
    told = handover_diagram()
    places = [told.index(f'"{step}: {rule.holds_when}"') for step, rule in STEPS.items()]
    assert places == sorted(places)
    assert all(told.count(f'["{phase}"]') >= 1 for phase in {rule.phase for rule in STEPS.values()})
    (suspended,) = (line for line in told.splitlines() if line.endswith(" suspended"))
    assert set(suspended.split()[1].split(",")) == {f"step_{step}" for step in SUSPENDED}


def test_every_move_of_a_key_is_in_the_diagram() -> None:
    told = [line.strip() for line in keys_diagram().splitlines()]
    for state, moves in KEY_MOVES.items():
        for after in moves:
            assert (f"{state} --> {after}" in told) or (after in ENDED and f"usual --> {after}" in told)


def test_the_page_has_the_diagrams_as_they_are() -> None:
    filled = runpy.run_path(str(DOCS / "generate.py"))["filled"]
    page = (DOCS / "explanation" / "handover.md").read_text(encoding="utf-8")
    assert filled(page) == page, "run: make docs"
    with pytest.raises(ValueError, match="place for handover"):
        filled("")
