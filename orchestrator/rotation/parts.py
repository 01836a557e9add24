"""The parts of what the ledger says: one server, one agent, one rollout, one backup; all values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NewType

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.rotation.holdings import Installed, Placement, Proof, TrustLine
from orchestrator.rotation.visits import CredentialId

RolloutId = NewType("RolloutId", str)
"""64 random bits as 16 lowercase hex digits."""

BackupId = NewType("BackupId", str)
"""64 random bits as 16 lowercase hex digits."""

NOWHERE = Position(epoch=0, sequence=0)
"""Before the first bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """A server: what it has, and what it should end up with.

    Attributes:
        target: None: it has left, and is to end up with nothing.
        cleared: since when it cannot sign any more with a credential that it could sign with (S7).
        missing: since when a credential that it could sign with was not to be seen there. Its service may
            have it in memory, and its files may come back with a disk, until a visit puts it away or a person
            says what became of it.
        hearsay: of those, what it was never seen with: only agents say that it is known by them.
        given_up: why nobody visits it any more, though it may still hold keys; empty: it is visited.
        set_back: when the server said that switching to its target failed; None: it has not, or did since.
    """

    playbook: PlaybookName
    target: CredentialId | None
    placements: Mapping[CredentialId, Placement] = field(default_factory=dict)
    cleared: Mapping[CredentialId, datetime] = field(default_factory=dict)
    missing: Mapping[CredentialId, datetime] = field(default_factory=dict)
    hearsay: frozenset[CredentialId] = frozenset()
    set_back: datetime | None = None
    given_up: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """An agent: the bundle it is known to have, and what it has proven with it.

    Attributes:
        proven: by line the last proof, given with ``installed``; empty whenever that changes.
        given_up: why nobody waits for it or visits it any more; empty: it is part of the fleet.
        untold: whether a hook has yet to run well since a bundle came, so that its programs may use another.
        earlier: the bundles that they may use then, as far as they are known.
    """

    installed: Installed | None = None
    proven: Mapping[TrustLine, Proof] = field(default_factory=dict)
    given_up: str = ""
    untold: bool = False
    earlier: tuple[Installed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """How the last visits to a host went.

    Attributes:
        seen: the last time a visit ended well.
        failing_since: the first of the failures since then; None: none.
        reason: of the last failure.
        skew: what the last answer told of the host's clock (``reports.Changed.skew``).
    """

    seen: datetime | None = None
    failing_since: datetime | None = None
    reason: str = ""
    skew: timedelta = timedelta(0)


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
        paused_since: None: it is not paused.
        reverts: the rollout that this one takes back.
        received: the servers that came with it, each with the playbook whose it was until then.
        awaited: the hosts that keep it waiting, each with since when without a break.
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
    paused_since: datetime | None = None
    reverts: RolloutId | None = None
    received: Mapping[HostName, PlaybookName] = field(default_factory=dict)
    awaited: Mapping[HostName, datetime] = field(default_factory=dict)
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
class Backup:
    """A backup of this home, as long as its file may be there.

    Attributes:
        path: where it was written.
        taken: when.
        keys: whose private halves it holds, or may hold.
        automatic: whether it is counted, and removed when there are too many.
        digest: SHA-256 (hex) of the file; empty: it may be there, whole or not.
    """

    id: BackupId
    path: str
    taken: datetime
    keys: tuple[CredentialId, ...]
    automatic: bool = False
    digest: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How backups are kept (``home_events.BackupsKept``)."""

    folder: str
    keep: int
    oldest: timedelta
