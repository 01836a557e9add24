"""What may happen next: runs of the real loop, one round at a time, and whatever befalls them.

``Moves.of`` yields every state that can follow. A round is ``decide`` and what the loop of
``operations/handover.py`` makes of the decision; every visit of it may be answered, may lose its answer, or
may never arrive. What is written by the loop goes through the real ``evolve`` into a ledger that can fork.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import combinations_with_replacement, product
from typing import Any

from orchestrator.errors import ConflictError, RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.handover import _Run
from orchestrator.operations.planning import prepare, record
from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.ports import Ports
from orchestrator.rotation import engine
from orchestrator.rotation import events as ev
from orchestrator.rotation import visits as vs
from orchestrator.rotation.engine import Decision
from orchestrator.rotation.evolve import fold
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.outcomes import failing
from orchestrator.rotation.patience import waiver_cost
from orchestrator.rotation.plan import make_plan
from orchestrator.rotation.recorded import Recorded, Standing
from orchestrator.rotation.revert import plan_revert
from orchestrator.rotation.standing import View
from tests.fake_host import obey
from tests.fake_state import Faults, HostState, survey
from tests.fakes import NOON, FakeController
from tests.model import material
from tests.model.canonical import Symmetry
from tests.model.invariants import BrokenError, edges, live, trusts
from tests.model.state import TICK, Backup, Late, Left, State
from tests.world import Silent

AWAY = "it is away"
Label = tuple[Any, ...]


class KilledError(Exception):
    """The controller was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A fleet and what may happen to it.

    Attributes:
        first: what is applied, without faults, before the search begins.
        edits: what a playbook may be edited to.
        left: how often rare things may happen.
        faults: whether answers are lost and the controller is killed.
        ticks: whether time passes other than when nothing else is left to do.
        most: so many states are looked at; 0: all.
    """

    name: str
    first: tuple[Desired, ...]
    edits: tuple[Desired, ...] = ()
    left: Left = field(default_factory=Left)
    symmetry: Symmetry
    faults: bool = True
    ticks: bool = True
    most: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One thing that happened.

    Attributes:
        label: what, for ``tell``.
        after: the state after it.
        good: whether it is what goes on without faults.
    """

    label: Label
    after: State
    good: bool = False


class ModelLedger:
    """A ledger that is one value, which remembers what it was after each append."""

    def __init__(self) -> None:
        self.recorded = Recorded()
        self.marks: list[tuple[Recorded, Mapping[str, int]]] = []
        self.vault = material.SetVault()
        self.known: dict[Any, Recorded] = {}

    def read(self) -> Recorded:
        return self.recorded

    def append(self, events: Sequence[ev.Event], *, onto: Recorded, at: datetime) -> Recorded:
        if onto.version != self.recorded.version:
            raise ConflictError(f"the ledger stands at entry {self.recorded.version}, not at {onto.version}")
        name = id(events[0].intents[0]) if isinstance(events[0], ev.VisitsIntended) else None
        if name is not None and name in self.known:
            self.recorded = self.known[name]
        else:
            self.recorded = fold(onto, _entries(events, onto, at))
            if name is not None:
                self.known[name] = self.recorded
        self.marks.append((self.recorded, self.vault.kept))
        return self.recorded

    def entries(self, *, after: int = 0) -> Iterator[ev.Entry]:
        raise NotImplementedError

    def verify(self) -> int:
        raise NotImplementedError


def _entries(events: Sequence[ev.Event], onto: Recorded, at: datetime) -> Iterator[ev.Entry]:
    previous = onto.head
    for number, event in enumerate(events, start=onto.version + 1):
        yield ev.Entry(number=number, at=at, event=event, previous=previous, digest=str(number))
        previous = str(number)


