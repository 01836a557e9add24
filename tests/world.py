"""A whole fleet in memory with an eye on it: the real engine, ledger fold and issuer over fake hosts.

After every single visit ``World`` compares the hosts themselves, not the ledger: no agent that has a bundle
may distrust the key its server uses (S1), no bundle may go back (S2), and no private key may lie outside its
scope (S4). A violation raises at once, with what was done last.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.issuers.embedded import EmbeddedIssuer
from orchestrator.keys.authority import Authority
from orchestrator.keys.bundle import Position
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import Algorithm, load_private
from orchestrator.operations.apply import Applied, apply
from orchestrator.operations.found import ISSUER_RECORD, found
from orchestrator.policy.desired import (
    CertificateSpec,
    Desired,
    KeySpec,
    MessageSpec,
    Origin,
    PlaybookName,
    Policy,
    Scope,
    ScopeName,
    TrustSet,
)
from orchestrator.ports import Ports
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.visits import Hook, Outcome, Visit
from tests.fake_fleet import FakeFleet
from tests.fakes import FakeClock, FakeLedger, FakeVault, SeededEntropy

AGENTS = tuple(HostName(f"agent-{n}") for n in range(1, 4))
SERVERS = tuple(HostName(f"server-{n}") for n in range(1, 4))


class Silent:
    """Nobody watches."""

    def visiting(self, what: str, hosts: int) -> None: ...

    def visited(self, outcome: Outcome) -> None: ...

    def waiting(self, why: str, until: datetime) -> None: ...


def desired(
    policy: Policy = Policy.PER_SERVER,
    *,
    servers: Sequence[HostName] = SERVERS,
    agents: Sequence[HostName] = AGENTS,
    listens: Mapping[HostName, Sequence[HostName]] | None = None,
    origin: Origin = Origin.CONTROLLER,
    algorithm: Algorithm = Algorithm.ED25519,
    lifetime: timedelta = timedelta(days=365),
    soak: timedelta = timedelta(minutes=10),
    name: str = "main",
) -> Desired:
    """What a playbook asks for; agents listen to all servers unless told otherwise."""
    match policy:
        case Policy.SHARED:
            scopes: tuple[Scope, ...] = (Scope(name=ScopeName("all"), servers=tuple(servers)),)
        case Policy.PER_GROUP:
            cut = (tuple(servers[:1]), tuple(servers[1:]))
            scopes = tuple(
                Scope(name=ScopeName(f"group:site_{'ab'[n]}"), servers=part)
                for n, part in enumerate(cut)
                if part
            )
        case Policy.PER_SERVER:
            scopes = tuple(Scope(name=ScopeName(f"server:{s}"), servers=(s,)) for s in servers)
    heard: dict[tuple[HostName, ...], list[HostName]] = {}
    for agent in agents:
        heard.setdefault(tuple((listens or {}).get(agent, servers)), []).append(agent)
    return Desired(
        playbook=PlaybookName(name),
        digest="0" * 64,
        policy=policy,
        key=KeySpec(algorithm=algorithm, origin=origin),
        certificate=CertificateSpec(lifetime=lifetime, renew_at=Fraction(2, 3), grace=timedelta(days=30)),
        messages=MessageSpec(validity=timedelta(minutes=5), clock_skew=timedelta(seconds=30)),
        soak=soak,
        scopes=scopes,
        trust_sets=tuple(TrustSet(servers=s, agents=tuple(a)) for s, a in heard.items()),
        endpoints={h: endpoint(h) for h in (*servers, *agents)},
    )


def endpoint(host: HostName) -> Endpoint:
    return Endpoint(
        host=host,
        address="127.0.0.1",
        port=22,
        user="root",
        key_file=None,
        known_hosts=None,
        base="/etc/keyrelay",
    )


class ViolationError(AssertionError):
    """An invariant was broken on the hosts."""


@dataclass(slots=True)
class WatchedFleet:
    """Hosts in memory, looked at after every visit."""

    fleet: FakeFleet
    world: "World"

    def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
        for outcome in self.fleet.run(visits):
            self.world.look(f"after the visit to {outcome.host}: {outcome.kind}")
            yield outcome


@dataclass(slots=True)
class World:
    """A founded fleet.

    Attributes:
        asked: what was last applied, to know who listens to whom.
        held: edges that were seen to hold, and have been asked for ever since.
    """

    clock: FakeClock = field(default_factory=FakeClock)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    vault: FakeVault = field(default_factory=FakeVault)
    entropy: SeededEntropy = field(default_factory=lambda: SeededEntropy("world"))
    asked: Desired | None = None
    held: set[tuple[HostName, HostName]] = field(default_factory=set)
    positions: dict[HostName, Position] = field(default_factory=dict)
    fleet: FakeFleet = field(init=False)
    ports: Ports = field(init=False)

    def __post_init__(self) -> None:
        found(self.ledger, self.vault, clock=self.clock, entropy=self.entropy)
        self.fleet = FakeFleet(now=self.clock.now)
        issuer = Authority(
            certificate=parse_certificate(self.ledger.read().issuer),
            private=self.vault.open(ISSUER_RECORD, ISSUER_RECORD),
        )
        self.ports = Ports(
            clock=self.clock,
            entropy=self.entropy,
            fleet=WatchedFleet(self.fleet, self),
            ledger=self.ledger,
            vault=self.vault,
            issuer=EmbeddedIssuer(authority=issuer, random=self.entropy),
            progress=Silent(),
        )

    def apply(
        self,
        wanted: Desired,
        *,
        wait: timedelta = timedelta(hours=1),
        hooks: Mapping[HostName, Hook] | None = None,
        new_key: bool = False,
    ) -> Applied:
        self.asked = wanted
        self.held &= self.edges()
        return apply(
            self.ports,
            wanted,
            hooks=hooks or {},
            wait=wait,
            agree=lambda _: True,
            new_key=new_key,
        )

    @property
    def recorded(self) -> Recorded:
        return self.ledger.read()

    def live_key(self, server: HostName) -> str | None:
        """The SPKI digest of the private key the server really uses."""
        host = self.fleet.hosts[server]
        folder = host.credentials.get(host.current) if host.current is not None else None
        if folder is None or folder.private_key is None:
            return None
        return load_private(folder.private_key).public.spki_digest

    def keys_in_use(self) -> set[str]:
        return {key for server in SERVERS if (key := self.live_key(server)) is not None}

    def trusted(self, agent: HostName, server: HostName) -> set[str]:
        """The keys the agent's installed bundle accepts for the server."""
        bundle = self.fleet.hosts[agent].bundle
        return set(bundle.signers(server)) if bundle is not None else set()

    def edges(self) -> set[tuple[HostName, HostName]]:
        """Who is to listen to whom."""
        sets = self.asked.trust_sets if self.asked is not None else ()
        return {(agent, server) for t in sets for agent in t.agents for server in t.servers}

    def orphans(self) -> list[tuple[HostName, HostName]]:
        """Edges on which an agent does not trust what its server uses."""
        return [
            (agent, server)
            for agent, server in sorted(self.edges())
            if (key := self.live_key(server)) is not None and key not in self.trusted(agent, server)
        ]

    def look(self, when: str) -> None:
        orphaned = set(self.orphans())
        for agent, server in sorted(orphaned & self.held):
            raise ViolationError(f"S1 {when}: {agent} distrusts the key {server} uses")
        self.held |= {edge for edge in self.edges() - orphaned if self.live_key(edge[1]) is not None}
        for host, state in self.fleet.hosts.items():
            if state.bundle is None:
                self.positions.pop(host, None)
                continue
            if state.bundle.position < self.positions.get(host, state.bundle.position):
                raise ViolationError(f"S2 {when}: the bundle of {host} went back")
            self.positions[host] = state.bundle.position
            if state.credentials and host in AGENTS:
                raise ViolationError(f"S4 {when}: {host} holds a private key")

    def wipe(self, host: HostName) -> None:
        """The host was installed anew; what it knew is gone, and that is nobody's fault here."""
        self.fleet.wipe(host)
        self.held = {edge for edge in self.held if host not in edge}


def with_agents(wanted: Desired, agents: Sequence[HostName]) -> Desired:
    """The same, with other agents that listen to all servers."""
    servers = wanted.servers()
    return replace(
        wanted,
        trust_sets=(TrustSet(servers=servers, agents=tuple(agents)),),
        endpoints={h: endpoint(h) for h in (*servers, *agents)},
    )
