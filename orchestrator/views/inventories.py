"""An inventory: whether it is sound, whom it names, and how its groups lie in each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import UsageError
from orchestrator.inventory.model import ALL, GroupName, HostName, Inventory, Problem, graph
from orchestrator.views.screen import Answer, grid
from orchestrator.views.text import count


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one gets to a host.

    Attributes:
        jumps: the jump hosts on the way, the nearest first, as they are called.
        problem: why there is no way; empty: there is one.
    """

    jumps: tuple[str, ...] = ()
    problem: str = ""


def check_answer(inventory: Inventory, problems: Sequence[Problem]) -> Answer:
    """What is wrong in it, and what was left out of it; nothing, if all is well."""
    size = f"{count(len(inventory.hosts), 'host')}, {count(len(inventory.groups), 'group')}"
    rows = [(problem.message, problem.error.hint) for problem in problems]
    notes = [*inventory.notes, *inventory.unused_passwords()]
    return Answer(
        data={
            "hosts": len(inventory.hosts),
            "groups": len(inventory.groups),
            "problems": [
                {
                    "file": problem.error.place.file,
                    "line": problem.error.place.line,
                    "column": problem.error.place.column,
                    "message": problem.message,
                    "hint": problem.error.hint,
                    "hosts": list(problem.hosts),
                }
                for problem in problems
            ],
            "notes": [{"place": str(note.place), "message": note.message} for note in notes],
        },
        body=(
            *((grid(("problem", "hint"), rows),) if rows else ()),
            *((grid(("note", "at"), [(note.message, str(note.place)) for note in notes]),) if notes else ()),
            f"{size}, {count(len(rows), 'problem')}" if rows else f"{size}: sound",
        ),
    )


def list_answer(inventory: Inventory, ways: Mapping[HostName, Way]) -> Answer:
    """How each host is reached; of variables only those that keyrelay reads, for others may be secret."""
    led = any(way.jumps or way.problem for way in ways.values())
    endpoints = {name: inventory.endpoint(name) for name in inventory.hosts}
    listens = {name: inventory.servers_pattern(name) for name in inventory.hosts}
    rows = [
        (
            name,
            f"{one.user}@{one.address}" if one.user else one.address,
            one.port or "-",
            *((" ".join(ways[name].jumps) or ways[name].problem or "-",) if led else ()),
            one.base,
            _groups(inventory, name),
            listens[name] or "-",
        )
        for name, one in endpoints.items()
    ]
    return Answer(
        data={
            "hosts": [
                {
                    "name": name,
                    "address": one.address,
                    "port": one.port,
                    "jumps": list(ways[name].jumps),
                    "no_way": ways[name].problem,
                    "user": one.user,
                    "key_file": one.key_file,
                    "known_hosts": one.known_hosts,
                    "base": one.base,
                    "listens_to": listens[name],
                    "groups": list(inventory.host(name).groups),
                }
                for name, one in endpoints.items()
            ]
        },
        body=(
            grid(
                (
                    *("host", "reached at", "port"),
                    *(("through",) if led else ()),
                    *("base", "groups", "listens to"),
                ),
                rows,
            ),
        ),
    )


def named_group(inventory: Inventory, name: str) -> GroupName:
    """The group of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in inventory.groups:
        raise UsageError(
            f"the inventory has no group {name!r}", hint="see them all with: keyrelay inventory graph"
        )
    return GroupName(name)


def graph_answer(inventory: Inventory, start: GroupName = ALL, *, variables: bool = False) -> Answer:
    """Groups below groups, and their hosts, as ``ansible-inventory --graph`` shows them."""
    return Answer(
        data={
            "groups": [
                {"name": one.name, "children": list(one.children), "hosts": list(one.hosts)}
                for one in inventory.groups.values()
            ]
        },
        body=tuple(graph(inventory, start, variables=variables)),
    )


def _groups(inventory: Inventory, name: HostName) -> str:
    return " ".join(group for group in inventory.host(name).groups if group != "all") or "-"
