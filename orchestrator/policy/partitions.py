"""Which groups of an inventory would cut the servers into key scopes, when the playbook names none.

Groups qualify when each server is in exactly one of them. Of the sets that qualify the best one has the least
sum of its number of groups (the keys to keep) and its largest group (the servers that one leak costs);
for sites of equal size the least is near as many sites as there are servers in each.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from orchestrator.inventory.model import HostName, Inventory
from orchestrator.inventory.names import ALL, UNGROUPED, GroupName

MAX_STEPS = 20_000
"""Of the search; an inventory has few groups of servers, and one with more gets the best found until then."""


def propose_groups(inventory: Inventory, servers: Sequence[HostName]) -> tuple[GroupName, ...]:
    """The best set of groups that cuts ``servers`` into scopes, in inventory order; empty if there is none.

    Takes time linear in servers and their groups, and ``MAX_STEPS`` steps at most for the search.
    """
    alike = Counter(_groups_of(inventory, servers))
    # Servers with the same groups go together, so the search is over these classes and not over servers.
    classes = [(groups, count) for groups, count in alike.items()]
    sizes: Counter[GroupName] = Counter()
    for groups, count in classes:
        for group in groups:
            sizes[group] += count
    useful = {group: size for group, size in sizes.items() if size < len(servers)}
    order = {group: position for position, group in enumerate(inventory.groups)}
    found = _partitions([[group for group in groups if group in useful] for groups, _ in classes])
    ranked = (
        (
            len(groups) + max(useful[group] for group in groups),
            len(groups),
            sorted(order[g] for g in groups),
            groups,
        )
        for groups in found
    )
    best = min(ranked, default=None)
    return tuple(sorted(best[3], key=order.__getitem__)) if best else ()


def _groups_of(inventory: Inventory, servers: Sequence[HostName]) -> Iterator[tuple[GroupName, ...]]:
    for server in servers:
        yield tuple(group for group in inventory.host(server).groups if group not in (ALL, UNGROUPED))


def _partitions(classes: Sequence[Sequence[GroupName]]) -> Iterator[tuple[GroupName, ...]]:
    """Every set of groups that has exactly one of each class (Knuth's Algorithm X, within ``MAX_STEPS``)."""
    members: dict[GroupName, set[int]] = {}
    for number, groups in enumerate(classes):
        for group in groups:
            members.setdefault(group, set()).add(number)
    steps = 0
    waiting: list[tuple[tuple[GroupName, ...], frozenset[int]]] = [((), frozenset(range(len(classes))))]
    while waiting and steps < MAX_STEPS:
        steps += 1
        chosen, open_classes = waiting.pop()
        if not open_classes:
            yield chosen
            continue
        hardest = min(open_classes, key=lambda number: (len(classes[number]), number))
        waiting.extend(
            ((*chosen, group), open_classes - members[group])
            for group in classes[hardest]
            if members[group] <= open_classes
        )
