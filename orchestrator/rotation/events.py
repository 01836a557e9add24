"""What is written into the ledger, one value for each thing that can happen.

Events hold facts only, never a private key: an intent before its visit, the outcomes after, what a
survey found, what was decided. ``evolve.py`` says what they add up to. Their ``kind`` and field names are
the ledger's format: once released they may be added to, not renamed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import PublicKey, SpkiDigest
from orchestrator.keys.revocation import Revoked
from orchestrator.keys.token import Token
from orchestrator.policy.desired import Desired, KeySpec, PlaybookName, ScopeName
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import NO_ISSUER, BackupId, CopyId, Intent, RolloutId
from orchestrator.rotation.reports import Outcome
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
    """The issuer has signed a list of what it revoked; it may be published from now on.

    Attributes:
        number: higher than that of every list before.
        next_update: by when there is to be a newer one.
        digest: SHA-256 (hex) of the list in DER.
        added: revoked since the list before, or for another reason than there.
        dropped: serials that are left out, since an earlier list had them after their certificates' end.
    """

    number: int
    next_update: datetime
    digest: str
    added: tuple[Revoked, ...]
    dropped: tuple[str, ...]
    kind: Literal["crl-signed"] = "crl-signed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCredential:
    """A credential that is to be made; its id is recorded before anything is.

    Attributes:
        delegated: whether agents are to believe it by its certificate.
    """

    id: CredentialId
    scope: ScopeName
    key: KeySpec
    servers: tuple[HostName, ...]
    not_before: datetime
    not_after: datetime
    delegated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStarted:
    """A playbook asks for this from now on; an unfinished rollout of the same playbook is replaced.

    Attributes:
        targets: for every server of the playbook, and None for every server that leaves it.
        waves: the servers that switch, in the order of the waves.
        reverts: the rollout that is taken back.
    """

    rollout: RolloutId
    desired: Desired
    new: tuple[NewCredential, ...]
    targets: Mapping[HostName, CredentialId | None]
    reasons: tuple[str, ...]
    waves: tuple[tuple[HostName, ...], ...] = ()
    reverts: RolloutId | None = None
    kind: Literal["rollout-started"] = "rollout-started"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPaused:
    """Nothing is done for the rollout until it is resumed."""

    rollout: RolloutId
    reason: str
    kind: Literal["rollout-paused"] = "rollout-paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutResumed:
    """A person has looked, and the rollout goes on."""

    rollout: RolloutId
    kind: Literal["rollout-resumed"] = "rollout-resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsWaived:
    """The rollout no longer waits for these agents; each with what that costs, as it was told (S6, S10)."""

    rollout: RolloutId
    agents: Mapping[HostName, str]
    kind: Literal["agents-waived"] = "agents-waived"


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
class EndpointsChanged:
    """Hosts are reached another way now; nothing else changes."""

    endpoints: Mapping[HostName, Endpoint]
    kind: Literal["endpoints-changed"] = "endpoints-changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialPrepared:
    """A credential is made ahead: the next rollout that covers its scope hands over to it.

    Attributes:
        in_flight, grace: as the playbook has them (``recorded.Credential``).
        imported: whether its key came from a file, with a lifetime of its own.
    """

    playbook: PlaybookName
    new: NewCredential
    in_flight: timedelta
    grace: timedelta
    imported: bool
    kind: Literal["credential-prepared"] = "credential-prepared"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialDropped:
    """A credential that was made ahead is not to be used."""

    credential: CredentialId
    reason: str
    kind: Literal["credential-dropped"] = "credential-dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMakingIntended:
    """The controller is about to make a private key and put it into the vault (S3)."""

    credential: CredentialId
    kind: Literal["key-making-intended"] = "key-making-intended"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMade:
    """A key exists; from now on its public half is known."""

    credential: CredentialId
    public: PublicKey
    kind: Literal["key-made"] = "key-made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """An issuer has certified a key for one server; both PEM.

    Attributes:
        issuer: the SPKI digest of its key; empty: the issuer that the fleet was founded with; ``FOREIGN``.
    """

    credential: CredentialId
    server: HostName
    certificate_pem: str
    chain_pem: str
    issuer: SpkiDigest = NO_ISSUER
    kind: Literal["certified"] = "certified"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyProlonged:
    """A key in use is certified anew to end later, since its successor is kept waiting (L4).

    Attributes:
        until: the end of its new certificates.
        reason: what its successor waits for.
    """

    credential: CredentialId
    until: datetime
    reason: str
    kind: Literal["key-prolonged"] = "key-prolonged"


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
    """

    record: str
    certificate: str
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
class VisitsIntended:
    """These visits are about to be sent out."""

    intents: tuple[Intent, ...]
    kind: Literal["visits-intended"] = "visits-intended"


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitsEnded:
    """These visits ended; the signatures in their reports have been verified (``proofs.judge``)."""

    outcomes: tuple[Outcome, ...]
    kind: Literal["visits-ended"] = "visits-ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsSurveyed:
    """What hosts really hold, and which could not be asked, with the reason."""

    surveys: Mapping[HostName, HostSurvey]
    failures: Mapping[HostName, str]
    kind: Literal["hosts-surveyed"] = "hosts-surveyed"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDestroyed:
    """The vault no longer holds the private key."""

    credential: CredentialId
    kind: Literal["key-destroyed"] = "key-destroyed"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyExported:
    """A private key is about to be written to a file: from now on somebody else may hold it (S3).

    Attributes:
        copy: names the file among the exports of this key.
        encrypted: whether it is under a password.
    """

    credential: CredentialId
    copy: CopyId
    file: str
    purpose: str
    encrypted: bool
    kind: Literal["key-exported"] = "key-exported"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportDestroyed:
    """A person says that an exported file, and whatever was made of it, is no more."""

    credential: CredentialId
    copy: CopyId
    reason: str
    kind: Literal["export-destroyed"] = "export-destroyed"


