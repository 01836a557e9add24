"""What the ledger says: the state that all entries add up to, and the questions it answers.

``evolve.py`` is the only place that makes a new ``Recorded`` from an old one. Uncertainty is explicit: the
intent of a visit whose end is not known stays in ``pending``, and every question that safety depends on
("who may sign with this?", "what may this agent trust?") counts it as if it had happened *and* as if it
had not (S3).
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import NewType

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.bundle import Position
from orchestrator.keys.material import PublicKey
from orchestrator.keys.revocation import Revoked, SignedCrl
from orchestrator.keys.token import Token
from orchestrator.policy.desired import Desired, KeySpec, Origin, PlaybookName, ScopeName
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.visits import Challenge, Claim, CredentialId

RolloutId = NewType("RolloutId", str)
"""64 random bits as 16 lowercase hex digits."""


NOWHERE = Position(epoch=0, sequence=0)
"""Before the first bundle."""


class Evidence(StrEnum):
    """How we know that a host holds a key."""

    INTENDED = "intended"
    """A visit was meant to bring it; whether it did is not known."""
    REPORTED = "reported"
    """The visit that brought it said so, with a proof where one is possible."""
    SURVEYED = "surveyed"
    """A survey found it."""


class Standing(StrEnum):
    """Where a credential lies on a server."""

    MADE = "made"
    """Its key was made there and waits for a certificate."""
    STAGED = "staged"
    """Beside the one in use, never used yet."""
    ACTIVE = "active"
    STANDBY = "standby"
    """Was in use, and a revert still reaches it."""
    DISARMED = "disarmed"
    """No revert reaches it; waits to be erased."""


SIGNING = frozenset({Standing.ACTIVE, Standing.STANDBY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One credential on one server.

    Attributes:
        since: when it took this standing.
        claim: the last signature the server made with it that the controller has verified.
        certificate: SHA-256 (hex) of the bytes of its certificate there; empty: none, or not known.
    """

    standing: Standing
    since: datetime
    evidence: Evidence
    claim: Claim | None = None
    certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TrustLine:
    """An agent accepts this server with this credential; two lines are equal whatever their ``since``."""

    server: HostName
    credential: CredentialId
    since: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A bundle on an agent.

    Attributes:
        digest: of its files.
        content: of what it says apart from its position; empty when it says something unknown to the ledger.
        lines: sorted.
    """

    position: Position
    digest: str
    content: str
    lines: tuple[TrustLine, ...]
    evidence: Evidence = Evidence.INTENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """An agent has verified, or is asked to verify, what a server signed.

    Attributes:
        line: the server, and the credential it signed with.
        nonce: what was signed: which of the server's signatures it was.
        at: when it was verified; None: it is asked for.
    """

    line: TrustLine
    nonce: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a visit that was sent out may have done to its host.

    Attributes:
        stages: credentials it may have brought (or had made there).
        activates: the credential it may have put into use.
        disarms, erases: credentials it may have put away.
        bundle: the bundle it may have installed.
        proves: the proofs it asks an agent for, in the order of the claims.
        challenges: what it asks a server to sign, by credential.
        certificates: SHA-256 (hex) of the certificates it may have brought, by credential.
    """

    host: HostName
    stages: tuple[CredentialId, ...] = ()
    activates: CredentialId | None = None
    disarms: tuple[CredentialId, ...] = ()
    erases: tuple[CredentialId, ...] = ()
    bundle: Installed | None = None
    proves: tuple[Proof, ...] = ()
    challenges: Mapping[CredentialId, Challenge] = field(default_factory=dict)
    certificates: Mapping[CredentialId, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """A server: what it has, and what it should end up with.

    Attributes:
        target: None: it has left, and is to end up with nothing.
        cleared: since when it cannot sign any more with a credential that it could sign with (S7).
        given_up: why nobody visits it any more, though it may still hold keys; empty: it is visited.
        set_back: when the server said that switching to its target failed; None: it has not, or did since.
    """

    playbook: PlaybookName
    target: CredentialId | None
    placements: Mapping[CredentialId, Placement] = field(default_factory=dict)
    cleared: Mapping[CredentialId, datetime] = field(default_factory=dict)
    set_back: datetime | None = None
    given_up: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """An agent: the bundle it is known to have, and what it has proven with it.

    Attributes:
        proven: by line the last proof, given with ``installed``; empty whenever that changes.
        given_up: why nobody waits for it or visits it any more; empty: it is part of the fleet.
    """

    installed: Installed | None = None
    proven: Mapping[TrustLine, Proof] = field(default_factory=dict)
    given_up: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """How the last visits to a host went.

    Attributes:
        seen: the last time a visit ended well.
        failing_since: the first of the failures since then; None: none.
        reason: of the last failure.
        skew: what the last answer told of the host's clock (``visits.Changed.skew``).
    """

    seen: datetime | None = None
    failing_since: datetime | None = None
    reason: str = ""
    skew: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One generation of a scope's key.

    Every server of the scope has a certificate of its own over the one key, ending with the cryptoperiod,
    so that a server can join without the others noticing.

    Attributes:
        servers: whom it was made for.
        not_before, not_after: its cryptoperiod.
        in_flight: the longest time that any playbook it was used under lets its messages live (S7).
        grace: how long after its end agents accept it.
        public: None: not made yet.
        certificates: PEM by server.
        chains: PEM by server, from the issuer up to and without the root.
        state_since: when it took its state.
        in_vault: whether the vault may hold its private key.
        ended: ``compromised`` or ``lost``, when a person has said so.
        ended_why: the person's reason.
        prolonged: until when it is kept in use, past ``not_after``, since its successor is kept waiting.
        prolonged_why: what its successor waits for.
        uncertified: servers whose certificate has yet to be made anew for that end.
        superseded: SHA-256 (hex) of the certificates each server was given before the present one.
    """

    id: CredentialId
    playbook: PlaybookName
    scope: ScopeName
    key: KeySpec
    servers: tuple[HostName, ...]
    created: datetime
    not_before: datetime
    not_after: datetime
    in_flight: timedelta
    grace: timedelta
    state: KeyState
    state_since: datetime
    public: PublicKey | None = None
    certificates: Mapping[HostName, str] = field(default_factory=dict)
    chains: Mapping[HostName, str] = field(default_factory=dict)
    in_vault: bool = False
    ended: KeyState | None = None
    ended_why: str = ""
    prolonged: datetime | None = None
    prolonged_why: str = ""
    uncertified: frozenset[HostName] = frozenset()
    superseded: Mapping[HostName, frozenset[str]] = field(default_factory=dict)

    @property
    def is_to_be_made_there(self) -> bool:
        """Whether its server has yet to make it."""
        return self.public is None and self.key.origin is Origin.SERVER

    @property
    def compromised(self) -> bool:
        """Whether somebody else may have it."""
        return self.ended is KeyState.COMPROMISED

    @property
    def ends(self) -> datetime:
        """The end of its certificates: that of its cryptoperiod, or later where its successor waits."""
        return self.prolonged or self.not_after

    @property
    def expires(self) -> datetime:
        """From when on agents refuse it (``exp`` in bundles, S10)."""
        return self.ends + self.grace

    def certificate_digest(self, server: HostName) -> str | None:
        """SHA-256 (hex) of the certificate that a server is to have; None: it has none yet."""
        issued = self.certificates.get(server)
        return hashlib.sha256(issued.encode()).hexdigest() if issued is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One run of the handover.

    Attributes:
        targets: what each server is to end up with; None: it leaves.
        reasons: why, a sentence for each scope or host concerned.
        before: what the playbook asked for until then; None: this was its first rollout.
        waves: the servers that switch keys, in the order of the waves; the first wave is the canary.
        waived: agents that are not waited for, with what that costs.
        paused: why nothing is done until it is resumed; empty: it is not paused.
        reverts: the rollout that this one takes back.
        ended: None: under way.
        replaced_by: the rollout that took over before this one ended.
    """

    id: RolloutId
    playbook: PlaybookName
    started: datetime
    targets: Mapping[HostName, CredentialId | None]
    reasons: tuple[str, ...]
    before: Desired | None = None
    waves: tuple[tuple[HostName, ...], ...] = ()
    waived: Mapping[HostName, str] = field(default_factory=dict)
    paused: str = ""
    reverts: RolloutId | None = None
    ended: datetime | None = None
    replaced_by: RolloutId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The one controller that may hand over (S8).

    Attributes:
        holder: as controllers call themselves (``ports.Controller``).
        since: when it took the lease.
        until: when another one may, unless it is renewed.
    """

    holder: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The fleet as the ledger knows it.

    Attributes:
        version: the number of the last entry; 0: an empty ledger.
        head: the digest (hex) of the last entry.
        fleet: the fleet's id; empty: not founded yet.
        root, issuer: certificates (PEM) of the root and the issuing CA.
        token: the one that keeps their private keys; None: the home does.
        generation: of the fence.
        position: of the last bundles given out.
        playbooks: what each playbook asked for when its last rollout started.
        endpoints: how each host was last reached; kept for hosts that have left the inventory.
        pending: visits whose end is not known.
        rollouts: in the order in which they started.
        lease: None: nobody is handing over.
        stopped: why nothing is written for the fleet any more; empty: it is.
        unmet: hosts that were not asked when the home was restored, with what that costs, until they are.
        crl: None: no list of revoked certificates was ever signed.
        revoked: what the newest list has, by serial.
    """

    version: int = 0
    head: str = ""
    fleet: str = ""
    root: str = ""
    issuer: str = ""
    token: Token | None = None
    generation: int = 0
    position: Position = NOWHERE
    playbooks: Mapping[PlaybookName, Desired] = field(default_factory=dict)
    credentials: Mapping[CredentialId, Credential] = field(default_factory=dict)
    servers: Mapping[HostName, ServerRecord] = field(default_factory=dict)
    agents: Mapping[HostName, AgentRecord] = field(default_factory=dict)
    endpoints: Mapping[HostName, Endpoint] = field(default_factory=dict)
    contacts: Mapping[HostName, Contact] = field(default_factory=dict)
    pending: Mapping[HostName, Intent] = field(default_factory=dict)
    rollouts: Mapping[RolloutId, Rollout] = field(default_factory=dict)
    lease: Lease | None = None
    stopped: str = ""
    unmet: Mapping[HostName, str] = field(default_factory=dict)
    crl: SignedCrl | None = None
    revoked: Mapping[str, Revoked] = field(default_factory=dict)

    def given_up(self, host: HostName) -> bool:
        """Whether nobody visits the host any more."""
        server, agent = self.servers.get(host), self.agents.get(host)
        return bool((server is not None and server.given_up) or (agent is not None and agent.given_up))

    def with_server(self, server: HostName, record: ServerRecord) -> "Recorded":
        """The same fleet, with this record of a server."""
        return replace(self, servers=MappingProxyType({**self.servers, server: record}))

    def with_agent(self, agent: HostName, record: AgentRecord) -> "Recorded":
        """The same fleet, with this record of an agent."""
        return replace(self, agents=MappingProxyType({**self.agents, agent: record}))

    def with_contact(self, host: HostName, contact: Contact) -> "Recorded":
        """The same fleet, with this word of how a host was last reached."""
        return replace(self, contacts=MappingProxyType({**self.contacts, host: contact}))

    def without_pending(self, host: HostName) -> "Recorded":
        """The same fleet, certain again of what a host holds."""
        if host not in self.pending:
            return self
        left = {name: intent for name, intent in self.pending.items() if name != host}
        return replace(self, pending=MappingProxyType(left))

    def running(self, playbook: PlaybookName) -> Rollout | None:
        """The rollout of a playbook that is under way."""
        return next(
            (r for r in self.rollouts.values() if r.playbook == playbook and r.ended is None),
            None,
        )

    def last_rollout(self, playbook: PlaybookName) -> Rollout | None:
        """The newest rollout of a playbook, under way or ended."""
        mine = [rollout for rollout in self.rollouts.values() if rollout.playbook == playbook]
        return mine[-1] if mine else None

    def elsewhere(self, playbook: PlaybookName) -> Mapping[HostName, PlaybookName]:
        """The agents that runs of this playbook do not visit, each with a playbook whose runs do.

        Agents that have left every playbook are visited by the runs of all.
        """
        mine = set(self.playbooks[playbook].agents()) if playbook in self.playbooks else set()
        return {
            agent: name
            for name, desired in self.playbooks.items()
            for agent in desired.agents()
            if name != playbook and agent not in mine
        }

    def waived(self, playbook: PlaybookName) -> Mapping[HostName, str]:
        """The agents that nobody waits for, with the cost: as the newest rollout, even when ended, has it."""
        last = self.last_rollout(playbook)
        return last.waived if last is not None else {}

    def may_sign(self, server: HostName) -> frozenset[CredentialId]:
        """Credentials the server may be signing with, or go back to by itself."""
        record = self.servers.get(server)
        if record is None:
            return frozenset()
        signing = {c for c, placement in record.placements.items() if placement.standing in SIGNING}
        intent = self.pending.get(server)
        if intent is not None and intent.activates is not None:
            signing.add(intent.activates)
        return frozenset(signing)

    def may_hold(self, server: HostName) -> frozenset[CredentialId]:
        """Credentials whose private key the server may hold, in whatever standing."""
        record = self.servers.get(server)
        intent = self.pending.get(server)
        held = frozenset(record.placements) if record is not None else frozenset[CredentialId]()
        return held | frozenset(intent.stages) if intent is not None else held

    def bundles(self, agent: HostName) -> Iterator[Installed]:
        """The bundles the agent may be using: the one it is known to have, and one that may have come."""
        record = self.agents.get(agent)
        if record is not None and record.installed is not None:
            yield record.installed
        intent = self.pending.get(agent)
        if intent is not None and intent.bundle is not None:
            yield intent.bundle

    def settled_bundle(self, agent: HostName) -> Installed | None:
        """The bundle the agent certainly uses; None: it has none, or it is not certain."""
        intent = self.pending.get(agent)
        if intent is not None and intent.bundle is not None:
            return None
        record = self.agents.get(agent)
        return record.installed if record is not None else None

    def allowed_skew(self, host: HostName) -> timedelta:
        """How far the clock of a host may be off: the least that a playbook with it allows (S7)."""
        allowed = [
            desired.messages.clock_skew for desired in self.playbooks.values() if host in desired.endpoints
        ]
        return min(allowed, default=timedelta.max)

    def listens(self) -> Mapping[HostName, frozenset[HostName]]:
        """For each agent of any playbook, the servers it is to listen to."""
        listens: dict[HostName, set[HostName]] = {}
        for desired in self.playbooks.values():
            for trust_set in desired.trust_sets:
                for agent in trust_set.agents:
                    listens.setdefault(agent, set()).update(trust_set.servers)
        return {agent: frozenset(servers) for agent, servers in listens.items()}

    def listeners(self) -> Mapping[HostName, tuple[HostName, ...]]:
        """For each server of any playbook, the agents that are to listen to it, sorted."""
        listeners: dict[HostName, set[HostName]] = {}
        for agent, servers in self.listens().items():
            for server in servers:
                listeners.setdefault(server, set()).add(agent)
        return {server: tuple(sorted(agents)) for server, agents in listeners.items()}
