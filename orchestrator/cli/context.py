"""The composition root: the classes behind the ports, put together for each command.

Each command takes only what it needs, and what it takes is closed when it ends. Only commands that need
private keys unlock the vault.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import typer

from orchestrator.cli import passphrases
from orchestrator.cli.keyrings import home_keys, token_keys
from orchestrator.cli.machine import SystemClock, SystemController, system_entropy
from orchestrator.inventory.model import HostName
from orchestrator.issuers.chosen import ChosenIssuer
from orchestrator.issuers.embedded import EmbeddedIssuer
from orchestrator.keys.authority import Authority
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import SpkiDigest
from orchestrator.keys.secret import Secret
from orchestrator.keys.token import Token
from orchestrator.ports import NEVER, Keyring, Ports, Stop
from orchestrator.records.backup_store import HomeBackups
from orchestrator.records.database import Database
from orchestrator.records.home import Home
from orchestrator.records.ledger import SqlLedger
from orchestrator.records.vault import SqlVault
from orchestrator.remote.fleet import SshFleet
from orchestrator.remote.questions import Question
from orchestrator.rotation.authority import Role
from orchestrator.views.progress import Bars
from orchestrator.views.screen import Screen

BACKUP_RECORD = "backup-passphrase"
"""Under which the vault keeps the passphrase of automatic backups, and what for."""

LOCAL_HOME = Path(".keyrelay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlocked:
    """A home whose vault is unlocked; the authority's keys are not asked for."""

    home: Home
    database: Database
    ledger: SqlLedger
    vault: SqlVault


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A home whose vault is unlocked, and the authority's keys."""

    ledger: SqlLedger
    vault: SqlVault
    keys: Keyring
    backups: HomeBackups

    def issuer(self, wanted: SpkiDigest | None = None) -> Authority:
        """One of the fleet's issuers; else the one that certifies now, which may have been replaced.

        Raises:
            IssuerError: there is none of that key.
            VaultError: its key is destroyed, or cannot be opened.
        """
        found = self.ledger.read().own_issuer(wanted)
        certificate = parse_certificate(found.certificate)
        return Authority(certificate=certificate, signer=self.keys.open(found.record))


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every command has.

    Attributes:
        chosen_home: from ``--home`` or ``$KEYRELAY_HOME``.
        accept_new: whether the keys of unknown hosts are believed in this run.
        pin_file: where the PIN of the authority's token is, where it has one.
        stop: what asks the run to end early.
    """

    chosen_home: Path | None
    accept_new: bool
    pin_file: Path | None
    screen: Screen
    stop: Stop = NEVER

    @classmethod
    def of(cls, context: typer.Context) -> "Context":
        """The context that the command line began with."""
        found = context.find_object(cls)
        if found is None:
            raise TypeError("the command was called without a context")
        return found

    @property
    def home(self) -> Path:
        """Where the home is looked for."""
        if self.chosen_home is not None:
            return self.chosen_home
        if LOCAL_HOME.exists():
            return LOCAL_HOME
        data = os.environ.get("XDG_DATA_HOME", "")
        return (Path(data) if data.startswith("/") else Path.home() / ".local" / "share") / "keyrelay"

    @property
    def has_home(self) -> bool:
        """Whether there is a home; for what can do without."""
        return self.home.exists()

    @property
    def clock(self) -> SystemClock:
        """The machine's."""
        return SystemClock(self.stop)

    def progress(self) -> Bars:
        """Bars on stderr."""
        return Bars(self.screen.err)

    @contextmanager
    def ledger(self) -> Iterator[SqlLedger]:
        """The ledger of the home.

        Raises:
            UsageError: there is no home.
            LedgerError: it cannot be read.
        """
        with closing(Database.open(Home.open(self.home).database_url)) as database:
            yield SqlLedger(database)

    @property
    def first_use_file(self) -> Path:
        """Where host keys are kept that were believed on first use."""
        return self.home / "first_use_hosts"

    @contextmanager
    def fleet(
        self,
        bars: Bars,
        passwords: Mapping[HostName, Secret] | None = None,
        vouched: Mapping[HostName, str] = MappingProxyType({}),
    ) -> Iterator[SshFleet]:
        """The hosts, over SSH; tells afterwards which host keys were believed on first use.

        Args:
            bars: held back while a person is asked for a passphrase or a password.
            passwords: for sudo, by host, from the inventory.
            vouched: fingerprints of the keys that hosts have now, by a person's word.
        """

        def ask(question: Question) -> Secret | None:
            bars.pause()
            return passphrases.ask(str(question))

        with SshFleet(
            clock=self.clock,
            entropy=system_entropy,
            ask=ask,
            passwords=passwords,
            first_use_file=self.first_use_file,
            accept_new=self.accept_new,
            vouched=vouched,
            stop=self.stop,
        ) as fleet:
            yield fleet
        for key in fleet.accepted:
            self.screen.note(
                f"believed on first use: {key.host} ({key.name}) has {key.kind} {key.fingerprint}"
            )

    def key_places(self, token: Token | None) -> Mapping[Role, str]:
        """Where the authority's private keys are, for people; raises ``UsageError`` if there is no home."""
        root = Home.open(self.home).root_key
        if token is not None:
            there = f"token {token.label} (serial {token.serial}), by {token.module}"
            return {Role.ROOT: there, Role.ISSUER: there}
        file = str(root) if root.exists() else f"a file that is not here: {root} was moved away"
        return {Role.ROOT: file, Role.ISSUER: "the vault"}

    @contextmanager
    def unlocked(
        self, passphrase_file: Path | None, *, passphrase: Secret | None = None
    ) -> Iterator[Unlocked]:
        """The ledger and the vault, for what needs none of the authority's keys, and no PIN of their token.

        Args:
            passphrase_file: with the vault's passphrase.
            passphrase: where it was obtained already.

        Raises:
            UsageError: there is no home, or no passphrase.
            VaultError: the passphrase is wrong.
        """
        home = Home.open(self.home)
        with closing(Database.open(home.database_url)) as database:
            vault = _unlocked(database, passphrase or vault_passphrase(passphrase_file), passphrase_file)
            yield Unlocked(home=home, database=database, ledger=SqlLedger(database), vault=vault)

    @contextmanager
    def opened(
        self,
        passphrase_file: Path | None,
        *,
        passphrase: Secret | None = None,
        root_file: Path | None = None,
        root_passphrase_file: Path | None = None,
    ) -> Iterator[Opened]:
        """The ledger, the vault unlocked, and the authority's keys.

        Args:
            passphrase_file: with the vault's passphrase.
            passphrase: where it was obtained already.
            root_file: where the root's sealed key lies; None: in the home.
            root_passphrase_file: the root's; None: the terminal is asked, and only when its key is used.

        Raises:
            UsageError: there is no home, or no passphrase, or no PIN.
            VaultError: the passphrase or the PIN is wrong, or the token is not there.
        """

        def ask_root() -> Secret:
            option = "--root-passphrase-file"
            return passphrases.obtain(root_passphrase_file, what="the root key", option=option)

        with ExitStack() as stack:
            there = stack.enter_context(self.unlocked(passphrase_file, passphrase=passphrase))
            stack.enter_context(passphrases.blamed(root_passphrase_file))
            recorded = there.ledger.read()
            keys: Keyring = (
                home_keys(there.vault, root_file or there.home.root_key, ask_root)
                if recorded.token is None
                else stack.enter_context(token_keys(recorded.token, self.pin_file, fleet=recorded.fleet))
            )
            backups = HomeBackups(
                home=there.home,
                database=there.database,
                passphrase=partial(there.vault.open, BACKUP_RECORD, BACKUP_RECORD),
                random=system_entropy,
            )
            yield Opened(ledger=there.ledger, vault=there.vault, keys=keys, backups=backups)

    @contextmanager
    def ports(
        self,
        passphrase_file: Path | None,
        passwords: Mapping[HostName, Secret] | None = None,
        *,
        passphrase: Secret | None = None,
        root_file: Path | None = None,
        root_passphrase_file: Path | None = None,
        vouched: Mapping[HostName, str] = MappingProxyType({}),
    ) -> Iterator[tuple[Ports, Bars]]:
        """Everything a handover needs, the vault unlocked.

        Args:
            passphrase_file: with the vault's passphrase.
            passwords: for sudo, by host, from the inventory.
            passphrase: where it was obtained already.
            root_file: where the root's sealed key lies; None: in the home.
            root_passphrase_file: the root's; None: the terminal is asked, and only when its key is used.
            vouched: fingerprints of the keys that hosts have now, by a person's word.

        Raises:
            UsageError: there is no home, or no passphrase.
            VaultError: the passphrase is wrong.
        """
        with ExitStack() as stack:
            opened = stack.enter_context(
                self.opened(
                    passphrase_file,
                    passphrase=passphrase,
                    root_file=root_file,
                    root_passphrase_file=root_passphrase_file,
                )
            )
            opened.issuer()  # before anything is done, for a key that cannot be opened
            own = EmbeddedIssuer(opened=opened.issuer, random=system_entropy)
            progress = stack.enter_context(self.progress())
            fleet = stack.enter_context(self.fleet(progress, passwords, vouched))
            yield (
                Ports(
                    clock=self.clock,
                    entropy=system_entropy,
                    fleet=fleet,
                    ledger=opened.ledger,
                    vault=opened.vault,
                    keys=opened.keys,
                    issuer=ChosenIssuer(own=own, vault=opened.vault, random=system_entropy),
                    controller=SystemController(),
                    progress=progress,
                    stop=self.stop,
                    backups=opened.backups,
                ),
                progress,
            )


def vault_passphrase(file: Path | None) -> Secret:
    """The vault's passphrase, from a file or the terminal.

    Raises:
        UsageError: there is none.
    """
    return passphrases.obtain(file, what="the vault", option="--passphrase-file")


def _unlocked(database: Database, passphrase: Secret, file: Path | None) -> SqlVault:
    with passphrases.blamed(file):
        return SqlVault.unlock(database, passphrase, random=system_entropy)


def new_context(chosen_home: Path | None, *, accept_new: bool, pin_file: Path | None) -> Context:
    """The context of this process."""
    screen = Screen(sys.stdout, sys.stderr)
    return Context(chosen_home=chosen_home, accept_new=accept_new, pin_file=pin_file, screen=screen)
