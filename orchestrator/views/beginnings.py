"""What ``init`` has made."""

from collections.abc import Sequence
from pathlib import Path

from orchestrator.views.screen import Answer
from orchestrator.views.text import count


def init_answer(fleet: str, home: Path, *, written: Sequence[Path], kept: Sequence[Path]) -> Answer:
    """Where everything is, and which files were there before."""
    return Answer(
        data={
            "fleet": fleet,
            "home": str(home),
            "written": [str(path) for path in written],
            "kept": [str(path) for path in kept],
        },
        body=(
            f"founded fleet {fleet}",
            f"home: {home}",
            *((f"examples: {count(len(written), 'file')} written",) if written or kept else ()),
            *(f"  {path}" for path in written),
            *(f"  {path} was there already and is left as it is" for path in kept),
        ),
    )
