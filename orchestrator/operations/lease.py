"""No operation: how a controller comes to be the one that hands over, and stays it (S8).

The lease is an entry of the ledger like any other, so two controllers cannot both get it. It ends when its
holder says so, when its time is over without being renewed, or when its holder is known to be gone. Should a
controller go on although it has lost its lease, the ledger refuses its next entry, and hosts its next visit.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from orchestrator.errors import ConflictError, RefusedError
from orchestrator.ports import Ports
from orchestrator.rotation.home_events import LeaseReleased, LeaseTaken
from orchestrator.rotation.recognition import refuse_stopped
from orchestrator.rotation.recorded import Recorded

TERM = timedelta(minutes=10)
"""For how long a lease is taken. It is renewed whenever something is written and half of it is over."""

LONGEST = timedelta(hours=1)
"""No lease runs longer: one that does was written by a wrong clock. If the clock here is the wrong one, hosts
say so before anything is written (``rotation.chronology``)."""


def require_free(recorded: Recorded, ports: Ports) -> None:
    """Refuse while another controller hands over, and for good where hosts follow another ledger.

    Raises:
        RefusedError: this home has stopped.
        ConflictError: names the other controller, since when, and until when its lease runs.
    """
    refuse_stopped(recorded)
    lease, now = recorded.lease, ports.clock.now()
    if lease is None or lease.holder == ports.controller.name or lease.until <= now:
        return
    if lease.until > now + LONGEST:
        return
    if ports.controller.is_gone(lease.holder):
        return
    raise ConflictError(
        f"{ports.controller.described(lease.holder)} is handing over since {lease.since:%Y-%m-%d %H:%M:%SZ}; "
        f"its lease runs until {lease.until:%Y-%m-%d %H:%M:%SZ}",
        hint="Wait for it to end. What it leaves unfinished goes on with the next apply or watch.",
    )


def take(recorded: Recorded, ports: Ports) -> Recorded:
    """Take the lease, or renew one's own.

    Raises:
        ConflictError: another controller has it, or was quicker.
    """
    require_free(recorded, ports)
    return ports.ledger.append([renewal(ports)], onto=recorded, at=ports.clock.now())


def renewal(ports: Ports) -> LeaseTaken:
    """The entry by which this controller has the lease for another term."""
    return LeaseTaken(holder=ports.controller.name, until=ports.clock.now() + TERM)


def wants_renewal(recorded: Recorded, ports: Ports) -> bool:
    """Whether more than half of the term is over."""
    lease = recorded.lease
    return lease is not None and lease.until - ports.clock.now() < TERM / 2


def is_held(recorded: Recorded, ports: Ports) -> bool:
    """Whether this controller has the lease."""
    return recorded.lease is not None and recorded.lease.holder == ports.controller.name


@contextmanager
def given_back(ports: Ports) -> Iterator[None]:
    """Whatever ends what is done here, no lease is kept; where nothing was written, nothing is."""
    before = ports.ledger.read().version
    try:
        yield
    finally:
        with suppress(ConflictError, RefusedError):
            recorded = ports.ledger.read()
            if is_held(recorded, ports) and recorded.version != before:
                released = LeaseReleased(holder=ports.controller.name)
                ports.ledger.append([released], onto=recorded, at=ports.clock.now())
