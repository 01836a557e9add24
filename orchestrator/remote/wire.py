"""What goes to a host in one exec, and what comes back: a ``Visit`` as bytes, the answer as an ``Outcome``.

The exec string is the constant ``BOOTSTRAP``. Standard input carries ``host.sh`` first and then the frames
that ``encode`` makes; ``docs/reference/host-protocol.md`` tells their grammar.
"""

from datetime import datetime, timedelta

from orchestrator.keys.secret import Secret
from orchestrator.rotation.visits import Failed, Outcome, Visit

ANSWER_LIMIT_BYTES = 8 * 1024 * 1024
"""An answer is never longer; whoever reads one stops there, and ``decode`` finds no end marker."""

BOOTSTRAP = "exec sh -c 'eval \"$(dd bs=1 count=1 iflag=fullblock 2>/dev/null)\"'"
"""What a host is asked to execute, always; works under every usual login shell."""


def time_needed(visit: Visit) -> timedelta:
    """How long a visit may take on a host that works: its hooks' time limits, and some for the rest."""
    del visit
    return timedelta(seconds=60)


def encode(visit: Visit, *, marker: str, lease: timedelta | None = None) -> Secret:
    """All that is written to the standard input of ``BOOTSTRAP``; private keys may be in it.

    Args:
        visit: what to do.
        marker: 128 fresh random bits as 32 lowercase hexadecimal digits; the answer stands between them.
        lease: how long the host keeps its lock if it never hears the end; ``time_needed`` by default.

    Raises:
        ValueError: the visit is no visit: it changes something without a fence, or has too many claims.
    """
    del visit, marker, lease
    return Secret(b"")


def decode(visit: Visit, *, marker: str, stdout: bytes, sent_at: datetime, received_at: datetime) -> Outcome:
    """How the visit ended, from whatever bytes came back; never raises on account of them.

    Args:
        visit: what was asked.
        marker: as given to ``encode``.
        stdout: all that the host wrote to standard output, noise of start-up files included.
        sent_at: when the first byte was sent.
        received_at: when the last byte arrived.
    """
    del marker, stdout, sent_at, received_at
    return Failed(host=visit.endpoint.host, reason="the answer has no end")
