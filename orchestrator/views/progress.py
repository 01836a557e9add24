"""How far a run over hosts has come, on stderr; silent where stderr is no terminal."""

from datetime import datetime
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from orchestrator.rotation.reports import Failed, Outcome, Refused, Unreachable
from orchestrator.views.text import escaped, instant


class Bars:
    """The port ``ProgressSink``: a bar for each batch of visits. Leaving it as a context ends the bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def visiting(self, what: str, hosts: int) -> None:
        """A batch of visits begins."""
        self._begin(
            Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            ),
            what,
            hosts,
        )

    def visited(self, outcome: Outcome) -> None:
        """One visit of the batch ended; one that ended badly is told at once."""
        if self._progress is None:
            return
        if isinstance(outcome, Refused | Unreachable | Failed):
            self._console.print(Text(escaped(f"{outcome.host}: {outcome.reason}")), soft_wrap=True)
        self._progress.advance(self._progress.task_ids[0])

    def waiting(self, why: str, until: datetime) -> None:
        """The run waits for time to pass."""
        self._begin(
            Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            ),
            f"waiting for {why}, until {instant(until)}",
            1,
        )

    def pause(self) -> None:
        """Take the bar away, so that something else can be said."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _begin(self, progress: Progress, what: str, total: int) -> None:
        self.pause()
        if not self._console.is_terminal:
            return
        progress.add_task(escaped(what), total=total)
        progress.start()
        self._progress = progress
