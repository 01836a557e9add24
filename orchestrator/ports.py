"""Every outside thing on one page.

``records``, ``remote`` and ``issuers`` implement these protocols without knowing of each other;
``operations`` speak to them alone; ``cli/context.py`` picks the classes. The protocols speak only of
values from the pure packages.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from orchestrator.inventory.model import HostName
from orchestrator.keys.kinds import Signer
from orchestrator.keys.material import SpkiDigest
from orchestrator.keys.secret import Secret
from orchestrator.policy.desired import IssuerSpec
from orchestrator.rotation.events import Entry, Event
from orchestrator.rotation.holdups import Wait
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.reports import Outcome
from orchestrator.rotation.visits import Visit


class Clock(Protocol):
    """The controller's time."""

    def now(self) -> datetime:
        """The present, in UTC."""
        ...

    def elapsed(self) -> timedelta:
        """How much time has passed since some instant, whoever sets the clock meanwhile."""
        ...

    def wait_until(self, instant: datetime) -> None:
        """Return when ``instant`` is reached, at once if it is past; early if the run is asked to end."""
        ...


class Entropy(Protocol):
    """Where randomness comes from."""

    def __call__(self, size_bytes: int, /) -> bytes:
        """``size_bytes`` bytes from the system's cryptographic generator."""
        ...


class Fleet(Protocol):
    """The hosts, and how they are reached."""

    def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
        """Make the visits, many at once, and yield each outcome as its visit ends.

        Exactly one outcome for every visit, in any order; a slow or dead host delays nobody else. A fleet
        that is asked to stop begins no further visit, and then has outcomes of those alone that it began.
        At most one visit names a given host. Closing the iterator early ends the visits under way.
        """
        ...


class Ledger(Protocol):
    """What must not be lost: every intent before a host is touched, every outcome after (S3)."""

    def read(self) -> Recorded:
        """The state that all entries add up to.

        Raises:
            LedgerError: missing, damaged, or written by a newer version.
        """
        ...

    def append(self, events: Sequence[Event], *, onto: Recorded, at: datetime) -> Recorded:
        """Add entries durably, all or none, and return the state after them.

        Raises:
            ConflictError: the ledger has grown since ``onto`` was read: another controller writes (S8).
            RefusedError: ``at`` is before the last entry (``rotation.chronology``).
            LedgerError: it cannot be written.
        """
        ...

    def heads(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The digests of the entries with these numbers; numbers that it has no entry for are left out."""
        ...

    def entries(self, *, after: int = 0) -> Iterator[Entry]:
        """The entries numbered higher than ``after``, oldest first."""
        ...

    def verify(self) -> int:
        """Recompute the hash chain and the state from the first entry on; return the number of entries.

        Raises:
            LedgerError: names the first entry that does not fit.
        """
        ...


class Vault(Protocol):
    """Private keys at rest, sealed."""

    def put(self, record: str, purpose: str, secret: Secret) -> None:
        """Seal and keep ``secret`` durably under ``record``.

        Raises:
            VaultError: another secret is kept under that name.
        """
        ...

    def open(self, record: str, purpose: str) -> Secret:
        """The secret kept under ``record`` for ``purpose``.

        Raises:
            VaultError: there is none, or it was tampered with.
        """
        ...

    def holds(self, record: str) -> bool:
        """Whether something is kept under ``record``."""
        ...

    def destroy(self, *records: str) -> None:
        """Remove what is kept under these names beyond recovery from the vault's files; idempotent."""
        ...


class Keyring(Protocol):
    """Where the authority's private keys are kept: the home, or a hardware security module."""

    def make(self, name: str) -> Signer:
        """Make a key under ``name`` and keep it durably, before anything is certified with it.

        Raises:
            VaultError: it cannot be made or kept.
        """
        ...

    def open(self, name: str) -> Signer:
        """The key kept under ``name``, ready to sign.

        Raises:
            VaultError: there is none, or it cannot be used.
        """
        ...

    def destroy(self, name: str) -> None:
        """Remove the key kept under ``name`` beyond recovery; idempotent.

        Raises:
            VaultError: it cannot be removed.
        """
        ...


class BackupStore(Protocol):
    """Backups of this home, as files under a passphrase of their own."""

    def kept(self) -> frozenset[str]:
        """The names of all secrets that the vault keeps now."""
        ...

    def write(
        self, path: str, name: str, *, taken: datetime, covering: Collection[str]
    ) -> tuple[str, int] | None:
        """Write the backup of that name, whole and durable, or not at all.

        Returns:
            The file's SHA-256 (hex) and size; None: the vault keeps more than ``covering`` by now.

        Raises:
            BackupError: it cannot be written, or there is a file of that name.
        """
        ...

    def reseal(self, path: str, *, without: Collection[str]) -> tuple[str, int]:
        """Write a backup anew without some of its secrets, in the place of the old file.

        Raises:
            BackupError: it cannot be read or written, or was sealed under another passphrase.
        """
        ...

    def remove(self, path: str) -> bool:
        """Remove a backup's file, durably; whether there was one.

        Raises:
            BackupError: it cannot be removed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateOrder:
    """What an issuer is asked to certify.

    Attributes:
        names: what the inventory gives the host; the request may name these and nothing else.
        request_pem: the CSR (PKCS #10), which proves possession of the key.
        not_after: the end of the key's cryptoperiod.
        backdate: how far before now the certificate begins, for clocks that are behind.
        issuer: who is to certify; None: the fleet's own issuer.
        by: which of the fleet's own issuers there have been; None: the one that certifies now.
    """

    names: tuple[str, ...]
    request_pem: str
    not_after: datetime
    backdate: timedelta
    issuer: IssuerSpec | None = None
    by: SpkiDigest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate and the chain up to, and without, the root; both PEM."""

    certificate_pem: str
    chain_pem: str


class Issuer(Protocol):
    """Who certifies."""

    def issue(self, order: CertificateOrder, *, now: datetime) -> Issued:
        """Certify the key of a request.

        Raises:
            IssuerError: the issuer cannot (expired, ends too early).
            KeyMaterialError: the request is damaged, unproven, or asks for other names.
        """
        ...


class Controller(Protocol):
    """This controller among others that may use the same ledger."""

    @property
    def name(self) -> str:
        """What it calls itself; no two controllers that run at the same time have one name."""
        ...

    def is_gone(self, name: str) -> bool:
        """Whether the controller of that name is certainly not running any more; False when unsure."""
        ...

    def described(self, name: str) -> str:
        """The controller of that name in words: which process of which machine, and whose, as far as told."""
        ...


class ProgressSink(Protocol):
    """Who watches a run."""

    def visiting(self, what: str, hosts: Collection[HostName]) -> None:
        """A batch of visits begins, one to each of these hosts."""
        ...

    def visited(self, outcome: Outcome) -> None:
        """One visit of the batch ended."""
        ...

    def waiting(self, waits: Sequence[Wait], until: datetime) -> None:
        """The run waits for time to pass, for the sake of these servers."""
        ...


class Stop(Protocol):
    """Whether the run is to end early."""

    @property
    def asked(self) -> bool:
        """Whether nothing further is to be begun; once it is, it stays so."""
        ...


class NeverStop:
    """Nobody asks a run to end early."""

    @property
    def asked(self) -> bool:
        """Never."""
        return False


NEVER: Stop = NeverStop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All outside things that a handover needs."""

    clock: Clock
    entropy: Entropy
    fleet: Fleet
    ledger: Ledger
    vault: Vault
    keys: Keyring
    issuer: Issuer
    controller: Controller
    progress: ProgressSink
    stop: Stop = NEVER
    backups: BackupStore | None = None
