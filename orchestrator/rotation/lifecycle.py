"""The one table of what may follow what, for keys and for the handover of a server.

Key states are those of RFC 7583, section 3 (key rollover timing). A key's state is never set by hand:
it follows from what servers may sign with and what agents trust (``recorded.settle``), and every change
has to be in ``KEY_MOVES``; another one is a fault of this program, not of the fleet.

A handover takes one server from the keys it has to the one it should have. Where it stands is never
stored either: it is the first row of ``STEPS`` whose condition does not hold now. The order of the rows is
the safety of the fleet, since a server is only visited for a step when all rows above it hold, and agents are
given what follows from where their servers stand (``bundles.wanted_lines``):
agents are proven before a server switches (S6), a server is disarmed before its agents drop the old key,
and messages in flight outlive the wait in between (S7).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class KeyState(StrEnum):
    """Where one generation of a key stands."""

    GENERATED = "generated"
    PUBLISHED = "published"
    READY = "ready"
    ACTIVE = "active"
    RETIRED = "retired"
    REMOVED = "removed"
    COMPROMISED = "compromised"
    LOST = "lost"


ENDED = frozenset({KeyState.COMPROMISED, KeyState.LOST})
"""A person has said that the key must not be used, or cannot be: nobody waits for it any more."""

GONE = frozenset({KeyState.RETIRED, KeyState.REMOVED, *ENDED})
"""No server is to have the key again, and no backup has to."""


KEY_MEANINGS: Mapping[KeyState, str] = MappingProxyType(
    {
        KeyState.GENERATED: "no agent was given the public key",
        KeyState.PUBLISHED: "the public key is being given to agents",
        KeyState.READY: "every agent of its servers has proven it",
        KeyState.ACTIVE: "a server may sign with it",
        KeyState.RETIRED: "no server can sign with it, but agents trust it or someone holds the private key",
        KeyState.REMOVED: "no agent trusts it and its private key is destroyed everywhere",
        KeyState.COMPROMISED: "somebody else may have it: it is taken away, and nobody waits for it",
        KeyState.LOST: "its private key is gone: agents are taught another one",
    },
)

_ENDS: Mapping[KeyState, str] = MappingProxyType(
    {KeyState.COMPROMISED: "a person says that it leaked", KeyState.LOST: "a person says that it is lost"},
)

KEY_MOVES: Mapping[KeyState, Mapping[KeyState, str]] = MappingProxyType(
    {
        KeyState.GENERATED: {
            **_ENDS,
            KeyState.PUBLISHED: "a bundle with it was sent to an agent",
            KeyState.READY: "every agent proved it in one batch, or no agent listens",
            KeyState.ACTIVE: "its server has no agents to ask",
            KeyState.RETIRED: "given up before any agent saw it",
            KeyState.REMOVED: "given up before it left the controller",
        },
        KeyState.PUBLISHED: {
            **_ENDS,
            KeyState.READY: "every agent of its servers has proven it",
            KeyState.GENERATED: "the agents that were given it were wiped or have left",
            KeyState.ACTIVE: "found in use on a server",
            KeyState.RETIRED: "given up, or its rollout was replaced by another",
            KeyState.REMOVED: "given up and already gone everywhere",
        },
        KeyState.READY: {
            **_ENDS,
            KeyState.PUBLISHED: "an agent joined or lost its bundle, and has to prove it again",
            KeyState.GENERATED: "the agents that had proven it were wiped or have left",
            KeyState.ACTIVE: "a server switched to it",
            KeyState.RETIRED: "given up, or its rollout was replaced by another",
            KeyState.REMOVED: "given up and already gone everywhere",
        },
        KeyState.ACTIVE: {
            **_ENDS,
            KeyState.READY: "its server went back to the old key; agents have proven it",
            KeyState.PUBLISHED: "its server was wiped or went back, and an agent has to prove it again",
            KeyState.GENERATED: "its server was wiped, and no agent holds it",
            KeyState.RETIRED: "the last server was disarmed",
            KeyState.REMOVED: "its last holder lost it, and no agent trusts it",
        },
        KeyState.RETIRED: {
            **_ENDS,
            KeyState.REMOVED: "no agent trusts it and its private key is destroyed everywhere",
            KeyState.ACTIVE: "a server was found signing with it again",
            KeyState.READY: "wanted again by a server whose agents have proven it",
            KeyState.PUBLISHED: "wanted again by a server",
            KeyState.GENERATED: "wanted again by a server, and trusted by no agent",
        },
        KeyState.REMOVED: {
            **_ENDS,
            KeyState.ACTIVE: "found in use on a server that was thought erased",
            KeyState.RETIRED: "found on a host that was thought clean",
        },
        KeyState.COMPROMISED: {KeyState.REMOVED: "no agent trusts it and no host holds it any more"},
        KeyState.LOST: {
            KeyState.COMPROMISED: "it was found, by somebody else",
            KeyState.REMOVED: "no agent trusts it and no host holds it any more",
        },
    },
)


class Phase(StrEnum):
    """The phases of a rollout, as people speak of them."""

    STAGE = "stage"
    PUBLISH = "publish"
    ACTIVATE = "activate"
    SOAK = "soak"
    RETIRE = "retire"
    DONE = "done"


class Step(StrEnum):
    """The steps of one server's handover, in order."""

    EXPEL = "expel"
    MAKE = "make"
    CERTIFY = "certify"
    STAGE = "stage"
    PUBLISH = "publish"
    WAVE = "wave"
    ACTIVATE = "activate"
    INSTALL = "install"
    CONFIRM = "confirm"
    SOAK = "soak"
    DISARM = "disarm"
    WAIT = "wait"
    DROP = "drop"
    ERASE = "erase"
    DONE = "done"


