"""One state of the model: everything that outlives the controller, and what has been seen of it.

A state is what is left when the controller is killed. So a kill is no move of its own: each durable thing
that a run does leads to a state, and the next run may begin at any of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from itertools import chain, compress, product
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.visits import Fence, Visit
from tests.fake_state import HostState

TICK = timedelta(minutes=6)
"""What the clock moves by: as long as messages live, and as long as the soak."""

Edge = tuple[HostName, HostName]
"""An agent, and a server it listens to."""

Used = tuple[HostName, str]
"""A server, and a credential it was seen to use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """A visit that is still on its way, though its controller is dead or gave it up.

    Attributes:
        blind: agents that somebody else has changed, and that its controller had not asked since.
    """

    visit: Visit
    blind: frozenset[HostName] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A copy of ledger and vault.

    Attributes:
        passed: hosts that have been visited on the word of a later ledger.
        meddled: hosts that somebody else has changed, and that this ledger did not ask since.
        fences: what hosts remembered when it was taken.
    """

    recorded: Recorded
    vault: Mapping[str, int]
    passed: frozenset[HostName] = frozenset()
    meddled: frozenset[HostName] = frozenset()
    fences: Mapping[HostName, Fence | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A key that was made once, whether or not the ledger still knows of it.

    Attributes:
        in_flight: how long its messages live.
        issuers: who has certified it, by server, where agents are to believe it for that.
    """

    key: SpkiDigest
    in_flight: timedelta
    issuers: Mapping[HostName, SpkiDigest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """How often each rare thing may still happen.

    Attributes:
        faults: rounds in which the controller is killed, hosts are away, or answers are lost; and surveys
            that not all hosts answer. None: no end.
        new_keys: runs that make new keys, due or not.
        pauses: times that a person pauses a rollout.
        reverts, compromises, waivers, snapshots, backups, late: as they say.
        edits: times that a playbook is edited.
        ageing: times that so much time passes that every proof is too old.
        issuers: times that the fleet's issuer is replaced.
        restores: times that the home is restored as it is.
        nearing: times that a rollout stands still until the certificates in use are near their end, and then
            until agents would have refused them.
        mishaps: all of them together, but for what people do on purpose (``WANTED``). None: no end.
    """

    faults: int | None = None
    new_keys: int = 0
    reverts: int = 0
    pauses: int = 0
    edits: int = 0
    compromises: int = 0
    waivers: int = 0
    snapshots: int = 0
    backups: int = 0
    late: int = 0
    ageing: int = 0
    issuers: int = 0
    restores: int = 0
    nearing: int = 0
    mishaps: int | None = None

    def may(self, name: str) -> bool:
        """Whether it may happen once more."""
        return getattr(self, name) != 0 and (self.mishaps != 0 or name in WANTED)

    def less(self, name: str) -> "Left":
        """What is left when it has happened."""
        count = getattr(self, name)
        fewer: dict[str, Any] = {name: None if count is None else count - 1}
        if self.mishaps is not None and name not in WANTED:
            fewer["mishaps"] = self.mishaps - 1
        return replace(self, **fewer)

    def lesser(self) -> "tuple[Left, ...]":
        """The same without mishaps, without reverts, without what else people do, and without several."""
        return _lesser(self)

    def rank(self) -> tuple[int, ...]:
        """The numbers that make one state allow all that another allows, where none of them is less."""
        return _rank(self)


@cache
def _lesser(left: Left) -> tuple[Left, ...]:
    kinds = (MISHAPS, ("reverts",), tuple(name for name in WANTED if name != "reverts"))
    chosen = (chain.from_iterable(compress(kinds, which)) for which in product((False, True), repeat=3))
    fewer = (replace(left, **dict.fromkeys(names, 0)) for names in chosen)
    return tuple(dict.fromkeys(other for other in fewer if other != left))


@cache
def _rank(left: Left) -> tuple[int, ...]:
    most = NO_END if left.mishaps is None else left.mishaps
    mishaps = [NO_END if (n := getattr(left, name)) is None else n for name in MISHAPS]
    return (*(getattr(left, name) for name in WANTED), most, *(min(n, most) for n in mishaps))


WANTED = ("new_keys", "reverts", "pauses", "edits", "issuers", "restores", "nearing")
"""What people do on purpose, and what time does."""
MISHAPS = ("faults", "compromises", "waivers", "snapshots", "backups", "late", "ageing")
"""What nobody wants."""
NO_END = 99


@dataclass(frozen=True, kw_only=True, eq=False)
class State:  # without slots, so that a state can be copied in one go
    """Ledger, vault, hosts and clock; and what an observer of the hosts remembers.

    Attributes:
        vault: the numbers of the keys that the vault holds, by credential.
        drawn, keys: how much randomness was used (``material.Numbers``).
        asked: what each playbook asks for now, edited or not.
        made: every key that was ever made, by credential.
        used: credentials that lie within reach on a server that has used them.
        cooling: those that it cannot sign with any more, and until when its messages live.
        held: edges on which the agent has believed its server.
        meddled: hosts that were changed by somebody else, and not asked since.
        adrift: agents whose bundle somebody else changed, and that were given none since.
        strange: credentials that a server uses and an agent does not trust, since somebody else put them
            there, or since the server had to leave one that leaked.
        leaked: credentials that lost their protection.
        waived: agents that a person has said not to wait for.
        snapshot: a host as it once was.
        perturbed: whether a host, a key or the ledger was ever changed by somebody else, or so much time went
            by that a key is due. Until then, to apply what is under way is to go on with it.
        refused_at: when agents were to refuse the first of the keys that were in use when their end was near;
            None: it never was.
        forks: how many entries each copy had that was put back (``stage.digest_of``).
        at_work: the playbook whose run goes on next, unless it is killed (``Configuration.whole_runs``).
    """

    recorded: Recorded
    vault: Mapping[str, int]
    hosts: Mapping[HostName, HostState]
    now: datetime
    drawn: int
    keys: int
    asked: Mapping[PlaybookName, Desired]
    left: Left
    made: Mapping[str, Made] = field(default_factory=dict)
    used: frozenset[Used] = frozenset()
    cooling: Mapping[Used, datetime] = field(default_factory=dict)
    held: frozenset[Edge] = frozenset()
    meddled: frozenset[HostName] = frozenset()
    adrift: frozenset[HostName] = frozenset()
    strange: frozenset[Used] = frozenset()
    leaked: frozenset[str] = frozenset()
    waived: frozenset[HostName] = frozenset()
    snapshot: tuple[HostName, HostState] | None = None
    backup: Backup | None = None
    late: Late | None = None
    perturbed: bool = False
    forks: tuple[int, ...] = ()
    refused_at: datetime | None = None
    at_work: PlaybookName | None = None

    def changed(self, **changes: Any) -> "State":
        """A copy with other values; as ``dataclasses.replace``, in a tenth of the time."""
        other = object.__new__(State)
        other.__dict__.update(self.__dict__, **changes)
        return other
