"""An eye on hosts in memory: it knows what they hold, and believes neither the engine nor the ledger.

A key is *hot* on a server while the server could sign with it (it is in use, or was and lies where a revert
reaches it) and for as long after that as a message signed with it may be under way.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position, TrustBundle
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.delegation import Delegation, fault_of
from orchestrator.keys.material import SpkiDigest, load_private
from orchestrator.operations.apply import Applied
from orchestrator.policy.desired import Desired
from orchestrator.rotation.observed import HeldStore, HostSurvey
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.reports import Changed, Outcome, Unchanged
from orchestrator.rotation.visits import CredentialId, Disarm, Survey, Trust, Visit
from tests.fake_fleet import FakeFleet
from tests.fake_state import HostState, survey
from tests.fakes import FakeClock, FakeLedger, FakeVault

Edge = tuple[HostName, HostName]
"""An agent, and a server it listens to."""

MOST_VISITS = 600
"""A run over a handful of hosts that makes more visits than this will never end."""


class ViolationError(AssertionError):
    """An invariant was broken on the hosts."""


@lru_cache(maxsize=65536)
def _vouches(pem: str, bundle: TrustBundle, delegation: Delegation, now: datetime) -> bool:
    certificate = parse_certificate(pem)
    fault = fault_of(
        certificate,
        server=delegation.server,
        issuer=delegation.issuer,
        grace=delegation.grace,
        denied={one.key.spki_digest for one in bundle.denied},
        at=min(now, certificate.not_after),
    )
    return fault is None


def _stores(told: HostSurvey) -> tuple[HeldStore, ...]:
    roles = (told.server_stores, told.agent_stores)
    return tuple(store for stores in roles if stores is not None for store in stores.places)


@dataclass(slots=True)
class Eye:
    """Looks at all hosts after every visit, and raises when an invariant does not hold.

    Attributes:
        held: edges that were seen to hold, and have been asked for ever since.
        meddled: hosts that someone else changed, until keyrelay has surveyed them.
        surveyed: those of them that were surveyed, but whose answer may not have been read yet.
        adrift: hosts whose bundle someone else changed, until keyrelay has given them one.
        waived: agents that nobody has to wait for; what they miss is their own affair.
        leaked: keys that lost their protection.
        stolen: keys that a server uses since someone else put them there, unknown to its agents.
        planted: folders of private keys, by host, that someone else put there.
        used: keys that a server was seen to use, by server.
        armed: those of them that it could sign with when last looked at.
        cooling: until when its messages may be under way, for those it cannot sign with any more.
        in_flight: for those it could ever sign with, the longest time for which its messages were valid then.
        lost_issuers: issuers that only a lost ledger knew; a restored one names their agents, and no more.
        vouchers: the certificates (PEM) that a server was ever seen to have of its keys, by server and key.
        away: what servers have in a base that is not mounted; their services loaded their keys before.
    """

    fleet: FakeFleet
    ledger: FakeLedger
    vault: FakeVault
    clock: FakeClock
    held: set[Edge] = field(default_factory=set)
    meddled: set[HostName] = field(default_factory=set)
    surveyed: set[HostName] = field(default_factory=set)
    adrift: set[HostName] = field(default_factory=set)
    waived: set[HostName] = field(default_factory=set)
    leaked: set[str] = field(default_factory=set)
    stolen: set[tuple[HostName, str]] = field(default_factory=set)
    planted: set[tuple[HostName, str]] = field(default_factory=set)
    used: dict[HostName, set[str]] = field(default_factory=dict)
    armed: set[tuple[HostName, str]] = field(default_factory=set)
    cooling: dict[tuple[HostName, str], datetime] = field(default_factory=dict)
    live: dict[HostName, str | None] = field(default_factory=dict)
    positions: dict[HostName, Position] = field(default_factory=dict)
    in_flight: dict[tuple[HostName, str], timedelta] = field(default_factory=dict)
    vouchers: dict[tuple[HostName, str], set[str]] = field(default_factory=dict)
    lost_issuers: set[SpkiDigest] = field(default_factory=set)
    away: dict[HostName, HostState] = field(default_factory=dict)
    visits: int = 0

    def begins(self) -> None:
        """A run begins."""
        self.visits = 0

    def takes_in_surveys(self) -> None:
        """What surveys told is recorded by now."""
        self.meddled -= self.surveyed
        self.surveyed.clear()

    def visited(self, visit: Visit, outcome: Outcome) -> None:
        self.visits += 1
        if self.visits > MOST_VISITS:
            raise ViolationError(f"L1: no end after {self.visits} visits; the last is {visit}")
        if isinstance(outcome, Changed | Unchanged) and isinstance(visit.orders[0], Survey):
            self.surveyed.add(outcome.host)
        if isinstance(outcome, Changed | Unchanged) and self._is_put_away(visit):
            del self.away[outcome.host]
        given = [order.bundle for order in visit.orders if isinstance(order, Trust)]
        if self.fleet.hosts[outcome.host].heeded in given:
            self.adrift.discard(outcome.host)
        self.look(f"after {[order.kind for order in visit.orders]} on {outcome.host}: {outcome.kind}")

    def before_meddling(self, host: HostName) -> None:
        self._follow_keys()
        self.meddled.add(host)
        self.adrift.add(host)
        self.surveyed.discard(host)

    def after_meddling(self, host: HostName) -> None:
        """Nobody here is to blame for what a host lacks or has now."""
        self.held = {edge for edge in self.held if host not in edge}
        self.positions.pop(host, None)
        live = self.live_key(host)
        self.used[host] = set()
        listeners = {agent for agent, server in self.edges() if server == host}
        if live is not None and any(live not in self.trusted(agent, host) for agent in listeners):
            self.stolen.add((host, live))
        self.live[host] = live
        self._follow_keys()
        state = self.fleet.hosts[host]
        self.planted |= {(host, name) for name in (*state.credentials, *state.disarmed)}

    def _is_put_away(self, visit: Visit) -> bool:
        """Whether a key of a base that is away, brought back from the vault, is put away."""
        away = self.away.get(visit.endpoint.host)
        named = {c for order in visit.orders if isinstance(order, Disarm) for c in order.credentials}
        return away is not None and not named.isdisjoint(away.credentials)

    def base_goes(self, host: HostName) -> None:
        """A base was unmounted: whoever loaded a key from it before goes on signing."""
        self._follow_keys()
        self.away[host] = self.fleet.hosts[host]
        self.fleet.hosts[host] = HostState()
        self.live[host] = None
        self.surveyed.discard(host)

    def base_comes_back(self, host: HostName) -> None:
        """It is mounted again, over whatever was written where it was missing."""
        self.fleet.hosts[host] = self.away.pop(host)
        self.live[host] = self.live_key(host)
        self.meddled.add(host)
        self.surveyed.discard(host)
        self.look(f"once the base of {host} was back")

    def live_key(self, server: HostName) -> str | None:
        """The SPKI digest of the key that the server really uses: its service's, where that keeps its own."""
        host, serves = self.fleet.hosts[server], self.fleet.faults[server].serves
        if serves is not None:
            return load_private(serves).public.spki_digest
        return self._keys(server).get(host.current) if host.current is not None else None

    def _keys(self, host: HostName) -> dict[str, SpkiDigest]:
        return self._keys_in(self.fleet.hosts[host])

    def _keys_in(self, state: HostState) -> dict[str, SpkiDigest]:
        """The keys within reach of a switch, by the name of their folder."""
        held = survey(state).credentials
        return {h.name: h.key for h in held if h.key is not None and not h.disarmed}

    def trusted(self, agent: HostName, server: HostName) -> set[str]:
        """The keys that the agent's programs accept for the server, by the bundle that they go by.

        Where an issuer vouches for the server, those of them that it could switch to.
        """
        bundle = self.fleet.hosts[agent].heeded
        if bundle is None:
            return set()
        keys = set(self._keys(server).values())
        return {*bundle.signers(server), *(key for key in keys if self.vouches(agent, server, key))}

    def vouches(self, agent: HostName, server: HostName, key: str) -> bool:
        """Whether the agent's programs accept a key of the server by a certificate, whenever that ends."""
        bundle = self.fleet.hosts[agent].heeded
        known = self.vouchers.get((server, key), set())
        return bundle is not None and any(
            one.server == server and _vouches(pem, bundle, one, self.clock.now())
            for one in bundle.delegations
            for pem in known
        )

    def edges(self) -> set[Edge]:
        """Who is to listen to whom, as the playbooks last agreed to say; the ledger keeps them whole."""
        sets = [t for wanted in self.ledger.read().playbooks.values() for t in wanted.trust_sets]
        return {(agent, server) for t in sets for agent in t.agents for server in t.servers}

    def orphans(self) -> list[Edge]:
        """Edges on which an agent does not trust what its server uses."""
        return [
            (agent, server)
            for agent, server in sorted(self.edges())
            if (key := self.live_key(server)) is not None and key not in self.trusted(agent, server)
        ]

    def hot(self, server: HostName) -> set[str]:
        """Keys that messages of this server may be signed with, on their way or yet to come."""
        now = self.clock.now()
        cooling = {key for (name, key), until in self.cooling.items() if name == server and until > now}
        return cooling | {key for name, key in self.armed if name == server}

    def look(self, when: str) -> None:
        self._follow_keys()
        self._look_at_stores(when)
        self._look_at_switches(when)
        self._look_at_trust(when)
        self._look_at_positions(when)
        self._look_at_ledger(when)

    def _follow_keys(self) -> None:
        asked = self.ledger.read().playbooks.values()
        valid = {server: wanted.messages.in_flight for wanted in asked for server in wanted.servers()}
        armed: set[tuple[HostName, str]] = set()
        for host in list(self.fleet.hosts):
            used = self.used.setdefault(host, set())
            live = self.live_key(host)
            if live is not None and (host, live) not in self.stolen:
                used.add(live)
            away = self._keys_in(self.away[host]).values() if host in self.away else ()
            armed |= {(host, key) for key in {*self._keys(host).values(), *away, live} if key in used}
            self._follow_certificates(host)
        self.cooling |= {key: self.clock.now() + self.in_flight[key] for key in self.armed - armed}
        for key in armed:
            self.in_flight[key] = max(self.in_flight.get(key, timedelta(0)), valid.get(key[0], timedelta(0)))
            self.cooling.pop(key, None)
        self.armed = armed

    def _follow_certificates(self, host: HostName) -> None:
        state = self.fleet.hosts[host]
        for held in survey(state).credentials:
            folder = (state.disarmed if held.disarmed else state.credentials)[held.name]
            if held.certificate_key is not None and folder.certificate_pem is not None:
                self.vouchers.setdefault((host, held.certificate_key), set()).add(folder.certificate_pem)

    def _look_at_switches(self, when: str) -> None:
        """S6: a server switches only to what every agent trusts."""
        for server in list(self.fleet.hosts):
            before, live = self.live.get(server), self.live_key(server)
            self.live[server] = live
            if before in self.leaked and live != before:
                self.held = {edge for edge in self.held if edge[1] != server}
                continue
            if live is None or live == before:
                continue
            for agent, heard in sorted(self.edges()):
                excused = agent in self.meddled | self.waived
                if heard == server and not excused and live not in self.trusted(agent, server):
                    raise ViolationError(f"S6 {when}: {server} switched before {agent} trusts its key")

    def _look_at_trust(self, when: str) -> None:
        """S1, S7: on an edge that held, every key that is hot is trusted."""
        orphaned = set(self.orphans())
        self.held &= self.edges()
        self.held |= {
            (agent, server)
            for agent, server in self.edges() - orphaned
            if agent not in self.adrift and self.live_key(server) is not None
        }
        for agent, server in sorted(edge for edge in self.held if edge[0] not in self.waived):
            asked = self.hot(server) - self.trusted(agent, server) - self.leaked
            missing = {key for key in asked if not self.vouches(agent, server, key)}
            if missing:
                state = "uses" if self.live_key(server) in missing else "may still have signed with"
                raise ViolationError(f"S1 {when}: {agent} distrusts the key {server} {state}")

    def _look_at_positions(self, when: str) -> None:
        """S2: no bundle goes back."""
        for host, state in self.fleet.hosts.items():
            if state.bundle is None:
                self.positions.pop(host, None)
                continue
            if state.bundle.position < self.positions.get(host, state.bundle.position):
                raise ViolationError(f"S2 {when}: the bundle of {host} went back")
            self.positions[host] = state.bundle.position

    def _look_at_ledger(self, when: str) -> None:
        """S3, S4: the ledger knows every holder, and only servers of its scope hold a private key."""
        recorded = self.ledger.read()
        for record in self.vault.kept:
            known = recorded.credentials.get(CredentialId(record))
            if known is None or not known.in_vault:
                raise ViolationError(f"S3 {when}: the vault holds {record} unknown to the ledger")
        for host, state in self.fleet.hosts.items():
            if host in self.meddled:
                continue
            for name in (*state.credentials, *state.disarmed):
                credential = recorded.credentials.get(CredentialId(name))
                if credential is None or credential.id not in recorded.may_hold(host):
                    raise ViolationError(f"S3 {when}: {host} holds {name} unknown to the ledger")
                if (
                    host not in {*credential.servers, *credential.certificates}
                    and (host, name) not in self.planted
                ):
                    raise ViolationError(f"S4 {when}: {host} holds {name} of {credential.scope}")
            told = {line for bundle in (state.bundle, state.heeded) for line in self._told(bundle)}
            for server, key in told - set(self._known(recorded, host)):
                raise ViolationError(
                    f"S3 {when}: {host} trusts {server} with {key[:8]} unknown to the ledger"
                )

    def _look_at_stores(self, when: str) -> None:
        """S3, S4: a store holds no key that its server has not, and the ledger knows of every store."""
        recorded = self.ledger.read()
        for host, state in self.fleet.hosts.items():
            if host in self.meddled:
                continue
            told = survey(state)
            held = {one.key for one in told.credentials}
            there = {key for store in _stores(told) for key in store.keys}
            if not there <= held:
                raise ViolationError(f"S4 {when}: a store of {host} holds a key that was erased there")
            known = host in recorded.pending or (
                (told.server_stores is None or host in recorded.server_stores)
                and (told.agent_stores is None or host in recorded.agent_stores)
            )
            if not known:
                raise ViolationError(f"S3 {when}: {host} has stores unknown to the ledger")

    def _told(self, bundle: TrustBundle | None) -> set[tuple[str, str]]:
        if bundle is None:
            return set()
        known = (one for one in bundle.delegations if one.issuer_key not in self.lost_issuers)
        granted = {(one.server, one.issuer_key) for one in known}
        return granted | {(server, key.public.spki_digest) for key in bundle.keys for server in key.servers}

    def _known(self, recorded: Recorded, host: HostName) -> Iterator[tuple[str, str]]:
        for bundle in recorded.bundles(host):
            for line in bundle.lines:
                if line.issuer:
                    yield line.server, line.issuer
                    continue
                public = recorded.credentials[line.credential].public
                if public is not None:
                    yield line.server, public.spki_digest

    def check_end(self, applied: Applied, wanted: Desired) -> None:
        """L1: a run that says it is complete is; any other names what it waits for."""
        running = self.ledger.read().running(wanted.playbook)
        if applied.complete and running is not None:
            raise ViolationError(f"L1: a run says it is complete, and rollout {running.id} is under way")
        result = applied.result
        told = result is not None and (result.waits or result.blocks or result.paused)
        named = applied.unreachable or told
        if not applied.complete and not named:
            raise ViolationError("L1: a run is not complete and names nobody")
