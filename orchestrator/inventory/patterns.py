r"""Which hosts a pattern selects, in Ansible's pattern language.

``all`` or ``*``, the name of a host or a group, a glob over both (``web*``, ``db[ab]?``), a regular
expression over both (``~web\d+``, matched at the beginning of a name), and any of these joined by ``:`` or
by ``,``. Whatever their order, unions are made first, then ``&part`` keeps what is in ``part`` too, then
``!part`` takes away what is in it. A pattern of ``&`` and ``!`` parts alone begins with ``all``.

A name or a glob may end in a position: ``web[0]``, ``web[-1]``, ``web[1:3]`` (both bounds belong to it),
``web[1:]``. Positions count a group's own hosts first, then those of the groups below it, level by level;
with a glob, the groups that match one after the other and then the hosts that match, repeated ones
included. (Ansible leaves the order open where groups two levels down have different parents; here it is
that of the sources.)

Unlike in Ansible, a plain name that does not exist is an error wherever it stands: in a union it would leave
hosts out, in an exclusion it would let hosts in. Selected hosts come in inventory order.
"""

import re
from collections.abc import Iterable
from fnmatch import translate

from orchestrator.errors import UsageError
from orchestrator.inventory.model import Inventory, did_you_mean
from orchestrator.inventory.names import GroupName, HostName, shown
from orchestrator.inventory.regexes import compile_regex

_PART = re.compile(r"(?:[^:\[\]]|\[[^\]]*\])+")
_POSITION = re.compile(r"(.+)\[(?:(-?[0-9]{1,9})|([0-9]{1,9})[:-]([0-9]{0,9}))\]")
_LIKE_A_POSITION = re.compile(r".+\[(-?[0-9]+|[0-9]+[:-][0-9]*)\]")
_GLOB = re.compile(r"[*?\[]")
_REGEX = "~"


def select(inventory: Inventory, pattern: str) -> tuple[HostName, ...]:
    """The hosts that ``pattern`` selects, in inventory order; a glob or a regular expression may match none.

    Takes time linear in the hosts of the inventory.

    Raises:
        UsageError: the pattern is empty or malformed, names what does not exist, or a position that no host
            has.
    """
    unions: list[str] = []
    kept: list[str] = []
    dropped: list[str] = []
    for part in _split(pattern):
        match part[0]:
            case "&":
                kept.append(part[1:])
            case "!":
                dropped.append(part[1:])
            case _:
                unions.append(part)
    selected = _union(inventory, unions or ["all"])
    for part in kept:
        selected &= _named(inventory, part)
    selected -= _union(inventory, dropped)
    return tuple(name for name in inventory.hosts if name in selected)


def select_servers_of(inventory: Inventory, agent: HostName) -> tuple[HostName, ...] | None:
    """The hosts that the agent's ``keyrelay_servers`` selects; None: the playbook's servers count.

    Raises:
        UsageError: there is no such agent.
        InputError: the variable is no pattern that ``select`` takes; names the line on which it was written.
    """
    reading = inventory.reading(agent)
    pattern = reading.servers_pattern()
    if pattern is None:
        return None
    try:
        return select(inventory, pattern)
    except UsageError as error:
        raise reading.wrong("keyrelay_servers", f"is no pattern: {error.message}", hint=error.hint) from error


def _split(pattern: str) -> list[str]:
    if re.search(r"[\[\]]", re.sub(r"\[[^\[\]]+\]", "", pattern)):
        raise UsageError(f"the pattern {shown(pattern)} has a bracket without its partner")
    parts = [part.strip() for part in pattern.split(",")]
    if len(parts) == 1:
        parts = [part.strip() for part in _PART.findall(pattern)]
    elif any(len(_PART.findall(part)) > 1 for part in parts if not _is_regex(part)):
        raise UsageError(
            f"the pattern {shown(pattern)} is joined by both : and ,", hint="use only one of them"
        )
    parts = [part for part in parts if part]
    if not parts:
        raise UsageError(f"the pattern {shown(pattern)} is empty", hint="all selects every host")
    for part in parts:
        _check(part, pattern)
    return parts


def _is_regex(part: str) -> bool:
    return part.lstrip("!&").startswith(_REGEX)


def _check(part: str, pattern: str) -> None:
    word = part.lstrip("!&")
    if len(part) - len(word) > 1 or not word.strip(_REGEX) or len(word.split()) > 1:
        raise UsageError(f"the part {shown(part)} of the pattern {shown(pattern)} is no name and no glob")
    if word.startswith("@"):
        raise UsageError(
            f"not supported: the file of hosts {shown(word)} in the pattern {shown(pattern)}",
            hint="name a group of these hosts in the inventory",
        )


def _union(inventory: Inventory, parts: Iterable[str]) -> set[HostName]:
    return {name for part in parts for name in _named(inventory, part)}


def _named(inventory: Inventory, part: str) -> set[HostName]:
    if part == "*":
        return set(inventory.hosts)
    if part.startswith(_REGEX) or not _LIKE_A_POSITION.fullmatch(part):
        return set(_enumerated(inventory, part))
    position = _POSITION.fullmatch(part)
    if position is None:
        raise UsageError(f"the position in {shown(part)} is too large")
    return set(_at(position, _enumerated(inventory, position[1])))


def _at(position: re.Match[str], hosts: list[HostName]) -> list[HostName]:
    _, index, first, last = position.groups()
    if index is None:
        if last and int(last) < int(first):
            raise UsageError(f"the position in {shown(position[0])} ends before it begins")
        return hosts[int(first) : int(last) + 1] if last else hosts[int(first) :]
    if not hosts:
        return []
    try:
        return [hosts[int(index)]]
    except IndexError as error:
        message = f"{shown(position[0])} names no host: {shown(position[1])} has {len(hosts)}"
        raise UsageError(message, hint="positions begin with 0, or with -1 from the end") from error


def _enumerated(inventory: Inventory, part: str) -> list[HostName]:
    """What ``part`` names, in the order that positions count."""
    if part.startswith(_REGEX) or _GLOB.search(part):
        form = compile_regex(part[1:]) if part.startswith(_REGEX) else re.compile(translate(part))
        found = [host for name in inventory.groups if form.match(name) for host in _members(inventory, name)]
        return found + [name for name in inventory.hosts if form.match(name)]
    if GroupName(part) in inventory.groups:
        return _members(inventory, GroupName(part))
    if HostName(part) in inventory.hosts:
        return [HostName(part)]
    known = [*inventory.groups, *inventory.hosts]
    raise UsageError(f"the inventory has no host or group {shown(part)}", hint=did_you_mean(part, known))


def _members(inventory: Inventory, name: GroupName) -> list[HostName]:
    """The hosts of a group and of the groups below it, level by level."""
    hosts: dict[HostName, None] = {}
    level, seen = [name], {name}
    while level:
        for group in level:
            hosts |= dict.fromkeys(inventory.groups[group].hosts)
        below = dict.fromkeys(child for group in level for child in inventory.groups[group].children)
        level = [child for child in below if child not in seen]
        seen.update(level)
    return list(hosts)
