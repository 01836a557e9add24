"""``keyrelay inventory``: what the inventory files say, as keyrelay reads them."""

from typing import Annotated

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.options import AsJson, Inventories
from orchestrator.inventory.model import ALL, Endpoint
from orchestrator.inventory.yaml_files import load
from orchestrator.remote.routes import RouteError, Router
from orchestrator.views.inventories import Way, check_answer, graph_answer, list_answer, named_group

app = typer.Typer(name="inventory", help="What the inventory files say, as keyrelay reads them.")


@app.command()
def check(context: typer.Context, *, inventory: Inventories, as_json: AsJson = False) -> None:
    """Read the files and name everything that is wrong in them."""
    loaded = load(inventory)
    problems = loaded.problems()
    Context.of(context).screen.answer(check_answer(loaded, problems), as_json=as_json)
    leave(Code.WRONG if problems else Code.DONE)


@app.command(name="list")
def list_(context: typer.Context, *, inventory: Inventories, as_json: AsJson = False) -> None:
    """Show how each host is reached, and through which jump hosts."""
    loaded = load(inventory)
    router = Router()
    ways = {name: _way(router, loaded.endpoint(name)) for name in loaded.hosts}
    Context.of(context).screen.answer(list_answer(loaded, ways), as_json=as_json)


@app.command()
def graph(
    context: typer.Context,
    group: Annotated[str, typer.Argument(metavar="[GROUP]", help="Begin here; at all.")] = ALL,
    *,
    inventory: Inventories,
    variables: Annotated[
        bool, typer.Option("--vars", help="Their own variables too, whatever is in them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the groups, the groups below them, and their hosts, as ansible-inventory --graph does."""
    loaded = load(inventory)
    answer = graph_answer(loaded, named_group(loaded, group), variables=variables)
    Context.of(context).screen.answer(answer, as_json=as_json)


def _way(router: Router, endpoint: Endpoint) -> Way:
    try:
        return Way(jumps=tuple(hop.label for hop in router.route(endpoint)[:-1]))
    except RouteError as error:
        return Way(problem=str(error))
