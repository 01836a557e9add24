"""Where each server's handover stands: the walk down ``lifecycle.STEPS``.

``View`` collects once what many hosts ask for (who listens to whom, who trusts what), so that working out
all servers is linear in hosts and trust lines. Nothing here decides anything: it says which row of the
table does not hold yet, whom that row waits for, and until when.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self, assert_never

from orchestrator.inventory.model import HostName
from orchestrator.rotation.lifecycle import STEPS, Step
from orchestrator.rotation.recorded import Recorded, Standing, TrustLine
from orchestrator.rotation.settle import proves
from orchestrator.rotation.visits import CredentialId


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The record at one instant, with what all servers share worked out.

    Attributes:
        listeners: the agents that are to listen to a server.
        trusting: the agents that may trust a server with a credential, by line.
    """

    recorded: Recorded
    now: datetime
    listens: Mapping[HostName, frozenset[HostName]]
    listeners: Mapping[HostName, tuple[HostName, ...]]
    trusting: Mapping[HostName, Mapping[CredentialId, tuple[HostName, ...]]]

    @classmethod
    def of(cls, recorded: Recorded, now: datetime) -> Self:
        """The view of a record."""
        trusting: dict[HostName, dict[CredentialId, list[HostName]]] = {}
        for agent in sorted({*recorded.agents, *recorded.pending}):
            for line in {line for bundle in recorded.bundles(agent) for line in bundle.lines}:
                trusting.setdefault(line.server, {}).setdefault(line.credential, []).append(agent)
        return cls(
            recorded=recorded,
            now=now,
            listens=recorded.listens(),
            listeners=recorded.listeners(),
            trusting={
                server: {credential: tuple(agents) for credential, agents in by_credential.items()}
                for server, by_credential in trusting.items()
            },
        )

    def target(self, server: HostName) -> CredentialId | None:
        """What the server is to end up with."""
        return self.recorded.servers[server].target

    def staged(self, server: HostName) -> bool:
        """Whether the server has its target beside or in use, and has signed with it."""
        target = self.target(server)
        placement = self.recorded.servers[server].placements.get(target) if target is not None else None
        return (
            placement is not None
            and placement.claim is not None
            and placement.standing in {Standing.STAGED, Standing.STANDBY, Standing.ACTIVE}
        )

    def outgoing(self, server: HostName) -> tuple[CredentialId, ...]:
        """Credentials that the server, or agents for it, still have and are to lose."""
        record = self.recorded.servers[server]
        known = {*self.recorded.may_hold(server), *self.trusting.get(server, {})}
        return tuple(sorted(known - {record.target}))

    def unproven(self, server: HostName) -> Iterator[HostName]:
        """The agents that have yet to prove the server's target."""
        target = self.target(server)
        if target is None:
            return
        line = TrustLine(server=server, credential=target)
        for agent in self.listeners.get(server, ()):
            if not proves(self.recorded, agent, line):
                yield agent

    def trusting_outgoing(self, server: HostName) -> Iterator[HostName]:
        """The agents that may still trust the server with a credential it is to lose."""
        for credential in self.outgoing(server):
            yield from self.trusting.get(server, {}).get(credential, ())

    def droppable_at(self, server: HostName, credential: CredentialId) -> datetime | None:
        """From when on agents may drop this credential for this server (S7).

        Returns:
            None: not yet known, since the server may still sign with it. A time in the past: at once.
        """
        if credential in self.recorded.may_sign(server):
            return None
        record = self.recorded.servers[server]
        if credential in record.cleared:
            return record.cleared[credential] + self.recorded.credentials[credential].in_flight
        return self.now

    def in_flight(self, server: HostName) -> frozenset[CredentialId]:
        """Credentials it cannot sign with any more, while messages signed with them may be under way."""
        return frozenset(
            credential
            for credential in self.recorded.servers[server].cleared
            if (free_at := self.droppable_at(server, credential)) is not None and free_at > self.now
        )

    def soaked_at(self, server: HostName) -> datetime:
        """When the time the playbook asks between activation and retirement is over."""
        record = self.recorded.servers[server]
        if record.target is None:
            return self.now
        placement = record.placements[record.target]
        return placement.since + self.soak(server)

    def soak(self, server: HostName) -> timedelta:
        """How long the server's playbook lets a new key soak."""
        return self.recorded.playbooks[self.recorded.servers[server].playbook].soak

    def step(self, server: HostName) -> Step:
        """The first row of ``STEPS`` that does not hold for the server."""
        return next((step for step in STEPS if not self._holds(step, server)), Step.DONE)

    def _holds(self, step: Step, server: HostName) -> bool:
        record = self.recorded.servers[server]
        target = self.recorded.credentials[record.target] if record.target is not None else None
        placement = record.placements.get(target.id) if target is not None else None
        uncertain = server in self.recorded.pending
        match step:
            case Step.MAKE:
                return target is None or target.public is not None
            case Step.CERTIFY:
                return target is None or server in target.certificates
            case Step.STAGE:
                return target is None or self.staged(server)
            case Step.PUBLISH:
                return not any(self.unproven(server))
            case Step.ACTIVATE:
                in_use = placement is not None and placement.standing is Standing.ACTIVE
                return target is None or (in_use and not uncertain)
            case Step.SOAK:
                return not self._armed(server) or self.soaked_at(server) <= self.now
            case Step.DISARM:
                return not self._armed(server) and not uncertain
            case Step.WAIT:
                return not self.waits_until(server)
            case Step.DROP:
                return not any(self.trusting_outgoing(server))
            case Step.ERASE:
                return not self.outgoing(server)
            case Step.DONE:
                return False
            case _:
                assert_never(step)

    def _armed(self, server: HostName) -> bool:
        """Whether the server has, within reach of a revert, a credential that it is to lose."""
        placements = self.recorded.servers[server].placements
        outgoing = self.outgoing(server)
        return any(
            c not in placements or placements[c].standing is not Standing.DISARMED
            for c in outgoing
            if c in self.recorded.may_hold(server)
        )

    def waits_until(self, server: HostName) -> datetime | None:
        """The latest instant before which agents must keep an old credential; None: none is ahead."""
        old = {*self.outgoing(server), *self.in_flight(server)} - {self.target(server)}
        instants = [self.droppable_at(server, credential) for credential in old]
        ahead = [instant for instant in instants if instant is not None and instant > self.now]
        return max(ahead, default=None)
