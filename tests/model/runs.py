"""What a controller may do next, and every way in which that can end.

A round is ``decide`` and what the loop of ``operations/handover.py`` makes of the decision. Every visit of it
may be answered, may lose its answer, or may never arrive; and the controller may be killed at any of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.operations.asking import survey
from orchestrator.operations.handover import _Run
from orchestrator.operations.lease import take
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation import engine
from orchestrator.rotation import events as ev
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.engine import Decision
from orchestrator.rotation.outcomes import failing
from orchestrator.rotation.recorded import Recorded, Standing
from tests import fake_host
from tests.fake_state import Faults, HostState
from tests.model.fates import AT_HOOK, Fates, fates_of, home_words, lines_of, told
from tests.model.invariants import BrokenError, check_decision
from tests.model.moves import Label, Move, costing, settled
from tests.model.stage import AWAY, Stage
from tests.model.state import Late, State
from tests.world import Silent


class KilledError(Exception):
    """The controller was killed."""


class Runs:
    """The rounds of runs.

    Attributes:
        alike: what there is to tell of agents; those of which the same is told are not told apart.
        last: the decision of the last question.
    """

    def __init__(self, stage: Stage, hosts: Sequence[HostName]) -> None:
        self.stage = stage
        self.every_host = tuple(hosts)
        self.alike: Mapping[HostName, Any] = {}
        self.last = Decision()

    def decide(self, state: State, playbook: PlaybookName, away: frozenset[HostName]) -> Decision:
        recorded = state.recorded
        for host in away:
            recorded = failing(recorded, host, AWAY, state.now)
        self.stage.put_on(state, recorded)
        return engine.decide(
            recorded,
            playbook,
            now=state.now,
            random=self.stage.numbers,
            aside=dict.fromkeys(sorted(away), AWAY),
        )

    def rounds(self, state: State, playbook: PlaybookName, *, faults: bool = True) -> Iterator[Move]:
        unsure = frozenset(state.recorded.pending)
        seen: set[Any] = set()
        decision = self.last = self.decide(state, playbook, unsure)
        check_decision(state, playbook, decision)
        for away in self._absences(state, playbook, decision, unsure) if faults else [unsure]:
            if away != unsure:
                decision = self.decide(state, playbook, away)
            gist = (
                decision.make,
                decision.certify,
                decision.destroy,
                decision.prolong,
                decision.retire,
                decision.ended,
                decision.halt,
                tuple((e.host, tuple(o.kind for o in e.orders), lines_of(e)) for e in decision.errands),
            )
            if gist in seen:
                continue
            seen.add(gist)
            drawn = self.stage.numbers.drawn
            home = list(self._at_home(state, playbook, decision))
            gone = away != unsure
            yield from (_as_if_away(move, away, gone=gone) for move in home)
            if not home and decision.errands:
                self.stage.numbers.drawn = drawn
                for move in self._round(state, playbook, decision, away, faults=faults):
                    yield _as_if_away(move, away, gone=gone)

    def _absences(
        self, state: State, playbook: PlaybookName, decision: Decision, unsure: frozenset[HostName]
    ) -> Iterator[frozenset[HostName]]:
        """Which hosts may not answer this run, as far as that matters to what the others are sent."""
        yield unsure
        early = [e.host for e in decision.errands if any(o.kind in {"stage", "generate"} for o in e.orders)]
        for chosen in product((False, True), repeat=len(early)):
            gone = {host for host, out in zip(early, chosen, strict=True) if out}
            if gone:
                yield unsure | gone
        rollout = state.recorded.running(playbook)
        if rollout is not None and self._someone_soaked(state, playbook):
            for host in self.every_host:
                if host not in unsure:
                    yield unsure | {host}

    def _someone_soaked(self, state: State, playbook: PlaybookName) -> bool:
        soak = state.recorded.playbooks[playbook].rollout.soak
        done = [
            target is not None
            and (placement := record.placements.get(target)) is not None
            and placement.standing is Standing.ACTIVE
            and placement.since + soak <= state.now
            for record in state.recorded.servers.values()
            if record.playbook == playbook and (target := record.target) is not None
        ]
        return any(done) and not all(done)

    def _run(self, state: State, playbook: PlaybookName, away: frozenset[HostName]) -> _Run:
        """A run that has asked every host, but for those that somebody else has changed since."""
        fences = {
            host: () if there.fence is None else (there.fence,)
            for host, there in state.hosts.items()
            if host not in state.meddled
        }
        aside = dict.fromkeys(sorted(away), AWAY)
        return _Run(self.stage.ports, self.stage.ledger.recorded, playbook, aside=aside, fences=fences)

    def _at_home(self, state: State, playbook: PlaybookName, decision: Decision) -> Iterator[Move]:
        stage = self.stage
        run = self._run(state, playbook, frozenset())
        before = stage.ledger.marks
        vaults = stage.ledger.vault.changed
        run._at_home(decision)
        if not before and not vaults:
            return
        # The vault changes between two appends: each of its changes is a point of its own.
        points: list[tuple[Recorded, Mapping[str, int]]] = []
        last, kept = state.recorded, state.vault
        changes = list(vaults)
        for recorded, vault in before:
            while kept != vault and changes:
                kept = changes.pop(0)
                points.append((last, kept))
            last = recorded
            points.append((last, kept))
        points += [(last, rest) for rest in changes]
        for number, (recorded, vault) in enumerate(points):
            whole = number == len(points) - 1
            after = stage.taken_off(state, recorded=recorded, vault=vault)
            what = home_words(decision)
            label = ("home", playbook, what, whole, number)
            yield Move(label=label, after=after, good=whole, fault=not whole)

    def _round(
        self,
        state: State,
        playbook: PlaybookName,
        decision: Decision,
        away: frozenset[HostName],
        *,
        faults: bool,
    ) -> Iterator[Move]:
        """The errands of one decision, and every way in which they can end."""
        stage = self.stage
        drawn = stage.numbers.drawn
        begin = stage.ledger.recorded
        stage.ledger.known.clear()
        hosts = [errand.host for errand in decision.errands]
        lengths = {errand.host: len(errand.orders) for errand in decision.errands}
        hooked = {
            errand.host
            for errand in decision.errands
            for o in errand.orders
            if isinstance(o, vs.Trust) and o.hooks
        }
        results: dict[tuple[HostName, int], tuple[HostState, rp.Outcome]] = {}

        def visited(visit: vs.Visit, done: int) -> tuple[HostState, rp.Outcome]:
            host = visit.endpoint.host
            if (host, done) not in results:
                broken = Faults() if done == lengths[host] else Faults(breaks_after=done)
                if done == AT_HOOK:
                    broken = Faults(hook_fails="it failed")
                results[host, done] = fake_host.obey(
                    state.hosts[host], visit, now=state.now, random=stage.numbers, faults=broken
                )
            return results[host, done]

        def killed(_: vs.Visit) -> rp.Outcome:
            raise KilledError

        words = tuple((e.host, tuple(o.kind for o in e.orders)) for e in decision.errands)
        if faults:
            stage.fate = killed
            run = self._run(state, playbook, away)
            with suppress(KilledError):
                run._run_errands(decision)
            intended, sent = stage.ledger.recorded, {v.endpoint.host: v for v in stage.made}
            for fates in fates_of(hosts, lengths, self.alike, answered=False, hooked=hooked):
                there = {h: visited(sent[h], done)[0] for h, (_, done) in fates.items() if h in sent}
                stage.numbers.drawn = drawn
                after = stage.taken_off(state, recorded=intended, hosts={**state.hosts, **there})
                label: Label = ("round", playbook, words, told(fates), away)
                move = replace(settled(state, after, label, there), fault=True)
                yield move
                yield from self._sent_late(move, sent, fates, playbook, words)
        ends = (
            fates_of(hosts, lengths, self.alike, answered=True, hooked=hooked)
            if faults
            else [_all_done(lengths)]
        )
        for fates in ends:
            stage.ledger.recorded = begin
            stage.numbers.drawn = drawn
            there = {}

            def fate(visit: vs.Visit, fates: Any = fates, there: Any = there) -> rp.Outcome:
                host = visit.endpoint.host
                answered, done = fates[host]
                outcome: rp.Outcome = rp.Failed(host=host, reason="its answer is lost")
                there[host], real = visited(visit, done)
                return real if answered else outcome

            stage.fate = fate
            run = self._run(state, playbook, away)
            run._run_errands(decision)
            whole = all(answered and done != AT_HOOK for answered, done in fates.values())
            after = stage.taken_off(state, hosts={**state.hosts, **there})
            if whole and len(there) < len(hosts):
                raise BrokenError("L1", f"nothing moves {sorted(set(hosts) - there.keys())}")
            label = ("round", playbook, words, told(fates), away)
            yield replace(settled(state, after, label, there), good=whole, fault=not whole)

    def _sent_late(
        self,
        move: Move,
        sent: Mapping[HostName, vs.Visit],
        fates: Fates,
        playbook: PlaybookName,
        words: Any,
    ) -> Iterator[Move]:
        """One of the visits that were not made is still on its way."""
        after = move.after
        if not after.left.may("late"):
            return
        for host, (_, done) in fates.items():
            if host in sent and not done:
                label = ("delayed", playbook, words, told(fates), host)
                late = Late(visit=sent[host], blind=after.meddled | after.adrift)
                yield costing(Move(label=label, after=after.changed(late=late)), "late")

    def surveyed(self, state: State, hosts: Sequence[HostName], *, good: bool = False) -> Move:
        """A run begins, and asks hosts; behind a fence, where an earlier visit may still be at work."""
        stage = self.stage
        stage.put_on(state)
        recorded = state.recorded
        uncertain = [host for host in hosts if host in recorded.pending]
        if uncertain:
            recorded = take(recorded, stage.ports)
        fence = vs.Fence(generation=recorded.generation, counter=recorded.version, head=recorded.head)
        endpoints = [recorded.endpoints[host] for host in hosts]
        answers = survey(stage, endpoints, Silent(), dict.fromkeys(uncertain, fence))
        stage.ledger.append([answers.event()], onto=recorded, at=state.now)
        there = {host: stage.hosts[host] for host in uncertain}
        meddled = state.meddled.difference(hosts)
        after = stage.taken_off(state, meddled=meddled, hosts={**state.hosts, **there})
        return replace(settled(state, after, ("survey", *hosts), there), good=good)

    def surveyed_in_part(self, state: State, hosts: Sequence[HostName]) -> Iterator[Move]:
        """The same, but not every host answers."""
        seen: set[Any] = set()
        for chosen in product((False, True), repeat=len(hosts)):
            answering = [host for host, answers in zip(hosts, chosen, strict=True) if answers]
            gist = tuple(sorted(repr(self.alike.get(host, host)) for host in answering))
            if answering and len(answering) < len(hosts) and gist not in seen:
                seen.add(gist)
                yield replace(self.surveyed(state, answering), fault=True)

    def resumed(self, state: State, playbook: PlaybookName) -> Iterator[Move]:
        rollout = state.recorded.running(playbook)
        if rollout is None:
            return
        self.stage.put_on(state)
        event = ev.RolloutResumed(rollout=rollout.id)
        self.stage.ledger.append([event], onto=state.recorded, at=state.now)
        yield Move(label=("resume", playbook), after=self.stage.taken_off(state), good=True)


def _as_if_away(move: Move, away: frozenset[HostName], *, gone: bool) -> Move:
    """The move; it is no good one when hosts were away, and a fault when one was away that was not before."""
    return replace(move, good=move.good and not away, fault=move.fault or gone)


def _all_done(lengths: Mapping[HostName, int]) -> Fates:
    return {host: (True, length) for host, length in lengths.items()}
