"""``keyrelay cert``: keys and their certificates, made ahead, brought in, shown and taken out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import passphrases
from orchestrator.cli.context import Context
from orchestrator.cli.key_files import PASSWORD_OPTION, read_files, refuse_taken, write_file
from orchestrator.cli.keys import DASHES, Key
from orchestrator.cli.machine import system_entropy
from orchestrator.cli.options import AsJson, Inventories, PassphraseFile, PlaybookFile
from orchestrator.cli.plays import Play, load_plays
from orchestrator.cli.visits import reaching
from orchestrator.errors import UsageError
from orchestrator.inventory.model import HostName
from orchestrator.keys.formats.contents import Format
from orchestrator.keys.formats.intake import examine, take
from orchestrator.keys.formats.writing import write_public
from orchestrator.keys.secret import Secret
from orchestrator.operations import credentials, queries
from orchestrator.operations.credentials import Store
from orchestrator.operations.mismatches import Mismatches, recorded_mismatches, surveyed_mismatches
from orchestrator.policy.desired import Desired, Scope
from orchestrator.rotation.lookup import credential_named
from orchestrator.views.key_files import (
    exported_answer,
    file_answer,
    gone_answer,
    mismatches_answer,
    mismatches_grid,
    waiting_answer,
)
from orchestrator.views.keys import key_answer, key_of, keys_answer, keys_grid
from orchestrator.views.screen import as_json as json_text
from orchestrator.views.sheets import sheet

app = typer.Typer(name="cert", help="The keys and their certificates.")

For = Annotated[
    str,
    typer.Option("--for", metavar="SCOPE", help="Whose key: all, group:NAME, server:NAME, or a server."),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(PASSWORD_OPTION, metavar="FILE", help="A file with the key file's own password."),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to a new file.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the ledger.")]


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
    with _store(here, passphrase_file) as store:
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
    taken = take(read_files(files, password_file), at=here.clock.now())
    with _store(here, passphrase_file) as store:
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
    with _store(here, passphrase_file) as store:
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
        answer = file_answer(key, contents, examine(contents, at=here.clock.now()))
    else:
        with here.ledger() as ledger:
            answer = key_answer(credential_named(ledger.read(), key))
    here.screen.answer(answer, as_json=as_json)


@app.command(context_settings=DASHES)
def export(
    context: typer.Context,
    key: Key,
    *,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.PEM,
    output: Output = None,
    private: Annotated[bool, typer.Option("--private", help="The private key too.")] = False,
    purpose: Annotated[
        str, typer.Option(metavar="TEXT", help="With --private: what for, for the ledger.")
    ] = "",
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="With --private: without a password.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="SERVER", help="Whose certificate goes along, where there are several."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Over a file that is there.")] = False,
    password_file: PasswordFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a key to a file for another program; the private half only if asked for, and under a password."""
    here = Context.of(context)
    whose = HostName(server) if server is not None else None
    if not private:
        _export_public(here, key, form, output, whose, replace=replace)
        return
    if output is None or not purpose.strip():
        missing = "--output" if output is None else "--purpose"
        raise UsageError(
            f"{missing} is missing", hint="a private key goes to a file, for a purpose the ledger keeps"
        )
    refuse_taken(output, replace=replace)
    with here.ledger() as ledger:
        recorded = ledger.read()
    credentials.refuse_unexportable(recorded, credential_named(recorded, key))
    password = None if plaintext else _new_password(password_file)
    with _store(here, passphrase_file) as store:
        done = credentials.export(
            store,
            key,
            form=form,
            file=str(output.absolute()),
            purpose=purpose,
            password=password,
            server=whose,
        )
    write_file(output, done.data, replace=replace)
    here.screen.answer(exported_answer(done, str(output)), as_json=as_json)


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
        known = credentials.destroyed(ledger, here.clock, key, file, reason=reason)
    here.screen.answer(gone_answer(known), as_json=as_json)


@contextmanager
def _store(here: Context, passphrase_file: Path | None) -> Iterator[Store]:
    with here.opened(passphrase_file) as home:
        yield Store(ledger=home.ledger, vault=home.vault, clock=here.clock, entropy=system_entropy)


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


def _new_password(file: Path | None) -> Secret:
    return passphrases.obtain(file, what="the exported file", option=PASSWORD_OPTION, twice=True)


def _export_public(
    here: Context, key: str, form: Format, output: Path | None, server: HostName | None, *, replace: bool
) -> None:
    with here.ledger() as ledger:
        known = credential_named(ledger.read(), key)
    if known.public is None:
        raise UsageError(f"key {key_of(known)} is not made yet")
    data = write_public(form, known.public, credentials.certificates_of(known, server), name=known.scope)
    if output is not None:
        write_file(output, Secret(data), replace=replace)
    elif form is Format.DER:
        raise UsageError("--output is missing", hint="DER is not text: name a file")
    else:
        here.screen.raw(data.decode("ascii", "replace"))
