"""Faults put into the engine, its loop or the hosts, each of which the search has to find.

Each is a few lines over the real thing. ``caught_by`` are the invariants that may be the first to break.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from unittest.mock import patch

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import TrustedKey
from orchestrator.keys.material import Random
from orchestrator.operations.handover import _Run
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation import engine, plan, proofs, revert, settle, surveys
from orchestrator.rotation import events as ev
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.bundles import Press, wanted_lines
from orchestrator.rotation.errands import Errand, ServerErrands
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import Credential, Installed, Recorded, Rollout, Standing, TrustLine
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId
from tests import fake_host
from tests.fake_state import Faults, HostState
from tests.model import people
from tests.model.configurations import fleet, sharing
from tests.model.search import Found
from tests.model.world import Configuration

Patches = Iterator[AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A fault, and where it has to show.

    Attributes:
        configuration: a small one in which it does harm.
        caught_by: the invariants one of which it breaks first.
        patches: what is put in place of what.
    """

    name: str
    configuration: Configuration
    caught_by: tuple[str, ...]
    patches: Callable[[], Patches]

    def is_caught(self, found: Found) -> bool:
        """Whether the search found it, and for the right reason."""
        return bool(found.violations) and found.violations[0].which in self.caught_by

    def seeded(self) -> ExitStack:
        """Within this, the fault is there."""
        stack = ExitStack()
        for each in self.patches():
            stack.enter_context(each)
        return stack


ONE = fleet(1, 1, new_keys=1)
REVERTING = fleet(1, 1, new_keys=1, reverts=1)
REFUSAL = "refuse_newer_hosts" if hasattr(plan, "refuse_newer_hosts") else "_refuse_newer_hosts"
MUTANTS: list[Mutant] = []


def _mutant(
    name: str, configuration: Configuration, *caught_by: str
) -> Callable[[Callable[[], Patches]], Callable[[], Patches]]:
    def keep(patches: Callable[[], Patches]) -> Callable[[], Patches]:
        MUTANTS.append(Mutant(name=name, configuration=configuration, caught_by=caught_by, patches=patches))
        return patches

    return keep


@_mutant("activates without proof", ONE, "S6")
def _without_proof() -> Patches:
    yield patch.object(View, "unproven", lambda _view, _server: ())


@_mutant("does not wait for messages in flight", ONE, "S7")
def _retires_early() -> Patches:
    real = View.droppable_at

    def at_once(view: View, server: HostName, credential: CredentialId) -> datetime | None:
        return None if real(view, server, credential) is None else view.now

    yield patch.object(View, "droppable_at", at_once)


@_mutant("hosts acknowledge a bundle before it is written", ONE, "S3", "S5", "S6", "S1")
def _acknowledges_first() -> Patches:
    real = fake_host.obey

    def obey(state: HostState, visit: vs.Visit, **how: Any) -> tuple[HostState, rp.Outcome]:
        after, outcome = real(state, visit, **how)
        trusted = any(isinstance(order, vs.Trust) for order in visit.orders)
        return (state if trusted else after), outcome

    yield patch.object(fake_host, "obey", obey)


@_mutant("takes a lost answer for a good one", ONE, "S3", "S5", "S6", "S1")
def _believes_silence() -> Patches:
    real = proofs.judge

    def judge(recorded: Recorded, orders: tuple[vs.Order, ...], outcome: rp.Outcome) -> rp.Outcome:
        match orders, outcome:
            case (vs.Trust(bundle=bundle, claims=claims),), rp.Failed(host=host, reports=()):
                verdicts = (rp.Verdict.VALID,) * len(claims)
                report = rp.Trusted(
                    position=bundle.position, digest=bundle.digest, verdicts=verdicts, changed=True
                )
                return rp.Changed(host=host, reports=(report,))
            case _:
                return real(recorded, orders, outcome)

    yield patch("orchestrator.operations.handover.judge", judge)


@_mutant("writes no intent before a visit", ONE, "S3")
def _no_intent() -> Patches:
    yield _unwritten(ev.VisitsIntended)


@_mutant("makes a key before it is written that one is made", ONE, "S3")
def _no_intent_to_make() -> Patches:
    yield _unwritten(ev.KeyMakingIntended)


def _unwritten(kind: type[ev.Event]) -> AbstractContextManager[Any]:
    real = _Run._intend

    def intend(run: _Run, events: Sequence[ev.Event]) -> bool:
        return isinstance(events[0], kind) or real(run, events)

    return patch.object(_Run, "_intend", intend)


@_mutant("hosts keep half of a bundle when a visit breaks off", ONE, "S5", "S1")
def _torn() -> Patches:
    real = fake_host.obey

    def obey(state: HostState, visit: vs.Visit, **how: Any) -> tuple[HostState, rp.Outcome]:
        after, outcome = real(state, visit, **how)
        given = [order.bundle for order in visit.orders if isinstance(order, vs.Trust)]
        if given and isinstance(outcome, rp.Failed) and after.bundle is state.bundle:
            return replace(after, bundle=replace(given[0], keys=given[0].keys[:2])), outcome
        return after, outcome

    yield patch.object(fake_host, "obey", obey)


