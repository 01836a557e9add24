"""Every state that can be reached, breadth first, each checked; and whether each leads to an end."""

import gc
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import product
from operator import ge
from time import process_time
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.rotation.lifecycle import KeyState
from tests.model.canonical import Canon, Key
from tests.model.fates import AT_HOOK
from tests.model.invariants import BrokenError, check_move, check_state
from tests.model.material import cheap
from tests.model.observer import edges, live, observed, trusts
from tests.model.state import State
from tests.model.swift import swift
from tests.model.world import Configuration, Label, Move, Moves

LONGEST_BEGINNING = 200
"""So many moves are more than any first handover takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An invariant that does not hold, and the shortest way there."""

    which: str
    why: str
    trace: tuple[Label, ...]


@dataclass(slots=True, kw_only=True)
class Found:
    """What a search came to.

    Attributes:
        states, moves: how many were seen.
        ends: states in which nothing is left to do.
        complete: whether there was no state left to look at; otherwise the search was bounded.
        stuck: states from which the end is not reached though nothing goes wrong any more.
    """

    name: str
    states: int = 0
    moves: int = 0
    ends: int = 0
    deepest: int = 0
    seconds: float = 0.0
    complete: bool = False
    violations: list[Violation] = field(default_factory=list)
    stuck: int = 0


