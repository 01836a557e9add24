"""``keyrelay remove``: a host leaves the fleet."""

from functools import partial
from typing import Annotated

import typer

from orchestrator.cli.agreement import ask_first
from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.options import AsJson, PassphraseFile, Wait, Yes, duration
from orchestrator.operations import remove as removal
from orchestrator.views.farewells import before_removal
from orchestrator.views.results import removed_answer


def remove(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="A server or an agent.")],
    *,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="It is gone for good: end its keys as compromised.")
    ] = False,
    yes: Yes = False,
    wait: Wait = "10m",
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Hand over without a host, erase what it holds, and prove that it is gone."""
    here, waiting = Context.of(context), duration(wait, "--wait")
    ask_first(here, "remove", partial(before_removal, name=host, give_up=give_up), yes=yes)
    with here.ports(passphrase_file) as (ports, _):
        removed = removal.remove(ports, host, wait=waiting, give_up=give_up)
    here.screen.answer(removed_answer(removed), as_json=as_json)
    leave(Code.DONE if removed.complete else Code.PARTLY)
