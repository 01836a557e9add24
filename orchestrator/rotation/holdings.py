"""What hosts hold, or may hold: the values that the record of each host is made of.

A server has credentials in some *placement*. An agent has a bundle *installed*, which is a set of lines of
trust, and has given *proofs* with it. An *intent* is what a visit may have done of all this.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.keys.material import Algorithm, SpkiDigest
from orchestrator.rotation.visits import Challenge, Claim, CredentialId

NO_CREDENTIAL = CredentialId("")
NO_ISSUER = SpkiDigest("")
FOREIGN = SpkiDigest("foreign")
"""In place of the issuer's key where somebody else's authority certified."""


class Evidence(StrEnum):
    """How we know that a host holds a key."""

    INTENDED = "intended"
    """A visit was meant to bring it; whether it did is not known."""
    REPORTED = "reported"
    """The visit that brought it said so, with a proof where one is possible."""
    SURVEYED = "surveyed"
    """A survey found it."""


class Standing(StrEnum):
    """Where a credential lies on a server."""

    MADE = "made"
    """Its key was made there and waits for a certificate."""
    STAGED = "staged"
    """Beside the one in use, never used yet."""
    ACTIVE = "active"
    STANDBY = "standby"
    """Was in use, and a revert still reaches it."""
    DISARMED = "disarmed"
    """No revert reaches it; waits to be erased."""


SIGNING = frozenset({Standing.ACTIVE, Standing.STANDBY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One credential on one server.

    Attributes:
        since: when it took this standing.
        claim: the last signature the server made with it that the controller has verified.
        certificate: SHA-256 (hex) of the bytes of its certificate there; empty: none, or not known.
        hook_due: whether it is in use, and what signs may not know of it yet: its switch was cut short.
        foreign: whether the folder was seen to hold another key, which did not end with the credential's.
    """

    standing: Standing
    since: datetime
    evidence: Evidence
    claim: Claim | None = None
    certificate: str = ""
    hook_due: bool = False
    foreign: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TrustLine:
    """An agent accepts this server: with one credential, or with any that an issuer certifies for it.

    Two lines are equal whatever their ``since``.

    Attributes:
        credential: the one; empty where an issuer vouches for whatever the server signs with.
        issuer: the SPKI digest of that issuer's key; empty where the credential's own key is known.
    """

    server: HostName
    credential: CredentialId = NO_CREDENTIAL
    issuer: SpkiDigest = NO_ISSUER
    since: datetime | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if bool(self.credential) is bool(self.issuer):
            raise ValueError("a line of trust names a credential or an issuer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A bundle on an agent.

    Attributes:
        digest: of its files.
        content: of what it says apart from its position; empty when it says something unknown to the ledger.
        lines: sorted.
        issuers: the issuers it carries, by SPKI digest, sorted; empty: the founding one.
        denied: credentials that it refuses whoever vouches for them, sorted.
    """

    position: Position
    digest: str
    content: str
    lines: tuple[TrustLine, ...]
    evidence: Evidence = Evidence.INTENDED
    issuers: tuple[SpkiDigest, ...] = ()
    denied: tuple[CredentialId, ...] = ()

    def believes(self, line: TrustLine, credential: CredentialId) -> bool:
        """Whether an agent with it accepts what is signed with a credential that has this line."""
        return line in self.lines and credential not in self.denied


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What was put into a host's stores, in one of its roles.

    Attributes:
        manifest: the digest of the one in place (``policy.stores``); empty: it was not carried out in full.
        credential: the one that a server's stores were filled with; empty: an agent's.
        intact: whether all of it was there when it was last heard of.
    """

    manifest: str
    credential: CredentialId = NO_CREDENTIAL
    intact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """An agent has verified, or is asked to verify, what a server signed.

    Attributes:
        line: the server, and the credential it signed with.
        nonce: what was signed: which of the server's signatures it was.
        at: when it was verified; None: it is asked for.
        algorithm: the kind of key it was, where an issuer vouched for it; None: the line's own key.
    """

    line: TrustLine
    nonce: str
    at: datetime | None = None
    algorithm: Algorithm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a visit that was sent out may have done to its host.

    Attributes:
        stages: credentials it may have brought (or had made there).
        activates: the credential it may have put into use.
        disarms, erases: credentials it may have put away.
        bundle: the bundle it may have installed.
        proves: the proofs it asks an agent for, in the order of the claims.
        challenges: what it asks a server to sign, by credential.
        certificates: SHA-256 (hex) of the certificates it may have brought, by credential.
    """

    host: HostName
    stages: tuple[CredentialId, ...] = ()
    activates: CredentialId | None = None
    disarms: tuple[CredentialId, ...] = ()
    erases: tuple[CredentialId, ...] = ()
    bundle: Installed | None = None
    proves: tuple[Proof, ...] = ()
    challenges: Mapping[CredentialId, Challenge] = field(default_factory=dict)
    certificates: Mapping[CredentialId, str] = field(default_factory=dict)
