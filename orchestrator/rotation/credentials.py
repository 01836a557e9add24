"""The keys that the ledger knows: one generation of a scope's key, and the issuers that certify them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NewType

from orchestrator.inventory.model import HostName
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import PublicKey, SpkiDigest
from orchestrator.policy.desired import KeySpec, Origin, PlaybookName, ScopeName
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.visits import CredentialId

CopyId = NewType("CopyId", str)
"""32 random bits as 8 lowercase hex digits: names an exported file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A file with a private key that was exported; nobody knows who has it by now.

    Attributes:
        file: where it was written.
        purpose: what for, as the person who exported it said.
        encrypted: whether it is under a password.
    """

    file: str
    purpose: str
    encrypted: bool
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One generation of a scope's key.

    Every server of the scope has a certificate of its own over the one key, ending with the cryptoperiod,
    so that a server can join without the others noticing.

    Attributes:
        servers: whom it was made for.
        not_before, not_after: its cryptoperiod.
        in_flight: the longest time that any playbook it was used under lets its messages live (S7).
        grace: how long after its end agents accept it.
        public: None: not made yet.
        certificates: PEM by server.
        chains: PEM by server, from the issuer up to and without the root.
        state_since: when it took its state.
        in_vault: whether the vault may hold its private key.
        ended: ``compromised`` or ``lost``, when a person has said so.
        ended_why: the person's reason.
        ended_since: when that was said; None: nobody has.
        over: who remembers it as removed, though this ledger does not; it is never to be used anew.
        prolonged: until when it is kept in use, past ``not_after``, since its successor is kept waiting.
        prolonged_why: what its successor waits for.
        prolonged_since: when it was first kept so; None: it never was.
        prolongations: how often it was.
        uncertified: servers whose certificate has yet to be made anew for that end.
        awaits: whether it was made ahead, and no rollout has taken it up yet.
        imported: whether its key came from a file.
        copies: the files it was exported to, and that may still exist.
        superseded: SHA-256 (hex) of the certificates each server was given before the present one.
        delegated: whether agents believe it by its certificate, and do not know it.
        issuers: by server the SPKI digest of who certified it; empty: the founding issuer.
        former_issuers: in the same way those who did before; what they certified may still be good.
    """

    id: CredentialId
    playbook: PlaybookName
    scope: ScopeName
    key: KeySpec
    servers: tuple[HostName, ...]
    created: datetime
    not_before: datetime
    not_after: datetime
    in_flight: timedelta
    grace: timedelta
    state: KeyState
    state_since: datetime
    public: PublicKey | None = None
    certificates: Mapping[HostName, str] = field(default_factory=dict)
    chains: Mapping[HostName, str] = field(default_factory=dict)
    in_vault: bool = False
    ended: KeyState | None = None
    ended_why: str = ""
    ended_since: datetime | None = None
    over: str = ""
    prolonged: datetime | None = None
    prolonged_why: str = ""
    prolonged_since: datetime | None = None
    prolongations: int = 0
    uncertified: frozenset[HostName] = frozenset()
    superseded: Mapping[HostName, frozenset[str]] = field(default_factory=dict)
    delegated: bool = False
    issuers: Mapping[HostName, SpkiDigest] = field(default_factory=dict)
    former_issuers: Mapping[HostName, frozenset[SpkiDigest]] = field(default_factory=dict)
    awaits: bool = False
    imported: bool = False
    copies: Mapping[CopyId, Copy] = field(default_factory=dict)

    @property
    def is_to_be_made_there(self) -> bool:
        """Whether its server has yet to make it."""
        return self.public is None and self.key.origin is Origin.SERVER

    @property
    def compromised(self) -> bool:
        """Whether somebody else may have it."""
        return self.ended is KeyState.COMPROMISED

    @property
    def ends(self) -> datetime:
        """The end of its certificates: that of its cryptoperiod, or later where its successor waits."""
        return self.prolonged or self.not_after

    @property
    def expires(self) -> datetime:
        """From when on agents refuse it (``exp`` in bundles, S10)."""
        return self.ends + self.grace

    def certificate_digest(self, server: HostName) -> str | None:
        """SHA-256 (hex) of the certificate that a server is to have; None: it has none yet."""
        issued = self.certificates.get(server)
        return hashlib.sha256(issued.encode()).hexdigest() if issued is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRecord:
    """An issuer of the fleet's own.

    Attributes:
        record: what its key is called where it is kept (``ports.Keyring``).
        certificate: PEM; empty: it is being made.
        since: from when on it has certified.
        kept: whether its key may still be there.
        leaked: why somebody else may have its key; empty: nobody has.
        revoked: since when its own certificates are not to be relied on; None: they are.
    """

    record: str
    certificate: str = ""
    since: datetime | None = None
    kept: bool = True
    leaked: str = ""
    revoked: datetime | None = None

    @property
    def key(self) -> SpkiDigest:
        """What it is known by."""
        return parse_certificate(self.certificate).public_key.spki_digest
