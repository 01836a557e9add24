"""Sources merged into one inventory, in Ansible's order.

What a later statement says wins over an earlier one of the same rank. The ranks, weakest first: variables in
the sources of ``all``, then of the other groups; the ``group_vars/`` of ``all``, then of the other groups;
the host's own in the sources; its ``host_vars/``. Among groups the farther from ``all`` wins (by the longest
way down), then the higher ``ansible_group_priority``, then the later name. A whole value replaces another;
mappings are not mixed.

Pure: the files have been read by ``yaml_files``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from orchestrator.errors import InputError, Place
from orchestrator.inventory.endpoints import Written
from orchestrator.inventory.model import Group, Host, Inventory, Note
from orchestrator.inventory.names import ALL, UNGROUPED, GroupName, HostName, shown
from orchestrator.inventory.ranges import MAX_HOSTS

PRIORITY = "ansible_group_priority"

Variables: TypeAlias = Mapping[str, Written]


@dataclass(slots=True, kw_only=True)
class _Group:
    place: Place
    parents: dict[GroupName, None] = field(default_factory=dict)
    children: dict[GroupName, None] = field(default_factory=dict)
    hosts: dict[HostName, None] = field(default_factory=dict)
    variables: dict[str, Written] = field(default_factory=dict)
    priority: int = 1
    depth: int = 0


@dataclass(slots=True, kw_only=True)
class _Host:
    place: Place
    groups: dict[GroupName, None] = field(default_factory=dict)
    variables: dict[str, Written] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VarsFiles:
    """What the ``group_vars/`` and ``host_vars/`` of one folder hold, by name.

    Attributes:
        notes: the files that were skipped.
    """

    groups: Mapping[GroupName, Variables]
    hosts: Mapping[HostName, Variables]
    notes: tuple[Note, ...] = ()


class Merging:
    """The statements of the sources so far. Call ``reconcile`` after the last, then ``inventory``."""

    def __init__(self, place: Place) -> None:
        """Begin with the implicit groups; errors about them name ``place``."""
        self._groups: dict[GroupName, _Group] = {}
        self._hosts: dict[HostName, _Host] = {}
        self._notes: list[Note] = []
        self.add_group(ALL, place)
        self.add_group(UNGROUPED, place)
        self._link(ALL, UNGROUPED)

    @property
    def groups(self) -> Iterable[GroupName]:
        """The groups named so far, in order."""
        return self._groups

    @property
    def hosts(self) -> Iterable[HostName]:
        """The hosts named so far, in order."""
        return self._hosts

    def add_group(self, name: GroupName, place: Place) -> None:
        """State that there is a group; to repeat it changes nothing.

        Raises:
            InputError: a host has that name.
        """
        if name in self._groups:
            return
        host = self._hosts.get(HostName(name))
        if host is not None:
            raise _two_meanings(name, place, f"a host at {host.place}")
        self._groups[name] = _Group(place=place)

    def add_child(self, parent: GroupName, child: GroupName, place: Place) -> None:
        """State that ``child`` is a group directly below ``parent``; both have been added.

        Raises:
            InputError: the groups would form a cycle, or one of the implicit groups would move.
        """
        if child == ALL:
            raise InputError(f"all is a child of {parent}; it is the parent of every group", place=place)
        if parent == UNGROUPED or (child == UNGROUPED and parent != ALL):
            message = (
                f"{child} is a child of {parent}; ungrouped stands directly below all, and no group below it"
            )
            raise InputError(message, place=place)
        cycle = self._way_up(parent, child)
        if cycle:
            names = " → ".join([*reversed(cycle), child])
            raise InputError(f"groups form a cycle: {names}", place=place)
        self._link(parent, child)

    def set_group_variable(self, group: GroupName, name: str, written: Written) -> None:
        """Give a group a variable; ``ansible_group_priority`` is its rank instead.

        Raises:
            InputError: the rank is not a whole number.
        """
        if name != PRIORITY:
            self._groups[group].variables[name] = written
            return
        try:
            self._groups[group].priority = int(written.value)
        except (TypeError, ValueError) as error:
            message = f"{PRIORITY} is {shown(written.value)}; allowed: a whole number"
            raise InputError(message, place=written.place) from error

    def add_host(self, name: HostName, group: GroupName, variables: Variables, *, place: Place) -> None:
        """State that a host is in ``group``, and variables of it.

        Raises:
            InputError: a group has that name, or there are too many hosts.
        """
        host = self._hosts.get(name)
        if host is None:
            named_alike = self._groups.get(GroupName(name))
            if named_alike is not None:
                raise _two_meanings(name, place, f"a group at {named_alike.place}")
            if len(self._hosts) >= MAX_HOSTS:
                raise InputError(f"found more than {MAX_HOSTS} hosts", place=place)
            host = self._hosts[name] = _Host(place=place)
        host.groups[group] = None
        self._groups[group].hosts[name] = None
        if variables:
            host.variables |= variables

    def has_host(self, name: HostName) -> bool:
        """Whether the host has been named."""
        return name in self._hosts

    def set_host_variables(self, name: HostName, variables: Variables) -> None:
        """Give variables to a host that has been named."""
        self._hosts[name].variables |= variables

    def add_note(self, note: Note) -> None:
        """State what was left out, for whoever asks whether all was read."""
        self._notes.append(note)

    def reconcile(self) -> None:
        """Put groups without a parent below ``all``, hosts without a group into ``ungrouped``."""
        for name, group in self._groups.items():
            if name != ALL and not group.parents:
                self._link(ALL, name)
        ungrouped = self._groups[UNGROUPED].hosts
        for host_name, host in self._hosts.items():
            if host.groups.keys() - {ALL, UNGROUPED}:
                host.groups.pop(UNGROUPED, None)
                ungrouped.pop(host_name, None)
            else:
                host.groups[UNGROUPED] = None
                ungrouped[host_name] = None
        self._measure_depths()

    def inventory(self, files: Sequence[VarsFiles], *, sources: tuple[str, ...]) -> Inventory:
        """The inventory that all statements add up to.

        Args:
            files: the variable files of each folder, the strongest last.
            sources: what the inventory shall say it was read from.
        """
        lines: dict[tuple[GroupName, ...], tuple[GroupName, ...]] = {}
        bases: dict[tuple[GroupName, ...], _Resolved] = {}
        hosts: dict[HostName, Host] = {}
        for name, host in self._hosts.items():
            direct = tuple(host.groups)
            groups = lines.get(direct)
            if groups is None:
                groups = lines[direct] = self._line(direct)
            base = bases.get(groups)
            if base is None:
                base = bases[groups] = _Resolved(self._group_variables(groups, files))
            own = _merged(host.variables, *(folder.hosts.get(name, {}) for folder in files))
            resolved = _Resolved({**base.written, **own}) if own else base
            hosts[name] = Host(
                name=name,
                groups=groups,
                place=host.place,
                variables=resolved.values,
                written=resolved.written,
            )
        groups_by_name = {name: self._frozen(name, files) for name in self._groups}
        return Inventory(
            hosts=MappingProxyType(hosts),
            groups=MappingProxyType(groups_by_name),
            sources=sources,
            notes=(*self._notes, *(note for folder in files for note in folder.notes)),
        )

    def _link(self, parent: GroupName, child: GroupName) -> None:
        self._groups[parent].children[child] = None
        self._groups[child].parents[parent] = None

    def _way_up(self, start: GroupName, goal: GroupName) -> list[GroupName]:
        """The groups from ``start`` over parents to ``goal``, both included; empty if there is no way."""
        came_from: dict[GroupName, GroupName] = {}
        waiting, seen = [start], {start}
        while waiting:
            name = waiting.pop()
            if name == goal:
                way = [goal]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            for parent in self._groups[name].parents:
                if parent not in seen:
                    seen.add(parent)
                    came_from[parent] = name
                    waiting.append(parent)
        return []

    def _measure_depths(self) -> None:
        """The longest way from ``all`` to each group; a group is measured once all its parents are."""
        parents_left = {name: len(group.parents) for name, group in self._groups.items()}
        waiting = [ALL]
        while waiting:
            group = self._groups[waiting.pop()]
            for name in group.children:
                child = self._groups[name]
                child.depth = max(child.depth, group.depth + 1)
                parents_left[name] -= 1
                if not parents_left[name]:
                    waiting.append(name)

    def _line(self, direct: Iterable[GroupName]) -> tuple[GroupName, ...]:
        """The groups above a host, its own included, the weakest first."""
        line: set[GroupName] = set()
        waiting = list(direct)
        while waiting:
            name = waiting.pop()
            if name not in line:
                line.add(name)
                waiting.extend(self._groups[name].parents)
        line.discard(ALL)
        return ALL, *sorted(line, key=self._rank)

    def _rank(self, name: GroupName) -> tuple[int, int, str]:
        group = self._groups[name]
        return group.depth, group.priority, name

    def _group_variables(self, line: tuple[GroupName, ...], files: Sequence[VarsFiles]) -> dict[str, Written]:
        merged = _merged(*(self._groups[name].variables for name in line))
        merged |= _merged(*(folder.groups.get(ALL, {}) for folder in files))
        return merged | _merged(*(folder.groups.get(name, {}) for folder in files for name in line[1:]))

    def _frozen(self, name: GroupName, files: Sequence[VarsFiles]) -> Group:
        group = self._groups[name]
        own = _merged(group.variables, *(folder.groups.get(name, {}) for folder in files))
        return Group(
            name=name,
            place=group.place,
            parents=tuple(group.parents),
            children=tuple(group.children),
            hosts=tuple(group.hosts),
            variables=_Resolved(own).values,
            priority=group.priority,
        )


class _Resolved:
    """Variables in the two forms that the model gives, shared by all hosts that have the same."""

    __slots__ = ("values", "written")

    def __init__(self, written: dict[str, Written]) -> None:
        self.written = MappingProxyType(written)
        self.values = MappingProxyType({name: one.value for name, one in written.items()})


def _merged(*layers: Variables) -> dict[str, Written]:
    merged: dict[str, Written] = {}
    for layer in layers:
        merged |= layer
    return merged


def _two_meanings(name: str, place: Place, other: str) -> InputError:
    return InputError(
        f"the name {name} is used again; it is {other} already",
        place=place,
        hint="a host and a group may not share a name: patterns and variables could mean either",
    )
