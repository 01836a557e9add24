"""What each server's handover depends on: who has what, who has proven it, and until when what is needed.

``View`` collects once what many hosts ask for (who listens to whom, who trusts what), so that working out
all servers is linear in hosts and trust lines. Where a server stands by that is told by ``walk.py``.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from itertools import islice
from typing import Any, Self, TypeVar

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName, Prove, RolloutSpec
from orchestrator.rotation.belief import is_believable, refused_from
from orchestrator.rotation.installing import Manifests
from orchestrator.rotation.recorded import Credential, Recorded, Rollout, Standing, TrustLine
from orchestrator.rotation.settle import proof_of
from orchestrator.rotation.visits import CredentialId

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def once(answer: "Callable[[View, K], T]") -> "Callable[[View, K], T]":
    """A question, about a server or about waves, that a view answers once, however many ask it."""

    @wraps(answer)
    def asked(view: "View", about: K) -> T:
        key = (answer.__name__, about)
        if key not in view.answers:
            view.answers[key] = answer(view, about)
        known: T = view.answers[key]
        return known

    return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The record at one instant, with what all servers share worked out.

    Attributes:
        listeners: the agents that are to listen to a server.
        trusting: the agents that may hold a line of trust in a server.
        manifests: what hosts are to have in their stores.
        answers: what was asked before, by question and whom it is about.
    """

    recorded: Recorded
    now: datetime
    listens: Mapping[HostName, frozenset[HostName]]
    listeners: Mapping[HostName, tuple[HostName, ...]]
    trusting: Mapping[HostName, Mapping[TrustLine, tuple[HostName, ...]]]
    manifests: Manifests
    _lines: dict[tuple[HostName, CredentialId], TrustLine] = field(default_factory=dict)
    answers: dict[tuple[str, Hashable], Any] = field(default_factory=dict)
    _kept: dict[str, tuple[Credential, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, recorded: Recorded, now: datetime) -> Self:
        """The view of a record."""
        trusting: dict[HostName, dict[TrustLine, list[HostName]]] = {}
        for agent in sorted({*recorded.agents, *recorded.pending}):
            if (record := recorded.agents.get(agent)) is not None and record.given_up:
                continue
            for line in {line for bundle in recorded.bundles(agent) for line in bundle.lines}:
                trusting.setdefault(line.server, {}).setdefault(line, []).append(agent)
        return cls(
            recorded=recorded,
            now=now,
            listens=recorded.listens(),
            listeners=recorded.listeners(),
            trusting={
                server: {line: tuple(agents) for line, agents in by_line.items()}
                for server, by_line in trusting.items()
            },
            manifests=Manifests.of(recorded),
        )

    def target(self, server: HostName) -> CredentialId | None:
        """What the server is to end up with."""
        return self.recorded.servers[server].target

    def line(self, server: HostName, credential: CredentialId) -> TrustLine:
        """What an agent has to hold to accept what the server signs with a credential."""
        if (server, credential) not in self._lines:
            self._lines[server, credential] = self.recorded.line(server, credential)
        return self._lines[server, credential]

    def target_line(self, server: HostName) -> TrustLine | None:
        """What agents have to hold to believe the server in the end."""
        target = self.target(server)
        return self.line(server, target) if target is not None else None

    @once
    def may_sign(self, server: HostName) -> frozenset[CredentialId]:
        """Credentials the server may be signing with (``Recorded.may_sign``)."""
        return self.recorded.may_sign(server)

    @once
    def renews(self, server: HostName) -> bool:
        """Whether agents go on to believe the server by what they believe it by, and only its key changes."""
        target = self.target(server)
        if target is None or not self.recorded.credentials[target].delegated:
            return False
        wanted = self.recorded.credentials[target].key.algorithm
        return any(
            self.line(server, old) == self.line(server, target)
            and self.recorded.credentials[old].key.algorithm is wanted
            for old in self.may_sign(server) - {target}
        )

    def staged(self, server: HostName) -> bool:
        """Whether the server has its target beside or in use, and has signed with it."""
        target = self.target(server)
        placement = self.recorded.servers[server].placements.get(target) if target is not None else None
        return (
            placement is not None
            and placement.claim is not None
            and placement.standing in {Standing.STAGED, Standing.STANDBY, Standing.ACTIVE}
        )

    @once
    def outgoing(self, server: HostName) -> tuple[CredentialId, ...]:
        """Credentials that the server, or agents for it, still have and are to lose."""
        record = self.recorded.servers[server]
        trusted = {line.credential for line in self.trusting.get(server, {}) if line.credential}
        return tuple(sorted({*self.recorded.may_hold(server), *trusted} - {record.target}))

    @once
    def outgoing_lines(self, server: HostName) -> tuple[TrustLine, ...]:
        """What agents hold for the server, and are to lose."""
        return tuple(sorted(self.trusting.get(server, {}).keys() - {self.target_line(server)}))

    def compromised(self, credential: CredentialId) -> bool:
        """Whether somebody else may have the key, so that S1, S6 and S7 no longer protect it."""
        return self.recorded.credentials[credential].compromised

    @property
    def leaked(self) -> tuple[Credential, ...]:
        """Leaked credentials with a certificate that has not ended."""
        if "leaked" not in self._kept:
            self._kept["leaked"] = tuple(
                credential
                for credential in self.recorded.credentials.values()
                if credential.compromised
                and credential.public is not None
                and is_believable(self.recorded, credential, self.now)
            )
        return self._kept["leaked"]

    @once
    def is_urgent(self, server: HostName) -> bool:
        """Whether the server may be signing with a compromised key: it waits for nobody then."""
        others = self.may_sign(server) - {self.target(server)}
        return any(self.compromised(c) and not self._is_foreign(server, c) for c in others)

    def to_expel(self, server: HostName) -> tuple[CredentialId, ...]:
        """Compromised credentials on the server that can be taken away at once."""
        placements = self.recorded.servers[server].placements
        return tuple(
            credential
            for credential in self.outgoing(server)
            if credential in placements
            and placements[credential].standing is not Standing.ACTIVE
            and not placements[credential].foreign
            and self.compromised(credential)
        )

    def _is_foreign(self, server: HostName, credential: CredentialId) -> bool:
        placement = self.recorded.servers[server].placements.get(credential)
        return placement is not None and placement.foreign

    def rollout(self, server: HostName) -> Rollout | None:
        """The rollout under way that the server belongs to."""
        return self._running(self.recorded.servers[server].playbook)

    @once
    def _running(self, playbook: PlaybookName) -> Rollout | None:
        return self.recorded.running(playbook)

    def spec(self, server: HostName) -> RolloutSpec:
        """How the server's playbook wants handovers to go."""
        return self.recorded.playbooks[self.recorded.servers[server].playbook].rollout

    def waived(self, server: HostName) -> Mapping[HostName, str]:
        """The agents that the server does not wait for, with the cost (S6)."""
        return self._waived(self.recorded.servers[server].playbook)

    @once
    def _waived(self, playbook: PlaybookName) -> Mapping[HostName, str]:
        return self.recorded.waived(playbook)

    def active(self, server: HostName) -> bool:
        """Whether the server certainly uses its target, and what signs there was told so by the hook."""
        record = self.recorded.servers[server]
        placement = record.placements.get(record.target) if record.target is not None else None
        in_use = placement is not None and placement.standing is Standing.ACTIVE and not placement.hook_due
        return in_use and server not in self.recorded.pending

    @once
    def unproven(self, server: HostName) -> tuple[HostName, ...]:
        """The agents that have yet to prove the server's target, or whose proof is too old to switch on."""
        return tuple(self._find_unproven(server))

    def _find_unproven(self, server: HostName) -> Iterator[HostName]:
        if self.target(server) is None:
            return
        for agent in self.listeners.get(server, ()):
            if agent not in self.waived(server) and not self.proves(agent, server):
                yield agent

    def proves(self, agent: HostName, server: HostName) -> bool:
        """Whether the agent's proof of the server's target counts: of the bundle it uses, young enough (S6).

        Once the server has switched, age no longer matters; nor does it where the server only renews its key,
        since what was proven is what the agent believes the server by every day.
        """
        proof = proof_of(self.recorded, agent, server, self.target_line(server))
        if proof is None or proof.at is None:
            return False
        settled = self.active(server) or self.renews(server)
        return settled or proof.at + self.spec(server).proof_age > self.now

    def ended(self, server: HostName) -> datetime | None:
        """Since when agents refuse the server's target, so that none can prove it; None: they do not."""
        target, line = self.target(server), self.target_line(server)
        if target is None or line is None or server not in self.recorded.credentials[target].certificates:
            return None
        end = refused_from(self.recorded, line, self.recorded.credentials[target])
        return end if end <= self.now else None

    @once
    def unconfirmed(self, server: HostName) -> frozenset[HostName]:
        """The agents that have yet to verify what the server signed after its switch."""
        return frozenset(self._find_unconfirmed(server))

    def _find_unconfirmed(self, server: HostName) -> Iterator[HostName]:
        record, rollout = self.recorded.servers[server], self.rollout(server)
        if record.target is None or rollout is None or not self.active(server):
            return
        canary = any(server in wave for wave in self.waves(record.playbook)[:1])
        switched = any(server in wave for wave in rollout.waves)
        if not (canary or (switched and self.spec(server).prove is Prove.DIRECT)):
            return
        claim = record.placements[record.target].claim
        delegated = self.recorded.credentials[record.target].delegated
        for agent in self.listeners.get(server, ()):
            proof = proof_of(self.recorded, agent, server, self.target_line(server))
            seen = proof is not None and claim is not None and proof.nonce == claim.challenge.nonce
            # Whoever has proven the issuer before the rollout began has nothing new to prove.
            known = delegated and proof is not None and proof.at is not None and proof.at <= rollout.started
            if agent not in rollout.waived and not seen and not known:
                yield agent

    def trusting_outgoing(self, server: HostName) -> Iterator[HostName]:
        """The agents that may still trust the server with a credential it is to lose."""
        for line in self.outgoing_lines(server):
            for agent in self.trusting[server][line]:
                if agent not in self.waived(server):
                    yield agent

    def droppable_at(self, server: HostName, credential: CredentialId) -> datetime | None:
        """From when on agents may drop this credential for this server (S7).

        Returns:
            None: not yet known, since the server may still sign with it. A time in the past: at once.
        """
        if self.compromised(credential):
            return self.now
        if credential in self.may_sign(server):
            return None
        record = self.recorded.servers[server]
        if credential in record.cleared:
            return record.cleared[credential] + self.recorded.credentials[credential].in_flight
        return self.now

    def line_droppable_at(self, line: TrustLine) -> datetime | None:
        """From when on agents may drop a line: once no credential that it covers is needed any more (S7)."""
        if line.credential:
            return self.droppable_at(line.server, line.credential)
        record = self.recorded.servers[line.server]
        covered = (
            credential
            for credential in (*self.may_sign(line.server), *record.cleared)
            if self.line(line.server, credential) == line
        )
        instants = [self.droppable_at(line.server, credential) for credential in covered]
        known = [instant for instant in instants if instant is not None]
        return None if len(known) < len(instants) else max(known, default=self.now)

    @once
    def in_flight(self, server: HostName) -> frozenset[CredentialId]:
        """Credentials it cannot sign with any more, while messages signed with them may be under way."""
        return frozenset(
            credential
            for credential in self.recorded.servers[server].cleared
            if (free_at := self.droppable_at(server, credential)) is not None and free_at > self.now
        )

    def soaked_at(self, server: HostName) -> datetime:
        """When a server that has switched has been watched for the time the playbook asks."""
        record = self.recorded.servers[server]
        if record.target is None:
            return self.now
        return record.placements[record.target].since + self.spec(server).soak

    @once
    def waves(self, playbook: PlaybookName) -> tuple[tuple[HostName, ...], ...]:
        """Its rollout's waves, without servers that are left as they are: the next is the canary then."""
        rollout = self._running(playbook)
        if rollout is None:
            return ()
        going = iter([s for wave in rollout.waves for s in wave if not self._left_out(s)])
        return tuple(tuple(islice(going, len(wave))) for wave in rollout.waves)

    def _left_out(self, server: HostName) -> bool:
        """Whether it cannot fill its stores, and does not sign with its new key."""
        if server not in self.recorded.servers or not self.recorded.obstacles_to("server", server):
            return False
        return not self.is_urgent(server) and self.target(server) not in self.may_sign(server)

    def missing(self, server: HostName) -> tuple[CredentialId, ...]:
        """Old credentials that are not to be seen on the server, though it may still sign with them."""
        record = self.recorded.servers[server]
        outgoing = self.outgoing_lines(server)
        return tuple(sorted(c for c in record.missing if self.line(server, c) in outgoing))

    def armed(self, server: HostName) -> bool:
        """Whether the server has, within reach of a revert, a credential that it is to lose."""
        record, placements = self.recorded.servers[server], self.recorded.servers[server].placements
        held = self.recorded.may_hold(server) - record.missing.keys()
        if self.target(server) is None and server in self.recorded.server_stores:
            return True
        return any(
            c not in placements or placements[c].standing is not Standing.DISARMED
            for c in self.outgoing(server)
            if c in held
        )

    def waits_until(self, server: HostName) -> datetime | None:
        """The latest instant before which agents must keep an old credential; None: none is ahead."""
        old = {*self.outgoing(server), *self.in_flight(server)} - {self.target(server)}
        instants = [self.droppable_at(server, credential) for credential in old]
        instants += [self.line_droppable_at(line) for line in self.outgoing_lines(server)]
        ahead = [instant for instant in instants if instant is not None and instant > self.now]
        return max(ahead, default=None)
