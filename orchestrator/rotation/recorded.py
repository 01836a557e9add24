"""What the ledger says: the state that all entries add up to, and the questions it answers.

``evolve.py`` is the only place that makes a new ``Recorded`` from an old one. Uncertainty is explicit: the
intent of a visit whose end is not known stays in ``pending``, and every question that safety depends on
("who may sign with this?", "what may this agent trust?") counts it as if it had happened *and* as if it
had not (S3).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from orchestrator.errors import IssuerError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.bundle import Position
from orchestrator.keys.material import SpkiDigest
from orchestrator.keys.revocation import Revoked, SignedCrl
from orchestrator.keys.token import Token
from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.rotation.credentials import Copy, CopyId, Credential, IssuerRecord
from orchestrator.rotation.holdings import (
    FOREIGN,
    NO_ISSUER,
    SIGNING,
    Evidence,
    Filled,
    Installed,
    Intent,
    Placement,
    Proof,
    Standing,
    TrustLine,
)
from orchestrator.rotation.observed import Obstacle
from orchestrator.rotation.parts import (
    NOWHERE,
    AgentRecord,
    Backup,
    BackupId,
    Contact,
    Keeping,
    Lease,
    Rollout,
    RolloutId,
    ServerRecord,
)
from orchestrator.rotation.visits import CredentialId

__all__ = [
    "FOREIGN",
    "NOWHERE",
    "NO_ISSUER",
    "SIGNING",
    "AgentRecord",
    "Backup",
    "BackupId",
    "Contact",
    "Copy",
    "CopyId",
    "Credential",
    "Evidence",
    "Filled",
    "Installed",
    "Intent",
    "IssuerRecord",
    "Keeping",
    "Lease",
    "Placement",
    "Proof",
    "Recorded",
    "Rollout",
    "RolloutId",
    "ServerRecord",
    "Standing",
    "TrustLine",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The fleet as the ledger knows it.

    Attributes:
        version: the number of the last entry; 0: an empty ledger.
        head: the digest (hex) of the last entry.
        written: when the last entry was, by the controller's clock; None: an empty ledger.
        fleet: the fleet's id; empty: not founded yet.
        root, issuer: certificates (PEM) of the root and the issuing CA that certifies now.
        token: the one that keeps their private keys; None: the home does.
        issuers: every issuer there has been, in the order in which they were thought of.
        generation: of the fence.
        position: of the last bundles given out.
        playbooks: what each playbook asked for when its last rollout started.
        endpoints: how each host was last reached; kept for hosts that have left the inventory.
        pending: visits whose end is not known.
        rollouts: in the order in which they started.
        lease: None: nobody is handing over.
        stopped: why nothing is written for the fleet any more; empty: it is.
        backups: those whose files may be there.
        keeping: None: nobody has said where backups are to be written before rollouts.
        unmet: hosts that were not asked when the home was restored, with what that costs, until they are.
        sure_of_issuer: False: it was restored, and nobody has said that its issuer has not leaked since.
        superseded: agents that were met with an issuer that it does not know, as long as it is not sure.
        crls: the newest list of revoked certificates of each authority, by its key.
        revoked: what the newest lists have, by serial.
        server_stores, agent_stores: what hosts have elsewhere as the one or the other; no entry: nothing.
        obstacles: what keeps hosts from filling the stores that they are to have; no entry: nothing.
    """

    version: int = 0
    head: str = ""
    written: datetime | None = None
    fleet: str = ""
    root: str = ""
    issuer: str = ""
    token: Token | None = None
    issuers: tuple[IssuerRecord, ...] = ()
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
    sure_of_issuer: bool = True
    superseded: tuple[HostName, ...] = ()
    crls: Mapping[SpkiDigest, SignedCrl] = field(default_factory=dict)
    revoked: Mapping[str, Revoked] = field(default_factory=dict)

    backups: Mapping[BackupId, Backup] = field(default_factory=dict)
    keeping: Keeping | None = None
    server_stores: Mapping[HostName, Filled] = field(default_factory=dict)
    agent_stores: Mapping[HostName, Filled] = field(default_factory=dict)
    obstacles: Mapping[HostName, tuple[Obstacle, ...]] = field(default_factory=dict)

    def line(self, server: HostName, credential: CredentialId) -> TrustLine:
        """What an agent has to hold to accept what the server signs with a credential.

        Of a credential that is not certified yet it is what it will be if the fleet's own issuer does that.
        """
        known = self.credentials[credential]
        if not known.delegated:
            return TrustLine(server=server, credential=credential)
        certified = server in known.issuers
        issuer = self.issuer_of(known, server) if certified else self.own_issuers()[-1].key
        return TrustLine(server=server, issuer=issuer)

    def issuer_of(self, credential: Credential, server: HostName) -> SpkiDigest:
        """Who has certified a credential for a server; ``FOREIGN``: none of the fleet's own."""
        return credential.issuers[server] or self.own_issuers()[0].key

    def own_issuers(self) -> tuple[IssuerRecord, ...]:
        """The fleet's own issuers, of which the last certifies now."""
        return tuple(issuer for issuer in self.issuers if issuer.certificate)

    def own_issuer(self, key: SpkiDigest | None) -> IssuerRecord:
        """The fleet's own issuer of a key; for None the one that certifies now.

        Raises:
            IssuerError: there is none.
        """
        own = self.own_issuers()
        found = own[-1] if key is None else next((issuer for issuer in own if issuer.key == key), None)
        if found is None:
            raise IssuerError(f"issuer {key} is none of this fleet's")
        return found

    def is_replaced(self, issuer: SpkiDigest) -> bool:
        """Whether it is one of the fleet's own, and another one certifies now."""
        earlier = self.own_issuers()[:-1]
        return any(one.key == issuer for one in earlier)

    def carried_issuers(self, bundle: Installed) -> tuple[SpkiDigest, ...]:
        """The issuers that a bundle carries."""
        return bundle.issuers or (self.own_issuers()[0].key,)

    def obstacles_to(self, role: Literal["server", "agent"], host: HostName) -> tuple[Obstacle, ...]:
        """What keeps a host from filling its stores in one of its roles."""
        return tuple(one for one in self.obstacles.get(host, ()) if one.role == role)

    def backups_of(self, credential: CredentialId) -> tuple[Backup, ...]:
        """The backups that may hold a private key, the oldest first."""
        found = (backup for backup in self.backups.values() if credential in backup.keys)
        return tuple(sorted(found, key=lambda backup: (backup.taken, backup.id)))

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

    def asked_for(self, desired: Desired) -> "Recorded":
        """The same fleet, with a playbook that asks for this."""
        return replace(self, playbooks=MappingProxyType({**self.playbooks, desired.playbook: desired}))

    def running(self, playbook: PlaybookName) -> Rollout | None:
        """The rollout of a playbook that is under way."""
        return next(
            (r for r in self.rollouts.values() if r.playbook == playbook and r.ended is None),
            None,
        )

    def awaited_since(self, playbook: PlaybookName, host: HostName) -> datetime | None:
        """Since when a host keeps the playbook's rollout waiting, fails, or misses a key; None: it does not.

        One that answers surveys and refuses whatever changes it keeps a rollout waiting all the same.
        """
        rollout, contact, server = self.running(playbook), self.contacts.get(host), self.servers.get(host)
        told = rollout.awaited.get(host) if rollout is not None else None
        failing = contact.failing_since if contact is not None else None
        missing = min(server.missing.values(), default=None) if server is not None else None
        return told or failing or missing

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
        """Credentials the server may be signing with, or go back to by itself; also those it misses."""
        record = self.servers.get(server)
        if record is None:
            return frozenset()
        signing = {c for c, placement in record.placements.items() if placement.standing in SIGNING}
        signing.update(record.missing)
        intent = self.pending.get(server)
        if intent is not None and intent.activates is not None:
            signing.add(intent.activates)
        return frozenset(signing)

    def may_hold(self, server: HostName) -> frozenset[CredentialId]:
        """Credentials whose private key the server may hold, in whatever standing."""
        record = self.servers.get(server)
        intent = self.pending.get(server)
        held = frozenset((*record.placements, *record.missing)) if record is not None else frozenset()
        filled = self.server_stores.get(server)
        if filled is not None and filled.credential in self.credentials:
            held |= {filled.credential}
        return held | frozenset(intent.stages) if intent is not None else held

    def bundles(self, agent: HostName) -> Iterator[Installed]:
        """The bundles the agent may be using: the one it is known to have, and one that may have come.

        Where its programs may not have been told of it, those of before as well.
        """
        record = self.agents.get(agent)
        if record is not None:
            yield from record.earlier
        if record is not None and record.installed is not None:
            yield record.installed
        intent = self.pending.get(agent)
        if intent is not None and intent.bundle is not None:
            yield intent.bundle

    def settled_bundle(self, agent: HostName) -> Installed | None:
        """The bundle the agent and its programs certainly use; None: it has none, or it is not certain."""
        intent = self.pending.get(agent)
        if intent is not None and intent.bundle is not None:
            return None
        record = self.agents.get(agent)
        return record.installed if record is not None and not record.untold else None

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
