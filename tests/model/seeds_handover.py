"""Faults put into the engine and its loop: what is done, and in which order."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest.mock import patch

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import TrustedKey
from orchestrator.keys.material import Random
from orchestrator.operations.tenure import Tenure
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation import engine, revert
from orchestrator.rotation import events as ev
from orchestrator.rotation import visits as vs
from orchestrator.rotation.bundles import Press, wanted_lines
from orchestrator.rotation.errands import Errand, ServerErrands
from orchestrator.rotation.recorded import Credential, Recorded, Rollout, Standing, TrustLine
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId
from tests.model import people
from tests.model.configurations import fleet, sharing, whole_runs
from tests.model.mutant import Patches, Seeds

ONE = fleet(1, 1, new_keys=1)
REVERTING = fleet(1, 1, new_keys=1, reverts=1)
STANDING_STILL = fleet(1, 1, new_keys=1, pauses=1, nearing=1, faults=0)
SEEDS = Seeds()


@SEEDS.fault("activates without proof", ONE, "S6")
def _without_proof() -> Patches:
    yield patch.object(View, "unproven", lambda _view, _server: ())


@SEEDS.fault("does not wait for messages in flight", ONE, "S7")
def _retires_early() -> Patches:
    real = View.droppable_at

    def at_once(view: View, server: HostName, credential: CredentialId) -> datetime | None:
        return None if real(view, server, credential) is None else view.now

    yield patch.object(View, "droppable_at", at_once)


@SEEDS.fault("writes no intent before a visit", ONE, "S3")
def _no_intent() -> Patches:
    yield _unwritten(ev.VisitsIntended)


@SEEDS.fault("makes a key before it is written that one is made", ONE, "S3")
def _no_intent_to_make() -> Patches:
    yield _unwritten(ev.KeyMakingIntended)


def _unwritten(kind: type[ev.Event]) -> AbstractContextManager[Any]:
    real = Tenure.intend

    def intend(tenure: Tenure, events: Sequence[ev.Event]) -> bool:
        return isinstance(events[0], kind) or real(tenure, events)

    return patch.object(Tenure, "intend", intend)


@SEEDS.fault("erases before it disarms", ONE, "S7")
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


@SEEDS.fault("makes bundles from one playbook alone", whole_runs(sharing(1, new_keys=1)), "S1")
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


@SEEDS.fault("goes back onto a compromised key", fleet(1, 1, new_keys=1, reverts=1, compromises=1), "S6")
def _onto_compromised() -> Patches:
    real = revert.plan_revert

    def unaware(recorded: Recorded, rollout: Rollout, *, random: Random) -> ev.RolloutStarted:
        sound = {name: replace(known, ended=None) for name, known in recorded.credentials.items()}
        return real(replace(recorded, credentials=sound), rollout, random=random)

    yield patch.object(people, "plan_revert", unaware)
    yield patch.object(Credential, "compromised", property(lambda _credential: False))


@SEEDS.fault("skips disarming", ONE, "S1", "S7")
def _skips_disarm() -> Patches:
    def active_only(recorded: Recorded, server: HostName) -> frozenset[CredentialId]:
        record = recorded.servers.get(server)
        placements = record.placements.items() if record is not None else ()
        return frozenset(c for c, placement in placements if placement.standing is Standing.ACTIVE)

    yield patch.object(View, "armed", lambda _view, _server: False)
    yield patch.object(Recorded, "may_sign", active_only)


@SEEDS.fault("lets agents drop a key before it is disarmed", ONE, "S1")
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


@SEEDS.fault("does not wait for an agent that joins", fleet(2, 1, joining=True, new_keys=1), "S6")
def _ignores_joiner() -> Patches:
    real = View._find_unproven

    def unproven(view: View, server: HostName) -> Iterator[HostName]:
        for agent in real(view, server):
            record = view.recorded.agents.get(agent)
            if record is not None and record.installed is not None:
                yield agent

    yield patch.object(View, "_find_unproven", unproven)


@SEEDS.fault("gives agents the new key alone", ONE, "S1")
def _new_only() -> Patches:
    def lines(view: View, agent: HostName, _steps: Mapping[HostName, Any]) -> frozenset[TrustLine]:
        targets = {server: view.target(server) for server in view.listens[agent] if view.staged(server)}
        return frozenset(TrustLine(server=s, credential=c) for s, c in targets.items() if c is not None)

    yield patch.object(engine, "wanted_lines", lines)


@SEEDS.fault("takes no rollout back once a server has switched", REVERTING, "L5")
def _no_way_back() -> Patches:
    real = revert._earlier

    def earlier(recorded: Recorded, rollout: Rollout, server: HostName) -> CredentialId:
        target = rollout.targets.get(server)
        placement = recorded.servers[server].placements.get(target) if target is not None else None
        if placement is not None and placement.standing is Standing.ACTIVE:
            raise RefusedError("it has switched")
        return real(recorded, rollout, server)

    yield patch.object(revert, "_earlier", earlier)


@SEEDS.fault("gives bundles no end to their keys", ONE, "S10")
def _no_expiry() -> Patches:
    real = Press._signers

    def signers(press: Press, lines: frozenset[TrustLine]) -> Iterator[TrustedKey]:
        return (replace(key, expires=None) for key in real(press, lines))

    yield patch.object(Press, "_signers", signers)


@SEEDS.fault("never raises the sequence", ONE, "L1")
def _same_position() -> Patches:
    real = Press.__init__

    def begin(press: Press, recorded: Recorded) -> None:
        real(press, recorded)
        press.position = recorded.position

    yield patch.object(Press, "__init__", begin)


@SEEDS.fault("never ends a rollout", ONE, "L1")
def _never() -> Patches:
    yield patch.object(engine._Round, "_ended", lambda _question: iter(()))


@SEEDS.fault("does not visit a waived agent when it is seen again", fleet(2, 1, new_keys=1, waivers=1), "S10")
def _leaves_waived() -> Patches:
    real = engine._Round.__init__

    def begin(question: Any, recorded: Recorded, playbook: PlaybookName, **how: Any) -> None:
        real(question, recorded, playbook, **how)
        waived = recorded.waived(playbook)
        question._agents = [agent for agent in question._agents if agent not in waived]

    yield patch.object(engine._Round, "__init__", begin)


@SEEDS.fault("does not prolong what is in use while a rollout stands still", STANDING_STILL, "L4")
def _never_prolongs() -> Patches:
    yield patch.object(engine, "to_prolong", lambda _view, _servers: iter(()))


@SEEDS.fault("prolongs a key and does not tell agents", STANDING_STILL, "L4")
def _tells_no_later_end() -> Patches:
    real = Press._signers

    def signers(press: Press, lines: frozenset[TrustLine]) -> Iterator[TrustedKey]:
        known = {c.public: c for c in press._recorded.credentials.values()}
        return (
            replace(key, expires=known[key.public].not_after + known[key.public].grace)
            for key in real(press, lines)
        )

    yield patch.object(Press, "_signers", signers)
