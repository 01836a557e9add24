"""``keyrelay watch``: redistribution without anybody there, as a daemon or from a timer."""

import os
import pwd
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.context import Context, vault_passphrase
from orchestrator.cli.handovers import conclude, in_turn, tell
from orchestrator.cli.machine import StopSignals
from orchestrator.cli.options import AsJson, Inventories, PassphraseFile, PlaybookFiles, duration
from orchestrator.cli.plays import load_plays, passwords_of
from orchestrator.errors import KeyrelayError, UsageError
from orchestrator.keys.secret import Secret
from orchestrator.operations.apply import Applied
from orchestrator.operations.watch import keep_watching, watch_once
from orchestrator.policy.desired import Desired
from orchestrator.ports import Ports
from orchestrator.views.plans import gist
from orchestrator.views.text import instant
from orchestrator.views.units import Unattended, units_answer

Look = Callable[[], Sequence[Applied | KeyrelayError]]


def watch(
    context: typer.Context,
    playbooks: PlaybookFiles,
    *,
    inventory: Inventories,
    once: Annotated[bool, typer.Option("--once", help="Do all that is due now, and return at once.")] = False,
    every: Annotated[str, typer.Option(metavar="TIME", help="The longest time between two looks.")] = "10m",
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Print a service and a timer that do this, and do nothing.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Redistribute the keys that have come due, now and from then on, until SIGTERM or Ctrl-C."""
    here, pause = Context.of(context), duration(every, "--every")
    if systemd:
        unattended = _unattended(here, playbooks, inventory, passphrase_file)
        here.screen.answer(units_answer(unattended, every=pause), as_json=as_json)
        return
    with StopSignals() as stop:
        here = replace(here, stop=stop)
        look = partial(_look, here, playbooks, inventory, vault_passphrase(passphrase_file), passphrase_file)
        if once:
            conclude(here.screen, look(), as_json=as_json)
            return
        here.screen.note(
            f"watching, at least every {every}; SIGTERM or Ctrl-C ends it after the visits in hand"
        )
        keep_watching(_telling(here, look, as_json=as_json), clock=here.clock, stop=stop, every=pause)


def _look(
    here: Context,
    playbooks: Sequence[Path],
    inventories: Sequence[Path],
    passphrase: Secret,
    passphrase_file: Path | None,
) -> Sequence[Applied | KeyrelayError]:
    """Do all that is due now, by the files as they are now; the vault is open only meanwhile."""
    plays = load_plays(playbooks, inventories)
    with here.ports(passphrase_file, passwords_of(plays), passphrase=passphrase) as (ports, _):
        return in_turn(partial(_watched, ports, play.desired) for play in plays)


def _watched(ports: Ports, desired: Desired) -> Sequence[Applied]:
    return (watch_once(ports, desired),)


def _telling(here: Context, look: Look, *, as_json: bool) -> Look:
    """The same, telling what came of it when that is news; what is wrong from the start ends the watch."""
    before: list[object] = []

    def look_and_tell() -> Sequence[Applied | KeyrelayError]:
        try:
            ended = look()
        except KeyrelayError as error:
            if not before:
                raise
            ended = [error]
        told = [gist(one) for one in ended]
        if told != before:
            here.screen.note(instant(here.clock.now()))
            tell(here.screen, ended, as_json=as_json)
        before[:] = told
        return ended

    return look_and_tell


def _unattended(
    here: Context, playbooks: Sequence[Path], inventories: Sequence[Path], passphrase_file: Path | None
) -> Unattended:
    """What a service has to know, all paths absolute.

    Raises:
        UsageError: no file holds the passphrase.
    """
    if passphrase_file is None:
        raise UsageError(
            "a service has no terminal to ask for the passphrase",
            hint="keep it in a file that only you can read, and name that with --passphrase-file",
        )
    program = Path(sys.argv[0]).absolute()
    installed = program.name == "keyrelay" and os.access(program, os.X_OK)
    return Unattended(
        program=(str(program),) if installed else (sys.executable, "-m", "orchestrator.cli"),
        user=pwd.getpwuid(os.geteuid()).pw_name,
        folder=Path.cwd(),
        home=here.home.absolute(),
        passphrase_file=passphrase_file.absolute(),
        playbooks=tuple(file.absolute() for file in playbooks),
        inventories=tuple(file.absolute() for file in inventories),
        accept_new=here.accept_new,
        pin_file=here.pin_file.absolute() if here.pin_file is not None else None,
        backups=_backup_folders(here),
    )


def _backup_folders(here: Context) -> tuple[Path, ...]:
    """Where automatic backups are written, and where those are that it may have to remove."""
    if not here.has_home:
        return ()
    with here.ledger() as ledger:
        recorded = ledger.read()
    if recorded.keeping is None:
        return ()
    earlier = [Path(one.path).parent for one in recorded.backups.values() if one.automatic]
    return tuple(dict.fromkeys([Path(recorded.keeping.folder), *sorted(earlier)]))
