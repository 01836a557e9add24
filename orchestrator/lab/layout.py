"""What a lab consists of, as values: its hosts, their groups and addresses, and the record kept of them.

Addresses are taken from 127.64.0.0/10, a block for each folder, so that two labs on one machine do not meet.
Linux answers on all of 127.0.0.0/8 without any set-up (RFC 1122, section 3.2.1.3).
"""

import hashlib
import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import folder
from orchestrator.lab.options import HostOptions

MAX_HOSTS = 1000
MAX_ALONE = 64
"""Up to so many hosts, each has an sshd of its own."""
ADDRESSES_A_DAEMON = 16
"""sshd takes no more: with 17 ListenAddress lines it exits with 0 and nothing listens."""
DEFAULT_SITES = 2
_HOSTS_A_SITE = 50
_HOSTS_A_NETWORK = 254
_RECORD_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """One sshd.

    Attributes:
        name: its folder in ``control``; the host's name if it serves that host alone.
        hosts: the hosts that it serves.
        behind: the jump host in whose network it listens; empty if it is reached directly.
        is_jump: whether it is itself a jump host.
    """

    name: str
    hosts: tuple[str, ...]
    behind: str = ""
    is_jump: bool = False

    @property
    def networks(self) -> tuple[str, ...]:
        """The jump hosts whose networks it takes part in."""
        return (*([self.behind] if self.behind else []), *(self.hosts if self.is_jump else ()))


