"""The classes in which hosts can differ from what they should be."""

from collections.abc import Mapping
from enum import StrEnum


class Drift(StrEnum):
    """The classes; ``ok`` is the absence of all others."""

    OK = "ok"
    MISSING = "missing"
    PREVIOUS = "previous"
    UNKNOWN_KEY = "unknown-key"
    EXTRA_TRUST = "extra-trust"
    MISMATCH = "mismatch"
    EXPIRED = "expired"
    EXPIRING = "expiring"
    WRONG_POLICY = "wrong-policy"
    BAD_PERMISSIONS = "bad-permissions"
    OBSTRUCTED = "obstructed"
    REGRESSED = "regressed"
    UNREACHABLE = "unreachable"
    ORPHANED = "orphaned-agent"


MEANINGS: Mapping[Drift, str] = {
    Drift.OK: "holds what it should, and nothing else",
    Drift.MISSING: "lacks a key or a trust that it should have",
    Drift.PREVIOUS: "still holds or uses an earlier key",
    Drift.UNKNOWN_KEY: "holds a key that the ledger does not know",
    Drift.EXTRA_TRUST: "trusts a key or a server that it should not",
    Drift.MISMATCH: "its files do not fit each other, or are not those it was given",
    Drift.EXPIRED: "its certificate has ended",
    Drift.EXPIRING: "its key is due for renewal",
    Drift.WRONG_POLICY: "its key is not what the policy asks for",
    Drift.BAD_PERMISSIONS: "a file or folder has a wrong owner, mode or kind",
    Drift.OBSTRUCTED: "could not fill a store with another key or root",
    Drift.REGRESSED: "has an older bundle than it is known to have had",
    Drift.UNREACHABLE: "could not be asked",
    Drift.ORPHANED: "does not trust the key that its server uses",
}
