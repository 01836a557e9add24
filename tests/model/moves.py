"""What a move is, and what a configuration allows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Desired
from orchestrator.rotation import visits as vs
from tests.fake_state import HostState
from tests.model.canonical import Symmetry
from tests.model.state import Backup, Left, State

Label = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A fleet and what may happen to it.

    Attributes:
        first: what is applied, without faults, before the search begins.
        edits: what a playbook may be edited to.
        left: how often rare things may happen.
        ticks: whether time passes other than when nothing else is left to do.
        whole_runs: whether a run goes on until it can but wait, and a kill between two of its rounds is a
            fault; otherwise anything may come between any two rounds.
        most: so many states are looked at; 0: all.
    """

    name: str
    first: tuple[Desired, ...]
    edits: tuple[Desired, ...] = ()
    left: Left = field(default_factory=Left)
    symmetry: Symmetry
    ticks: bool = True
    whole_runs: bool = False
    most: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One thing that happened.

    Attributes:
        label: what, for ``tell``.
        after: the state after it.
        good: whether it is what goes on without faults.
        fault: whether it counts as a fault (``Left.faults``).
    """

    label: Label
    after: State
    good: bool = False
    fault: bool = False


def has_passed(there: HostState, backup: Backup) -> bool:
    """Whether a host was visited on the word of a later ledger than the copy."""
    fence = vs.Fence(generation=backup.recorded.generation, counter=backup.recorded.version)
    return there.fence is not None and there.fence > fence


def settled(before: State, after: State, label: Label, there: Mapping[HostName, HostState]) -> Move:
    """Marks what visits do to the memory of the observer."""
    given = {h for h, s in there.items() if s.heeded is not before.hosts[h].heeded}
    backup = after.backup
    if backup is not None:
        later = {h for h, host in there.items() if has_passed(host, backup)}
        if later - backup.passed:
            backup = replace(backup, passed=backup.passed | later)
    if given & after.adrift or backup is not after.backup:
        after = after.changed(adrift=after.adrift - given, backup=backup)
    return Move(label=label, after=after)


def counted(move: Move) -> Iterator[Move]:
    """The move, its fault taken from those that are left; nothing where none is."""
    if not move.fault:
        yield move
    elif move.after.left.may("faults"):
        yield costing(move, "faults")


def costing(move: Move, name: str) -> Move:
    """The move, which is one of those that are only left so many times."""
    return replace(move, after=move.after.changed(left=move.after.left.less(name)))
