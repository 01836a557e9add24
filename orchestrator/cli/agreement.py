"""What a person has to agree to: shown and asked about on a terminal, agreed to beforehand elsewhere."""

import sys
from collections.abc import Callable, Sequence

from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.errors import UsageError
from orchestrator.rotation.recorded import Recorded
from orchestrator.views.screen import Grid, Screen

QUESTION = "Do this?"


def refuse_unasked(screen: Screen, command: str, *, hint: str) -> None:
    """Refuse to change hosts where nobody can be asked.

    Raises:
        UsageError: there is no terminal to show it on, or none to answer from.
    """
    if not (screen.interactive and sys.stdin.isatty()):
        raise UsageError(f"{command} changes hosts, and there is no terminal to ask on", hint=hint)


def ask_first(
    here: Context, command: str, tell: Callable[[Recorded], Sequence[str | Grid]], *, yes: bool
) -> None:
    """Show what a command will do, as far as the ledger tells, and go on only if that is agreed to.

    Args:
        here: where the command runs.
        command: its name.
        tell: what it will do.
        yes: it was agreed to beforehand.

    Raises:
        UsageError: there is no terminal to ask on.
        Exit: it was declined.
    """
    if yes:
        return
    refuse_unasked(here.screen, command, hint="see what will happen on a terminal, or say --yes")
    with here.ledger() as ledger:
        recorded = ledger.read()
    here.screen.note(*tell(recorded))
    if not here.screen.ask(QUESTION):
        here.screen.note("nothing was changed")
        leave(Code.FAILED)
