"""An inventory as values: hosts, groups and their resolved variables.

What is here has been read and merged already (``yaml_files``), or was made by a test; nothing is read,
rendered or executed. Hosts stand in the order in which they first appear in the sources.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from typing import Any

from orchestrator.documents import Encrypted
from orchestrator.errors import Place, UsageError
from orchestrator.inventory.endpoints import (
    DEFAULT_BASE,
    DEFAULT_PORT,
    OWN_VARIABLES,
    Endpoint,
    Reading,
    VariableError,
    Written,
)
from orchestrator.inventory.names import ALL, UNGROUPED, GroupName, HostName, shown

__all__ = [
    "ALL",
    "DEFAULT_BASE",
    "DEFAULT_PORT",
    "OWN_VARIABLES",
    "UNGROUPED",
    "Endpoint",
    "Group",
    "GroupName",
    "Host",
    "HostName",
    "Inventory",
    "Note",
    "Problem",
    "Written",
    "graph",
]

_KEYS_ALONE = "passwords to log in with are not used; keyrelay logs in by keys alone"
_COMPARED_NAMES = 20_000
"""Among more names a likely one is not looked for; it would take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One managed host.

    Attributes:
        groups: every group it is in, ancestors too; a later group's variables win over an earlier one's, so
            ``all`` is first.
        variables: the resolved values by name, those of its groups included.
        place: where the host is first named.
        written: where each value was written; the place that an error about it names.
    """

    name: HostName
    groups: tuple[GroupName, ...]
    place: Place
    variables: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Written] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group of hosts.

    Attributes:
        parents, children: the groups directly above and below, in the order in which the sources say so.
        hosts: the hosts that are listed in this very group.
        variables: the group's own, from the inventory and from ``group_vars/``.
        priority: ``ansible_group_priority``; among groups of one depth the higher wins.
    """

    name: GroupName
    place: Place
    parents: tuple[GroupName, ...] = ()
    children: tuple[GroupName, ...] = ()
    hosts: tuple[HostName, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What was left out while an inventory was read, and is no error."""

    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A value that keyrelay cannot use.

    Attributes:
        error: as it is told of the first of the hosts.
        hosts: all that have it, from one place.
    """

    error: VariableError
    hosts: tuple[HostName, ...]

    @property
    def message(self) -> str:
        """The error, with the number of hosts where they are several."""
        if len(self.hosts) == 1:
            return self.error.message
        error, more = self.error, len(self.hosts) - 1
        who = f"host {error.host} and {more} more" if more > 1 else f"hosts {error.host} and {self.hosts[1]}"
        return f"{error.place}: {error.variable} of {who} {error.said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Every host and group that the sources name; ``all`` and ``ungrouped`` always exist.

    Attributes:
        sources: the files it was read from, in their order; of a directory, the files in it.
        notes: what was left out; ``inventory check`` shows it.
    """

    hosts: Mapping[HostName, Host]
    groups: Mapping[GroupName, Group]
    sources: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()

    def host(self, name: str) -> Host:
        """The host called ``name``.

        Raises:
            UsageError: there is none.
        """
        found = self.hosts.get(HostName(name))
        if found is None:
            raise UsageError(f"the inventory has no host {shown(name)}", hint=did_you_mean(name, self.hosts))
        return found

    def endpoint(self, name: HostName) -> Endpoint:
        """How a host is reached.

        Raises:
            UsageError: there is no such host.
            VariableError: a variable that says how is wrong; names the line on which it was written.
        """
        return self.reading(name).endpoint()

    def servers_pattern(self, name: HostName) -> str | None:
        """The pattern of servers that an agent listens to (``keyrelay_servers``); None: the playbook's.

        Raises:
            UsageError: there is no such host.
            VariableError: the variable is not text, or is a template.
        """
        return self.reading(name).servers_pattern()

    def reading(self, name: HostName) -> Reading:
        """A host's variables as keyrelay reads them, with errors that know the variables' places."""
        host = self.host(name)
        return Reading(host=host.name, variables=host.variables, written=host.written, place=host.place)

    def members(self, name: GroupName) -> tuple[HostName, ...]:
        """The hosts of a group and of all groups below it, in inventory order.

        Raises:
            UsageError: there is no such group.
        """
        if name not in self.groups:
            raise UsageError(
                f"the inventory has no group {shown(name)}", hint=did_you_mean(name, self.groups)
            )
        if name == ALL:
            return tuple(self.hosts)
        below, waiting = {name}, [name]
        while waiting:
            new = [child for child in self.groups[waiting.pop()].children if child not in below]
            below.update(new)
            waiting.extend(new)
        found = {host for group in below for host in self.groups[group].hosts}
        return tuple(host for host in self.hosts if host in found)

    def problems(self) -> tuple["Problem", ...]:
        """What is wrong in the variables that keyrelay uses: of each host the first, each value once."""
        found: dict[tuple[Place, str, str], tuple[VariableError, list[HostName]]] = {}
        for name in self.hosts:
            reading = self.reading(name)
            try:
                become = reading.endpoint().become
                reading.servers_pattern()
                if become is not None:
                    reading.become_password()
            except VariableError as error:
                key = (error.place, error.variable, error.said)
                found.setdefault(key, (error, []))[1].append(name)
        return tuple(Problem(error=error, hosts=tuple(hosts)) for error, hosts in found.values())

    def unused_passwords(self) -> tuple[Note, ...]:
        """The passwords to log in with, which keyrelay never uses; each place once."""
        places = dict.fromkeys(
            written.place for name in self.hosts for written in self.reading(name).unused_passwords()
        )
        return tuple(Note(place=place, message=_KEYS_ALONE) for place in places)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the names most like ``name``, or empty."""
    close = get_close_matches(name, list(islice(known, _COMPARED_NAMES)), n=3)
    return f"did you mean {' or '.join(close)}?" if close else ""


def graph(inventory: Inventory, start: GroupName = ALL, *, variables: bool = False) -> Iterator[str]:
    """The lines of ``ansible-inventory --graph``: groups below ``start``, indented, and their hosts.

    Args:
        inventory: what to draw.
        start: the group at the top.
        variables: as with ``--vars``, each host's resolved variables and each group's own.

    Raises:
        UsageError: there is no such group.
    """
    inventory.members(start)
    yield from _branch(inventory, start, depth=0, variables=variables)


def _branch(inventory: Inventory, name: GroupName, *, depth: int, variables: bool) -> Iterator[str]:
    group = inventory.groups[name]
    yield f"{_indent(depth)}@{name}:"
    for child in group.children:
        yield from _branch(inventory, child, depth=depth + 1, variables=variables)
    if name != ALL:
        for host in group.hosts:
            yield f"{_indent(depth + 1)}{host}"
            if variables:
                yield from _settings(inventory.hosts[host].variables, depth=depth + 2)
    if variables:
        priority = {} if group.priority == 1 else {"ansible_group_priority": group.priority}
        yield from _settings({**group.variables, **priority}, depth=depth + 1)


def _settings(variables: Mapping[str, Any], *, depth: int) -> Iterator[str]:
    for name in sorted(variables):
        value = variables[name]
        text = repr(value) if isinstance(value, Encrypted) else str(value)
        yield f"{_indent(depth)}{{{name} = {text}}}"


def _indent(depth: int) -> str:
    return "  |" * depth + "--" if depth else ""
