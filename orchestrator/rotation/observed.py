"""What a host really holds, as its survey tells it.

Everything in here was read on a host that may be broken or hostile: the wire has bounded and parsed it,
and whoever shows it escapes it. Keys are told by the SHA-256 of their SPKI, which the controller maps
to its credentials.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.keys.material import PublicKey, SpkiDigest

LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""No host is believed that anything ends later: what is added to it must not leave the calendar."""

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""No host is believed that anything began or ended earlier."""

LONGEST_GRACE = timedelta(days=200 * 365)
"""No host is believed that a bundle allows more grace than this, for the same reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCredential:
    """One folder of ``server/credentials`` or ``server/disarmed``.

    Attributes:
        name: the folder's name; a credential id unless something else put it there.
        disarmed: whether it lies where no revert reaches it.
        key: of the private key, computed from it; None: no key, or none that openssl can read.
        certificate_key: of the certificate's public key; None: no readable certificate.
        certificate_digest: SHA-256 (hex) of the bytes of ``cert.pem``.
        not_after: the certificate's end.
    """

    name: str
    disarmed: bool
    key: SpkiDigest | None
    certificate_key: SpkiDigest | None
    certificate_digest: str | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HeldEdge:
    """One line of ``agent/current/edges``.

    Attributes:
        expires: as Unix seconds; None: no end.
    """

    server: HostName
    key: SpkiDigest
    expires: int | None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HeldDelegation:
    """One line of ``agent/current/delegations``.

    Attributes:
        issuer: the SPKI digest of the issuer's key.
        grace: in seconds.
    """

    server: HostName
    issuer: SpkiDigest
    grace: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBundle:
    """The bundle that ``agent/current`` leads to.

    Attributes:
        digest: of its files as they are (``TrustBundle.digest`` says how).
        keys: computed from the files of ``keys/``; a file whose key is not the one it is named after
            is reported with the digest of what it really holds.
        delegations: who may vouch for whom, in the file's order.
        denied: keys that are refused whoever vouches for them, in the file's order.
        issuers: computed from the certificates of ``issuers/``, in the same way as ``keys``.
    """

    position: Position
    digest: str
    edges: tuple[HeldEdge, ...]
    keys: tuple[SpkiDigest, ...]
    delegations: tuple[HeldDelegation, ...] = ()
    denied: tuple[SpkiDigest, ...] = ()
    issuers: tuple[SpkiDigest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A path below (or above) the base whose owner, mode or kind is not as it must be."""

    path: str
    found: str
    wanted: str


MOST_TOMBSTONES = 2_000
"""A host remembers no more ended keys than these; keys that leaked are forgotten last."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Tombstone:
    """A key that has ended, as a host remembers it, so that no older ledger brings it back (S9).

    Attributes:
        how: ``removed`` for a key that ended in the usual way.
        until: as Unix seconds: from then on agents refuse the key anyway, and nobody has to remember it.
    """

    key: SpkiDigest
    how: Literal["removed", "compromised", "lost"]
    until: int


class StoreState(StrEnum):
    """What a host finds where its manifest says that something of ours is."""

    INTACT = "intact"
    """What was written last."""
    CHANGED = "changed"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    """It cannot be opened: another password, a damaged file, a tool that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HeldStore:
    """One file of a host's manifest, or one entry of a keystore or database, as it really is.

    Attributes:
        kind: as the manifest calls its store.
        place: the path; for an entry ``PATH NAME``.
        keys: of the private key and of the certificate of a credential in it, sorted.
        certificates: the SHA-256 (hex) of the DER of every certificate in it, sorted.
    """

    kind: str
    place: str
    state: StoreState
    keys: tuple[SpkiDigest, ...] = ()
    certificates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStores:
    """What a host has put elsewhere, in one of its two roles.

    Attributes:
        digest: of the manifest in place; empty: a visit broke off while it was carried out.
        credential: the id of the one that a server's stores were filled with last; None: an agent's.
        places: sorted.
    """

    digest: str
    credential: str | None
    places: tuple[HeldStore, ...]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Obstacle:
    """Why a host could not fill a store that it is to have.

    Attributes:
        role: as what it is to have the store.
        place: as ``HeldStore.place``.
        reason: what a visit would be refused with.
    """

    role: Literal["server", "agent"]
    place: str
    reason: str

    @staticmethod
    def told(obstacles: Iterable["Obstacle"]) -> tuple[str, ...]:
        """What cannot be filled, a clause for each reason."""
        by_reason: dict[str, list[str]] = {}
        for one in obstacles:
            by_reason.setdefault(one.reason, []).append(one.place)
        return tuple(f"cannot fill {', '.join(where)}: {reason}" for reason, where in by_reason.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What only a survey that was asked for all of it tells.

    Attributes:
        keys: every public key on the host, a server's and an agent's, by its digest.
        certificates: the certificate and the chain of each credential, PEM, by the folder's name.
    """

    keys: Mapping[SpkiDigest, PublicKey]
    certificates: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSurvey:
    """One host at one visit.

    Attributes:
        user: the name the visit ran under.
        openssl: the version line of the host's openssl.
        fence: the highest (generation, counter) the host has accepted; None: never visited.
        current: the folder name that ``server/current`` leads to; None: no link.
        credentials: what lies in ``credentials`` and ``disarmed``, sorted by name.
        bundle: what the host trusts as an agent; None: nothing.
        problems: wrong owners, modes and kinds.
        head: the digest that belongs to ``fence``; empty: the host remembers none.
        ended: the keys that have ended, as far as the host has seen, sorted.
        hook_due: whether a hook has yet to run well, or a service to prove itself, since ``current`` or its
            certificate was replaced.
        unwritable: the folder in which the login may not write, though visits have to; empty: none.
        server_stores, agent_stores: what it has put elsewhere as one; None: nothing.
        obstacles: to the manifests that it was asked about, sorted.
        untold: whether a hook has yet to run well since a bundle came: programs may use an earlier one.
        loaded: the bundles that they may use then, as far as they are there, in their order; of their keys
            those that ``bundle`` has not.
    """

    user: str
    openssl: str
    fence: tuple[int, int] | None
    current: str | None
    credentials: tuple[HeldCredential, ...]
    bundle: HeldBundle | None
    problems: tuple[Problem, ...]
    head: str = ""
    ended: tuple[Tombstone, ...] = ()
    hook_due: bool = False
    unwritable: str = ""
    server_stores: HeldStores | None = None
    agent_stores: HeldStores | None = None
    obstacles: tuple[Obstacle, ...] = ()
    untold: bool = False
    loaded: tuple[HeldBundle, ...] = ()

    def trusted(self) -> tuple[HeldBundle, ...]:
        """Every bundle that the agent or its programs may go by."""
        return (*self.loaded, *((self.bundle,) if self.bundle is not None else ()))
