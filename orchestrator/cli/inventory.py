"""``keyrelay inventory``: what the inventory files say, as keyrelay reads them."""

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.options import AsJson, Inventories
from orchestrator.inventory.yaml_files import load
from orchestrator.views.inventories import check_answer, graph_answer, list_answer

app = typer.Typer(name="inventory", help="What the inventory files say, as keyrelay reads them.")


@app.command()
def check(context: typer.Context, *, inventory: Inventories, as_json: AsJson = False) -> None:
    """Read the files and name everything that is wrong in them."""
    loaded = load(inventory)
    problems = tuple(loaded.problems())
    Context.of(context).screen.answer(check_answer(loaded, problems), as_json=as_json)
    leave(Code.WRONG if problems else Code.DONE)


@app.command(name="list")
def list_(context: typer.Context, *, inventory: Inventories, as_json: AsJson = False) -> None:
    """Show how each host is reached."""
    Context.of(context).screen.answer(list_answer(load(inventory)), as_json=as_json)


@app.command()
def graph(context: typer.Context, *, inventory: Inventories, as_json: AsJson = False) -> None:
    """Show the groups, the groups below them, and their hosts."""
    Context.of(context).screen.answer(graph_answer(load(inventory)), as_json=as_json)
