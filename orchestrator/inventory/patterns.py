"""Which hosts a pattern selects, in Ansible's pattern language.

``all`` or ``*``, the name of a host or a group, a glob over both (``web*``, ``db[ab]?``), and any of these
joined by ``:`` or by ``,``. Whatever their order, unions are made first, then ``&part`` keeps what is in
``part`` too, then ``!part`` takes away what is in it. A pattern of ``&`` and ``!`` parts alone begins with
``all``.

Unlike in Ansible, a plain name that does not exist is an error wherever it stands: in a union it would leave
hosts out, in an exclusion it would let hosts in. Selected hosts come in inventory order.
"""

import re
from collections.abc import Iterable
from fnmatch import translate

from orchestrator.errors import UsageError
from orchestrator.inventory.model import Inventory, did_you_mean
from orchestrator.inventory.names import GroupName, HostName, shown

_PART = re.compile(r"(?:[^:\[\]]|\[[^\]]*\])+")
_SUBSCRIPT = re.compile(r".+\[(-?[0-9]+|[0-9]+[:-][0-9]*)\]")
_GLOB = re.compile(r"[*?\[]")


def select(inventory: Inventory, pattern: str) -> tuple[HostName, ...]:
    """The hosts that ``pattern`` selects, in inventory order; a glob may match none.

    Takes time linear in the hosts of the inventory.

    Raises:
        UsageError: the pattern is empty or malformed, names what does not exist, or is of a kind that is not
            supported yet.
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
    if "~" in {part.lstrip(" !&")[:1] for part in re.split("[:,]", pattern)}:
        raise UsageError(f"not supported yet: the regular expression in the pattern {shown(pattern)}")
    if re.search(r"[\[\]]", re.sub(r"\[[^\[\]]+\]", "", pattern)):
        raise UsageError(f"the pattern {shown(pattern)} has a bracket without its partner")
    parts = [part.strip() for part in pattern.split(",")]
    if len(parts) > 1 and any(len(_PART.findall(part)) > 1 for part in parts):
        raise UsageError(
            f"the pattern {shown(pattern)} is joined by both : and ,", hint="use only one of them"
        )
    if len(parts) == 1:
        parts = [part.strip() for part in _PART.findall(pattern)]
    parts = [part for part in parts if part]
    if not parts:
        raise UsageError(f"the pattern {shown(pattern)} is empty", hint="all selects every host")
    for part in parts:
        _check(part, pattern)
    return parts


def _check(part: str, pattern: str) -> None:
    word = part.lstrip("!&")
    if len(part) - len(word) > 1 or not word or len(word.split()) > 1:
        raise UsageError(f"the part {shown(part)} of the pattern {shown(pattern)} is no name and no glob")
    if word.startswith("@"):
        raise UsageError(
            f"not supported yet: the file of hosts {shown(word)} in the pattern {shown(pattern)}"
        )
    if _SUBSCRIPT.fullmatch(word):
        raise UsageError(f"not supported yet: the position in {shown(word)} of the pattern {shown(pattern)}")


def _union(inventory: Inventory, parts: Iterable[str]) -> set[HostName]:
    return {name for part in parts for name in _named(inventory, part)}


def _named(inventory: Inventory, part: str) -> set[HostName]:
    if part == "*":
        return set(inventory.hosts)
    if _GLOB.search(part):
        matches = re.compile(translate(part)).match
        found = {name for name in inventory.hosts if matches(name)}
        return found.union(*(inventory.members(name) for name in inventory.groups if matches(name)))
    if GroupName(part) in inventory.groups:
        return set(inventory.members(GroupName(part)))
    if HostName(part) in inventory.hosts:
        return {HostName(part)}
    known = [*inventory.groups, *inventory.hosts]
    raise UsageError(f"the inventory has no host or group {shown(part)}", hint=did_you_mean(part, known))
