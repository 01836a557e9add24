"""``keyrelay restore``: go on from a backup, or with a home that hosts do not follow any more."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import passphrases
from orchestrator.cli.agreement import QUESTION, refuse_unasked
from orchestrator.cli.context import Context, vault_passphrase
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.founding import home_in_the_making, refuse_taken
from orchestrator.cli.options import AsJson, PassphraseFile, Yes, fingerprint
from orchestrator.cli.plays import load_plays, passwords_for
from orchestrator.errors import UsageError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.inventory.yaml_files import load
from orchestrator.keys.material import SpkiDigest
from orchestrator.keys.secret import Secret
from orchestrator.operations.restore import Effects, Request
from orchestrator.operations.restore import restore as restore_home
from orchestrator.records.backup import kept_keys, unpack
from orchestrator.records.database import Database
from orchestrator.records.home import Home
from orchestrator.records.ledger import SqlLedger
from orchestrator.rotation.hearsay import ended_in
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.sight import Ending
from orchestrator.rotation.visits import CredentialId
from orchestrator.views.progress import Bars
from orchestrator.views.restores import before_restoring, restored_answer
from orchestrator.views.screen import Screen

MaybeInventories = Annotated[
    list[Path] | None,
    typer.Option(
        "-i", "--inventory", metavar="FILE", help="How hosts are reached now; else as the ledger says."
    ),
]
Playbooks = Annotated[
    list[Path] | None,
    typer.Option(
        "--playbook", metavar="FILE", help="Ask its hosts too; some may have joined since the backup."
    ),
]
BackupPassphrase = Annotated[
    Path | None,
    typer.Option("--backup-passphrase-file", metavar="FILE", help="A file with the backup's own passphrase."),
]
Waive = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST", help="Do not wait for this host; what that costs is told."),
]
HostKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--host-key",
        metavar="HOST=FINGERPRINT",
        help="The new SSH host key of a host that was set up anew, as it tells it at its console.",
    ),
]

Believe = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST", help="Believe its word that a key has leaked, or that this home is far behind."
    ),
]
Disbelieve = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST", help="Its word that a key has leaked counts as one that it was removed."),
]


def restore(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A backup.")] = None,
    *,
    this_home: Annotated[bool, typer.Option("--this-home", help="Go on with the home as it is.")] = False,
    later_home: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A later home, whose ledger still tells which keys have ended."),
    ] = None,
    inventory: MaybeInventories = None,
    playbook: Playbooks = None,
    waive: Waive = None,
    believe: Believe = None,
    disbelieve: Disbelieve = None,
    keep_issuer: Annotated[
        bool, typer.Option("--keep-issuer", help="Its issuer was replaced since, and had not leaked.")
    ] = False,
    host_key: HostKeys = None,
    yes: Yes = False,
    backup_passphrase_file: BackupPassphrase = None,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Go on from a backup, or with this home: ask every host, and open a generation above all of them."""
    here = Context.of(context)
    if this_home == (file is not None):
        raise UsageError("what is to be restored?", hint="name a backup, or say --this-home")
    if not yes:
        refuse_unasked(here.screen, "restore", hint="see what would happen on a terminal, or say --yes")
    asked = Asked(
        reach=Reach(inventory=inventory, playbook=playbook, waive=waive, believe=believe, host_keys=host_key),
        doubted=_hosts(disbelieve),
        sure_of_issuer=keep_issuer,
        ended=_ended(later_home),
        agreed=yes,
        makes=None if this_home else here.home,
        passphrase=None if this_home else vault_passphrase(passphrase_file),
        passphrase_file=passphrase_file,
    )
    if file is None:
        effects = _restored(here, asked, backup="", kept=None)
    else:
        refuse_taken(here.home)
        passphrase = passphrases.obtain(
            backup_passphrase_file, what="the backup", option="--backup-passphrase-file"
        )
        with suppress(_DeclinedError), home_in_the_making(here.home) as home:
            with passphrases.blamed(backup_passphrase_file):
                manifest = unpack(file, passphrase, home)
            with closing(Database.open(home.database_url)) as database:
                kept = [CredentialId(name) for name in kept_keys(database)]
            there = replace(here, chosen_home=home.path)
            effects = _restored(there, asked, backup=manifest.id, kept=kept)
            if effects is None:
                raise _DeclinedError
    if effects is None:
        here.screen.note("nothing was changed")
        leave(Code.FAILED)
    else:
        here.screen.answer(restored_answer(effects, home=str(here.home)), as_json=as_json)