SUSPENDED = frozenset({Step.PUBLISH, Step.WAVE, Step.CONFIRM, Step.SOAK})
"""Rows that a server which has to leave a compromised key does not wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table.

    Attributes:
        phase: the phase the step belongs to.
        holds_when: what is true once the step is behind the server, as a clause to follow "until".
        visits: whom the step visits: "server", "agents", or nobody.
        invariants: what would break if a later step were made before this one holds.
    """

    phase: Phase
    holds_when: str
    visits: str = ""
    invariants: tuple[str, ...] = ()


STEPS: Mapping[Step, Rule] = MappingProxyType(
    {
        Step.EXPEL: Rule(
            phase=Phase.RETIRE,
            holds_when="no compromised key lies on the server but the one it still has to leave",
            visits="server",
            invariants=("S4",),
        ),
        Step.MAKE: Rule(
            phase=Phase.STAGE,
            holds_when="the new key is made, and nobody has called it leaked",
            visits="server",
            invariants=("S3", "S4"),
        ),
        Step.CERTIFY: Rule(phase=Phase.STAGE, holds_when="the issuer has certified it for this server"),
        Step.STAGE: Rule(
            phase=Phase.STAGE,
            holds_when="the server has it beside the one in use and has signed a fresh nonce with it",
            visits="server",
            invariants=("S4", "S5"),
        ),
        Step.PUBLISH: Rule(
            phase=Phase.PUBLISH,
            holds_when="every agent of the server has verified that nonce with the bundle it really uses",
            visits="agents",
            invariants=("S1", "S2", "S6"),
        ),
        Step.WAVE: Rule(
            phase=Phase.ACTIVATE,
            holds_when="the waves before the server's own have switched and soaked",
        ),
        Step.ACTIVATE: Rule(
            phase=Phase.ACTIVATE,
            holds_when="the server signs with it",
            visits="server",
            invariants=("S5", "S6"),
        ),
        Step.INSTALL: Rule(
            phase=Phase.ACTIVATE,
            holds_when="the server's stores hold it, and nothing else of keyrelay's",
            visits="server",
            invariants=("S3", "S4"),
        ),
        Step.CONFIRM: Rule(
            phase=Phase.ACTIVATE,
            holds_when="the canary's agents (with prove: direct all) have verified what it signs since",
            visits="agents",
            invariants=("S1",),
        ),
        Step.SOAK: Rule(phase=Phase.SOAK, holds_when="every wave has switched, and the last one has soaked"),
        Step.DISARM: Rule(
            phase=Phase.RETIRE,
            holds_when="no revert on the server reaches an old key",
            visits="server",
            invariants=("S1", "S7"),
        ),
        Step.WAIT: Rule(
            phase=Phase.RETIRE,
            holds_when="no message signed with an old key can still be valid",
            invariants=("S1", "S7"),
        ),
        Step.DROP: Rule(
            phase=Phase.RETIRE,
            holds_when="no agent trusts an old key of the server",
            visits="agents",
            invariants=("S7",),
        ),
        Step.ERASE: Rule(
            phase=Phase.RETIRE,
            holds_when="the old private keys are erased on the server and in the vault",
            visits="server",
            invariants=("S3", "S4"),
        ),
        Step.DONE: Rule(phase=Phase.DONE, holds_when="nothing is left to do"),
    },
)


def check_move(before: KeyState, after: KeyState) -> None:
    """Assert that a key may go from ``before`` to ``after``.

    Raises:
        ValueError: the table has no such move; a fault of this program.
    """
    if after not in KEY_MOVES[before]:
        legal = ", ".join(KEY_MOVES[before])
        raise ValueError(f"a key cannot go from {before} to {after}; from {before} it can go to: {legal}")
