"""``keyrelay backup``: one sealed file with everything that a home needs to go on."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestrator.cli import passphrases
from orchestrator.cli.context import BACKUP_RECORD, Context, vault_passphrase
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.keyrings import home_keys
from orchestrator.cli.machine import system_entropy
from orchestrator.cli.options import AsJson, PassphraseFile, duration, worded
from orchestrator.cli.restores import (
    BackupPassphrase,
    Believe,
    HostKeys,
    MaybeInventories,
    Playbooks,
    Reach,
    Waive,
)
from orchestrator.errors import UsageError
from orchestrator.keys.authority import ROOT_KEY
from orchestrator.keys.secret import Secret
from orchestrator.operations import backups
from orchestrator.operations.asking import survey
from orchestrator.operations.restore import Effects, Request, asked_hosts, foresee
from orchestrator.operations.restore import compared_with as compare
from orchestrator.records.backup import unpack
from orchestrator.records.backup_store import HomeBackups
from orchestrator.records.database import Database
from orchestrator.records.home import Home
from orchestrator.records.ledger import SqlLedger
from orchestrator.records.vault import SqlVault
from orchestrator.rotation.home_events import BackupsKept
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.visits import CredentialId
from orchestrator.views.backups import (
    backup_answer,
    backups_answer,
    check_answer,
    pruned_answer,
    resealed_answer,
)


class _OrMake(TyperGroup):
    """``keyrelay backup FILE`` is ``keyrelay backup make FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts ``make`` first, unless a command or a call for help stands there."""
        known = {*self.commands, "--help"}
        return super().parse_args(ctx, args if args and args[0] in known else ["make", *args])


app = typer.Typer(name="backup", help="Backups of the home, each one sealed file.", cls=_OrMake)

File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The new file; by default named for its time.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="A backup's id, or a beginning of one.")]


@app.command()
def make(
    context: typer.Context,
    file: File = None,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Prove that FILE can be restored; say what that would do.")
    ] = False,
    inventory: MaybeInventories = None,
    playbook: Playbooks = None,
    waive: Waive = None,
    believe: Believe = None,
    host_key: HostKeys = None,
    backup_passphrase_file: BackupPassphrase = None,
    root_passphrase_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --check: open the root key too.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a backup now, even while a rollout runs; or check one."""
    here = Context.of(context)
    if check:
        if file is None:
            raise UsageError("which backup is to be checked?", hint="name its file")
        reach = Reach(
            inventory=inventory, playbook=playbook, waive=waive, believe=believe, host_keys=host_key
        )
        files = (backup_passphrase_file, root_passphrase_file, passphrase_file)
        _check(here, file, reach, files, as_json=as_json)
        return
    passphrase = _new_passphrase(backup_passphrase_file)
    with shelf(here, lambda: passphrase) as one:
        keeping = one.ledger.read().keeping
        folder = keeping.folder if keeping is not None else str(Path.cwd())
        path = "" if file is None else str(file.absolute())
        taken = backups.take_backup(one, path, folder=folder)
    here.screen.answer(backup_answer(taken), as_json=as_json)


