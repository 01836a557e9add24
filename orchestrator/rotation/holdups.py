"""Why servers stand still: for which hosts, or until when (L1)."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.lifecycle import STEPS, Step
from orchestrator.rotation.standing import View
from orchestrator.rotation.walk import Waves, undecided, waves_ahead

PROVING = frozenset({Step.PUBLISH, Step.CONFIRM})
"""The steps that agents' proofs end."""

SOAKING = frozenset({Step.WAVE, Step.SOAK})
"""The steps at which a server waits for others of its rollout."""

Edge = tuple[HostName, HostName]
"""An agent, and a server that it listens to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A server whose handover goes on by itself at some instant."""

    server: HostName
    step: Step
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A host that keeps servers from going on (L1).

    Attributes:
        host: whose visit failed, or whom only runs of another playbook visit.
        servers: whose handover waits for it.
        steps: the steps they wait at, one for each server.
        since: the first moment from which it has kept them waiting without a break.
    """

    host: HostName
    servers: tuple[HostName, ...]
    steps: tuple[Step, ...]
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdups:
    """Where servers stand, to be asked what they wait for.

    Attributes:
        steps: of the servers that are moved.
        all_steps: of every server.
    """

    view: View
    steps: Mapping[HostName, Step]
    all_steps: Mapping[HostName, Step]
    _soaks: dict[Waves, datetime] = field(default_factory=dict)
    _needed: dict[Waves, tuple[tuple[HostName, HostName], ...]] = field(default_factory=dict)

    def waits(self) -> Iterator[Wait]:
        """The servers that go on by themselves once time has passed."""
        for server, step in self.steps.items():
            if step in SOAKING:
                own = self._soaked_at(server) if step is Step.SOAK else self.view.now
                soaked = max(own, self._all_soaked_at(waves_ahead(self.view, server, step)))
                if soaked > self.view.now:
                    yield Wait(server=server, step=step, until=soaked)
            elif step is Step.WAIT:
                until = self.view.waits_until(server)
                if until is not None:
                    yield Wait(server=server, step=step, until=until)
        for server in sorted(self._heard_with_dropping() - self.steps.keys()):
            until = self.view.waits_until(server) if self.all_steps[server] is Step.WAIT else None
            if until is not None:
                yield Wait(server=server, step=Step.WAIT, until=until)

    def _heard_with_dropping(self) -> set[HostName]:
        """Servers that agents trust which have an old key to drop: one's wait defers the drop of all."""
        agents = {
            agent
            for server, step in self.steps.items()
            if step is Step.DROP
            for agent in self.view.trusting_outgoing(server)
        }
        lines = (line for a in agents for bundle in self.view.recorded.bundles(a) for line in bundle.lines)
        return {line.server for line in lines} & self.all_steps.keys()

    def _soaked_at(self, server: HostName) -> datetime:
        """When a server's soak is over, as far as only time is missing."""
        return self.view.soaked_at(server) if self.view.active(server) else self.view.now

    def _all_soaked_at(self, waves: Waves) -> datetime:
        """When the soak of these waves is over, as far as only time is missing."""
        if waves not in self._soaks:
            soaks = (self._soaked_at(server) for server in undecided(self.view, waves))
            self._soaks[waves] = max(soaks, default=self.view.now)
        return self._soaks[waves]

    def blocks(
        self,
        playbook: PlaybookName,
        aside: Mapping[HostName, str],
        elsewhere: Mapping[HostName, PlaybookName],
        unsettled: AbstractSet[HostName],
        unverified: Mapping[Edge, str],
    ) -> Iterator[Block]:
        """Each host that this run does not visit, and that a server, or the end of a rollout, waits for.

        Args:
            playbook: whose servers are moved.
            aside: hosts whose visit failed, with the reason.
            elsewhere: agents that runs of another playbook visit, with that playbook.
            unsettled: agents that have yet to get, or to prove, what they should have.
            unverified: what agents could not verify in this run, with the reason.
        """

        def stopping(server: HostName, step: Step) -> Mapping[HostName, Mapping[str, None]]:
            """The hosts that stop the server's step, each with what it could not verify."""
            found: dict[HostName, dict[str, None]] = {}
            for other, host in self.needed(server, step):
                asked = self.steps.get(other) in PROVING
                doubt = (unverified.get((host, other)) or self._over(other)) if asked else ""
                if host in aside or host in elsewhere or doubt:
                    found.setdefault(host, {}).update({doubt: None} if doubt else {})
            return found

        waiting: dict[HostName, dict[HostName, Step]] = {}
        doubts: dict[HostName, dict[str, None]] = {}
        stopped: dict[HostName | Waves, Mapping[HostName, Mapping[str, None]]] = {}
        for server, step in self.steps.items():
            alike = waves_ahead(self.view, server, step) if step in SOAKING else server
            if alike not in stopped:
                stopped[alike] = stopping(server, step)
            for host, told in stopped[alike].items():
                waiting.setdefault(host, {})[server] = step
                doubts.setdefault(host, {}).update(told)
        for agent in unsettled & aside.keys():
            waiting.setdefault(agent, {})
        for host, servers in sorted(waiting.items()):
            yield Block(
                host=host,
                servers=tuple(servers),
                steps=tuple(servers.values()),
                reason=aside.get(host) or "; ".join(doubts.get(host, ())) or _elsewhere(elsewhere[host]),
                since=self.view.recorded.awaited_since(playbook, host) or self.view.now,
            )

    def _over(self, server: HostName) -> str:
        """Why no agent can prove the server's target any more; empty: it can."""
        ended = self.view.ended(server)
        if ended is None:
            return ""
        playbook = self.view.recorded.servers[server].playbook
        return f"{server} of playbook {playbook!r}: its key ended on {ended:%Y-%m-%d %H:%M:%SZ}"

    def needed(self, server: HostName, step: Step) -> Iterator[tuple[HostName, HostName]]:
        """Whom the server's step waits for, each with the server for whose sake that is."""
        visits = STEPS[step].visits
        if visits == "server" or (step is Step.CERTIFY):
            yield server, server
        elif step is Step.PUBLISH:
            yield from ((server, agent) for agent in self.view.unproven(server))
        elif step is Step.CONFIRM:
            yield from ((server, agent) for agent in self.view.unconfirmed(server))
        elif step is Step.DROP:
            yield from ((server, agent) for agent in self.view.trusting_outgoing(server))
        elif step in SOAKING:
            yield from self._needed_by(waves_ahead(self.view, server, step))

    def _needed_by(self, waves: Waves) -> tuple[tuple[HostName, HostName], ...]:
        """Whom the servers of these waves wait for that have not switched.

        Those that wait for a wave themselves wait for servers that are among these anyway.
        """
        if waves not in self._needed:
            steps = ((s, self.steps.get(s, Step.DONE)) for s in undecided(self.view, waves))
            acting = ((s, step) for s, step in steps if step not in SOAKING and not self.view.active(s))
            self._needed[waves] = tuple(pair for server, step in acting for pair in self.needed(server, step))
        return self._needed[waves]


def _elsewhere(playbook: PlaybookName) -> str:
    return f"only runs of playbook {playbook!r} visit it"
