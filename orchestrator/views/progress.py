"""How far a run over hosts has come, on stderr; silent where stderr is no terminal."""

from collections.abc import Collection, Sequence
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

from orchestrator.inventory.model import HostName
from orchestrator.rotation.holdups import Wait
from orchestrator.rotation.reports import Failed, Outcome, Refused, Unreachable
from orchestrator.views.results import WAITED_FOR
from orchestrator.views.text import escaped, instant, named


class Bars:
    """The port ``ProgressSink``: a bar for each batch of visits, with the hosts that are still waited for.

    Leaving it as a context ends the bar.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._what = ""
        self._left: set[HostName] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def visiting(self, what: str, hosts: Collection[HostName]) -> None:
        """A batch of visits begins, one to each of these hosts."""
        self._what, self._left = what, set(hosts)
        self._begin(
            Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            ),
            self._words(),
            len(hosts),
        )

    def visited(self, outcome: Outcome) -> None:
        """One visit of the batch ended; one that ended badly is told at once."""
        if self._progress is None:
            return
        if isinstance(outcome, Refused | Unreachable | Failed):
            self._console.print(Text(escaped(f"{outcome.host}: {outcome.reason}")), soft_wrap=True)
        self._left.discard(outcome.host)
        self._progress.update(self._progress.task_ids[0], advance=1, description=escaped(self._words()))

    def waiting(self, waits: Sequence[Wait], until: datetime) -> None:
        """The run waits for time to pass, for the sake of these servers."""
        servers: dict[str, list[str]] = {}
        for wait in waits:
            servers.setdefault(WAITED_FOR.get(wait.step, wait.step), []).append(wait.server)
        why = " and ".join(f"{what} of {named(tuple(names))}" for what, names in servers.items())
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

    def _words(self) -> str:
        """What is done, and on which hosts it has yet to end: whoever waits sees for whom."""
        return f"{self._what} {named(tuple(sorted(self._left)))}" if self._left else self._what

    def _begin(self, progress: Progress, what: str, total: int) -> None:
        self.pause()
        if not self._console.is_terminal:
            return
        progress.add_task(escaped(what), total=total)
        progress.start()
        self._progress = progress