def search(
    configuration: Configuration,
    *,
    seeded: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Found:
    """Look at every state of a configuration, until an invariant is broken; the way there is a shortest one.

    Args:
        configuration: what to explore.
        seeded: within this the engine is explored, after a first handover without it.
    """
    gc.disable()  # states hold no cycles, and there are many of them to go through
    try:
        with cheap(), swift():
            return _Search(configuration).run(seeded)
    finally:
        gc.enable()


class _Search:
    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.moves = Moves(configuration)
        self.canon = Canon(configuration.symmetry, whole_runs=configuration.whole_runs)
        self.covering: dict[Key, list[tuple[tuple[int, ...], frozenset[Any], int]]] = {}
        self.parent: list[int] = []
        self.label: list[Label] = []
        self.depth: list[int] = []
        self.next_good: list[int] = []
        self.queue: deque[tuple[int, State, Mapping[HostName, Any]]] = deque()
        self.last: tuple[int, Label] = (-1, ("begin",))
        self.found = Found(name=configuration.name)

    def run(self, seeded: Callable[[], AbstractContextManager[object]]) -> Found:
        began = process_time()
        try:
            first = self._begin()
            with seeded():
                self._explore(first)
        except BrokenError as error:
            self.found.violations.append(Violation(which=error.which, why=str(error), trace=self._trace()))
        found = self.found
        found.states = len(self.parent)
        found.deepest = max(self.depth, default=0)
        if not found.violations:
            self._check_ends()
        found.seconds = process_time() - began
        return found

    def _explore(self, first: State) -> None:
        found, most = self.found, self.configuration.most
        self._admit(first, first, -1, ("begin",))
        while self.queue:
            if most and len(self.parent) >= most:
                return
            number, state, alike = self.queue.popleft()
            self.moves.runs.alike = alike
            good = -1
            here = self.last = (self.parent[number], self.label[number])
            for move in self._moves(state):
                found.moves += 1
                then = self._admit(state, move.after, number, move.label)
                self.last = here
                if move.good and good < 0:
                    good = then
            if good < 0:
                found.ends += 1
                self._check_end(state, number)
            self.next_good[number] = good
        found.complete = True

    def _moves(self, state: State) -> Iterator[Move]:
        try:
            yield from self.moves.of(state)
        except ValueError as error:
            raise BrokenError("table", str(error)) from error

    def _begin(self) -> State:
        """The fleet with its first keys, handed over without any fault."""
        state = self.moves.first()
        for _ in range(LONGEST_BEGINNING):
            move = next((move for move in self.moves.good(state) if move.good), None)
            if move is None:
                return state
            self.last = (-1, move.label)
            after = observed(state, move.after)
            check_move(state, after)
            check_state(after)
            state = after
        raise BrokenError("L2", "without any fault the first handover never ends")

    def _admit(self, before: State, after: State, parent: int, label: Label) -> int:
        if after is not before:
            after = observed(before, after)
        key, alike, duties = self.canon(after)
        self.last = (parent, label)
        if label[0] != "rollback" and parent >= 0:
            check_move(before, after)
        left = after.left.rank()
        known = self._covered_by(key, left, duties)
        if known is not None:
            return known
        check_state(after)
        number = len(self.parent)
        for less, name, bound in self.canon.every(after):
            for one in self.canon.at_work(name):
                self.covering.setdefault(one, []).append((less.rank(), bound, number))
        self.parent.append(parent)
        self.label.append(label)
        self.depth.append(self.depth[parent] + 1 if parent >= 0 else 0)
        self.next_good.append(-2)
        self.queue.append((number, after, alike))
        return number

    def _covered_by(self, key: Key, left: tuple[int, ...], duties: frozenset[Any]) -> int | None:
        """An earlier state of that name that allowed at least as much, and was held to at least as much."""
        for had, bound, known in self.covering.get(key, ()):
            if duties <= bound and all(map(ge, had, left)):
                return known
        return None

    def _trace(self) -> tuple[Label, ...]:
        parent, label = self.last
        labels = [label, *self._labels(parent)]
        return tuple(reversed(labels))

    def _labels(self, number: int) -> Iterator[Label]:
        while number > 0:
            yield self.label[number]
            number = self.parent[number]

    def _check_end(self, state: State, number: int) -> None:
        """L1, L2: when nothing is left to do, all is as it should be."""
        recorded = state.recorded
        self.last = (number, ("and nothing is left to do",))
        if any(rollout.ended is None for rollout in recorded.rollouts.values()):
            raise BrokenError("L1", "nothing is left to do, and a rollout is under way")
        allowed = {KeyState.ACTIVE, KeyState.REMOVED}
        for credential in recorded.credentials.values():
            if credential.state not in allowed:
                raise BrokenError("L1", f"nothing is left to do, and a key is {credential.state}")
        for agent, server in edges(recorded):
            if not trusts(state, agent, server, str(live(state, server))):
                raise BrokenError("L2", f"nothing is left to do, and {agent} does not believe {server}")
        for leaked, (agent, server) in product(state.leaked, state.held):
            if trusts(state, agent, server, leaked):
                raise BrokenError("L1", f"nothing is left to do, and {agent} believes a key that leaked")
        for server, record in recorded.servers.items():
            there = state.hosts[server]
            if set(there.credentials) != {record.target} or there.disarmed or there.current != record.target:
                raise BrokenError("L1", f"nothing is left to do, and {server} is not as it should be")

    def _check_ends(self) -> None:
        """Whether going on without faults ends, from every state: backwards from the ends, along good moves.

        Each state has one good move, so what is reached backwards is all that ends. Where the search was cut
        short counts as an end.
        """
        before: list[list[int]] = [[] for _ in self.parent]
        reached = []
        for number, then in enumerate(self.next_good):
            if then < 0:
                reached.append(number)
            else:
                before[then].append(number)
        ends = bytearray(len(self.parent))
        while reached:
            at = reached.pop()
            ends[at] = 1
            reached += before[at]
        self.found.stuck = ends.count(0)
        if self.found.stuck:
            start = ends.index(0)
            trace = (*reversed(list(self._labels(start))), ("and without faults it never ends",))
            self.found.violations.append(
                Violation(which="L1", why="L1: the end is never reached", trace=trace)
            )


def tell(label: Label) -> str:
    """A move in words."""
    match label:
        case ("round", playbook, words, fates, away):
            parts = []
            orders = dict(words)
            for host, known, done in fates:
                what = "+".join(orders[host])
                if done == AT_HOOK:
                    end = "done, but for its hook"
                elif known:
                    end = "done"
                elif done == len(orders[host]):
                    end = "done, the answer is lost"
                else:
                    end = "sent and never done" if not done else f"only {done} of it done, the answer is lost"
                parts.append(f"{host} {what}: {end}")
            gone = f" ({', '.join(sorted(away))} away)" if away else ""
            return f"{playbook}{gone}: " + "; ".join(parts)
        case ("delayed", playbook, words, fates, host):
            return tell(("round", playbook, words, fates, ())) + f"; the visit to {host} is still on its way"
        case ("imaged", host, label):
            return f"{tell(label)}; an image of {host} from before is kept"
        case ("home", playbook, what, whole, number):
            return f"{playbook}: at home {', '.join(what)}" + (
                "" if whole else f", killed after part {number + 1}"
            )
        case ("survey", *hosts):
            return f"a run asks {', '.join(hosts)}"
        case ("apply", playbook, new_key, _):
            return f"{playbook} is applied" + (" with --new-key" if new_key else "")
        case _:
            return " ".join(str(part) for part in label)


def show(found: Found) -> str:
    """One configuration's line, and the traces of what was broken."""
    kind = "exhaustive" if found.complete else "BOUNDED"
    sizes = f"{found.states} states, {found.moves} transitions, {found.ends} ends, depth {found.deepest}"
    wrong = f"{len(found.violations)} violations, {found.stuck} states that do not end"
    lines = [f"{found.name}: {sizes}; {wrong}; {found.seconds:.1f} s; {kind}"]
    for violation in found.violations:
        lines += show_trace(violation)
    return "\n".join(lines)


def show_trace(violation: Violation) -> Iterator[str]:
    """What was broken, and a shortest way there."""
    yield f"  {violation.why}"
    for number, label in enumerate(violation.trace, start=1):
        yield f"    {number}. {tell(label)}"
