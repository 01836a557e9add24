"""What a playbook asks for, once it has met an inventory: plain values, no patterns left to resolve.

A ``Desired`` is recorded whole when a rollout starts, so the engine needs neither the playbook nor the
inventory to go on. Edges are never written out: agents with equal server sets share one trust set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from fractions import Fraction
from typing import NewType

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import Algorithm

ScopeName = NewType("ScopeName", str)
"""``all``, ``group:<group>`` or ``server:<host>``; unique within a playbook."""

PlaybookName = NewType("PlaybookName", str)
"""The ``name`` of a playbook. Files of one name are one playbook: to edit its policy is a policy change."""


class Policy(StrEnum):
    """How servers are cut into key scopes."""

    SHARED = "shared"
    PER_GROUP = "per-group"
    PER_SERVER = "per-server"


class Origin(StrEnum):
    """Where a key is made; one made on a server never leaves it."""

    CONTROLLER = "controller"
    SERVER = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """What kind of key, and who makes it."""

    algorithm: Algorithm
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSpec:
    """A credential's cryptoperiod (NIST SP 800-57 part 1, 5.3).

    Attributes:
        lifetime: from its making to its end.
        renew_at: the part of the lifetime after which a successor is due; between 0 and 1.
        grace: how long agents still accept the key after the certificate's end (``exp`` in bundles).
    """

    lifetime: timedelta
    renew_at: Fraction
    grace: timedelta


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
    """

    playbook: PlaybookName
    digest: str
    policy: Policy
    key: KeySpec
    certificate: CertificateSpec
    messages: MessageSpec
    soak: timedelta
    scopes: tuple[Scope, ...]
    trust_sets: tuple[TrustSet, ...]
    endpoints: Mapping[HostName, Endpoint]

    def servers(self) -> tuple[HostName, ...]:
        """Every server, by scope."""
        return tuple(server for scope in self.scopes for server in scope.servers)

    def agents(self) -> tuple[HostName, ...]:
        """Every agent, by trust set."""
        return tuple(agent for trust_set in self.trust_sets for agent in trust_set.agents)
