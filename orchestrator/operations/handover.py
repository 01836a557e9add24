"""The one loop that drives the engine: decide, record the intent, do it, record what came of it.

A run ends when nothing is left to do, when all that is left waits for hosts that failed in this run, or
when the next thing is further away than it may wait. Whatever ends it, killed or not, the next run goes on
from the ledger and from what a survey finds on the hosts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.backups import before_retiring
from orchestrator.operations.lease import take
from orchestrator.operations.making import Making
from orchestrator.operations.tenure import Tenure
from orchestrator.policy.desired import PlaybookName
from orchestrator.ports import Ports
from orchestrator.rotation import events as ev
from orchestrator.rotation import home_events as he
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.engine import Decision, decide
from orchestrator.rotation.errands import Errand
from orchestrator.rotation.holdups import Block, Edge, Wait
from orchestrator.rotation.patience import waivable
from orchestrator.rotation.proofs import disbelief, judge
from orchestrator.rotation.recognition import STOPPED
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.standing import View
from orchestrator.rotation.stranding import spared

NO_PROGRESS = "it reports success, and yet nothing changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Where a run of the handover ended.

    Attributes:
        playbook: whose servers and agents were visited.
        waits: what goes on by itself later; empty unless the run was not to wait that long.
        blocks: the hosts that keep servers from going on.
        costs: by agent that blocks, and may be waived, what that would cost.
        paused: why nothing is done until a person resumes the rollout; empty: it is not paused.
        stopped: whether the run was asked to end before all was done that could be.
        changed: hosts on which something changed.
        visits: how many visits were made.
    """

    recorded: Recorded
    playbook: PlaybookName
    waits: tuple[Wait, ...]
    blocks: tuple[Block, ...]
    costs: Mapping[HostName, str]
    paused: str
    changed: frozenset[HostName]
    visits: int
    stopped: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return not self.waits and not self.blocks and not self.paused and not self.stopped

    def following(self, before: "Result") -> "Result":
        """Where both runs together ended."""
        return replace(self, changed=self.changed | before.changed, visits=self.visits + before.visits)


def nothing_done(recorded: Recorded, playbook: PlaybookName) -> Result:
    """The result of a run that there was no need for."""
    return Result(
        recorded=recorded,
        playbook=playbook,
        waits=(),
        blocks=(),
        costs={},
        paused="",
        changed=frozenset(),
        visits=0,
    )


def hand_over(
    ports: Ports,
    recorded: Recorded,
    playbook: PlaybookName,
    *,
    aside: Mapping[HostName, str],
    wait: timedelta,
    fences: Mapping[HostName, tuple[vs.Fence, ...]] = MappingProxyType({}),
) -> Result:
    """Do all that the engine allows for one playbook.

    Servers that miss the key in use are left as they are, whoever asks, until a person says that it is lost.

    Args:
        ports: the outside things.
        recorded: the ledger as it stands.
        playbook: whose servers and agents are visited.
        aside: hosts not to visit in this run, with the reason.
        wait: how long this run may wait for time to pass, all in all.
        fences: what hosts remember, as their surveys told.

    Raises:
        ConflictError: another controller writes the ledger (S8).
        RefusedError: a host follows another ledger; from now on this home writes nothing any more.
    """
    lost = spared(View.of(recorded, ports.clock.now()), playbook)
    run = _Run(ports, take(recorded, ports), playbook, aside={**lost, **aside}, fences=fences)
    try:
        run.tenure.recorded = before_retiring(ports, run.tenure.recorded, playbook)
        result = run.until(ports.clock.now() + wait)
    finally:
        run.tenure.leave()
    return replace(result, recorded=run.tenure.recorded)


