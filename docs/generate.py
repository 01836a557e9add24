#!/usr/bin/env python3
"""Put into the pages what is generated: ``make docs``. A test finds the pages that lag.

A page has ``<!-- generated: NAME -->``, then the generated part, then ``<!-- end of NAME -->``.
"""

import re
from pathlib import Path

from orchestrator.views.diagrams import handover_diagram, keys_diagram

PAGE = Path(__file__).parent / "explanation" / "handover.md"
PARTS = {"handover": handover_diagram, "keys": keys_diagram}


def filled(text: str) -> str:
    """The text of a page with every part generated anew.

    Raises:
        ValueError: it lacks the place of a part.
    """
    for name, make in PARTS.items():
        place = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end of {name} -->\n)", re.DOTALL)
        part = f"```mermaid\n{make()}\n```\n"
        text, found = place.subn(lambda match, part=part: match[1] + part + match[2], text)  # type: ignore[misc]
        if found != 1:
            raise ValueError(f"there is not exactly one place for {name}")
    return text


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
