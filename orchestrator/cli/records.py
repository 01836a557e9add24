"""``keyrelay rollout`` and ``ledger``: what ran, and whether the record of it is whole."""

from typing import Annotated

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.options import AsJson
from orchestrator.errors import UsageError
from orchestrator.operations.queries import rollout_named
from orchestrator.views.rollouts import rollout_answer, rollouts_answer
from orchestrator.views.screen import Answer
from orchestrator.views.text import count

rollout_app = typer.Typer(name="rollout", help="The runs of the handover.")
ledger_app = typer.Typer(name="ledger", help="The record of everything that was done.")


@rollout_app.command(name="list")
def list_(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show every rollout, the newest first."""
    here = Context.of(context)
    with here.ledger() as ledger:
        recorded = ledger.read()
    here.screen.answer(rollouts_answer(recorded), as_json=as_json)


@rollout_app.command()
def show(
    context: typer.Context,
    rollout: Annotated[
        str, typer.Argument(metavar="[ID]", help="Its id, or a beginning; the newest one.")
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Show one rollout, and where its servers stand."""
    here = Context.of(context)
    with here.ledger() as ledger:
        recorded = ledger.read()
    newest = max(recorded.rollouts.values(), key=lambda one: one.started, default=None)
    if newest is None:
        raise UsageError("there was no rollout yet", hint="Run: keyrelay apply")
    found = rollout_named(recorded, rollout) if rollout else newest
    here.screen.answer(rollout_answer(recorded, found, now=here.clock.now()), as_json=as_json)


@ledger_app.callback()
def ledger_() -> None:
    """The record of everything that was done."""


@ledger_app.command()
def verify(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Recompute the whole chain; prints the number of entries and the digest of the last."""
    here = Context.of(context)
    with here.ledger() as ledger:
        entries, head = ledger.verify(), ledger.read().head
    body = (f"the ledger is whole: {count(entries, 'entry').replace('entrys', 'entries')}", f"head: {head}")
    here.screen.answer(Answer(data={"entries": entries, "head": head}, body=body), as_json=as_json)