@_mutant("erases before it disarms", ONE, "S7")
def _erases_first() -> Patches:
    real = ServerErrands.for_step

    def errand(question: Any, server: HostName, step: Any) -> Errand | None:
        found = real(question, server, step)
        if found is None or not isinstance(found.orders[0], vs.Disarm):
            return found
        gone = found.orders[0].credentials
        return replace(
            found, orders=(vs.Erase(credentials=gone),), intent=replace(found.intent, disarms=(), erases=gone)
        )

    yield patch.object(ServerErrands, "for_step", errand)


@_mutant("counts a proof of another bundle", fleet(1, 1, new_keys=1, snapshots=1), "S6")
def _old_proof() -> Patches:
    real = surveys.surveyed

    def surveyed(recorded: Recorded, host: HostName, survey: HostSurvey, at: datetime) -> Recorded:
        after = real(recorded, host, survey, at)
        if host not in recorded.agents:
            return after
        kept = replace(after.agents[host], proven=recorded.agents[host].proven)
        return after.with_agent(host, kept)

    yield patch("orchestrator.rotation.evolve.surveyed", surveyed)
    yield patch.object(settle, "proofs_of", lambda recorded, agent: recorded.agents[agent].proven)


@_mutant("makes bundles from one playbook alone", sharing(1, new_keys=1), "S1")
def _one_playbook() -> Patches:
    asked: list[PlaybookName] = []
    real = engine.decide

    def decide(recorded: Recorded, playbook: PlaybookName, **how: Any) -> engine.Decision:
        asked[:] = [playbook]
        return real(recorded, playbook, **how)

    def lines(view: View, agent: HostName, steps: Mapping[HostName, Any]) -> frozenset[TrustLine]:
        servers = view.recorded.servers
        return frozenset(
            line for line in wanted_lines(view, agent, steps) if servers[line.server].playbook == asked[0]
        )

    yield patch.object(engine, "decide", decide)
    yield patch.object(engine, "wanted_lines", lines)


@_mutant("drops waived agents from the listing", fleet(2, 1, new_keys=1, waivers=1), "S10")
def _forgets_waived() -> Patches:
    real = Recorded.bundles

    def bundles(recorded: Recorded, agent: HostName) -> Iterator[Installed]:
        if not any(agent in rollout.waived for rollout in recorded.rollouts.values()):
            yield from real(recorded, agent)

    yield patch.object(Recorded, "bundles", bundles)


@_mutant("goes back onto a compromised key", fleet(1, 1, new_keys=1, reverts=1, compromises=1), "S6")
def _onto_compromised() -> Patches:
    real = revert.plan_revert

    def unaware(recorded: Recorded, rollout: Rollout, *, random: Random) -> ev.RolloutStarted:
        sound = {name: replace(known, ended=None) for name, known in recorded.credentials.items()}
        return real(replace(recorded, credentials=sound), rollout, random=random)

    yield patch.object(people, "plan_revert", unaware)
    yield patch.object(Credential, "compromised", property(lambda _credential: False))


@_mutant("skips disarming", ONE, "S1", "S7")
def _skips_disarm() -> Patches:
    def active_only(recorded: Recorded, server: HostName) -> frozenset[CredentialId]:
        record = recorded.servers.get(server)
        placements = record.placements.items() if record is not None else ()
        return frozenset(c for c, placement in placements if placement.standing is Standing.ACTIVE)

    yield patch.object(View, "armed", lambda _view, _server: False)
    yield patch.object(Recorded, "may_sign", active_only)


@_mutant("lets agents drop a key before it is disarmed", ONE, "S1")
def _drops_early() -> Patches:
    real = View.droppable_at

    def at_once(view: View, server: HostName, credential: CredentialId) -> datetime | None:
        done = view.active(server) and credential != view.target(server)
        return view.now if done else real(view, server, credential)

    def lines(view: View, agent: HostName, steps: Mapping[HostName, Any]) -> frozenset[TrustLine]:
        return frozenset(
            line
            for line in wanted_lines(view, agent, steps)
            if not view.active(line.server) or line.credential == view.target(line.server)
        )

    yield patch.object(View, "droppable_at", at_once)
    yield patch.object(engine, "wanted_lines", lines)


