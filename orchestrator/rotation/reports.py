"""How a visit ended: a report of each order that was done, and the one word for the visit as a whole.

A failing host is a value, never an exception. Which value says what is known afterwards:
``Unreachable`` and ``Refused`` promise that nothing on the host changed (``Refused`` keeps the reports
of the orders done before it); after ``Failed`` only a survey can tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Literal

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.rotation.observed import HostSurvey, Whole
from orchestrator.rotation.visits import CredentialId


class Verdict(StrEnum):
    """What an agent found of one claim."""

    VALID = "valid"
    INVALID = "invalid"
    """The edge is trusted, the signature does not verify."""
    UNTRUSTED = "untrusted"
    """The bundle in use has no edge with this server and key, or does not let the issuer vouch for it."""
    EXPIRED = "expired"
    """The edge is there, and its ``exp`` (or the certificate's end and the grace) is past by its clock."""
    UNCERTIFIED = "uncertified"
    """The issuer may vouch for the server, and the certificate is not its word for this key and server."""
    DENIED = "denied"
    """The key is one that the bundle denies, whoever vouches for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What the host holds; ``whole`` only where all of it was asked for."""

    survey: HostSurvey
    whole: Whole | None = None
    changed: bool = False
    kind: Literal["survey"] = "survey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """The request for the key made on the host."""

    credential: CredentialId
    request_pem: str
    changed: bool
    kind: Literal["generate"] = "generate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The credential is beside the one in use; the signature (hex) is made with its key."""

    credential: CredentialId
    signature: str
    changed: bool
    kind: Literal["stage"] = "stage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """The bundle is in use, and its hooks ran well; ``digest`` is of the files on the host after the switch.

    Attributes:
        stores: the digest of the manifest that the agent's stores are filled by; empty: it has none.
    """

    position: Position
    digest: str
    verdicts: tuple[Verdict, ...]
    changed: bool
    stores: str = ""
    kind: Literal["trust"] = "trust"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """The credential is in use; the signature (hex) was made after the hook, by the service or here.

    Attributes:
        stores: the digest of the manifest that the server's stores are filled by; empty: it has none.
    """

    credential: CredentialId
    signature: str
    changed: bool
    stores: str = ""
    kind: Literal["activate"] = "activate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverted:
    """The earlier credential is in use again; the signature (hex) was made through ``current``.

    Attributes:
        stores: as ``Activated.stores``.
    """

    credential: CredentialId
    signature: str
    changed: bool
    stores: str = ""
    kind: Literal["revert"] = "revert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disarmed:
    """The credentials cannot be reached by a revert.

    Attributes:
        emptied: whether the server stopped using any, and nothing of keyrelay's is left in its stores.
    """

    credentials: tuple[CredentialId, ...]
    changed: bool
    emptied: bool = False
    kind: Literal["disarm"] = "disarm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """The credentials are not on the host any more."""

    credentials: tuple[CredentialId, ...]
    changed: bool
    kind: Literal["erase"] = "erase"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signature (hex) made with the credential in use, or by a service that may not use it."""

    credential: CredentialId
    signature: str
    changed: bool = False
    kind: Literal["sign"] = "sign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One verdict for each claim, in their order, found with the bundle of this digest."""

    digest: str
    verdicts: tuple[Verdict, ...]
    changed: bool = False
    kind: Literal["check"] = "check"


Report = Surveyed | Generated | Staged | Trusted | Activated | Reverted | Disarmed | Erased | Signed | Checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Every order was done, and at least one changed something.

    Attributes:
        reports: one for each order, in their order.
        skew: how far the host's clock is off, as far as the visit can tell: zero when the host's
            second lies within the visit, else the distance to it; positive when the host is ahead.
    """

    host: HostName
    reports: tuple[Report, ...]
    skew: timedelta = timedelta(0)
    kind: Literal["changed"] = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """Every order was done, and all of it stood already."""

    host: HostName
    reports: tuple[Report, ...]
    skew: timedelta = timedelta(0)
    kind: Literal["unchanged"] = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The host said no to an order before changing anything for it; the earlier ones are reported.

    Attributes:
        fenced: whether the host follows another ledger, so that this one has to stop (S8, S9).
        unverified: by server the verdict on a signature that is not proven, where nothing else is amiss: all
            orders were done, and what is reported of other servers counts.
    """

    host: HostName
    reason: str
    reports: tuple[Report, ...] = ()
    skew: timedelta = timedelta(0)
    fenced: bool = False
    unverified: Mapping[HostName, Verdict] = field(default_factory=dict)
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """No order reached the host: nothing on it changed."""

    host: HostName
    reason: str
    kind: Literal["unreachable"] = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An order broke off, or its answer is missing: only a survey can tell what the host holds now.

    Attributes:
        reports: of the orders whose end the host did report.
        told: whether the host itself said that an order failed; otherwise its answer is missing or wrong.
    """

    host: HostName
    reason: str
    reports: tuple[Report, ...] = ()
    told: bool = False
    skew: timedelta = timedelta(0)
    kind: Literal["failed"] = "failed"


Outcome = Changed | Unchanged | Refused | Unreachable | Failed
