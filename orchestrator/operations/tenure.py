"""No operation: what the controller that hands over reads and writes, for as long as it has the lease (S8).

Others may write meanwhile: a person pauses the rollout, or ends a key, from another terminal. What has
happened is written on top of that; what is only about to happen is not, and has to be decided anew.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from orchestrator.errors import ConflictError
from orchestrator.operations.lease import is_held, renewal, wants_renewal
from orchestrator.ports import Ports
from orchestrator.rotation.chronology import refuse_set_clock
from orchestrator.rotation.events import Event
from orchestrator.rotation.home_events import LeaseReleased
from orchestrator.rotation.recorded import Recorded

LOOK = timedelta(seconds=10)
"""How often a run that waits looks at what others have written."""


class Tenure:
    """The ledger in the hands of the controller that has the lease.

    Attributes:
        recorded: the ledger, as it was last read or written here.
    """

    def __init__(self, recorded: Recorded, ports: Ports) -> None:
        self.recorded = recorded
        self._ports = ports
        self._began = self._set_at()

    def look_up(self) -> None:
        """Take in what others have written, and renew the lease.

        Raises:
            ConflictError: it is lost.
            RefusedError: the clock here was set since the run began.
        """
        refuse_set_clock(self.recorded, self._set_at() - self._began)
        newer = self._ports.ledger.read()
        if not is_held(newer, self._ports):
            raise ConflictError(
                "this controller has lost its lease: another one hands over",
                hint="What is unfinished goes on with the next apply or watch.",
            )
        self.recorded = newer
        self.renew()

    def renew(self) -> None:
        """Renew the lease, where that is due."""
        if wants_renewal(self.recorded, self._ports):
            self.record([renewal(self._ports)])

    def record(self, events: Sequence[Event]) -> None:
        """Write what has happened, on top of what others have written meanwhile."""
        now, ledger = self._ports.clock.now(), self._ports.ledger
        try:
            self.recorded = ledger.append(events, onto=self.recorded, at=now)
        except ConflictError:
            newer = ledger.read()
            if not is_held(newer, self._ports):
                raise
            self.recorded = ledger.append(events, onto=newer, at=now)

    def intend(self, events: Sequence[Event]) -> bool:
        """Write what is about to happen; False: others have written meanwhile, so it is decided anew."""
        try:
            now = self._ports.clock.now()
            self.recorded = self._ports.ledger.append(events, onto=self.recorded, at=now)
        except ConflictError:
            self.look_up()
            return False
        return True

    def wait_until(self, instant: datetime) -> None:
        """Wait, renewing the lease meanwhile; what a person says from another terminal ends the wait."""
        before = self.recorded.version
        while (now := self._ports.clock.now()) < instant and self.recorded.version == before:
            if self._ports.stop.asked:
                return
            self._ports.clock.wait_until(min(instant, now + LOOK))
            self.look_up()

    def _set_at(self) -> datetime:
        """An instant that stays the same as long as nobody sets the clock."""
        return self._ports.clock.now() - self._ports.clock.elapsed()

    def leave(self) -> None:
        """Give the lease back, so that another controller need not wait."""
        if is_held(self.recorded, self._ports):
            with suppress(ConflictError):
                self.record([LeaseReleased(holder=self._ports.controller.name)])
