"""The outside world in memory, for tests: each fake passes its port's contract suite (``tests/contract``).

They keep to what the port promises and cost nothing: no files, no key derivation, no time that passes by
itself.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from orchestrator.errors import ConflictError, LedgerError, VaultError
from orchestrator.keys.authority import AUTHORITY_ALGORITHM, ROOT_KEY
from orchestrator.keys.kinds import Signer
from orchestrator.keys.material import Random, generate, open_signer
from orchestrator.keys.secret import Secret
from orchestrator.ports import Vault
from orchestrator.records import codec
from orchestrator.rotation.chronology import refuse_going_back
from orchestrator.rotation.events import Entry, Event
from orchestrator.rotation.evolve import fold
from orchestrator.rotation.home_events import ClockSetRight
from orchestrator.rotation.recorded import Recorded

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class FakeClock:
    """Stands still, except that waiting takes it where the wait ends.

    Attributes:
        waits: every instant that was waited for.
    """

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self._elapsed = timedelta(0)
        self.waits: list[datetime] = []

    def now(self) -> datetime:
        return self._now

    def elapsed(self) -> timedelta:
        return self._elapsed

    def wait_until(self, instant: datetime) -> None:
        self.waits.append(instant)
        self._elapsed += max(timedelta(0), instant - self._now)
        self._now = max(self._now, instant)


class FakeController:
    """A controller under a name of the test's choice.

    Attributes:
        gone: names of controllers that are known not to run any more.
    """

    def __init__(self, name: str = "controller-1") -> None:
        self._name = name
        self.gone: set[str] = set()

    @property
    def name(self) -> str:
        return self._name

    def is_gone(self, name: str) -> bool:
        return name in self.gone

    def described(self, name: str) -> str:
        return name


class FakeStop:
    """Asks a run to end when the test says so.

    Attributes:
        after: so often it is looked at before it is asked for; None: it is not.
    """

    def __init__(self, after: int | None = None) -> None:
        self.after = after

    @property
    def asked(self) -> bool:
        if self.after is None:
            return False
        self.after = max(0, self.after - 1)
        return self.after == 0


class SeededEntropy:
    """Bytes that follow from the seed alone, other ones at each call."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._calls = count()

    def __call__(self, size_bytes: int) -> bytes:
        return hashlib.shake_256(f"{self._seed} {next(self._calls)}".encode()).digest(size_bytes)


class FakeLedger:
    """A ledger in a list; events go through the real codec, so one that cannot be written fails here too."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._state = Recorded()

    def read(self) -> Recorded:
        return self._state

    def append(self, events: Sequence[Event], *, onto: Recorded, at: datetime) -> Recorded:
        if (onto.version, onto.head) != (self._state.version, self._state.head):
            raise ConflictError(
                f"the ledger stands at entry {self._state.version}, not at {onto.version}",
                hint="another controller is writing",
            )
        if not any(isinstance(event, ClockSetRight) for event in events):
            refuse_going_back(onto, at)
        new: list[Entry] = []
        number, previous = onto.version, onto.head
        for event in events:
            number += 1
            entry, _ = codec.make_entry(event, number=number, at=at, previous=previous)
            new.append(entry)
            previous = entry.digest
        self._state = fold(self._state, new)
        self._entries += new
        return self._state

    def heads(self, numbers: Iterable[int]) -> Mapping[int, str]:
        wanted = set(numbers)
        return {entry.number: entry.digest for entry in self._entries if entry.number in wanted}

    def entries(self, *, after: int = 0) -> Iterator[Entry]:
        yield from self._entries[after:]

    def verify(self) -> int:
        recorded = Recorded()
        for entry in self._entries:
            again, _ = codec.make_entry(
                entry.event, number=recorded.version + 1, at=entry.at, previous=recorded.head
            )
            if again != entry:
                raise LedgerError(f"ledger entry {entry.number} was changed")
            recorded = fold(recorded, [entry])
        return recorded.version


class FakeVault:
    """A vault in a dictionary, always open.

    Attributes:
        kept: secrets by record, each with its purpose.
    """

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, Secret]] = {}

    def put(self, record: str, purpose: str, secret: Secret) -> None:
        if self.kept.setdefault(record, (purpose, secret)) != (purpose, secret):
            raise VaultError(f"another secret is kept as {record}")

    def open(self, record: str, purpose: str) -> Secret:
        kept_for, secret = self.kept.get(record, (None, None))
        if secret is None or kept_for != purpose:
            raise VaultError(f"nothing is kept as {record} for {purpose!r}")
        return secret

    def holds(self, record: str) -> bool:
        return record in self.kept

    def destroy(self, *records: str) -> None:
        for record in records:
            self.kept.pop(record, None)


class FakeKeyring:
    """The authority's keys, all of them in one vault."""

    def __init__(self, vault: Vault, random: Random) -> None:
        self._vault = vault
        self._random = random

    def make(self, name: str) -> Signer:
        private = generate(AUTHORITY_ALGORITHM, random=self._random).private
        self._vault.destroy(name)
        self._vault.put(name, name, private)
        return open_signer(private)

    def open(self, name: str) -> Signer:
        return open_signer(self._vault.open(name, name))

    def destroy(self, name: str) -> None:
        if name == ROOT_KEY:
            raise VaultError("the root's key is removed by hand")
        self._vault.destroy(name)