@app.command(name="list")
def list_(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show the backups whose files may be there, and which keys each holds."""
    here = Context.of(context)
    with here.ledger() as ledger:
        here.screen.answer(backups_answer(ledger.read(), now=here.clock.now()), as_json=as_json)


@app.command()
def prune(
    context: typer.Context,
    *,
    keep: Annotated[int, typer.Option(min=0, help="So many are left, the newest.")],
    every: Annotated[
        bool, typer.Option("--all", help="Count and remove those that were written by hand, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the oldest automatic backups; with --all the oldest of any."""
    here = Context.of(context)
    with shelf(here, _no_passphrase) as one:
        pruned = backups.prune(one, keep=keep, automatic=not every)
        left = [backup for backup in one.ledger.read().backups.values() if not (every or backup.automatic)]
    here.screen.answer(
        pruned_answer(pruned.removed, unseen=pruned.unseen, by_hand=len(left)), as_json=as_json
    )


@app.command()
def forget(
    context: typer.Context,
    backup: Id,
    *,
    reason: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="How you know that its file and its copies are gone.", callback=worded
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Remove one backup, or write that it is gone."""
    here = Context.of(context)
    with shelf(here, _no_passphrase) as one:
        found = backups.backup_named(one.ledger.read(), backup)
        backups.remove_backup(one, found, reason=reason)
    here.screen.answer(pruned_answer((found,)), as_json=as_json)


@app.command()
def reseal(
    context: typer.Context,
    backup: Id,
    *,
    backup_passphrase_file: BackupPassphrase = None,
    as_json: AsJson = False,
) -> None:
    """Seal a backup anew without the keys that have ended since."""
    here = Context.of(context)
    asked = partial(_passphrase, backup_passphrase_file)
    with passphrases.blamed(backup_passphrase_file), shelf(here, asked) as one:
        found = backups.backup_named(one.ledger.read(), backup)
        over = backups.reseal_backup(one, found)
        recorded = one.ledger.read()
    here.screen.answer(resealed_answer(recorded, recorded.backups[found.id], over), as_json=as_json)


@app.command()
def keep(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="An existing folder, best on another disk.")
    ],
    *,
    number: Annotated[int, typer.Option("--keep", min=1, help="So many automatic ones are kept.")] = 5,
    oldest: Annotated[str, typer.Option(metavar="TIME", help="When another one is due.")] = "30d",
    backup_passphrase_file: BackupPassphrase = None,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """From now on, take a backup before each rollout that retires a key; the vault keeps its passphrase."""
    here, age = Context.of(context), duration(oldest, "--oldest")
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="make it first")
    passphrase = _new_passphrase(backup_passphrase_file)
    with closing(Database.open(Home.open(here.home).database_url)) as database:
        vault = SqlVault.unlock(database, vault_passphrase(passphrase_file), random=system_entropy)
        vault.destroy(BACKUP_RECORD)
        vault.put(BACKUP_RECORD, BACKUP_RECORD, passphrase)
        ledger = SqlLedger(database)
        event = BackupsKept(folder=str(folder.absolute()), keep=number, oldest=age)
        recorded = ledger.append([event], onto=ledger.read(), at=here.clock.now())
    here.screen.answer(backups_answer(recorded, now=here.clock.now()), as_json=as_json)


@contextmanager
def shelf(here: Context, passphrase: Any) -> Iterator[backups.Shelf]:
    """What backups need, of the home; the vault stays locked."""
    home = Home.open(here.home)
    with closing(Database.open(home.database_url)) as database:
        store = HomeBackups(home=home, database=database, passphrase=cache(passphrase), random=system_entropy)
        yield backups.Shelf(ledger=SqlLedger(database), store=store, clock=here.clock, random=system_entropy)


def _check(
    here: Context,
    file: Path,
    reach: Reach,
    files: tuple[Path | None, Path | None, Path | None],
    *,
    as_json: bool,
) -> None:
    """Restore into a folder that is thrown away, open every key, and compare with the fleet."""
    if not file.exists():
        raise UsageError(f"{file}: there is no such file", hint="name a backup")
    backup_file, root_file, vault_file = files
    with tempfile.TemporaryDirectory(prefix="keyrelay-check-") as folder:
        home = Home.create(Path(folder) / "home")
        with passphrases.blamed(backup_file):
            manifest = unpack(file, _passphrase(backup_file), home)
        with closing(Database.open(home.database_url)) as database:
            entries = SqlLedger(database).verify()
            recorded = SqlLedger(database).read()
            with passphrases.blamed(vault_file):
                vault = SqlVault.unlock(database, vault_passphrase(vault_file), random=system_entropy)
            opened = vault.open_all()
        if root_file is not None:
            option = "--root-passphrase-file"
            root = passphrases.obtain(root_file, what="the root key", option=option)
            with passphrases.blamed(root_file):
                home_keys(vault, home.root_key, lambda: root).open(ROOT_KEY)
        effects = _effects(replace(here, chosen_home=home.path), here, recorded, reach, opened)
    answer = check_answer(
        manifest.id,
        manifest.taken,
        entries=entries,
        keys=len(opened),
        effects=effects,
        visited=bool(reach.inventory),
    )
    here.screen.answer(answer, as_json=as_json)
    leave(
        Code.DUE
        if effects is not None and (effects.stranded or effects.accused or effects.claimed)
        else Code.DONE
    )


def _effects(
    there: Context, here: Context, recorded: Recorded, reach: Reach, opened: frozenset[str]
) -> Effects | None:
    """What restoring would do: as the hosts tell, else as the home that lives here does."""
    kept = [CredentialId(name) for name in opened]
    if not reach.inventory:
        if not here.has_home:
            return None
        with here.ledger() as ledger:
            return compare(recorded, ledger.read(), Request(kept=kept), random=system_entropy)
    reached = reach.hosts(recorded)
    request = Request(waive=reach.waived, believe=reach.believed, endpoints=reached.endpoints, kept=kept)
    with there.progress() as bars, there.fleet(bars, reached.passwords, reach.vouched) as fleet:
        answers = survey(fleet, asked_hosts(recorded, request).values(), bars, whole=True)
    return foresee(recorded, answers, request, random=system_entropy)


def _passphrase(file: Path | None) -> Secret:
    return passphrases.obtain(file, what="the backup", option="--backup-passphrase-file")


def _new_passphrase(file: Path | None) -> Secret:
    return passphrases.obtain(file, what="the backup", option="--backup-passphrase-file", new=True)


def _no_passphrase() -> Secret:
    raise TypeError("removing a backup needs no passphrase")
