"""``keyrelay cert``: keys and their certificates, made ahead, brought in, shown and taken out."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.exports import Output, PasswordFile, export, opened_store
from orchestrator.cli.key_files import read_files, write_file
from orchestrator.cli.keys import DASHES, Key
from orchestrator.cli.options import AsJson, Inventories, PassphraseFile, PlaybookFile, worded
from orchestrator.cli.plays import Play, load_plays
from orchestrator.cli.visits import reaching
from orchestrator.errors import KeyMaterialError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.keys.formats.intake import examine, take
from orchestrator.keys.secret import Secret
from orchestrator.operations import credentials, queries
from orchestrator.operations.mismatches import Mismatches, recorded_mismatches, surveyed_mismatches
from orchestrator.policy.desired import Desired, Scope
from orchestrator.rotation.lookup import credential_named
from orchestrator.views.key_files import (
    file_answer,
    gone_answer,
    mismatches_answer,
    mismatches_grid,
    waiting_answer,
)
from orchestrator.views.keys import key_answer, keys_answer, keys_grid
from orchestrator.views.screen import as_json as json_text
from orchestrator.views.sheets import sheet

app = typer.Typer(name="cert", help="The keys and their certificates.")

For = Annotated[
    str,
    typer.Option("--for", metavar="SCOPE", help="Whose key: all, group:NAME, server:NAME, or a server."),
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the ledger.", callback=worded)]


@app.command()
def create(
    context: typer.Context,
    playbook: PlaybookFile,
    *,
    inventory: Inventories,
    scope: For,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key now; the next apply hands over to it."""
    here, (desired, wanted) = Context.of(context), _scope(load_plays([playbook], inventory), scope)
    with opened_store(here, passphrase_file) as store:
        made = credentials.create(store, desired, wanted)
    here.screen.answer(waiting_answer(made, "made"), as_json=as_json)


@app.command(name="import")
def import_(
    context: typer.Context,
    playbook: PlaybookFile,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="The key, its certificate, its chain.")
    ],
    *,
    inventory: Inventories,
    scope: For,
    recertify: Annotated[
        bool, typer.Option("--recertify", help="Leave the certificate out; the key is certified anew.")
    ] = False,
    password_file: PasswordFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Let an existing key, with its certificate, be a scope's next one; the next apply hands over to it."""
    here, (desired, wanted) = Context.of(context), _scope(load_plays([playbook], inventory), scope)
    contents = read_files(files, password_file)
    try:
        taken = take(contents, at=here.clock.now())
    except KeyMaterialError as error:
        raise type(error)(f"{', '.join(map(str, files))}: {error.message}", hint=error.hint) from error
    with opened_store(here, passphrase_file) as store:
        made = credentials.take_in(store, desired, wanted, taken, certify_anew=recertify)
    here.screen.answer(waiting_answer(made, "imported"), as_json=as_json)


@app.command(context_settings=DASHES)
def drop(
    context: typer.Context,
    key: Key,
    *,
    reason: Reason,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Give up a key that was made or imported and that no apply has taken up yet."""
    here = Context.of(context)
    with opened_store(here, passphrase_file) as store:
        dropped = credentials.drop(store, key, reason=reason)
    here.screen.answer(waiting_answer(dropped, "dropped"), as_json=as_json)


@app.command(name="list")
def list_(
    context: typer.Context,
    *,
    mismatched: Annotated[
        bool, typer.Option("--mismatched", help="The agents that do not trust the key their server uses.")
    ] = False,
    inventory: Annotated[
        list[Path] | None,
        typer.Option(
            "-i", "--inventory", metavar="FILE", help="With --mismatched: ask the hosts, not the ledger."
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Show every key and how it stands, or the agents whose key is not their server's."""
    here = Context.of(context)
    if mismatched:
        found = _mismatches(here, inventory)
        answer, table = mismatches_answer(found, asked=inventory is not None), mismatches_grid(found)
    else:
        with here.ledger() as ledger:
            recorded = ledger.read()
        known = sorted(recorded.credentials.values(), key=lambda one: one.created)
        holders = queries.private_holders(recorded)
        answer, table = keys_answer(known, holders), keys_grid(known, holders)
    if output is not None:
        text = f"{json_text(answer.data)}\n" if as_json else sheet(table)
        write_file(output, Secret(text.encode()), replace=False)
    elif as_csv:
        here.screen.raw(sheet(table))
    else:
        here.screen.answer(answer, as_json=as_json)


@app.command(context_settings=DASHES)
def show(
    context: typer.Context,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY|FILE", help="A thumbprint or its beginning; or a file, with a dot or slash."
        ),
    ],
    *,
    password_file: PasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one key and its certificates; or what a file of keys holds, and what is wrong with it."""
    here = Context.of(context)
    if "/" in key or "." in key:
        (contents,) = read_files([Path(key)], password_file)
        faults = examine(contents, at=here.clock.now())
        here.screen.answer(file_answer(key, contents, faults), as_json=as_json)
        leave(Code.FAILED if faults else Code.DONE)
        return
    with here.ledger() as ledger:
        answer = key_answer(credential_named(ledger.read(), key))
    here.screen.answer(answer, as_json=as_json)


app.command(context_settings=DASHES)(export)


@app.command(context_settings=DASHES)
def gone(
    context: typer.Context,
    key: Key,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file it was exported to.")],
    *,
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Record that an exported file, and all that was made of it, is destroyed."""
    here = Context.of(context)
    with here.ledger() as ledger:
        known = credentials.destroyed(ledger, here.clock, key, file, reason=reason, folder=Path.cwd())
    here.screen.answer(gone_answer(known), as_json=as_json)


def _scope(plays: tuple[Play, ...], name: str) -> tuple[Desired, Scope]:
    """The scope of that name, or that the server of that name is in.

    Raises:
        UsageError: there is none, or several plays have one.
    """
    every = [(play.desired, scope) for play in plays for scope in play.desired.scopes]
    found = [
        (desired, scope) for desired, scope in every if scope.name == name or HostName(name) in scope.servers
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(scope.name for _, scope in every[:10])
    count = "no scope" if not found else f"{len(found)} scopes"
    raise UsageError(f"--for: {count} of the playbook called {name!r}; there are {known}")


def _mismatches(here: Context, inventory: list[Path] | None) -> Mismatches:
    if inventory is None:
        with here.ledger() as ledger:
            return recorded_mismatches(ledger)
    with reaching(here, inventory) as (ledger, fleet, bars, endpoints):
        return surveyed_mismatches(endpoints, ledger=ledger, fleet=fleet, clock=here.clock, progress=bars)