def host_names(*, servers: int, agents: int) -> tuple[str, ...]:
    """What the hosts of a lab are called in its inventory: the servers, then the agents."""
    return (
        *(f"server-{number:02}" for number in range(1, servers + 1)),
        *(f"agent-{number:03}" for number in range(1, agents + 1)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The hosts of a lab and where they listen.

    Attributes:
        servers, agents, sites, jump_hosts: how many of each; a jump host is neither server nor agent.
        user: the account that runs the sshds and is logged in to.
        port: the TCP port, the same for all hosts.
        network: the first three octets of the hosts' addresses, or of the first of several such blocks.
        max_startups: connections that may stand before login, an sshd (``MaxStartups``).
        options: how single hosts differ, by host name.
        names: all inventory names: the servers, then the agents.
        jumps: the names of the jump hosts.
        daemons: the sshds, jump hosts first.
    """

    servers: int
    agents: int
    sites: int
    jump_hosts: int = 0
    user: str
    port: int
    network: str
    max_startups: int
    options: Mapping[str, HostOptions]
    names: tuple[str, ...] = field(init=False)
    jumps: tuple[str, ...] = field(init=False)
    daemons: tuple[Daemon, ...] = field(init=False)
    _places: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = host_names(servers=self.servers, agents=self.agents)
        jumps = tuple(f"jump-{number:02}" for number in range(1, self.jump_hosts + 1))
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "jumps", jumps)
        object.__setattr__(self, "_places", {name: place for place, name in enumerate((*names, *jumps))})
        object.__setattr__(self, "daemons", tuple(self._deal()))

    @property
    def everyone(self) -> tuple[str, ...]:
        """The names of all hosts, jump hosts last."""
        return tuple(self._places)

    @property
    def size(self) -> str:
        """The size in words, e.g. ``3 servers, 8 agents, 2 sites``."""
        counts = [(self.servers, "server"), (self.agents, "agent"), (self.sites, "site")]
        if self.jumps:
            counts.append((self.jump_hosts, "jump host"))
        return ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)

    def option(self, name: str) -> HostOptions:
        """How this host differs."""
        return self.options.get(name) or HostOptions()

    def user_of(self, name: str) -> str:
        """The account of this host that is logged in to."""
        return self.option(name).user or self.user

    def address(self, name: str) -> str:
        """The loopback address on which this host listens."""
        if self.option(name).ipv6:
            return "::1"
        return str(IPv4Address(f"{self.network}.0") + self._places[name] + 1)

    def jumps_to(self, name: str) -> tuple[str, ...]:
        """The jump hosts on the way to this host, the nearest to the client first."""
        behind = self.option(name).behind
        return (*self.jumps_to(behind), behind) if behind else ()

    def groups(self, name: str) -> tuple[str, ...]:
        """The inventory groups of a host: its role and its site, dealt round robin; a jump host has none."""
        place = self._places[name]
        if place >= len(self.names):
            return ()
        role, place = ("servers", place) if place < self.servers else ("agents", place - self.servers)
        return role, site_name(place % self.sites)

    def _deal(self) -> Iterator[Daemon]:
        """The sshds: one a host in a small lab, one for 16 hosts of one network in a large one."""
        for name in self.jumps:
            yield Daemon(name=name, hosts=(name,), behind=self.option(name).behind, is_jump=True)
        if len(self.names) <= MAX_ALONE:
            for name in self.names:
                yield Daemon(name=name, hosts=(name,), behind=self.option(name).behind)
            return
        networks: dict[str, list[str]] = {}
        for name in self.names:
            networks.setdefault(self.option(name).behind, []).append(name)
        number = 0
        for behind, members in networks.items():
            rest = iter(members)
            while hosts := tuple(islice(rest, ADDRESSES_A_DAEMON)):
                number += 1
                yield Daemon(name=f"sshd-{number:02}", hosts=hosts, behind=behind)

    def save(self, file: Path, *, complete: bool) -> None:
        """Writes the record; ``complete`` says that every host has answered once."""
        record = {each.name: getattr(self, each.name) for each in fields(self) if each.init} | {
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


def check_size(*, servers: int, agents: int, sites: int | None, jump_hosts: int = 0) -> int:
    """Refuses sizes that no lab can have.

    Returns:
        The number of sites: as asked, or 2, or one for each 50 hosts of a large lab, but never more than
        servers.

    Raises:
        UsageError: too many hosts, none at all, or more sites than servers to put into them.
    """
    count = servers + agents
    if servers < 0 or agents < 0 or jump_hosts < 0 or count < 1:
        raise UsageError(f"a lab of {servers} servers and {agents} agents has no hosts")
    if count > MAX_HOSTS:
        raise UsageError(
            f"a lab has at most {MAX_HOSTS} hosts; "
            f"asked for {servers} servers and {agents} agents, {count} hosts",
            hint=f"ask for fewer, e.g. --servers 50 --agents {MAX_HOSTS - 50}",
        )
    if jump_hosts > ADDRESSES_A_DAEMON:
        raise UsageError(f"a lab has at most {ADDRESSES_A_DAEMON} jump hosts; asked for {jump_hosts}")
    if sites is None:
        wanted = DEFAULT_SITES if count <= MAX_ALONE else max(DEFAULT_SITES, count // _HOSTS_A_SITE)
        return max(1, min(wanted, servers))
    highest = max(1, servers)
    if not 1 <= sites <= highest:
        raise UsageError(
            f"{sites} sites for {servers} servers: each site needs a server of its own",
            hint=f"ask for 1 to {highest} sites",
        )
    return sites


def behind_by_site(layout: Layout, jump_sites: int) -> Mapping[str, HostOptions]:
    """The options of a lab whose last ``jump_sites`` sites are each behind a jump host of its own.

    Raises:
        UsageError: there are not so many sites.
    """
    if not 0 <= jump_sites <= layout.sites:
        raise UsageError(f"{jump_sites} sites behind jump hosts, of {layout.sites} in all")
    sites = [site_name(index) for index in range(layout.sites - jump_sites, layout.sites)]
    behind = dict(zip(sites, layout.jumps, strict=False))
    return {
        name: replace(option, behind=option.behind or behind.get(layout.groups(name)[-1], ""))
        for name in layout.names
        if (option := layout.option(name)) != HostOptions() or layout.groups(name)[-1] in behind
    } | {name: option for name, option in layout.options.items() if name not in layout.names}


def site_name(index: int) -> str:
    """``site_a`` … ``site_z``, ``site_aa`` …, counted from 0."""
    letters, left = "", index + 1
    while left:
        left, letter = divmod(left - 1, len(string.ascii_lowercase))
        letters = string.ascii_lowercase[letter] + letters
    return f"site_{letters}"


def network_for(directory: Path, *, attempt: int, hosts: int) -> str:
    """The block of addresses for a folder, the same each time and another for each attempt.

    It is one of 16 384 blocks of 254 addresses, or of 4 096 blocks of 1 022 for a larger lab.
    """
    digest = hashlib.sha256(f"{directory}\0{attempt}".encode()).digest()
    last = digest[1] if hosts <= _HOSTS_A_NETWORK else digest[1] & ~3
    return f"127.{64 + digest[0] % 64}.{last}"
