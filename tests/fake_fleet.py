"""A fleet in memory, for whoever drives hosts through the ``Fleet`` port.

Each host is a ``HostState`` that tests may read, replace and compare; each may be given ``Faults``. Visits
are made in the order in which they are asked for, each when its outcome is fetched.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from itertools import count
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.rotation.reports import Outcome
from orchestrator.rotation.visits import Visit
from tests.fake_host import Random, obey
from tests.fake_state import NO_FAULTS, Faults, HostState


def counting_random(seed: str = "") -> Random:
    """Bytes that look random and are the same in every run."""
    numbers = count()

    def draw(size_bytes: int) -> bytes:
        blocks = -(-size_bytes // 32)
        return b"".join(sha256(f"{seed} {next(numbers)}".encode()).digest() for _ in range(blocks))[
            :size_bytes
        ]

    return draw


class FakeFleet:
    """Hosts by name, all empty and without faults at first.

    Attributes:
        hosts: what each host holds; may be set.
        faults: what goes wrong on each host; may be set.
        visits: every visit that was made, the newest last.
    """

    def __init__(self, *, now: Callable[[], datetime], random: Random | None = None) -> None:
        """Takes the clock's ``now`` and the hosts' randomness, which is the same each time by default."""
        self._now = now
        self._random = random or counting_random("hosts")
        self.hosts: defaultdict[HostName, HostState] = defaultdict(HostState)
        self.faults: defaultdict[HostName, Faults] = defaultdict(Faults)
        self.visits: list[Visit] = []

    def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
        """Makes the visits, as ``ports.Fleet`` says."""
        for visit in visits:
            host = visit.endpoint.host
            self.visits.append(visit)
            self.hosts[host], outcome = obey(
                self.hosts[host], visit, now=self._now(), random=self._random, faults=self.faults[host]
            )
            yield outcome

    def trouble(self, host: HostName, **faults: Any) -> None:
        """Adds faults to a host, by the names of ``Faults``' fields."""
        self.faults[host] = replace(self.faults[host], **faults)

    def heal(self, host: HostName) -> None:
        """Takes all faults away."""
        self.faults[host] = NO_FAULTS

    def wipe(self, host: HostName) -> None:
        """The host was installed anew: it holds nothing and remembers no fence."""
        self.hosts[host] = HostState()