class Stage:
    """The ports of one controller, over whatever state is put on."""

    def __init__(self) -> None:
        self.ledger = ModelLedger()
        self.numbers = material.Numbers()
        self.hosts: dict[HostName, HostState] = {}
        self.time = NOON
        self.away: frozenset[HostName] = frozenset()
        self.fate: Callable[[vs.Visit], vs.Outcome] = self._obeyed
        self.made: list[vs.Visit] = []
        self.ports = Ports(
            clock=self,
            entropy=self.numbers,
            fleet=self,
            ledger=self.ledger,
            vault=self.ledger.vault,
            issuer=material.CannedIssuer(),
            controller=FakeController(),
            progress=Silent(),
        )

    def put_on(self, state: State, recorded: Recorded | None = None) -> None:
        self.ledger.recorded = state.recorded if recorded is None else recorded
        self.ledger.marks = []
        self.ledger.vault.kept = dict(state.vault)
        self.ledger.vault.changed = []
        self.numbers.drawn, self.numbers.keys = state.drawn, state.keys
        self.hosts = dict(state.hosts)
        self.time = state.now
        self.away = frozenset()
        self.fate = self._obeyed
        self.made = []

    def now(self) -> datetime:
        return self.time

    def wait_until(self, instant: datetime) -> None:
        raise NotImplementedError

    def run(self, visits: Sequence[vs.Visit]) -> Iterator[vs.Outcome]:
        self.made = list(visits)
        for visit in visits:
            yield self.fate(visit)

    def _obeyed(self, visit: vs.Visit) -> vs.Outcome:
        host = visit.endpoint.host
        if host in self.away:
            return vs.Unreachable(host=host, reason=AWAY)
        self.hosts[host], outcome = obey(self.hosts[host], visit, now=self.time, random=self.numbers)
        return outcome

    def taken_off(self, state: State, **changes: Any) -> State:
        recorded = changes.pop("recorded", self.ledger.recorded)
        return replace(
            state,
            recorded=replace(recorded, contacts={}) if recorded.contacts else recorded,
            vault=changes.pop("vault", self.ledger.vault.kept),
            drawn=self.numbers.drawn,
            keys=self.numbers.keys,
            **changes,
        )


