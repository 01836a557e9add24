"""A controller that can be killed: between any two things it does that last, and never again after that."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.keys.kinds import Signer
from orchestrator.keys.secret import Secret
from orchestrator.ports import Keyring, Ledger, Vault
from orchestrator.rotation.events import Entry, Event
from orchestrator.rotation.recorded import Recorded


class KilledError(Exception):
    """The controller was killed here."""


@dataclass(slots=True)
class Life:
    """Counts points, and ends at one of them; nothing written after that is written."""

    left: int | None = None
    dead: bool = False

    def dies_after(self, points: int) -> None:
        self.left = points

    def rise(self) -> bool:
        """Live on without an end; whether there had been one."""
        died, self.left, self.dead = self.dead, None, False
        return died

    def point(self) -> None:
        if self.left is not None:
            self.dead = self.dead or self.left <= 0
            self.left -= 1
        if self.dead:
            raise KilledError


@dataclass(slots=True)
class MortalLedger:
    """A ledger whose writer may be killed just before or just after an append."""

    ledger: Ledger
    life: Life

    def read(self) -> Recorded:
        return self.ledger.read()

    def append(self, events: Sequence[Event], *, onto: Recorded, at: datetime) -> Recorded:
        self.life.point()
        after = self.ledger.append(events, onto=onto, at=at)
        self.life.point()
        return after

    def heads(self, numbers: Iterable[int]) -> Mapping[int, str]:
        return self.ledger.heads(numbers)

    def entries(self, *, after: int = 0) -> Iterator[Entry]:
        return self.ledger.entries(after=after)

    def verify(self) -> int:
        return self.ledger.verify()


@dataclass(slots=True)
class MortalVault:
    """A vault whose user may be killed just before or just after a change."""

    vault: Vault
    life: Life

    def put(self, record: str, purpose: str, secret: Secret) -> None:
        self.life.point()
        self.vault.put(record, purpose, secret)
        self.life.point()

    def open(self, record: str, purpose: str) -> Secret:
        return self.vault.open(record, purpose)

    def holds(self, record: str) -> bool:
        return self.vault.holds(record)

    def destroy(self, *records: str) -> None:
        self.life.point()
        self.vault.destroy(*records)
        self.life.point()


@dataclass(slots=True)
class MortalKeyring:
    """A keyring whose user may be killed just before or just after a change."""

    keys: Keyring
    life: Life

    def make(self, name: str) -> Signer:
        self.life.point()
        made = self.keys.make(name)
        self.life.point()
        return made

    def open(self, name: str) -> Signer:
        return self.keys.open(name)

    def destroy(self, name: str) -> None:
        self.life.point()
        self.keys.destroy(name)
        self.life.point()
