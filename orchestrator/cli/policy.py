"""``keyrelay policy``: which policy fits a fleet."""

from contextlib import ExitStack

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.options import AsJson, Inventories, PlaybookFile
from orchestrator.inventory.yaml_files import load
from orchestrator.operations.compare import compare_policies
from orchestrator.policy.playbook import load_playbooks
from orchestrator.views.comparisons import comparison_answer
from orchestrator.views.screen import together

app = typer.Typer(name="policy", help="Which policy fits a fleet.")


@app.callback()
def policy() -> None:
    """Which policy fits a fleet."""


@app.command()
def compare(
    context: typer.Context, playbook: PlaybookFile, *, inventory: Inventories, as_json: AsJson = False
) -> None:
    """Put the policies side by side for your own hosts: upkeep, and what one leaked key costs."""
    here = Context.of(context)
    loaded, plays = load(inventory), load_playbooks(playbook)
    with ExitStack() as stack:
        ledger = stack.enter_context(here.ledger()) if here.has_home else None
        answers = [
            comparison_answer(play.name, compare_policies(play, loaded, ledger=ledger)) for play in plays
        ]
    here.screen.answer(together("plays", answers), as_json=as_json)
