"""What a lab consists of, as values: its hosts, their groups and addresses, and the record kept of them.

Addresses are taken from 127.64.0.0/10, a block for each folder, so that two labs on one machine do not meet.
Linux answers on all of 127.0.0.0/8 without any set-up (RFC 1122, section 3.2.1.3).
"""

import hashlib
import json
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import folder

MAX_HOSTS = 64
DEFAULT_SITES = 2
_RECORD_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """How one host differs from the others.

    Attributes:
        environment: variables of every session, besides or instead of those that the lab sets. sshd honours
            only the first SetEnv line, so they cannot be given as ``config``.
        login_shell: absolute path of the shell that gets the client's command, as if it were the account's.
        force_command: what runs instead of the client's command (``ForceCommand`` in ``sshd_config(5)``).
        config: further lines of ``sshd_config``; they stand first, and sshd takes the first value it sees.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    login_shell: str = ""
    force_command: str = ""
    config: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The hosts of a lab and where they listen.

    Attributes:
        servers, agents, sites: how many of each.
        user: the account that runs the sshds and is logged in to.
        port: the TCP port, the same for all hosts.
        network: the first three octets of the hosts' addresses.
        max_startups: connections that may stand before login, a host (``MaxStartups``).
        options: how single hosts differ, by host name.
    """

    servers: int
    agents: int
    sites: int
    user: str
    port: int
    network: str
    max_startups: int
    options: Mapping[str, HostOptions]

    @property
    def names(self) -> tuple[str, ...]:
        """All host names: the servers, then the agents."""
        return (
            *(f"server-{number:02}" for number in range(1, self.servers + 1)),
            *(f"agent-{number:03}" for number in range(1, self.agents + 1)),
        )

    @property
    def size(self) -> str:
        """The size in words, e.g. ``3 servers, 8 agents, 2 sites``."""
        counts = ((self.servers, "server"), (self.agents, "agent"), (self.sites, "site"))
        return ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)

    def address(self, name: str) -> str:
        """The loopback address on which this host listens."""
        return f"{self.network}.{self.names.index(name) + 1}"

    def groups(self, name: str) -> tuple[str, str]:
        """The two inventory groups of a host: its role and its site, dealt round robin."""
        index = self.names.index(name)
        role, place = ("servers", index) if index < self.servers else ("agents", index - self.servers)
        return role, f"site_{string.ascii_lowercase[place % self.sites]}"

    def save(self, file: Path, *, complete: bool) -> None:
        """Writes the record; ``complete`` says that every host has answered once."""
        record = {each.name: getattr(self, each.name) for each in fields(self)} | {
            "version": _RECORD_VERSION,
            "complete": complete,
            "options": {name: asdict(option) for name, option in self.options.items()},
        }
        folder.write(file, f"{json.dumps(record, indent=1)}\n".encode())

    @classmethod
    def load(cls, file: Path) -> tuple[Self, bool]:
        """Reads the record that ``save`` wrote.

        Returns:
            The layout, and whether the lab had come up completely.

        Raises:
            LabError: the file is missing, damaged, or of another version of keyrelay.
        """
        try:
            record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if record.pop("version") != _RECORD_VERSION:
                raise LabError(f"{file}: written by another version of keyrelay")
            complete = bool(record.pop("complete"))
            record["options"] = {
                name: HostOptions(**option | {"config": tuple(option["config"])})
                for name, option in record["options"].items()
            }
            return cls(**record), complete
        except FileNotFoundError:
            raise LabError(
                f"{file.parent}: there is no lab here",
                hint=f"start one: keyrelay lab up {file.parent} --servers 3 --agents 8",
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LabError(
                f"{file}: the lab's record cannot be read: {error}", hint="remove the folder and start anew"
            ) from error


def check_size(*, servers: int, agents: int, sites: int | None) -> int:
    """Refuses sizes that no lab can have.

    Returns:
        The number of sites: as asked, or 2, or 1 where there are fewer than two servers.

    Raises:
        UsageError: too many hosts, none at all, or more sites than servers to put into them.
    """
    if servers < 0 or agents < 0 or servers + agents < 1:
        raise UsageError(f"a lab of {servers} servers and {agents} agents has no hosts")
    if servers + agents > MAX_HOSTS:
        raise UsageError(
            f"a lab has at most {MAX_HOSTS} hosts, each a real sshd process; "
            f"asked for {servers} servers and {agents} agents, {servers + agents} hosts",
            hint=f"ask for fewer, e.g. --servers 8 --agents {MAX_HOSTS - 8}",
        )
    if sites is None:
        return max(1, min(DEFAULT_SITES, servers))
    highest = min(max(1, servers), len(string.ascii_lowercase))
    if not 1 <= sites <= highest:
        raise UsageError(
            f"{sites} sites for {servers} servers: each site needs a server of its own",
            hint=f"ask for 1 to {highest} sites",
        )
    return sites


def network_for(directory: Path, *, attempt: int) -> str:
    """The block of addresses for a folder: one of 16 384, the same each time, another for each attempt."""
    digest = hashlib.sha256(f"{directory}\0{attempt}".encode()).digest()
    return f"127.{64 + digest[0] % 64}.{digest[1]}"