class _DeclinedError(Exception):
    """It was not agreed to, so nothing is left behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for on the command line."""

    reach: "Reach"
    doubted: tuple[HostName, ...]
    sure_of_issuer: bool
    ended: Mapping[SpkiDigest, Ending]
    agreed: bool
    makes: Path | None
    passphrase: Secret | None
    passphrase_file: Path | None


def _restored(
    here: Context, asked: Asked, *, backup: str, kept: Collection[CredentialId] | None
) -> Effects | None:
    with here.ledger() as ledger:
        reached = asked.reach.hosts(ledger.read())
    request = Request(
        waive=asked.reach.waived,
        believe=asked.reach.believed,
        disbelieve=asked.doubted,
        sure_of_issuer=asked.sure_of_issuer,
        endpoints=reached.endpoints,
        backup=backup,
        kept=kept,
        ended=asked.ended,
    )
    with here.ports(
        asked.passphrase_file,
        reached.passwords,
        passphrase=asked.passphrase,
        vouched=asked.reach.vouched,
    ) as (ports, bars):
        return restore_home(ports, request, agree=_agreement(here.screen, bars, asked))


def _hosts(names: Sequence[str] | None) -> tuple[HostName, ...]:
    return tuple(HostName(name) for name in names or ())


def _ended(home: Path | None) -> Mapping[SpkiDigest, Ending]:
    """The keys that have ended by the ledger of a later home."""
    if home is None:
        return {}
    with closing(Database.open(Home.open(home).database_url)) as database:
        return ended_in(SqlLedger(database).read())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Which hosts are asked, how, by which new keys, which are not waited for, and which are believed."""

    inventory: Sequence[Path] | None
    playbook: Sequence[Path] | None
    waive: Sequence[str] | None
    believe: Sequence[str] | None
    host_keys: Sequence[str] | None

    @property
    def waived(self) -> tuple[HostName, ...]:
        """The hosts that are not waited for."""
        return _hosts(self.waive)

    @property
    def believed(self) -> tuple[HostName, ...]:
        """The hosts whose word is believed."""
        return _hosts(self.believe)

    @property
    def vouched(self) -> Mapping[HostName, str]:
        """The fingerprints that a person has given; raises ``UsageError`` for what is none."""
        words = [word.partition("=") for word in self.host_keys or ()]
        bare = next((host for host, _, told in words if not told), None)
        if bare is not None:
            raise UsageError(f"--host-key {bare!r} names no host", hint="write HOST=SHA256:…")
        return {HostName(host): fingerprint(told) for host, _, told in words}

    def hosts(self, recorded: Recorded) -> "Reached":
        """The hosts that a ledger knows, as the inventory reaches them, and every host of the playbooks."""
        if not self.inventory:
            if self.playbook:
                raise UsageError("--playbook needs an inventory", hint="name it with -i")
            return Reached(endpoints={}, passwords={})
        loaded = load(self.inventory)
        known = [host for host in recorded.endpoints if host in loaded.hosts]
        plays = load_plays(self.playbook, self.inventory) if self.playbook else ()
        endpoints = {host: loaded.endpoint(host) for host in known}
        endpoints |= {host: e for play in plays for host, e in play.desired.endpoints.items()}
        return Reached(endpoints=endpoints, passwords=passwords_for(loaded, endpoints))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How hosts are reached, as far as inventory and playbooks say."""

    endpoints: Mapping[HostName, Endpoint]
    passwords: Mapping[HostName, Secret]


def _agreement(screen: Screen, bars: Bars, asked: Asked) -> Callable[[Effects], bool]:
    def agree(effects: Effects) -> bool:
        bars.pause()
        screen.note(*before_restoring(effects))
        if asked.makes is not None:
            screen.note(f"the home will be {asked.makes}")
        return asked.agreed or screen.ask(QUESTION)

    return agree
