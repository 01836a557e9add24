"""``keyrelay ledger``: whether the record of what was done is whole."""

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.options import AsJson
from orchestrator.views.screen import Answer
from orchestrator.views.text import count

ledger_app = typer.Typer(name="ledger", help="The record of everything that was done.")


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
