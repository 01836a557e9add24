"""What is written into the ledger, one value for each thing that can happen.

Events hold facts only, never a private key: an intent before its visit, the outcomes after, what a
survey found, what was decided. Here are those of keys, rollouts and hosts; ``home_events.py`` has those of
the home itself. ``evolve.py`` says what they add up to. Their ``kind`` and field names are the ledger's
format: once released they may be added to, not renamed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import PublicKey, SpkiDigest
from orchestrator.policy.desired import Desired, KeySpec, PlaybookName, ScopeName
from orchestrator.rotation.home_events import HomeEvent
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import NO_ISSUER, CopyId, Intent, RolloutId
from orchestrator.rotation.reports import Outcome
from orchestrator.rotation.visits import CredentialId


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
        targets: for every server of the playbook, and None for every server that leaves it; not for one that
            goes to a playbook whose rollout starts in the same go.
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
class HostsAwaited:
    """All that could be done for the rollout was done, and these hosts keep it waiting; no others do.

    Attributes:
        since: by host since when, without a break.
    """

    rollout: RolloutId
    since: Mapping[HostName, datetime]
    kind: Literal["hosts-awaited"] = "hosts-awaited"


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
class HostSetUpAnew:
    """A person says that a server was wiped: nothing on it has, or signs with, what it had before.

    Attributes:
        gone: what it had, by the ledger, and has no more.
    """

    host: HostName
    gone: tuple[CredentialId, ...]
    kind: Literal["host-set-up-anew"] = "host-set-up-anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEnded:
    """Every server is where the rollout wanted it, and no agent trusts anything else."""

    rollout: RolloutId
    kind: Literal["rollout-ended"] = "rollout-ended"


Event = (
    HomeEvent
    | RolloutStarted
    | RolloutPaused
    | RolloutResumed
    | AgentsWaived
    | HostsAwaited
    | EndpointsChanged
    | CredentialPrepared
    | CredentialDropped
    | KeyMakingIntended
    | KeyMade
    | Certified
    | KeyProlonged
    | VisitsIntended
    | VisitsEnded
    | HostsSurveyed
    | KeyDestroyed
    | KeyExported
    | ExportDestroyed
    | KeyEnded
    | HostGivenUp
    | HostSetUpAnew
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
