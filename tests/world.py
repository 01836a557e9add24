"""A whole fleet in memory with an eye on it: the real engine, ledger fold and issuer over fake hosts.

``World`` looks at the hosts themselves after every single visit (``tests/eye.py``), can be killed wherever
something durable changes (``tests/mortal.py``), and hosts can be wiped, rolled back and moved.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.issuers.embedded import EmbeddedIssuer
from orchestrator.keys.authority import Authority
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import Algorithm, SpkiDigest
from orchestrator.operations.apply import Applied, apply_together
from orchestrator.operations.found import found
from orchestrator.operations.planning import Prepared, prepare_to_change_together, prepare_together
from orchestrator.policy.desired import (
    CertificateSpec,
    Desired,
    KeySpec,
    MessageSpec,
    Origin,
    PlaybookName,
    Policy,
    RolloutSpec,
    Scope,
    ScopeName,
    TrustSet,
)
from orchestrator.policy.stores import NO_STORES, Stores
from orchestrator.ports import Entropy, Ports
from orchestrator.rotation.events import KeyEnded
from orchestrator.rotation.holdups import Wait
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.moving import together
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.reports import Outcome
from orchestrator.rotation.visits import Survey, Visit
from tests.eye import Eye
from tests.fake_fleet import FakeFleet
from tests.fake_state import HostState
from tests.fakes import FakeClock, FakeController, FakeKeyring, FakeLedger, FakeVault, SeededEntropy
from tests.mortal import KilledError, Life, MortalKeyring, MortalLedger, MortalVault

AGENTS = tuple(HostName(f"agent-{n}") for n in range(1, 4))
SERVERS = tuple(HostName(f"server-{n}") for n in range(1, 4))


class Silent:
    """Nobody watches."""

    def visiting(self, what: str, hosts: Collection[HostName]) -> None: ...

    def visited(self, outcome: Outcome) -> None: ...

    def waiting(self, waits: Sequence[Wait], until: datetime) -> None: ...


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
    rollout: RolloutSpec | None = None,
    hooks: Mapping[HostName, str] | None = None,
    trusted_hooks: Mapping[HostName, str] | None = None,
    stores: Stores = NO_STORES,
    prove_commands: Mapping[HostName, str] | None = None,
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
        case Policy.DELEGATED:
            scopes = tuple(Scope(name=ScopeName(f"delegated:{s}"), servers=(s,)) for s in servers)
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
        rollout=rollout or RolloutSpec(soak=soak),
        scopes=scopes,
        trust_sets=tuple(TrustSet(servers=s, agents=tuple(a)) for s, a in heard.items()),
        endpoints={h: endpoint(h) for h in (*servers, *agents)},
        hooks=hooks or {},
        trusted_hooks=trusted_hooks or {},
        stores=stores,
        prove_commands=prove_commands or {},
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


@dataclass(slots=True)
class WatchedFleet:
    """Hosts in memory, looked at after every visit."""

    fleet: FakeFleet
    world: "World"

    def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
        eye, life = self.world.eye, self.world.life
        if any(not isinstance(order, Survey) for visit in visits for order in visit.orders):
            eye.takes_in_surveys()
        for visit in visits:
            life.point()
            for outcome in self.fleet.run([visit]):
                eye.visited(visit, outcome)
                life.point()
                yield outcome


@dataclass(slots=True)
class World:
    """A founded fleet.

    Attributes:
        life: when the controller is killed.
        eye: who looks at the hosts.
        keys: the authority's, which lie in ``key_vault``.
    """

    clock: FakeClock = field(default_factory=FakeClock)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    vault: FakeVault = field(default_factory=FakeVault)
    key_vault: FakeVault = field(default_factory=FakeVault)
    entropy: SeededEntropy = field(default_factory=lambda: SeededEntropy("world"))
    life: Life = field(default_factory=Life)
    keys: FakeKeyring = field(init=False)
    fleet: FakeFleet = field(init=False)
    eye: Eye = field(init=False)
    ports: Ports = field(init=False)

    def __post_init__(self) -> None:
        self.keys = FakeKeyring(self.key_vault, self.entropy)
        found(self.ledger, self.keys, fleet="0123456789abcdef", clock=self.clock, entropy=self.entropy)
        self.fleet = FakeFleet(now=self.clock.now)
        self.eye = Eye(fleet=self.fleet, ledger=self.ledger, vault=self.vault, clock=self.clock)
        self.ports = Ports(
            clock=self.clock,
            entropy=self.entropy,
            fleet=WatchedFleet(self.fleet, self),
            ledger=MortalLedger(self.ledger, self.life),
            vault=MortalVault(self.vault, self.life),
            keys=MortalKeyring(self.keys, self.life),
            issuer=EmbeddedIssuer(opened=self.issuer, random=self.entropy),
            controller=FakeController(),
            progress=Silent(),
        )

    def issuer(self, wanted: SpkiDigest | None = None) -> Authority:
        """One of the fleet's issuers, or the one that certifies now."""
        found = self.recorded.own_issuer(wanted)
        certificate = parse_certificate(found.certificate)
        return Authority(certificate=certificate, signer=self.keys.open(found.record))

    def apply(
        self,
        wanted: Desired,
        *,
        wait: timedelta = timedelta(hours=1),
        new_key: bool = False,
    ) -> Applied:
        (applied,) = self.apply_in_one_go((wanted,), wait=wait, new_key=new_key)
        return applied

    def apply_together(
        self, *wanted: Desired, wait: timedelta = timedelta(hours=1), new_key: bool = False
    ) -> tuple[Applied, ...]:
        """Apply the plays of one file: those that exchange servers begin in the same go."""
        groups = together(self.recorded, wanted)
        return tuple(
            one for group in groups for one in self.apply_in_one_go(group, wait=wait, new_key=new_key)
        )

    def prepare(self, wanted: Desired, *, new_key: bool = False, entropy: Entropy | None = None) -> Prepared:
        """What ``plan`` shows."""
        (prepared,) = prepare_together(
            (wanted,),
            ledger=self.ledger,
            fleet=self.fleet,
            clock=self.clock,
            entropy=entropy or self.entropy,
            progress=Silent(),
            new_key=new_key,
        )
        return prepared

    def apply_in_one_go(
        self, wanted: Sequence[Desired], *, wait: timedelta, new_key: bool = False
    ) -> tuple[Applied, ...]:
        self.eye.begins()
        agreed: list[str | None] = [None] * len(wanted)
        go = partial(
            apply_together, self.ports, wanted, wait=wait, agree=lambda _: True, digests=agreed,
            new_key=new_key,
        )  # fmt: skip
        try:
            ended = go()
        except RefusedError:
            if not self.says_lost(*wanted, new_key=new_key):
                raise
            ended = go()
        if not all(one.complete for one in ended) and self.says_lost(*wanted):
            ended = go()
        for applied, asked in zip(ended, wanted, strict=True):
            self.eye.check_end(applied, asked)
        return ended

    def says_lost(self, *wanted: Desired, new_key: bool = False) -> bool:
        """A person says of the keys that wiped servers miss that they are lost; whether there are any.

        Nobody says so of a server whose base is only not mounted, nor of a key that the vault brings back.
        """
        prepared = prepare_to_change_together(wanted, self.ports, new_key=new_key)
        strandings = [stranding for one in prepared for stranding in one.plan.strandings]
        stranded = {key for one in strandings if one.server not in self.eye.away for key in one.keys}
        missing = {
            key
            for server, record in self.recorded.servers.items()
            if server not in self.eye.away
            for key in record.missing
            if key != record.target or not self.recorded.credentials[key].in_vault
        }
        keys = sorted(stranded | missing)
        ends = [KeyEnded(credential=key, how=KeyState.LOST, reason="it was wiped") for key in keys]
        if ends:
            self.ledger.append(ends, onto=self.ledger.read(), at=self.clock.now())
        return bool(ends)

    def apply_and_die(self, wanted: Desired, *, after: int, new_key: bool = False) -> bool:
        """Apply, killed after so many points at which something durable changes; whether it was."""
        self.life.dies_after(after)
        with suppress(KilledError):
            self.apply(wanted, new_key=new_key)
        return self.life.rise()

    @property
    def recorded(self) -> Recorded:
        return self.ledger.read()

    def live_key(self, server: HostName) -> str | None:
        """The SPKI digest of the private key the server really uses."""
        return self.eye.live_key(server)

    def keys_in_use(self) -> set[str]:
        return {key for server in SERVERS if (key := self.live_key(server)) is not None}

    def trusted(self, agent: HostName, server: HostName) -> set[str]:
        """The keys the agent's installed bundle accepts for the server."""
        return self.eye.trusted(agent, server)

    def orphans(self) -> list[tuple[HostName, HostName]]:
        """Edges on which an agent does not trust what its server uses."""
        return self.eye.orphans()

    def wipe(self, host: HostName) -> None:
        """The host was installed anew; what it knew is gone, and that is nobody's fault here."""
        self.set_host(host, HostState())

    def base_goes(self, server: HostName) -> None:
        """The disk with the server's base is not mounted; its service has its key in memory."""
        self.eye.base_goes(server)

    def base_comes_back(self, server: HostName) -> None:
        """It is mounted again."""
        self.eye.base_comes_back(server)

    def set_host(self, host: HostName, state: HostState) -> None:
        """Someone else changed the host: a snapshot was restored, a file was edited."""
        self.eye.before_meddling(host)
        self.fleet.hosts[host] = state
        self.eye.after_meddling(host)


def with_agents(wanted: Desired, agents: Sequence[HostName]) -> Desired:
    """The same, with other agents that listen to all servers."""
    servers = wanted.servers()
    return replace(
        wanted,
        trust_sets=(TrustSet(servers=servers, agents=tuple(agents)),),
        endpoints={h: endpoint(h) for h in (*servers, *agents)},
    )
