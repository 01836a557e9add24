"""The ports of one controller over any state: a ledger that can fork, and hosts that are values.

The digest of an entry tells the branch that it stands on (``digest_of``), as a hash chain does.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.errors import ConflictError
from orchestrator.inventory.model import HostName
from orchestrator.ports import Ports
from orchestrator.rotation import events as ev
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.evolve import fold
from orchestrator.rotation.recorded import Recorded
from tests import fake_host
from tests.fake_state import HostState
from tests.fakes import NOON, FakeController, FakeKeyring, FakeVault
from tests.model import material
from tests.model.state import State
from tests.world import Silent

AWAY = "it is away"


class ModelLedger:
    """A ledger that is one value, which remembers what it was after each append."""

    def __init__(self) -> None:
        self.recorded = Recorded()
        self.marks: list[tuple[Recorded, Mapping[str, int]]] = []
        self.vault = material.SetVault()
        self.known: dict[Any, Recorded] = {}
        self.forks: tuple[int, ...] = ()

    def read(self) -> Recorded:
        return self.recorded

    def append(self, events: Sequence[ev.Event], *, onto: Recorded, at: datetime) -> Recorded:
        if onto.version != self.recorded.version:
            raise ConflictError(f"the ledger stands at entry {self.recorded.version}, not at {onto.version}")
        name = id(events[0].intents[0]) if isinstance(events[0], ev.VisitsIntended) else None
        if name is not None and name in self.known:
            self.recorded = self.known[name]
        else:
            self.recorded = fold(onto, entries_of(events, onto, at, self.forks))
            if name is not None:
                self.known[name] = self.recorded
        self.marks.append((self.recorded, self.vault.kept))
        return self.recorded

    def heads(self, numbers: Iterable[int]) -> Mapping[int, str]:
        there = range(1, self.recorded.version + 1)
        return {number: digest_of(number, self.forks) for number in numbers if number in there}

    def entries(self, *, after: int = 0) -> Iterator[ev.Entry]:
        raise NotImplementedError

    def verify(self) -> int:
        raise NotImplementedError


class Stage:
    """The ports of one controller, over whatever state is put on."""

    def __init__(self) -> None:
        self.ledger = ModelLedger()
        self.numbers = material.Numbers()
        self.hosts: dict[HostName, HostState] = {}
        self.time = NOON
        self.away: frozenset[HostName] = frozenset()
        self.fate: Callable[[vs.Visit], rp.Outcome] = self._obeyed
        self.made: list[vs.Visit] = []
        self.ports = Ports(
            clock=self,
            entropy=self.numbers,
            fleet=self,
            ledger=self.ledger,
            vault=self.ledger.vault,
            keys=FakeKeyring(FakeVault(), self.numbers),
            issuer=material.CannedIssuer(self.ledger.read),
            controller=FakeController(),
            progress=Silent(),
        )

    def put_on(self, state: State, recorded: Recorded | None = None) -> None:
        self.ledger.recorded = state.recorded if recorded is None else recorded
        self.ledger.forks = state.forks
        self.ledger.marks = []
        self.ledger.vault.kept = state.vault
        self.ledger.vault.changed = []
        self.numbers.drawn, self.numbers.keys = state.drawn, state.keys
        self.hosts = dict(state.hosts)
        self.time = state.now
        self.away = frozenset()
        self.fate = self._obeyed
        self.made = []

    def now(self) -> datetime:
        return self.time

    def elapsed(self) -> timedelta:
        return timedelta(0)

    def wait_until(self, instant: datetime) -> None:
        raise NotImplementedError

    def run(self, visits: Sequence[vs.Visit]) -> Iterator[rp.Outcome]:
        self.made = list(visits)
        for visit in visits:
            yield self.fate(visit)

    def _obeyed(self, visit: vs.Visit) -> rp.Outcome:
        host = visit.endpoint.host
        if host in self.away:
            return rp.Unreachable(host=host, reason=AWAY)
        self.hosts[host], outcome = fake_host.obey(
            self.hosts[host], visit, now=self.time, random=self.numbers
        )
        return outcome

    def taken_off(self, state: State, **changes: Any) -> State:
        recorded = changes.pop("recorded", self.ledger.recorded)
        return state.changed(
            recorded=replace(recorded, contacts={}) if recorded.contacts else recorded,
            vault=changes.pop("vault", self.ledger.vault.kept),
            drawn=self.numbers.drawn,
            keys=self.numbers.keys,
            **changes,
        )


def entries_of(
    events: Sequence[ev.Event], onto: Recorded, at: datetime, forks: tuple[int, ...]
) -> Iterator[ev.Entry]:
    previous = onto.head
    for number, event in enumerate(events, start=onto.version + 1):
        digest = digest_of(number, forks)
        yield ev.Entry(number=number, at=at, event=event, previous=previous, digest=digest)
        previous = digest


def digest_of(number: int, forks: tuple[int, ...]) -> str:
    """What an entry is known by: its number, and each copy that had been put back when it was written.

    Args:
        number: of the entry.
        forks: how many entries each copy had, the first that was put back first.
    """
    return "/".join([str(number), *[str(copied) for copied in forks if copied < number]])