How = Literal[KeyState.COMPROMISED, KeyState.LOST]
"""In what way a key can be ended by a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEnded:
    """A person says that a key leaked, or that it is lost."""

    credential: CredentialId
    how: How
    reason: str
    kind: Literal["key-ended"] = "key-ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostGivenUp:
    """A host that could not be cleaned has been removed all the same.

    Its keys, if it was a server, have been ended as compromised in the same go; as an agent it stays listed
    with what it last trusted (S10).
    """

    host: HostName
    reason: str
    kind: Literal["host-given-up"] = "host-given-up"


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
    """

    generation: int
    epoch: int
    unmet: Mapping[HostName, str]
    backup: str = ""
    kept: tuple[CredentialId, ...] | None = None
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
    """What a restored ledger takes over from hosts (``adopting.py``); their surveys follow.

    Attributes:
        found: credentials that it did not know, or whose keys it had not seen made.
        ended: credentials that have ended since, each with who says so.
        armed: what each server may have signed with lately.
        targets: servers that are to have something else than the ledger says: what they use, or nothing yet.
        servers, agents: hosts that joined since; the servers with the playbook they seem to be of.
        endpoints: how the hosts were reached.
    """

    hosts: tuple[HostName, ...]
    found: tuple[FoundCredential, ...]
    ended: Mapping[CredentialId, str]
    armed: Mapping[HostName, tuple[CredentialId, ...]]
    targets: Mapping[HostName, CredentialId | None]
    servers: Mapping[HostName, PlaybookName]
    agents: tuple[HostName, ...]
    endpoints: Mapping[HostName, Endpoint]
    kind: Literal["hosts-met"] = "hosts-met"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEnded:
    """Every server is where the rollout wanted it, and no agent trusts anything else."""

    rollout: RolloutId
    kind: Literal["rollout-ended"] = "rollout-ended"


Event = (
    FleetFounded
    | RootRenewed
    | IssuerRenewed
    | CrlSigned
    | RolloutStarted
    | RolloutPaused
    | RolloutResumed
    | AgentsWaived
    | LeaseTaken
    | LeaseReleased
    | EndpointsChanged
    | CredentialPrepared
    | CredentialDropped
    | KeyMakingIntended
    | KeyMade
    | Certified
    | KeyProlonged
    | IssuerKeyIntended
    | IssuerAdded
    | IssuerKeyDestroyed
    | ClockSetRight
    | VisitsIntended
    | VisitsEnded
    | HostsSurveyed
    | KeyDestroyed
    | KeyExported
    | ExportDestroyed
    | KeyEnded
    | HostGivenUp
    | ControllerStopped
    | BackupIntended
    | BackupWritten
    | BackupRemoved
    | BackupsKept
    | HomeRestored
    | HostsMet
    | RolloutEnded
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event in its place in the ledger.

    Attributes:
        number: counts from 1 without a gap.
        at: when it was written, by the controller's clock.
        previous: the digest of the entry before; empty for the first.
        digest: SHA-256 (hex) over number, time, previous and the event's canonical JSON.
    """

    number: int
    at: datetime
    event: Event
    previous: str
    digest: str
