"""What one visit asks of a host; ``reports.py`` says how it ended.

A visit is one connection and one exec of the program in ``remote/host/``; it carries one or more orders
for the same host, done in turn until one fails. Orders and reports are all that the engine, the fleet and
the ledger say to each other about hosts, so nothing here knows of SSH, files or shells.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, NewType

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.bundle import TrustBundle
from orchestrator.keys.material import Algorithm, SpkiDigest
from orchestrator.keys.secret import Secret
from orchestrator.rotation.observed import Tombstone

CredentialId = NewType("CredentialId", str)
"""128 random bits as 32 lowercase hex digits, given by the controller before anything is made."""

PROOFS_A_VISIT = 100
"""At most so many claims in one exec: each costs the host about 8 ms of openssl."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fence:
    """Where the writing ledger stands; a host remembers the highest it saw and refuses a lower one (S8).

    Numbers alone would let a copy of the ledger pass that has written more than the true one. So a host
    remembers the entry's digest too, and a controller whose ledger has another entry there is found out.

    Attributes:
        generation: counts restores of the ledger; a restored ledger opens a higher one (S9).
        counter: the number of the ledger entry that holds the visit's intent.
        head: the digest (hex) of that entry; empty: not known. No part of the order.
    """

    generation: int
    counter: int
    head: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A fresh nonce that a server is to sign, bound to its fleet and its name.

    Attributes:
        fleet: the fleet's id.
        server: the server asked to sign.
        nonce: 256 random bits as 64 lowercase hex digits.
    """

    fleet: str
    server: HostName
    nonce: str

    def text(self) -> bytes:
        """The signed bytes; a prefix of their own keeps them apart from every other signed message."""
        return f"keyrelay proof 1\n{self.fleet}\n{self.server}\n{self.nonce}\n".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A server's signature over a challenge, for agents to verify with the bundle they really use.

    Attributes:
        challenge: what was signed.
        key: the SPKI digest of the key said to have signed it.
        signature: as ``keys.material.sign`` makes it, in lowercase hex.
        voucher: the certificate by which an agent is to believe the key; None: it is to know the key itself.
    """

    challenge: Challenge
    key: SpkiDigest
    signature: str
    voucher: "Voucher | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """A server's certificate, and the one issuer by which it is to be believed.

    Attributes:
        issuer: the SPKI digest of the issuer's key.
    """

    certificate_pem: str
    issuer: SpkiDigest


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Tell what you hold; needs neither lock nor fence.

    In a visit that shows a fence all the same it is the last word on what earlier visits did: none of them
    is still at work, since this one has the lock, and none that comes later gets past the fence.

    Attributes:
        whole: tell public keys, certificates and chains as well, not their digests alone.
        server_stores, agent_stores: manifests; tell what would keep them from being carried out.
    """

    whole: bool = False
    server_stores: str = ""
    agent_stores: str = ""
    kind: Literal["survey"] = "survey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Make a key on the host and return a request for its certificate.

    Repeated for a credential that is there already, it returns the same request byte for byte.
    """

    credential: CredentialId
    algorithm: Algorithm
    names: tuple[str, ...]
    kind: Literal["generate"] = "generate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Put a credential beside the one in use, and sign a challenge with it.

    Attributes:
        private_key: PKCS#8 PEM; None where the host made the key itself.
    """

    credential: CredentialId
    certificate_pem: str
    chain_pem: str
    challenge: Challenge
    algorithm: Algorithm
    private_key: Secret | None = None
    kind: Literal["stage"] = "stage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A command of the playbook, already rendered; runs under ``sh`` on the host.

    Attributes:
        command: shell text. The only text that a host is ever asked to run, and the operator's own.
        timeout: after which the command is ended and counts as failed. For one by which the service signs it
            is also how long the service may take to come to use another key: it is asked again and again.
    """

    command: str
    timeout: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Install a trust bundle, make it the one in use, run the hooks, and verify the claims with it (S2, S6).

    A bundle never goes back (S2). Where a hook fails the outcome is ``Failed``, and the host remembers that
    its programs may use an earlier bundle: the next order runs the hooks though it changes nothing else.

    Attributes:
        ends: keys that have ended, for the host to remember; a key that is in the bundle is forgotten there.
        stores: the manifest of what an agent's stores hold (``policy.stores``), filled after the switch; what
            an earlier one had put elsewhere is taken away.
        hooks: what tells the programs that listen of the bundle, one for each playbook with one of its own.
    """

    bundle: TrustBundle
    claims: tuple[Claim, ...] = ()
    ends: tuple[Tombstone, ...] = ()
    stores: str = ""
    hooks: tuple[Hook, ...] = ()
    kind: Literal["trust"] = "trust"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate:
    """Switch to a staged credential atomically, fill the stores, run the hook, sign with what is now in use.

    If a store, the hook or the signature fails, the host goes back to the credential it used before, fills
    the stores with that and runs the hook again for it; the outcome is then ``Failed`` and says so.

    Attributes:
        prove: has the running service sign; the host verifies that it does with this credential. None: the
            host signs with the file.
        goes_back: False where the credential used before must not be used again: the host then stays on the
            new one and fails.
        stores: the manifest of what a server's stores hold (``policy.stores``); what an earlier one had put
            elsewhere is taken away.
    """

    credential: CredentialId
    challenge: Challenge
    algorithm: Algorithm
    hook: Hook | None = None
    prove: Hook | None = None
    goes_back: bool = True
    stores: str = ""
    kind: Literal["activate"] = "activate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revert:
    """Switch back to an earlier credential that is still beside the one in use (never a disarmed one).

    Attributes:
        stores: as ``Activate.stores``.
    """

    credential: CredentialId
    challenge: Challenge
    algorithm: Algorithm
    hook: Hook | None = None
    prove: Hook | None = None
    stores: str = ""
    kind: Literal["revert"] = "revert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disarm:
    """Move credentials where no revert reaches them; refused while one of them is in use.

    Attributes:
        in_use: the credential that must be the one in use; None: the server leaves, and stops using any
            (its ``current`` link is taken away and its stores are emptied first).
    """

    credentials: tuple[CredentialId, ...]
    in_use: CredentialId | None
    kind: Literal["disarm"] = "disarm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Erase:
    """Overwrite and remove credentials; refused for the one in use.

    Attributes:
        ends: keys that have ended, for the host to remember.
    """

    credentials: tuple[CredentialId, ...]
    ends: tuple[Tombstone, ...] = ()
    kind: Literal["erase"] = "erase"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Sign a challenge with the credential in use; changes nothing.

    Attributes:
        prove: has the running service sign. Where it does not with the credential in use, the host tells what
            it answered and refuses the orders after this one. None: the host signs with the file.
    """

    challenge: Challenge
    prove: Hook | None = None
    kind: Literal["sign"] = "sign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Verify claims with the bundle in use; changes nothing."""

    claims: tuple[Claim, ...]
    kind: Literal["check"] = "check"


Order = Survey | Generate | Stage | Trust | Activate | Revert | Disarm | Erase | Sign | Check

READING = (Survey, Sign, Check)
"""Orders that change nothing: they take no lock and show no fence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Orders for one host, done in one exec.

    Attributes:
        fence: needed as soon as one order changes something; a visit that shows one takes the lock.
        remembers: the fence that the host must remember for the visit to begin, as a survey or the visit
            before told: one, or none at all; None: any that is not higher.
    """

    endpoint: Endpoint
    orders: tuple[Order, ...]
    fence: Fence | None = None
    remembers: tuple[Fence, ...] | None = None