@_mutant("hosts take an older bundle", fleet(1, 1, new_keys=1, late=1), "S2")
def _goes_back() -> Patches:
    def trust(desk: Any, order: vs.Trust) -> rp.Report:
        desk._become(bundle=order.bundle)
        return rp.Trusted(
            position=order.bundle.position,
            digest=order.bundle.digest,
            verdicts=desk._verdicts(order.bundle, order.claims),
            changed=True,
        )

    def raise_fence(desk: Any) -> None:
        if desk.fence is not None and (desk.state.fence is None or desk.state.fence < desk.fence):
            desk.state = replace(desk.state, fence=desk.fence)

    real = fake_host._closed

    def closed(state: HostState, visit: vs.Visit, faults: Faults) -> str | None:
        given = [order.bundle.position for order in visit.orders if isinstance(order, vs.Trust)]
        older = given and state.bundle is not None and given[0] < state.bundle.position
        return None if older else real(state, visit, faults)

    yield patch.object(fake_host._Desk, "_trust", trust)
    yield patch.object(fake_host._Desk, "raise_fence", raise_fence)
    yield patch.object(fake_host, "_closed", closed)


@_mutant("hosts obey a controller that was overtaken", fleet(1, 1, new_keys=1, late=1), "S8")
def _stale_fence() -> Patches:
    yield patch.object(fake_host, "_closed", lambda _state, _visit, _faults: None)


@_mutant("does not wait for an agent that joins", fleet(2, 1, joining=True, new_keys=1), "S6")
def _ignores_joiner() -> Patches:
    real = View._find_unproven

    def unproven(view: View, server: HostName) -> Iterator[HostName]:
        for agent in real(view, server):
            record = view.recorded.agents.get(agent)
            if record is not None and record.installed is not None:
                yield agent

    yield patch.object(View, "_find_unproven", unproven)


@_mutant("goes on with an old copy of the ledger", fleet(1, 1, new_keys=1, backups=1), "S9")
def _naive_restore() -> Patches:
    yield patch.object(plan, REFUSAL, lambda _recorded, _surveys: None)


@_mutant("sees an old copy by the bundles alone", fleet(1, 1, new_keys=1, backups=1), "S9")
def _raises_sequence_only() -> Patches:
    real = getattr(plan, REFUSAL)

    def only_bundles(recorded: Recorded, surveyed: Mapping[HostName, HostSurvey]) -> None:
        real(recorded, {host: replace(survey, fence=None) for host, survey in surveyed.items()})

    yield patch.object(plan, REFUSAL, only_bundles)


@_mutant("forgets a switch whose answer is lost", REVERTING, "S1", "S3")
def _forgets_switch() -> Patches:
    def certain(recorded: Recorded, server: HostName) -> frozenset[CredentialId]:
        record = recorded.servers.get(server)
        placements = record.placements.items() if record is not None else ()
        signing = {Standing.ACTIVE, Standing.STANDBY}
        return frozenset(c for c, placement in placements if placement.standing in signing)

    yield patch.object(Recorded, "may_sign", certain)


@_mutant("forgets, when it asks a server, what that could sign with", ONE, "S7")
def _forgets_cleared() -> Patches:
    real = surveys.surveyed

    def surveyed(recorded: Recorded, host: HostName, survey: HostSurvey, at: datetime) -> Recorded:
        after = real(recorded, host, survey, at)
        if host not in recorded.servers:
            return after
        return after.with_server(host, replace(after.servers[host], cleared={}))

    yield patch("orchestrator.rotation.evolve.surveyed", surveyed)


@_mutant("gives agents the new key alone", ONE, "S1")
def _new_only() -> Patches:
    def lines(view: View, agent: HostName, _steps: Mapping[HostName, Any]) -> frozenset[TrustLine]:
        targets = {server: view.target(server) for server in view.listens[agent] if view.staged(server)}
        return frozenset(TrustLine(server=s, credential=c) for s, c in targets.items() if c is not None)

    yield patch.object(engine, "wanted_lines", lines)


@_mutant("takes no rollout back once a server has switched", REVERTING, "L5")
def _no_way_back() -> Patches:
    real = revert._earlier

    def earlier(recorded: Recorded, rollout: Rollout, server: HostName) -> CredentialId:
        target = rollout.targets.get(server)
        placement = recorded.servers[server].placements.get(target) if target is not None else None
        if placement is not None and placement.standing is Standing.ACTIVE:
            raise RefusedError("it has switched")
        return real(recorded, rollout, server)

    yield patch.object(revert, "_earlier", earlier)


@_mutant("gives bundles no end to their keys", ONE, "S10")
def _no_expiry() -> Patches:
    real = Press._signers

    def signers(press: Press, lines: frozenset[TrustLine]) -> Iterator[TrustedKey]:
        return (replace(key, expires=None) for key in real(press, lines))

    yield patch.object(Press, "_signers", signers)


@_mutant("never raises the sequence", ONE, "L1")
def _same_position() -> Patches:
    real = Press.__init__

    def begin(press: Press, recorded: Recorded) -> None:
        real(press, recorded)
        press.position = recorded.position

    yield patch.object(Press, "__init__", begin)


@_mutant("never ends a rollout", ONE, "L1")
def _never() -> Patches:
    yield patch.object(engine._Round, "_ended", lambda _question: iter(()))
