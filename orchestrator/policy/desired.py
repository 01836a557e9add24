"""What a playbook asks for, once it has met an inventory: plain values, no patterns left to resolve.

A ``Desired`` is recorded whole when a rollout starts, so the engine needs neither the playbook nor the
inventory to go on. Edges are never written out: agents with equal server sets share one trust set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Literal, NewType

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import Algorithm
from orchestrator.policy.stores import NO_STORES, Stores

ScopeName = NewType("ScopeName", str)
"""``all``, ``group:<group>``, ``server:<host>`` or ``delegated:<host>``; unique within a playbook."""

PlaybookName = NewType("PlaybookName", str)
"""The ``name`` of a playbook. Files of one name are one playbook: to edit its policy is a policy change."""


_ALL_PERCENT = 100


class Policy(StrEnum):
    """How servers are cut into key scopes, and by what agents believe them."""

    SHARED = "shared"
    PER_GROUP = "per-group"
    PER_SERVER = "per-server"
    DELEGATED = "delegated"
    """A scope for each server; agents know the issuer and the names that it may vouch for, and no key."""


LONGEST_DELEGATED = timedelta(days=90)
"""How long a certificate may live where agents believe it for what it says."""


class Origin(StrEnum):
    """Where a key is made; one made on a server never leaves it."""

    CONTROLLER = "controller"
    SERVER = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """What kind of key, who makes it, and whether it may leave.

    Attributes:
        exportable: whether ``cert export`` may write its private half to a file.
    """

    algorithm: Algorithm
    origin: Origin
    exportable: bool = True

    def makes_as(self, other: "KeySpec") -> bool:
        """Whether the other makes keys of the same kind in the same place."""
        return (self.algorithm, self.origin) == (other.algorithm, other.origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSpec:
    """A credential's cryptoperiod (NIST SP 800-57 part 1, 5.3).

    Attributes:
        lifetime: from its making to its end.
        renew_at: the part of the lifetime after which a successor is due; between 0 and 1.
        grace: how long agents still accept the key after the certificate's end (``exp`` in bundles).
        jitter: by how much a successor is due earlier at most; each key has its own share of it.
        longest: from its making, how long a key is kept in use while its successor waits; None: for ever.
    """

    lifetime: timedelta
    renew_at: Fraction
    grace: timedelta
    jitter: timedelta = timedelta(0)
    longest: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """A program on the controller that certifies: a request goes in, a chain comes out.

    Attributes:
        argv: the program's absolute path and its arguments; there is no shell.
        root: the certificates (PEM) that every chain has to end at.
        timeout: how long it may take for one request.
    """

    argv: tuple[str, ...]
    root: str
    timeout: timedelta
    kind: Literal["command"] = "command"

    def certifies_as(self, other: "IssuerSpec | None") -> bool:
        """Whether what the other has certified is as good."""
        return isinstance(other, CommandSpec) and (self.argv, self.root) == (other.argv, other.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeSpec:
    """A server that certifies by ACME (RFC 8555), after it has seen an answer on a host's port 80 (http-01).

    Attributes:
        directory: the address of the server's directory.
        publish: the program on the controller that makes hosts answer, and its arguments.
        contact: a mail address that the server may write to; empty: none.
        server_ca: the certificates (PEM) that vouch for the server's address; empty: the system's.
        root: the certificates (PEM) that every chain has to end at.
        timeout: how long one certificate may take.
    """

    directory: str
    publish: tuple[str, ...]
    contact: str
    server_ca: str
    root: str
    timeout: timedelta
    kind: Literal["acme"] = "acme"

    def certifies_as(self, other: "IssuerSpec | None") -> bool:
        """Whether what the other has certified is as good."""
        return isinstance(other, AcmeSpec) and (self.directory, self.root) == (other.directory, other.root)


IssuerSpec = CommandSpec | AcmeSpec
"""Who certifies, where it is not the fleet's own issuer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSpec:
    """How long a signed message is valid, and how far clocks may differ."""

    validity: timedelta
    clock_skew: timedelta

    @property
    def in_flight(self) -> timedelta:
        """How long after its last use a key may still be needed to verify a message (S7)."""
        return self.validity + 2 * self.clock_skew


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many of a number of hosts: a count, or a percentage of them.

    Attributes:
        number: hosts, or hundredths when ``percent``.
    """

    number: int
    percent: bool = False

    def of(self, whole: int) -> int:
        """How many of ``whole`` hosts: rounded up, at least one, and not more than there are."""
        count = -(-whole * self.number // 100) if self.percent else self.number
        return min(max(count, 1), whole)

    @property
    def is_all(self) -> bool:
        """Whether it is all of them, however many there are."""
        return self.percent and self.number == _ALL_PERCENT

    def __str__(self) -> str:
        """As a playbook writes it: ``2`` or ``25%``."""
        return f"{self.number}%" if self.percent else f"{self.number}"


class Prove(StrEnum):
    """Which agents verify what a server signs once it has switched."""

    COVERED = "covered"
    """The canary's. The others have proven the key, and the controller checks that it is the one in use."""
    DIRECT = "direct"
    """All of them, in a visit more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """How a handover goes over the servers.

    Attributes:
        soak: how long a wave is watched before the next one, and the last one before the old keys are
            put away.
        waves: how many servers have switched after each wave, the ones before included; the first is the
            canary. Whatever is left after the last is one more wave.
        max_failures: so many servers of a wave that go back to their old key halt the rollout.
        proof_age: the age from which an agent's proof is taken again before a server switches.
        offline: after this time a host that does not answer is no longer waited for; None: always is.
        prove: who verifies after the switch.
    """

    soak: timedelta
    waves: tuple[Share, ...] = (Share(number=100, percent=True),)
    max_failures: Share = Share(number=1)
    proof_age: timedelta = timedelta(hours=24)
    offline: timedelta | None = None
    prove: Prove = Prove.COVERED

    def wave_sizes(self, servers: int) -> tuple[int, ...]:
        """How many of so many servers switch in each wave; they add up to all of them."""
        sizes: list[int] = []
        for bound in (*(share.of(servers) for share in self.waves), servers):
            if bound > (done := sum(sizes)):
                sizes.append(bound - done)
        return tuple(sizes)

    @property
    def most_waves(self) -> int:
        """How many waves there are where there are servers enough."""
        return len(self.waves) + (not self.waves or not self.waves[-1].is_all)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Servers that share one key, in inventory order."""

    name: ScopeName
    servers: tuple[HostName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSet:
    """Agents that listen to exactly these servers."""

    servers: tuple[HostName, ...]
    agents: tuple[HostName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """One playbook over one inventory.

    Attributes:
        digest: SHA-256 (hex) of the playbook file's bytes.
        scopes: every server of the playbook is in exactly one.
        trust_sets: every agent of the playbook is in exactly one.
        endpoints: of every host named above.
        hooks: the command that a server runs after a switch, rendered; it is recorded, so it holds no secret.
        trusted_hooks: the command that an agent runs when it has a new bundle, likewise.
        prove_commands: the command by which a server's running service signs, likewise.
        prove_within: how long a service may take until it signs with a new key.
        issuer: who certifies; None: the fleet's own issuer.
        stores: where else on its hosts the credential, or the anchors of trust, appear.
    """

    playbook: PlaybookName
    digest: str
    policy: Policy
    key: KeySpec
    certificate: CertificateSpec
    messages: MessageSpec
    rollout: RolloutSpec
    scopes: tuple[Scope, ...]
    trust_sets: tuple[TrustSet, ...]
    endpoints: Mapping[HostName, Endpoint]
    hooks: Mapping[HostName, str] = field(default_factory=dict)
    issuer: IssuerSpec | None = None
    stores: Stores = NO_STORES
    prove_commands: Mapping[HostName, str] = field(default_factory=dict)
    prove_within: timedelta = timedelta(seconds=60)
    trusted_hooks: Mapping[HostName, str] = field(default_factory=dict)

    def servers(self) -> tuple[HostName, ...]:
        """Every server, by scope."""
        return tuple(server for scope in self.scopes for server in scope.servers)

    def agents(self) -> tuple[HostName, ...]:
        """Every agent, by trust set."""
        return tuple(agent for trust_set in self.trust_sets for agent in trust_set.agents)
