"""What may happen next: runs of the real loop, one round at a time, and whatever befalls them.

``Moves.of`` yields every state that can follow. What is written on the way goes through the real ``evolve``
into a ledger that can fork.
"""

from collections.abc import Iterator
from dataclasses import replace

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation import home_events as he
from orchestrator.rotation.recorded import Recorded
from tests.fake_state import HostState
from tests.fakes import NOON
from tests.model import material
from tests.model.clock import Clock
from tests.model.copies import Copies
from tests.model.mishaps import Mishaps
from tests.model.moves import Configuration, Label, Move, counted
from tests.model.people import People
from tests.model.runs import Runs
from tests.model.stage import Stage
from tests.model.state import State

__all__ = ["Configuration", "Label", "Move", "Moves"]


class Moves:
    """All that may happen in one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.stage = Stage()
        self.playbooks = tuple(d.playbook for d in configuration.first)
        listed = [*configuration.first, *configuration.edits]
        inventory = {host: endpoint for d in listed for host, endpoint in d.endpoints.items()}
        self.every_host = tuple(inventory)
        self.runs = Runs(self.stage, self.every_host)
        self.people = People(self.stage, self.playbooks, configuration.edits)
        self.clock = Clock(self.runs, self.people, self.playbooks)
        self.mishaps = Mishaps(self.stage, self.every_host)
        self.copies = Copies(self.stage, inventory)

    def first(self) -> State:
        """The founded fleet, its playbooks applied."""
        stage = self.stage
        founded = he.FleetFounded(
            fleet=material.FLEET, root=material.ROOT_PEM, issuer=material.ISSUER_PEMS[0]
        )
        state = State(
            recorded=Recorded(),
            vault={},
            hosts={h: HostState() for h in self.every_host},
            now=NOON,
            drawn=0,
            keys=0,
            asked={d.playbook: d for d in self.configuration.first},
            left=self.configuration.left,
        )
        stage.put_on(state)
        stage.ledger.append([founded], onto=stage.ledger.recorded, at=NOON)
        return stage.taken_off(state)

    def of(self, state: State) -> Iterator[Move]:
        """Everything that may happen next; the first good one is what happens without faults."""
        for move in self._whole_runs(state) if self.configuration.whole_runs else self._all(state):
            yield move
            yield from self.mishaps.images(state, move)

    def _whole_runs(self, state: State) -> Iterator[Move]:
        """The next rounds of the run at work, and what may befall it; anything, where none is or it waits."""
        at_work = state.at_work
        rounds = [] if at_work is None or _unsure(state) else [*self._rounds(state, at_work)]
        if at_work is None or not rounds:
            for move in self._all(state.changed(at_work=None)):
                yield _taken_up(move)
            return
        for move in rounds:
            yield _taken_up(move)
        free = state.changed(at_work=None)
        yield from counted(Move(label=("the run of", at_work, "is killed"), after=free, fault=True))
        yield from self.clock.moves(free)
        yield from self.mishaps.moves(free)
        yield from self.copies.moves(free)

    def _rounds(self, state: State, playbook: PlaybookName) -> Iterator[Move]:
        for move in self.runs.rounds(state, playbook, faults=state.left.may("faults")):
            yield from counted(move)

    def _all(self, state: State) -> Iterator[Move]:
        unsure = _unsure(state)
        faults = state.left.may("faults")
        for move in self.good(state, faults=faults):
            yield from counted(move)
        if faults and len(unsure) > 1:
            for move in self.runs.surveyed_in_part(state, unsure):
                yield from counted(move)
        yield from self.people.moves(state)
        if self.configuration.ticks:
            yield self.clock.tick(state)
        yield from self.clock.moves(state)
        yield from self.mishaps.moves(state)
        yield from self.copies.moves(state)
        if unsure:
            for playbook in self.playbooks:
                if playbook in state.recorded.playbooks:
                    yield from self._rounds(state, playbook)

    def good(self, state: State, *, faults: bool = False) -> Iterator[Move]:
        """What happens next if nothing goes wrong, marked good; nothing at all when all is done.

        Args:
            state: where.
            faults: all the ways in which the same rounds can end are told as well.
        """
        unsure = _unsure(state)
        if unsure:
            yield self.runs.surveyed(state, unsure, good=True)
            return
        waits = False
        under_way = {p for p in self.playbooks if state.recorded.running(p) is not None}
        for playbook in sorted(self.playbooks, key=lambda p: p not in under_way):
            idle = under_way and playbook not in under_way and not state.perturbed
            goes_on = playbook in under_way and not state.perturbed
            planned = None if idle or goes_on else self.people.planned(state, playbook)
            if planned is not None:
                yield replace(planned, good=True)
            if playbook not in state.recorded.playbooks:
                continue
            yield from self.runs.rounds(state, playbook, faults=faults)
            if self.runs.last.paused:
                yield from self.runs.resumed(state, playbook)
            waits = waits or bool(self.runs.last.waits)
        if waits:
            yield self.clock.tick(state, good=True)
        yield from self.people.set_up_anew(state)


def _taken_up(move: Move) -> Move:
    """The move; where it is one of a run that was not killed at it, that run goes on."""
    what, *whose = move.label
    if move.fault or what not in {"apply", "home", "round"}:
        return move
    return replace(move, after=move.after.changed(at_work=whose[0]))


def _unsure(state: State) -> list[HostName]:
    """The hosts that have to be asked before anybody knows what they hold."""
    recorded = state.recorded
    known = {*recorded.servers, *recorded.agents}
    return sorted(recorded.pending.keys() | (state.meddled & known))
