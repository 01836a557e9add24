"""What is decided once, when a lab first comes up: whose it is, and where it listens."""

import os
import pwd
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import machine, sshd
from orchestrator.lab.layout import Layout, network_for

_ATTEMPTS = 8


def settle(layout: Layout, directory: Path, port: int | None) -> Layout:
    """Gives the hosts addresses and a port on which nothing listens; those of last time if they are free.

    Raises:
        LabError: the port that was asked for is taken everywhere.
    """
    candidates = [layout] if layout.network and port in (None, layout.port) else []
    for attempt in range(_ATTEMPTS):
        network = network_for(directory, attempt=attempt, hosts=len(layout.everyone))
        candidates.append(replace(layout, network=network, port=port or sshd.free_port(f"{network}.1")))
    for candidate in candidates:
        if all(sshd.is_free(address, candidate.port) for address in _addresses_outside(candidate)):
            return candidate
    networks = ", ".join(candidate.network for candidate in candidates)
    raise LabError(
        f"port {candidates[-1].port} is taken on the loopback networks {networks}",
        hint="choose another port, or none: a free one is found",
    )


def _addresses_outside(layout: Layout) -> list[str]:
    """The addresses of the hosts that no jump host hides."""
    return [layout.address(name) for name in layout.everyone if not layout.option(name).behind]


def check_user(user: str | None) -> str:
    """The account that runs the lab: as asked, or this process's.

    Raises:
        UsageError: only another user could do that, or there is none of that name.
    """
    current = machine.current_user()
    if user is None or user == current:
        return current
    if os.geteuid() != 0:
        raise UsageError(
            f"a lab for {user} can be started by root or by {user}, not by {current}",
            hint="start it as that user",
        )
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"there is no user {user!r} on this machine") from None
    return user
