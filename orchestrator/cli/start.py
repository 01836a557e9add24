"""``keyrelay init`` and ``keyrelay schema``: what one begins with."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, assert_never

import typer

from orchestrator.cli import passphrases
from orchestrator.cli.context import LOCAL_HOME, Context
from orchestrator.cli.examples import LaidOut, lay_out
from orchestrator.cli.founding import found_home, refuse_taken
from orchestrator.cli.options import AsJson, PassphraseFile, RootPassphraseFile
from orchestrator.inventory.schema import inventory_schema
from orchestrator.policy.schema import playbook_schema
from orchestrator.views.beginnings import init_answer


class Kind(StrEnum):
    """The files whose form can be asked for."""

    INVENTORY = "inventory"
    PLAYBOOK = "playbook"


def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The working folder.")] = Path(),
    *,
    passphrase_file: PassphraseFile = None,
    root_passphrase_file: RootPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Found a fleet: a home for its keys, and a working folder with example inventory/ and playbooks/."""
    here = Context.of(context)
    home = here.chosen_home or directory / LOCAL_HOME
    refuse_taken(home)
    vault, root = passphrases.obtain_both(passphrase_file, root_passphrase_file)
    fleet = found_home(home, passphrase=vault, root=root, clock=here.clock)
    laid_out: LaidOut = lay_out(directory)
    answer = init_answer(fleet, home.absolute(), written=laid_out.written, kept=laid_out.kept)
    here.screen.answer(answer, as_json=as_json)


def schema(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="Which file's form.")],
    *,
    as_json: AsJson = False,  # noqa: ARG001 - accepted, since a schema is JSON anyway
) -> None:
    """Print the JSON Schema of an inventory or a playbook, for editors."""
    Context.of(context).screen.json(_schema(kind))


def _schema(kind: Kind) -> dict[str, Any]:
    match kind:
        case Kind.INVENTORY:
            return inventory_schema()
        case Kind.PLAYBOOK:
            return playbook_schema()
        case _:
            assert_never(kind)
