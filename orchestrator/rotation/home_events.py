"""What is written into the ledger of the home itself, and not of one rollout or key.

The home is founded with an authority, whose certificates and issuers change and which signs lists of what it
revoked. It is led by one controller at a time, by a clock that may have been wrong. It is backed up; and when
hosts have seen more than it knows, it is restored and takes over what they tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import PublicKey, SpkiDigest
from orchestrator.keys.revocation import Revoked
from orchestrator.keys.token import Token
from orchestrator.policy.desired import KeySpec, PlaybookName, ScopeName
from orchestrator.rotation.recorded import NO_ISSUER, BackupId
from orchestrator.rotation.visits import CredentialId


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFounded:
    """The home was made: the fleet has an id, a root and an issuer, generation 1 and epoch 1.

    Attributes:
        root, issuer: certificates, PEM.
        token: the one that keeps their private keys; None: the home does.
    """

    fleet: str
    root: str
    issuer: str
    token: Token | None = None
    kind: Literal["fleet-founded"] = "fleet-founded"


@dataclass(frozen=True, slots=True, kw_only=True)
class RootRenewed:
    """The root has another certificate over the same key (PEM)."""

    certificate_pem: str
    kind: Literal["root-renewed"] = "root-renewed"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRenewed:
    """The issuer has another certificate over the same key (PEM)."""

    certificate_pem: str
    kind: Literal["issuer-renewed"] = "issuer-renewed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlSigned:
    """An authority has signed a list of what it revoked; it may be published from now on.

    Attributes:
        number: higher than that of every list before.
        next_update: by when there is to be a newer one.
        digest: SHA-256 (hex) of the list in DER.
        added: revoked since the list before, or for another reason than there.
        dropped: serials that are left out, since an earlier list had them after their certificates' end.
        by: the SPKI digest of who signed it; empty: the issuer that certified then.
    """

    number: int
    next_update: datetime
    digest: str
    added: tuple[Revoked, ...]
    dropped: tuple[str, ...]
    by: SpkiDigest = NO_ISSUER
    kind: Literal["crl-signed"] = "crl-signed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTaken:
    """A controller begins to hand over, or goes on (S8)."""

    holder: str
    until: datetime
    kind: Literal["lease-taken"] = "lease-taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseReleased:
    """A controller has stopped handing over."""

    holder: str
    kind: Literal["lease-released"] = "lease-released"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerKeyIntended:
    """The controller is about to make a key for another issuer, and to keep it under this name."""

    record: str
    kind: Literal["issuer-key-intended"] = "issuer-key-intended"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerAdded:
    """The root has certified another issuer, which certifies from now on; what the one before certified goes.

    Attributes:
        certificate: PEM.
        leaked: why somebody else may have the key of the one before; empty: nobody has.
    """

    record: str
    certificate: str
    leaked: str = ""
    kind: Literal["issuer-added"] = "issuer-added"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerKeyDestroyed:
    """An issuer's key is gone: no bundle carries the issuer, and no server has a certificate of its."""

    record: str
    kind: Literal["issuer-key-destroyed"] = "issuer-key-destroyed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSetRight:
    """The controller's clock was ahead when earlier entries were written; hosts confirm the time of this one.

    Attributes:
        ahead: the time of the entry before this one.
    """

    ahead: datetime
    kind: Literal["clock-set-right"] = "clock-set-right"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerStopped:
    """A host follows another ledger, so nothing is written for the fleet from this one any more (S8, S9)."""

    reason: str
    kind: Literal["controller-stopped"] = "controller-stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupIntended:
    """A backup is about to be written: from now on it may hold these keys (S3).

    Attributes:
        path: of the file, absolute.
        keys: whose private halves it may hold; where it is said again of one backup, the last word counts.
        automatic: whether it is one of those that are counted, and removed when there are too many.
    """

    backup: BackupId
    path: str
    keys: tuple[CredentialId, ...]
    automatic: bool = False
    kind: Literal["backup-intended"] = "backup-intended"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupWritten:
    """The backup is whole and durable; it holds these keys and no others.

    Attributes:
        digest: SHA-256 (hex) of the file.
    """

    backup: BackupId
    keys: tuple[CredentialId, ...]
    digest: str
    size_bytes: int
    kind: Literal["backup-written"] = "backup-written"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRemoved:
    """The backup's file is gone, by our own hand or as a person says."""

    backup: BackupId
    reason: str
    kind: Literal["backup-removed"] = "backup-removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupsKept:
    """From now on a backup is written before each rollout that retires a key.

    Attributes:
        folder: where, absolute; empty: none is written any more.
        keep: so many are kept.
        oldest: how old the newest backup may be before another one is due.
    """

    folder: str
    keep: int
    oldest: timedelta
    kind: Literal["backups-kept"] = "backups-kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeRestored:
    """A person said that this home is the one to go on with, and hosts are told so by a generation (S9).

    Attributes:
        generation, epoch: above all that any host was seen with.
        unmet: hosts that nobody waited for, each with what that costs; they are met when they are seen again.
        backup: the id of the backup that the home was made of; empty: it was there.
        kept: the credentials whose private keys came with it; None: those that the ledger names.
        sure_of_issuer: whether the person said that its issuer has not leaked, even if it was replaced since.
    """

    generation: int
    epoch: int
    unmet: Mapping[HostName, str]
    backup: str = ""
    kept: tuple[CredentialId, ...] | None = None
    sure_of_issuer: bool = False
    kind: Literal["home-restored"] = "home-restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCredential:
    """A credential that was made after the backup, as hosts tell of it.

    Attributes:
        servers: where its key lies, or whom agents trust with it.
        certificates, chains: PEM by server; those that this fleet's root stands behind.
        not_before, not_after: None: nothing tells.
        issuers: by server the fleet's own issuer by whose word agents believe it; none: they know the key.
    """

    id: CredentialId
    playbook: PlaybookName
    scope: ScopeName
    key: KeySpec
    servers: tuple[HostName, ...]
    public: PublicKey
    certificates: Mapping[HostName, str]
    chains: Mapping[HostName, str]
    not_before: datetime | None
    not_after: datetime | None
    issuers: Mapping[HostName, SpkiDigest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsMet:
    """What a restored ledger takes over from hosts (``meeting.py``); their surveys follow.

    Attributes:
        found: credentials that it did not know, or whose keys it had not seen made.
        ended: credentials that have leaked or were lost since, each with who says so.
        over: credentials that were removed since, each with who says so.
        armed: what each server may have signed with lately.
        targets: servers that are to have something else than the ledger says: what they use, or nothing yet.
        servers, agents: hosts that joined since; the servers with the playbook they seem to be of.
        endpoints: how the hosts were reached.
        superseded: agents with an issuer that it does not know.
        hearsay: of ``armed``, what only agents say, and neither the server nor the ledger.
    """

    hosts: tuple[HostName, ...]
    found: tuple[FoundCredential, ...]
    ended: Mapping[CredentialId, str]
    armed: Mapping[HostName, tuple[CredentialId, ...]]
    targets: Mapping[HostName, CredentialId | None]
    servers: Mapping[HostName, PlaybookName]
    agents: tuple[HostName, ...]
    endpoints: Mapping[HostName, Endpoint]
    over: Mapping[CredentialId, str] = field(default_factory=dict)
    superseded: tuple[HostName, ...] = ()
    hearsay: Mapping[HostName, tuple[CredentialId, ...]] = field(default_factory=dict)
    kind: Literal["hosts-met"] = "hosts-met"


HomeEvent = (
    FleetFounded
    | RootRenewed
    | IssuerRenewed
    | CrlSigned
    | LeaseTaken
    | LeaseReleased
    | IssuerKeyIntended
    | IssuerAdded
    | IssuerKeyDestroyed
    | ClockSetRight
    | ControllerStopped
    | BackupIntended
    | BackupWritten
    | BackupRemoved
    | BackupsKept
    | HomeRestored
    | HostsMet
)
"""An event of the home itself."""
