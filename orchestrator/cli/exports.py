"""``keyrelay cert export``: a key for another program, and a private one never by surprise."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import passphrases
from orchestrator.cli.context import Context
from orchestrator.cli.key_files import (
    PASSWORD_OPTION,
    refuse_taken,
    refuse_taken_folder,
    write_file,
    write_folder,
)
from orchestrator.cli.keys import Key
from orchestrator.cli.machine import system_entropy
from orchestrator.cli.options import AsJson, PassphraseFile
from orchestrator.errors import UsageError
from orchestrator.inventory.model import HostName
from orchestrator.keys.formats.contents import Format
from orchestrator.keys.formats.windows import Kit
from orchestrator.keys.formats.writing import write_public
from orchestrator.keys.secret import Secret
from orchestrator.operations import credentials, queries
from orchestrator.operations.credentials import Store
from orchestrator.rotation.credentials import Credential
from orchestrator.rotation.lookup import credential_named
from orchestrator.rotation.recorded import Recorded
from orchestrator.views.key_files import exported_answer
from orchestrator.views.keys import key_of

PasswordFile = Annotated[
    Path | None,
    typer.Option(PASSWORD_OPTION, metavar="FILE", help="A file with the key file's own password."),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to a new file.")]


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
    windows: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="With --private: a new folder with a PKCS #12 file and a script to import it."
        ),
    ] = None,
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
        _refuse_together("--windows", "no --private", given=windows is not None)
        _export_public(here, key, form, output, whose, replace=replace)
        return
    target = windows or output
    if target is None or not purpose.strip():
        missing = "--output" if target is None else "--purpose"
        raise UsageError(
            f"{missing} is missing", hint="a private key goes to a file, for a purpose the ledger keeps"
        )
    if windows is not None:
        for option, given in (("--output", output), ("--plaintext", plaintext), ("--replace", replace)):
            _refuse_together("--windows", option, given=bool(given))
        refuse_taken_folder(windows)
        form = Format.PKCS12
    else:
        refuse_taken(target, replace=replace)
    with here.ledger() as ledger:
        recorded = ledger.read()
    known = credential_named(recorded, key)
    credentials.refuse_unexportable(recorded, known)
    kit = _kit(recorded, known, whose) if windows is not None else None
    file = target / kit.container if kit is not None else target
    password = None if plaintext else _new_password(password_file)
    with opened_store(here, passphrase_file) as store:
        done = credentials.export(
            store,
            key,
            form=form,
            file=str(file.absolute()),
            purpose=purpose,
            password=password,
            server=kit.server if kit is not None else whose,
            chained=kit is None,
        )
    if kit is not None:
        write_folder(target, kit.files(done.data))
    else:
        write_file(target, done.data, replace=replace)
    here.screen.answer(exported_answer(done, str(file), form), as_json=as_json)


@contextmanager
def opened_store(here: Context, passphrase_file: Path | None) -> Iterator[Store]:
    """The ledger and the vault, unlocked, for operations on keys."""
    with here.unlocked(passphrase_file) as home:
        yield Store(ledger=home.ledger, vault=home.vault, clock=here.clock, entropy=system_entropy)


def _refuse_together(option: str, other: str, *, given: bool) -> None:
    if given:
        raise UsageError(f"{option} does not go with {other}")


def _kit(recorded: Recorded, known: Credential, server: HostName | None) -> Kit:
    """What a Windows machine is to import a key with.

    Raises:
        UsageError: it is not said whose certificate goes along.
        UnsupportedKeyError: Windows does not import such keys.
    """
    if server is None and len(known.certificates) == 1:
        (server,) = known.certificates
    if server is None:
        names = ", ".join(sorted(known.certificates)) or "nobody yet"
        raise UsageError("--server is missing", hint=f"the key is certified for {names}")
    before = queries.predecessors(recorded, known, server)
    return Kit.of(
        known.key.algorithm,
        server,
        credentials.certificates_of(known, server),
        [credentials.certificates_of(one, server)[0] for one in before],
    )


def _new_password(file: Path | None) -> Secret:
    return passphrases.obtain(file, what="the exported file", option=PASSWORD_OPTION, new=True)


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
