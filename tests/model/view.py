"""One state, or one with an earlier ledger, as it is told; and what servers and agents have in common.

``told_servers.py`` and ``told_agents.py`` tell the hosts in pieces. See ``docs/explanation/model.md`` for
what is left out and why nothing is lost by it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import TrustBundle
from orchestrator.keys.material import SpkiDigest
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.prolonging import last_call
from orchestrator.rotation.recorded import Credential, Recorded, Rollout
from tests.fake_state import HostState
from tests.model.naming import Namer, Names, credentials_of, denied_by, edges_of
from tests.model.state import MISHAPS, State

Told = tuple[Any, ...]
NONE = -1
ISSUER = 400
"""An issuer is told as this and its rank."""
DENIED = 500
"""A key that is denied is told as this and its name."""
OLD_END = 1000
"""Is added to the name of a key whose later end an agent does not know."""
IN_SERVICE = frozenset({KeyState.GENERATED, KeyState.PUBLISHED, KeyState.READY, KeyState.ACTIVE})
"""States of keys that follow from what else is told, and between which every change is allowed."""
_STATES = {state: 0 if state in IN_SERVICE else number for number, state in enumerate(KeyState)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What may still happen in a state, as far as that decides what has to be told of it.

    Attributes:
        goes_back: a rollout may be taken back.
        turns: a server's target may become a key that it is to lose.
        puts_back: a host may get an earlier bundle or key again.
        copies: the home may be restored, as it is or from an older copy.
        nears: certificates may come near their end.
        befalls: something that nobody wants may happen.
    """

    goes_back: bool
    turns: bool
    puts_back: bool
    copies: bool
    nears: bool
    befalls: bool

    @classmethod
    def of(cls, state: State) -> "Ahead":
        left = state.left
        goes_back = left.may("reverts")
        copies = bool(left.may("backups") or left.may("restores") or state.backup)
        puts_back = bool(copies or left.may("snapshots") or left.may("late") or state.snapshot or state.late)
        wanted = ("new_keys", "edits", "compromises", "issuers", "nearing")
        return cls(
            goes_back=goes_back,
            turns=goes_back or puts_back or any(left.may(name) for name in wanted),
            puts_back=puts_back,
            copies=copies,
            nears=left.may("nearing") or state.refused_at is not None,
            befalls=puts_back or any(left.may(name) for name in MISHAPS),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order in which servers are told, and playbooks: what tells them apart is their place in it."""

    servers: tuple[HostName, ...]
    playbooks: tuple[PlaybookName, ...]


class Pieces:
    """What was told before. Equal pieces have one number; one is told anew only where a part of it is new."""

    def __init__(self) -> None:
        self.namer = Namer()
        self.known: dict[Told, tuple[object, Any]] = {}
        self._numbers: dict[Told, int] = {}

    def number(self, told: Told) -> int:
        """One number for all that is told in the same words."""
        return self._numbers.setdefault(told, len(self._numbers))


class View:
    """One state, with what all of its hosts share."""

    def __init__(self, pieces: Pieces, state: State, names: Names, ahead: Ahead, order: Order) -> None:
        self.pieces = pieces
        self.state = state
        self.names = names
        self.ahead = ahead
        self.order = order
        self.place = order.servers.index
        self.playbook = order.playbooks.index
        self.now = state.now
        self.recorded: Recorded = state.recorded
        self.running: dict[PlaybookName, Rollout | None] = {
            name: state.recorded.running(name) for name in state.recorded.playbooks
        }

    def credential(self, named: Credential) -> Told:
        """A key, whoever has it, as this ledger knows it."""
        c = self.recorded.credentials.get(named.id)
        if c is None:
            return (self.names.number[named.id],)
        return (
            self.names.number[c.id],
            _STATES[c.state],
            c.in_vault,
            c.id in self.state.vault,
            NONE if c.ended is None else _STATES[c.ended],
            c.over != "",
            c.public is not None,
            c.id in self.state.leaked,
            self._age(c) if self.ahead.nears else (),
        )

    def _age(self, c: Credential) -> Told:
        at, call = self.state.refused_at, last_call(self.recorded, c)
        due = None if call is None else c.not_after - 2 * (c.ends - call)
        return (
            c.prolonged is not None,
            due is not None and due <= self.now,
            call is not None and call <= self.now,
            c.ends <= self.now,
            c.expires <= self.now,
            at is not None and c.expires <= at,
        )

    def issuer(self, key: SpkiDigest) -> int:
        """An issuer's name: its rank among the fleet's own."""
        own = self.recorded.own_issuers()
        return ISSUER + next((n for n, one in enumerate(own) if one.key == key), len(own))

    def host(self, host: HostName, there: HostState) -> Told:
        """The private keys on a host."""
        at = self.names.at
        return (
            NONE if there.current is None else at(host, there.current),
            in_order((at(host, c), f.certificate_pem is not None) for c, f in there.credentials.items()),
            in_order(at(host, c) for c in there.disarmed),
            there.hook_pending,
        )

    def stones(self, there: HostState) -> Told:
        """The keys that a host remembers as ended; a copy that is put back learns of them."""
        if not there.ended or not self.ahead.copies:
            return ()
        names, by_key = self.names, self.pieces.namer.by_key(self.state)
        known = ((by_key[stone.key], stone.how) for stone in there.ended)
        return in_order(
            (self.place(names.owner[c]) if c in names.owner else NONE, names.number[c], how)
            for c, how in known
            if c in names.number
        )

    def edges(self, bundle: TrustBundle | None) -> dict[HostName, Told]:
        """By server what a bundle says of it."""
        told: dict[HostName, list[int]] = {}
        if bundle is None:
            return {}
        names, by_key = self.names, self.pieces.namer.by_key(self.state)
        late = self._without_later_end(bundle) if self.ahead.nears else frozenset()
        for server, key in edges_of(bundle):
            name = names.at(HostName(server), by_key[key]) + (OLD_END if key in late else 0)
            told.setdefault(HostName(server), []).append(name)
        for one in bundle.delegations:
            told.setdefault(HostName(one.server), []).append(self.issuer(one.issuer_key))
        for key in denied_by(bundle):
            credential = by_key[key]
            told.setdefault(names.owner[credential], []).append(DENIED + names.number[credential])
        return {server: in_order(mine) for server, mine in told.items()}

    def _bundle(self, bundle: TrustBundle | None) -> Told:
        """What a bundle says, for a host whose servers are not told in pieces."""
        return in_order((self.place(server), told) for server, told in self.edges(bundle).items())

    def _without_later_end(self, bundle: TrustBundle) -> frozenset[SpkiDigest]:
        by_key, known = self.pieces.namer.by_key(self.state), self.recorded.credentials
        return frozenset(
            key.public.spki_digest
            for key in bundle.keys
            if key.signs
            and (credential := known.get(by_key[key.public.spki_digest])) is not None  # type: ignore[call-overload]
            and credential.expires != key.expires
        )

    def marks(self, host: HostName) -> Told:
        """What befell the host and is remembered."""
        state = self.state
        if not (
            state.meddled or state.adrift or state.waived or state.snapshot or state.backup or state.late
        ):
            return ()
        snap: Told = ()
        if state.snapshot is not None and state.snapshot[0] == host:
            then, there = state.snapshot[1].bundle, state.hosts[host].bundle
            same = then is not None and there is not None and then.digest == there.digest
            snap = (self.host(host, state.snapshot[1]), self._bundle(then), same)
        waived = in_order(self.playbook(name) for name, r in self.last_rollouts() if host in r.waived)
        late: Told = ()
        if state.late is not None and state.late.visit.endpoint.host == host:
            visit, fence = state.late.visit, state.hosts[host].fence
            overtaken = fence is not None and visit.fence is not None and visit.fence < fence
            late = (tuple([self._order(host, order) for order in visit.orders]), overtaken)
        return (
            host in state.meddled,
            host in state.adrift,
            host in state.waived,
            waived,
            snap,
            state.backup is not None and (host in state.backup.passed, host in state.backup.meddled),
            late,
            state.late is not None and host in state.late.blind,
        )

    def _order(self, host: HostName, order: vs.Order) -> Told:
        bundle = getattr(order, "bundle", None)
        there = self.state.hosts[host].bundle
        return (
            order.kind,
            tuple([self.names.at(host, c) for c in credentials_of(order)]),
            self._bundle(bundle),
            bundle is not None and there is not None and bundle.position > there.position,
        )

    def last_rollouts(self) -> Iterator[tuple[PlaybookName, Rollout]]:
        """The newest rollout of each playbook."""
        for playbook in self.recorded.playbooks:
            last = self.recorded.last_rollout(playbook)
            if last is not None:
                yield playbook, last

    def rest(self) -> Told:
        """All that belongs to no host."""
        state, recorded, goes_back = self.state, self.recorded, self.ahead.goes_back
        rollouts = in_order(
            (
                self.playbook(playbook),
                last.ended is None,
                last.reverts is not None and last.ended is None and goes_back,
                last.paused != "",
                last.before.digest if goes_back and last.ended is None and last.before is not None else "",
                recorded.playbooks[last.playbook].digest,
            )
            for playbook, last in self.last_rollouts()
        )
        return (
            rollouts,
            tuple([self.credential(c) for c in self.names.of_several]),
            in_order((self.playbook(name), asked.digest) for name, asked in state.asked.items()),
            tuple([(one.certificate != "", one.kept) for one in recorded.issuers]),
            goes_back,
            state.perturbed,
            state.refused_at is not None and state.refused_at >= state.now,
        )


def in_order(told: Iterable[Any]) -> Told:
    """Told in one order, whatever the order in which it comes."""
    return tuple(sorted(told))


def of_servers(told: Mapping[HostName, Told], servers: Iterable[HostName]) -> list[Told]:
    """What is told of each server; nothing of one that it does not speak of."""
    return [told.get(server, ()) for server in servers]