class _Run:
    """One run of the loop."""

    def __init__(
        self,
        ports: Ports,
        recorded: Recorded,
        playbook: PlaybookName,
        *,
        aside: Mapping[HostName, str],
        fences: Mapping[HostName, tuple[vs.Fence, ...]] = MappingProxyType({}),
    ) -> None:
        self.tenure = Tenure(recorded, ports)
        self._making = Making(self.tenure, ports)
        self._ports = ports
        self._playbook = playbook
        self._aside = dict(aside)
        self._unverified: dict[Edge, str] = {}
        self._fences = dict(fences)
        self._changed: set[HostName] = set()
        self._visits = 0
        self._last: Mapping[HostName, object] = {}

    @property
    def recorded(self) -> Recorded:
        """The ledger, as it was last read or written by this run."""
        return self.tenure.recorded

    def until(self, deadline: datetime) -> Result:
        while True:
            self.tenure.look_up()
            now = self._ports.clock.now()
            decision = decide(
                self.recorded,
                self._playbook,
                now=now,
                random=self._ports.entropy,
                aside={**self._aside, **self._making.unmade},
                unissued=self._making.unissued,
                unverified=self._unverified,
            )
            stopped = self._ports.stop.asked and decision.moves
            if not stopped and self._at_home(decision):
                continue
            if not stopped and decision.errands:
                self._run_errands(decision)
                continue
            if not stopped:
                self._await(decision.blocks)
            next_at = min((wait.until for wait in decision.waits), default=None)
            if stopped or self._ports.stop.asked or next_at is None or next_at > deadline:
                return Result(
                    recorded=self.recorded,
                    playbook=self._playbook,
                    waits=decision.waits,
                    blocks=decision.blocks,
                    costs=waivable(
                        View.of(self.recorded, now),
                        self._playbook,
                        [block.host for block in decision.blocks],
                    ),
                    paused=decision.paused,
                    changed=frozenset(self._changed),
                    visits=self._visits,
                    stopped=stopped,
                )
            self._ports.progress.waiting(decision.waits, next_at)
            self.tenure.wait_until(min(next_at, decision.prolong_at or next_at))

    def _await(self, blocks: Sequence[Block]) -> None:
        """Write whom the rollout waits for, where that is news."""
        rollout = self.recorded.running(self._playbook)
        since = {block.host: block.since for block in blocks}
        if rollout is not None and since != rollout.awaited:
            self.tenure.record([ev.HostsAwaited(rollout=rollout.id, since=since)])

    def _at_home(self, decision: Decision) -> bool:
        """Do one kind of what needs no host; whether there was anything to do.

        Only one: it may take long, and whatever others write meanwhile counts for the next.
        """
        running = self.recorded.running(self._playbook)
        if decision.make:
            self._making.make(decision.make)
        elif decision.certify:
            self._making.certify(decision.certify)
        elif decision.prolong:
            why = _kept_waiting(decision)
            self.tenure.intend(
                [ev.KeyProlonged(credential=c, until=end, reason=why) for c, end in decision.prolong]
            )
        elif decision.destroy:
            self._ports.vault.destroy(*decision.destroy)
            self.tenure.record([ev.KeyDestroyed(credential=credential) for credential in decision.destroy])
        elif decision.retire:
            for record in decision.retire:
                self._ports.keys.destroy(record)
            self.tenure.record([he.IssuerKeyDestroyed(record=record) for record in decision.retire])
        elif running is not None and decision.halt:
            self.tenure.intend([ev.RolloutPaused(rollout=running.id, reason=decision.halt)])
        elif running is not None and decision.waive:
            self.tenure.intend([ev.AgentsWaived(rollout=running.id, agents=decision.waive)])
        elif decision.ended:
            self.tenure.intend([ev.RolloutEnded(rollout=rollout) for rollout in decision.ended])
        return decision.at_home

    def _run_errands(self, decision: Decision) -> None:
        """Send the visits out, the intent first; what ended is recorded even when the run is interrupted."""
        errands = {errand.host: errand for errand in self._moving(decision.errands)}
        if not errands:
            return
        if not self.tenure.intend(
            [ev.VisitsIntended(intents=tuple(errand.intent for errand in errands.values()))]
        ):
            self._last = {}
            return
        fence = vs.Fence(
            generation=self.recorded.generation,
            counter=self.recorded.version,
            head=self.recorded.head,
        )
        visits = [self._visit(errand, fence) for errand in errands.values()]
        outcomes: list[rp.Outcome] = []
        self._ports.progress.visiting(decision.phase, errands.keys())
        try:
            for outcome in self._ports.fleet.run(visits):
                believed = judge(self.recorded, errands[outcome.host].orders, outcome)
                outcomes.append(believed)
                self._ports.progress.visited(believed)
                self.tenure.renew()
        finally:
            if outcomes:
                self.tenure.record([ev.VisitsEnded(outcomes=tuple(outcomes))])
        self._visits += len(outcomes)
        for outcome in outcomes:
            self._fences[outcome.host] = (fence,)
            self._take_in(outcome)
        for outcome in outcomes:
            if isinstance(outcome, rp.Refused) and outcome.fenced:
                reason = f"{outcome.host} follows another ledger: {outcome.reason}"
                self.tenure.record([he.ControllerStopped(reason=reason)])
                raise RefusedError(f"{reason}; this home has stopped for good", hint=STOPPED)

    def _moving(self, errands: Iterable[Errand]) -> list[Errand]:
        """The errands that are not the very ones just made: those hosts are put aside."""
        asked = {errand.host: _gist(errand) for errand in errands}
        stuck = {host for host, gist in asked.items() if self._last.get(host) == gist}
        self._aside |= dict.fromkeys(sorted(stuck), NO_PROGRESS)
        self._last = asked
        return [errand for errand in errands if errand.host not in stuck]

    def _visit(self, errand: Errand, fence: vs.Fence) -> vs.Visit:
        return vs.Visit(
            endpoint=self.recorded.endpoints[errand.host],
            orders=tuple(self._making.with_key(order) for order in errand.orders),
            fence=fence,
            remembers=self._fences.get(errand.host),
        )

    def _take_in(self, outcome: rp.Outcome) -> None:
        if isinstance(outcome, rp.Refused) and outcome.unverified:
            for server, verdict in outcome.unverified.items():
                self._unverified[outcome.host, server] = disbelief(server, verdict)
        elif isinstance(outcome, rp.Unreachable | rp.Refused | rp.Failed):
            self._aside[outcome.host] = outcome.reason
        if isinstance(outcome, rp.Unreachable):
            return
        if any(report.changed for report in outcome.reports):
            self._changed.add(outcome.host)
        for report in outcome.reports:
            if isinstance(report, rp.Generated):
                self._making.take_request(outcome.host, report)


def _gist(errand: Errand) -> object:
    """What an errand is for, apart from nonces and positions, to see one that comes back unchanged."""
    intent = errand.intent
    told = (intent.bundle.lines, intent.bundle.content) if intent.bundle is not None else ()
    kinds = tuple(order.kind for order in errand.orders)
    brought = (intent.stages, tuple(sorted(intent.certificates.items())))
    return (kinds, brought, intent.activates, intent.disarms, intent.erases, told, intent.proves)


def _kept_waiting(decision: Decision) -> str:
    """What the successor of a key waits for, in a sentence's part."""
    if decision.paused:
        return f"the rollout is paused: {decision.paused}"
    if decision.blocks:
        first, *others = decision.blocks
        more = f", and {len(others)} more" if others else ""
        return f"it waits for {first.host}: {first.reason}{more}"
    return f"it waits for {_waiting_for(decision.waits)}" if decision.waits else "it cannot go on"


def _waiting_for(waits: tuple[Wait, ...]) -> str:
    steps = sorted({wait.step for wait in waits})
    return " and ".join({"soak": "the soak", "wait": "messages in flight"}.get(step, step) for step in steps)