class Moves:
    """All that may happen in one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.stage = Stage()
        self.playbooks = tuple(d.playbook for d in configuration.first)
        listed = [*configuration.first, *configuration.edits]
        self.every_host = tuple(dict.fromkeys(h for d in listed for h in d.endpoints))

    def first(self) -> State:
        """The founded fleet, its playbooks applied."""
        stage = self.stage
        founded = ev.FleetFounded(fleet=material.FLEET, root=material.ROOT_PEM, issuer=material.ISSUER_PEM)
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

    def good(self, state: State) -> Move | None:
        """What happens next if nothing goes wrong; None: nothing, for all is done."""
        unsure = sorted(state.recorded.pending.keys() | state.meddled)
        if unsure:
            return self._surveyed(state, unsure[0], good=True)
        waits = False
        for playbook in self.playbooks:
            planned = self._planned(state, playbook)
            if planned is not None:
                return replace(planned, good=True)
            if playbook not in state.recorded.playbooks:
                continue
            decision = self._decide(state, playbook, frozenset())
            for move in self._at_home(state, playbook, decision):
                if move.good:
                    return move
            if decision.errands:
                for move in self._round(state, playbook, decision, frozenset(), faults=False):
                    if move.good:
                        return move
            if decision.paused:
                return self._resumed(state, playbook)
            waits = waits or bool(decision.waits)
        return self._tick(state, good=True) if waits else None

    def of(self, state: State) -> Iterator[Move]:
        """Everything that may happen next; the first good one is what happens without faults."""
        good = self.good(state)
        if good is not None:
            yield good
        yield from self._by_people(state)
        if not self.configuration.faults:
            return
        for host in sorted(state.recorded.pending.keys() | state.meddled):
            yield self._surveyed(state, host)
        if self.configuration.ticks:
            yield self._tick(state)
        yield from self._others(state)
        for playbook in self.playbooks:
            if playbook in state.recorded.playbooks:
                yield from self._rounds(state, playbook)

    # What the controller does

    def _decide(self, state: State, playbook: PlaybookName, away: frozenset[HostName]) -> Decision:
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

    def _rounds(self, state: State, playbook: PlaybookName) -> Iterator[Move]:
        unsure = frozenset(state.recorded.pending)
        seen: set[Any] = set()
        decision = self._decide(state, playbook, unsure)
        for away in self._absences(state, playbook, decision, unsure):
            if away != unsure:
                decision = self._decide(state, playbook, away)
            gist = (
                decision.make,
                decision.certify,
                decision.destroy,
                decision.ended,
                decision.halt,
                tuple((e.host, tuple(o.kind for o in e.orders), _lines(e)) for e in decision.errands),
            )
            if gist in seen:
                continue
            seen.add(gist)
            drawn = self.stage.numbers.drawn
            home = list(self._at_home(state, playbook, decision))
            yield from (replace(move, good=False) for move in home)
            if not home and decision.errands:
                self.stage.numbers.drawn = drawn
                yield from self._round(state, playbook, decision, away, faults=True)

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

    def _run(self, playbook: PlaybookName, away: frozenset[HostName]) -> _Run:
        aside = dict.fromkeys(sorted(away), AWAY)
        return _Run(self.stage.ports, self.stage.ledger.recorded, playbook, aside=aside)

    def _at_home(self, state: State, playbook: PlaybookName, decision: Decision) -> Iterator[Move]:
        stage = self.stage
        run = self._run(playbook, frozenset())
        before = stage.ledger.marks
        vaults = stage.ledger.vault.changed
        run._at_home(decision)
        if not before and not vaults:
            return
        # The vault changes between two appends: each of its changes is a point of its own.
        points: list[tuple[Recorded, Mapping[str, int]]] = []
        last, kept = state.recorded, dict(state.vault)
        told = list(vaults)
        for recorded, vault in before:
            while kept != vault and told:
                kept = told.pop(0)
                points.append((last, kept))
            last = recorded
            points.append((last, kept))
        points += [(last, rest) for rest in told]
        for number, (recorded, vault) in enumerate(points):
            whole = number == len(points) - 1
            after = stage.taken_off(state, recorded=recorded, vault=vault)
            what = _home_words(decision)
            yield Move(label=("home", playbook, what, whole, number), after=after, good=whole)

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
        results: dict[tuple[HostName, int], tuple[HostState, vs.Outcome]] = {}

        def visited(visit: vs.Visit, done: int) -> tuple[HostState, vs.Outcome]:
            host = visit.endpoint.host
            if (host, done) not in results:
                broken = Faults() if done == lengths[host] else Faults(breaks_after=done)
                results[host, done] = obey(
                    state.hosts[host], visit, now=state.now, random=stage.numbers, faults=broken
                )
            return results[host, done]

        def killed(_: vs.Visit) -> vs.Outcome:
            raise KilledError

        words = tuple((e.host, tuple(o.kind for o in e.orders)) for e in decision.errands)
        if faults:
            stage.fate = killed
            run = self._run(playbook, away)
            with suppress(KilledError):
                run._run_errands(decision)
            intended, sent = stage.ledger.recorded, {v.endpoint.host: v for v in stage.made}
            for fates in self._fates(hosts, lengths, answered=False):
                there = {h: visited(sent[h], done)[0] for h, (_, done) in fates.items() if h in sent and done}
                stage.numbers.drawn = drawn
                after = stage.taken_off(state, recorded=intended, hosts={**state.hosts, **there})
                yield self._settled(state, after, ("round", playbook, words, _told(fates), away), there)
                yield from self._sent_late(state, after, sent, fates, playbook, words)
        for fates in (
            self._fates(hosts, lengths, answered=True) if faults else [{h: (True, lengths[h]) for h in hosts}]
        ):
            stage.ledger.recorded = begin
            stage.numbers.drawn = drawn
            there = {}

            def fate(visit: vs.Visit, fates: Any = fates, there: Any = there) -> vs.Outcome:
                host = visit.endpoint.host
                answered, done = fates[host]
                outcome: vs.Outcome = vs.Failed(host=host, reason="its answer is lost")
                if answered or done:
                    there[host], real = visited(visit, done)
                    outcome = real if answered else outcome
                return outcome

            stage.fate = fate
            run = self._run(playbook, away)
            run._run_errands(decision)
            whole = all(answered for answered, _ in fates.values())
            after = stage.taken_off(state, hosts={**state.hosts, **there})
            if whole and len(there) < len(hosts):
                raise BrokenError("L1", f"nothing moves {sorted(set(hosts) - there.keys())}")
            label = ("round", playbook, words, _told(fates), away)
            yield replace(self._settled(state, after, label, there), good=whole)

    def _fates(
        self, hosts: Sequence[HostName], lengths: Mapping[HostName, int], *, answered: bool
    ) -> Iterator[dict[HostName, tuple[bool, int]]]:
        """For each host whether its answer is known, and how many of its orders were done.

        Args:
            answered: those in which some answer is known; otherwise those in which none is.
        """
        groups: dict[Any, list[HostName]] = {}
        for host in hosts:
            groups.setdefault(self.alike.get(host, host), []).append(host)
        choices = []
        for group in groups.values():
            most = lengths[group[0]]
            ends = [(False, done) for done in range(most + 1)]
            if answered:
                ends.append((True, most))
            choices.append(
                [tuple(zip(group, c, strict=True)) for c in combinations_with_replacement(ends, len(group))]
            )
        for chosen in product(*choices):
            fates = {host: end for part in chosen for host, end in part}
            if not answered or any(known for known, _ in fates.values()):
                yield fates

    alike: Mapping[HostName, Any] = {}

    def _settled(
        self, before: State, after: State, label: Label, there: Mapping[HostName, HostState]
    ) -> Move:
        """Marks what visits do to the memory of the observer."""
        given = {h for h, s in there.items() if s.bundle is not before.hosts[h].bundle}
        backup = after.backup
        if backup is not None and there:
            backup = replace(backup, passed=backup.passed | there.keys())
        if given & after.adrift or backup is not after.backup:
            after = replace(after, adrift=after.adrift - given, backup=backup)
        return Move(label=label, after=after)

    def _sent_late(
        self,
        state: State,
        after: State,
        sent: Mapping[HostName, vs.Visit],
        fates: Mapping[HostName, tuple[bool, int]],
        playbook: PlaybookName,
        words: Any,
    ) -> Iterator[Move]:
        """One of the visits that were not made is still on its way."""
        if not state.left.late:
            return
        for host, (_, done) in fates.items():
            if host in sent and not done:
                left = replace(state.left, late=state.left.late - 1)
                yield Move(
                    label=("delayed", playbook, words, _told(fates), host),
                    after=replace(after, late=Late(visit=sent[host]), left=left),
                )

    def _surveyed(self, state: State, host: HostName, *, good: bool = False) -> Move:
        recorded = surveyed_event(state, host)
        meddled = state.meddled - {host}
        after = replace(
            state,
            recorded=replace(recorded, contacts={}),
            meddled=meddled,
        )
        return Move(label=("survey", host), after=after, good=good)

    def _tick(self, state: State, *, good: bool = False) -> Move:
        return Move(label=("tick",), after=replace(state, now=state.now + TICK), good=good)

    def _resumed(self, state: State, playbook: PlaybookName) -> Move | None:
        rollout = state.recorded.running(playbook)
        if rollout is None:
            return None
        self.stage.put_on(state)
        event = ev.RolloutResumed(rollout=rollout.id)
        self.stage.ledger.append([event], onto=state.recorded, at=state.now)
        return Move(label=("resume", playbook), after=self.stage.taken_off(state), good=True)

    # What people do

    def _planned(
        self, state: State, playbook: PlaybookName, *, new_key: bool = False, wanted: Desired | None = None
    ) -> Move | None:
        """apply, as far as it only writes; hosts that are pending do not answer."""
        stage = self.stage
        stage.put_on(state)
        stage.away = frozenset(state.recorded.pending)
        asked = wanted or state.asked[playbook]
        try:
            prepared = prepare(
                asked,
                ledger=stage.ledger,
                fleet=stage,
                clock=stage,
                entropy=stage.numbers,
                progress=Silent(),
                new_key=new_key,
            )
        except RefusedError:
            return None
        if prepared.plan.start is None:
            return None
        record(prepared, stage.ports)
        meddled = state.meddled & stage.away
        after = stage.taken_off(state, meddled=meddled, asked={**state.asked, playbook: asked})
        return Move(label=("apply", playbook, new_key, asked.digest), after=after)

    def _by_people(self, state: State) -> Iterator[Move]:
        left = state.left
        for playbook in self.playbooks:
            if playbook not in state.recorded.playbooks:
                continue
            if left.new_keys:
                move = self._planned(state, playbook, new_key=True)
                if move is not None:
                    yield _costing(move, new_keys=left.new_keys - 1)
            if left.reverts:
                yield from self._reverted(state, playbook)
            if left.waivers:
                yield from self._waived(state, playbook)
            if state.recorded.pending and (state.meddled or state.leaked):
                move = self._planned(state, playbook)
                if move is not None:
                    yield move
        if left.edits:
            for wanted in self.configuration.edits:
                if state.asked[wanted.playbook] is not wanted:
                    move = self._planned(state, wanted.playbook, wanted=wanted)
                    if move is not None:
                        yield _costing(move, edits=left.edits - 1)
        if left.compromises:
            yield from self._compromised(state)

    def _reverted(self, state: State, playbook: PlaybookName) -> Iterator[Move]:
        rollout = state.recorded.running(playbook)
        if rollout is None:
            return
        stage = self.stage
        stage.put_on(state)
        try:
            event = plan_revert(state.recorded, rollout, random=stage.numbers)
        except RefusedError as error:
            self._check_refusal(state, playbook, str(error))
            return
        stage.ledger.append([event], onto=state.recorded, at=state.now)
        after = stage.taken_off(state, asked={**state.asked, playbook: event.desired})
        yield _costing(Move(label=("revert", playbook), after=after), reverts=state.left.reverts - 1)

    def _check_refusal(self, state: State, playbook: PlaybookName, why: str) -> None:
        """L5: a rollout can be taken back as long as every server still has its old key within reach."""
        rollout = state.recorded.running(playbook)
        if rollout is None or rollout.reverts is not None or rollout.before is None:
            return
        for server in rollout.before.servers():
            target = rollout.targets.get(server)
            old = {c for s, c in state.used if s == server and c != target and c not in state.leaked}
            if not old or server in state.meddled:
                return
        raise BrokenError("L5", f"no server has put its old key away, and yet: {why}")

    def _waived(self, state: State, playbook: PlaybookName) -> Iterator[Move]:
        rollout = state.recorded.running(playbook)
        if rollout is None:
            return
        view = View.of(state.recorded, state.now)
        for agent in state.recorded.playbooks[playbook].agents():
            if agent in rollout.waived:
                continue
            self.stage.put_on(state)
            event = ev.AgentsWaived(rollout=rollout.id, agents={agent: waiver_cost(view, agent)})
            self.stage.ledger.append([event], onto=state.recorded, at=state.now)
            after = self.stage.taken_off(state, waived=state.waived | {agent})
            yield _costing(Move(label=("waive", agent), after=after), waivers=state.left.waivers - 1)

    def _compromised(self, state: State) -> Iterator[Move]:
        for credential in state.recorded.credentials.values():
            if credential.public is None or credential.state is KeyState.REMOVED or credential.ended:
                continue
            self.stage.put_on(state)
            event = ev.KeyEnded(credential=credential.id, how=KeyState.COMPROMISED, reason="it leaked")
            self.stage.ledger.append([event], onto=state.recorded, at=state.now)
            leaked = state.leaked | {credential.id}
            ended = self.stage.taken_off(state, leaked=leaked)
            spent = _costing(
                Move(label=("compromise", credential.state), after=ended),
                compromises=state.left.compromises - 1,
            )
            yield spent

    # What befalls hosts, ledger and visits

    def _others(self, state: State) -> Iterator[Move]:
        left = state.left
        if left.ageing:
            after = replace(state, now=state.now + self._old_age(state))
            yield _costing(Move(label=("age",), after=after), ageing=left.ageing - 1)
        if state.late is not None:
            yield self._arrived(state, state.late)
        if left.snapshots and state.snapshot is None:
            for host in self.every_host:
                yield Move(label=("snapshot", host), after=replace(state, snapshot=(host, state.hosts[host])))
        if left.snapshots and state.snapshot is not None:
            yield self._rolled_back(state, *state.snapshot)
        if left.backups and state.backup is None:
            kept = Backup(recorded=state.recorded, vault=state.vault)
            yield Move(label=("backup",), after=replace(state, backup=kept))
        if left.backups and state.backup is not None:
            yield from self._restored(state, state.backup)

    def _old_age(self, state: State) -> Any:
        return max(d.rollout.proof_age for d in state.asked.values())

    def _arrived(self, state: State, late: Late) -> Move:
        host = late.visit.endpoint.host
        there, _ = obey(state.hosts[host], late.visit, now=state.now, random=self.stage.numbers)
        after = replace(state, hosts={**state.hosts, host: there}, late=None)
        return self._settled(state, after, ("arrives", host), {host: there})

    def _rolled_back(self, state: State, host: HostName, then: HostState) -> Move:
        """Someone puts an earlier image of a host back."""
        hosts = {**state.hosts, host: then}
        held = frozenset(edge for edge in state.held if host not in edge)
        after = replace(
            state,
            hosts=hosts,
            held=held,
            used=frozenset(u for u in state.used if u[0] != host),
            meddled=state.meddled | {host},
            adrift=state.adrift | {host},
            snapshot=None,
        )
        using = live(after, host)
        listeners = {a for a, s in edges(state.recorded) if s == host}
        if using is not None and all(trusts(after, a, host, using) for a in listeners):
            after = replace(after, used=after.used | {(host, using)})
        return _costing(Move(label=("rollback", host), after=after), snapshots=state.left.snapshots - 1)

    def _restored(self, state: State, backup: Backup) -> Iterator[Move]:
        """An older ledger and vault are put back: no harm, or refused (S9)."""
        if not backup.passed:
            after = replace(state, recorded=backup.recorded, vault=backup.vault, backup=None)
            yield _costing(Move(label=("restore",), after=after), backups=state.left.backups - 1)
            return
        for host in sorted(backup.passed):
            surveys = {host: survey(state.hosts[host])}
            for asked in state.asked.values():
                if host not in asked.endpoints:
                    continue
                with suppress(RefusedError):
                    make_plan(asked, backup.recorded, surveys, now=state.now, random=self.stage.numbers)
                    raise BrokenError("S9", f"a restored ledger goes on, though {host} has seen a later one")


def surveyed_event(state: State, host: HostName) -> Recorded:
    """The record after a run has asked this host what it holds."""
    event = ev.HostsSurveyed(surveys={host: survey(state.hosts[host])}, failures={})
    return fold(state.recorded, _entries([event], state.recorded, state.now))


def _costing(move: Move, **left: int) -> Move:
    return replace(move, after=replace(move.after, left=replace(move.after.left, **left)))


def _lines(errand: engine.Errand) -> Any:
    bundle = errand.intent.bundle
    return bundle.lines if bundle is not None else tuple(p.line for p in errand.intent.proves)


def _told(fates: Mapping[HostName, tuple[bool, int]]) -> tuple[tuple[str, bool, int], ...]:
    return tuple((host, known, done) for host, (known, done) in fates.items())


def _home_words(decision: Decision) -> tuple[str, ...]:
    words = {
        "make": decision.make,
        "certify": decision.certify,
        "destroy": decision.destroy,
        "end": decision.ended,
        "halt": decision.halt,
        "waive": decision.waive,
    }
    return tuple(word for word, what in words.items() if what)
