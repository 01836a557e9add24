"""``keyrelay``: the commands put together, and the one place where the program ends.

Whatever goes wrong becomes a line ``error: …``, a line ``hint: …`` where there is one, and an exit code. Only
a fault of this program itself is told otherwise, and its traceback only with ``--debug``.
"""

import resource
import signal
import sys
import traceback
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from orchestrator.cli import (
    authority,
    backups,
    certs,
    handovers,
    hosts,
    inventory,
    keys,
    lab,
    passphrases,
    policy,
    records,
    restores,
    rollouts,
    start,
    visits,
    watching,
)
from orchestrator.cli.anywhere import take_anywhere
from orchestrator.cli.context import Context, new_context
from orchestrator.cli.exits import Code
from orchestrator.cli.keyrings import PIN_VARIABLE
from orchestrator.errors import InputError, KeyrelayError, UsageError, told_fault
from orchestrator.views.screen import Screen

_INTERRUPTED = 130
"""What typer makes of a KeyboardInterrupt."""

app = typer.Typer(
    name="keyrelay",
    help="Hands authentication keys over across a fleet without ever orphaning an agent.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        typer.echo(f"keyrelay {_version()}")
        raise typer.Exit


@app.callback()
def keyrelay(
    context: typer.Context,
    *,
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="KEYRELAY_HOME",
            help="The fleet's home; without it ./.keyrelay if that exists, else the user data folder.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, whatever the command.")] = False,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            envvar=passphrases.VARIABLE,
            help="A file with the vault's passphrase, for commands that need it.",
        ),
    ] = None,
    pin_file: Annotated[
        Path | None,
        typer.Option(
            "--pin-file",
            metavar="FILE",
            envvar=PIN_VARIABLE,
            help="A file with the PIN of the token that keeps the authority's keys.",
        ),
    ] = None,
    accept_new: Annotated[
        bool,
        typer.Option(
            "--accept-new-host-keys",
            help="Believe the key of a host of which nothing is known, and record it in the home.",
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where a fault in keyrelay happened.")] = False,
    version_: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Hands authentication keys over across a fleet without ever orphaning an agent.

    These options may stand behind the command too.
    """
    # The others act elsewhere: options.py looks --json and --passphrase-file up, end_of looks for --debug.
    del as_json, passphrase_file, debug, version_
    context.obj = new_context(home, accept_new=accept_new, pin_file=pin_file)


app.command()(start.init)
app.add_typer(inventory.app)
app.add_typer(policy.app)
app.command()(handovers.plan)
app.command(name="apply")(handovers.apply_)
app.add_typer(rollouts.app)
app.command()(keys.due)
app.command()(watching.watch)
app.command()(visits.audit)
app.command(context_settings=keys.DASHES)(keys.holders)
app.command()(keys.holdings)
app.command()(visits.prove)
app.command(context_settings=keys.DASHES)(keys.compromise)
app.command()(hosts.remove)
app.add_typer(backups.app)
app.command()(restores.restore)
app.command()(hosts.reinstall)
app.add_typer(authority.app)
app.add_typer(certs.app)
app.add_typer(records.ledger_app)
app.command()(start.schema)
app.add_typer(lab.app)


def program() -> Any:
    """The whole command line, as typer runs it."""
    command = typer.main.get_command(app)
    take_anywhere(
        command,
        {
            "home": _with_home,
            "accept_new": _with_accept_new,
            "pin_file": _with_pin_file,
            "passphrase_file": _as_it_is,
            "debug": _as_it_is,
        },
    )
    return command


def _with_home(context: Context, home: Path) -> Context:
    return replace(context, chosen_home=home)


def _with_accept_new(context: Context, accept_new: bool) -> Context:  # noqa: FBT001 - as all that are taken
    return replace(context, accept_new=accept_new)


def _with_pin_file(context: Context, pin_file: Path) -> Context:
    return replace(context, pin_file=pin_file)


def _as_it_is(context: Context, _: object) -> Context:
    return context


def run() -> None:
    """The program ``keyrelay``; ends the process. No core is dumped, for that would hold opened keys.

    SIGTERM is told of as Ctrl-C is, and like it gives the lease back; who ignores it goes on ignoring it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(int(end_of(sys.argv[1:])))


def end_of(arguments: list[str]) -> Code:
    """Run one command line, tell what went wrong, and say how it ends."""
    screen = Screen(sys.stdout, sys.stderr)
    try:
        code = program()(args=arguments, prog_name="keyrelay", standalone_mode=False) or Code.DONE
        return _told_interrupt(screen) if code == _INTERRUPTED else Code(code)
    except TyperException as error:
        return _told_usage(screen, error)
    except (Abort, KeyboardInterrupt):
        return _told_interrupt(screen)
    except KeyrelayError as error:
        screen.error(error.message, error.hint)
        return Code.WRONG if isinstance(error, UsageError | InputError) else Code.FAILED
    except Exception as error:  # noqa: BLE001 - the last place where a fault can be told in words
        return _told_fault(screen, error, debug="--debug" in arguments)


def _told_interrupt(screen: Screen) -> Code:
    screen.error("interrupted", "what was done is recorded; the same command goes on from there")
    return Code.PARTLY


def _told_usage(screen: Screen, error: TyperException) -> Code:
    message = error.format_message()
    if message.startswith("Usage: "):
        sys.stderr.write(f"{message}\n")
        return Code.WRONG
    path = getattr(getattr(error, "ctx", None), "command_path", "keyrelay")
    screen.error(message, f"see: {path} --help")
    return Code.WRONG


def _told_fault(screen: Screen, error: Exception, *, debug: bool) -> Code:
    if debug:
        sys.stderr.write("".join(traceback.format_exception(error)))
    screen.error(
        told_fault(error),
        "" if debug else "what was done is recorded; --debug shows where it happened",
    )
    return Code.FAILED


def _version() -> str:
    try:
        return version("keyrelay")
    except PackageNotFoundError:
        return "(from a source tree)"
