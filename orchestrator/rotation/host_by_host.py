"""What many hosts told, taken in host by host, in time that grows as their number does.

No part of a record is ever changed in place, so a change to one host copies what is known of all others. Here
each host's change is made to a record that knows that host alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.rotation.recorded import Recorded

PARTS = ("servers", "agents", "contacts", "pending", "server_stores", "agent_stores", "obstacles")
"""The fields of a record that what a host tells can change: each has an entry for a host, or none."""

Change = Callable[[Recorded], Recorded]
"""What one host told does to ``PARTS``; it sees the entries of that host, and all the rest of the record."""


def host_by_host(recorded: Recorded, changes: Iterable[tuple[HostName, Change]]) -> Recorded:
    """``recorded`` after all these changes, in order; linear in hosts and changes."""
    parts: dict[str, dict[HostName, Any]] = {part: dict(getattr(recorded, part)) for part in PARTS}
    for host, change in changes:
        alone: dict[str, Any] = {
            p: {host: known[host]} if host in known else {} for p, known in parts.items()
        }
        after = change(replace(recorded, **alone))
        for part, known in parts.items():
            told = getattr(after, part)
            if host in told:
                known[host] = told[host]
            else:
                known.pop(host, None)
    whole: dict[str, Any] = {part: MappingProxyType(known) for part, known in parts.items()}
    return replace(recorded, **whole)
