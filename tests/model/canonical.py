"""What makes two states one: the same but for names, numbers and times that nothing depends on.

See ``docs/explanation/model.md`` for what is left out and why nothing is lost by it. Each host is told in
pieces, one for each server, in which keys have names of their own, so that servers trade places by trading
pieces. A piece is told anew only when something that it tells of is another value; equal pieces have one
number.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import TrustBundle
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import (
    SIGNING,
    AgentRecord,
    Credential,
    Installed,
    Placement,
    Recorded,
    Rollout,
    ServerRecord,
    Standing,
    TrustLine,
)
from tests.fake_state import HostState
from tests.model.naming import Namer, Names, credentials_of, edges_of
from tests.model.state import State

Told = tuple[Any, ...]
Key = tuple[Any, ...]
NONE = -1
_STANDINGS = {standing: number for number, standing in enumerate(Standing)}
_GOOD = frozenset({KeyState.GENERATED, KeyState.PUBLISHED, KeyState.READY, KeyState.ACTIVE})
"""States of keys that follow from what else is told, and between which every change is allowed."""
_STATES = {state: 0 if state in _GOOD else number for number, state in enumerate(KeyState)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Symmetry:
    """Which hosts may trade places.

    Attributes:
        servers: orders of the servers that cannot be told apart, the plain one first.
        agents: groups of agents that listen to the same servers in every variant of every playbook.
    """

    servers: tuple[tuple[int, ...], ...]
    names: tuple[HostName, ...]
    agents: tuple[tuple[HostName, ...], ...]

    @classmethod
    def of(
        cls, names: Sequence[HostName], agents: Sequence[Sequence[HostName]], *, alike: bool
    ) -> "Symmetry":
        """All orders of the servers if they are alike."""
        plain = tuple(range(len(names)))
        orders = tuple(permutations(plain)) if alike else (plain,)
        return cls(servers=orders, names=tuple(names), agents=tuple(tuple(group) for group in agents))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What may still happen in a state, as far as that decides what has to be told of it.

    Attributes:
        goes_back: a rollout may be taken back.
        turns: a server's target may become a key that it is to lose.
        puts_back: a host may get an earlier bundle or key again.
    """

    goes_back: bool
    turns: bool
    puts_back: bool

    @classmethod
    def of(cls, state: State) -> "Ahead":
        left = state.left
        goes_back = left.may("reverts")
        comes_back = left.may("snapshots") or left.may("backups") or left.may("late")
        puts_back = bool(comes_back or state.snapshot or state.backup or state.late)
        turns = goes_back or puts_back or any(left.may(n) for n in ("new_keys", "edits", "compromises"))
        return cls(goes_back=goes_back, turns=turns, puts_back=puts_back)


class Canon:
    """Names the classes of the states of one configuration."""

    def __init__(self, symmetry: Symmetry) -> None:
        self.symmetry = symmetry
        self.namer = Namer()
        self.numbers: dict[Told, int] = {}
        self.pieces: dict[Told, tuple[object, Any]] = {}

    def __call__(self, state: State) -> tuple[Key, Mapping[HostName, Any], frozenset[Told]]:
        """Which states this one is the same as.

        Returns:
            The name of its class, but for ``left`` and for what the observer remembers; what there is to tell
            of each agent; and what the observer holds the state to.
        """
        symmetry, names, ahead = self.symmetry, self.namer.names(state), Ahead.of(state)
        views = [_View(self, state, names, ahead)]
        if state.backup is not None and not state.backup.passed:
            older = state.changed(recorded=state.backup.recorded, vault=state.backup.vault)
            views.append(_View(self, older, names, ahead))
        servers = [tuple([view.server(s) for view in views]) for s in symmetry.names]
        agents = {
            agent: tuple([view.agent(agent) for view in views])
            for group in symmetry.agents
            for agent in group
        }
        rest = tuple([self.number(view.rest()) for view in views])
        best: Key = ()
        places: dict[HostName, int] = {}
        for order in symmetry.servers:
            told = [
                sorted([(self._in_order(agents[agent], order), agent) for agent in group])
                for group in symmetry.agents
            ]
            key = (
                rest,
                tuple([servers[n] for n in order]),
                tuple([tuple([one for one, _ in group]) for group in told]),
            )
            if not best or key < best:
                best = key
                places = {symmetry.names[n]: place for place, n in enumerate(order)}
                places |= {agent: n for n, (_, agent) in enumerate(pair for group in told for pair in group)}
        alike = {
            agent: (number, agents[agent])
            for number, group in enumerate(symmetry.agents)
            if len(group) > 1
            for agent in group
        }
        return best, alike, _duties(state, names, places)

    def _in_order(self, views: Sequence[Told], order: Sequence[int]) -> Told:
        """What is told of an agent, its servers in this order."""
        return tuple([(whole, tuple([pieces[n] for n in order])) for whole, pieces in views])

    def number(self, told: Told) -> int:
        """One number for all that is told in the same words."""
        return self.numbers.setdefault(told, len(self.numbers))


class _View:
    """One state, or one with an earlier ledger, as it is told."""

    def __init__(self, canon: Canon, state: State, names: Names, ahead: Ahead) -> None:
        self.canon = canon
        self.state = state
        self.names = names
        self.ahead = ahead
        self.servers = canon.symmetry.names
        self.now = state.now
        self.recorded: Recorded = state.recorded
        self.gone = self._gone()
        self.running = {name: state.recorded.running(name) for name in state.recorded.playbooks}

    def _gone(self) -> frozenset[HostName]:
        """Agents that listen to nobody, and never will."""
        state, recorded = self.state, self.recorded
        stays = all(recorded.playbooks.get(name) is asked for name, asked in state.asked.items())
        if not stays or self.ahead.goes_back or self.ahead.puts_back or state.left.edits:
            return frozenset()
        everyone = {agent for group in self.canon.symmetry.agents for agent in group}
        return frozenset(everyone - {a for desired in recorded.playbooks.values() for a in desired.agents()})

    def _kept(self, key: Told, value: object, told: Told) -> Any:
        number = self.canon.number(told)
        self.canon.pieces[key] = (value, number)
        return number

    def server(self, server: HostName) -> int:
        """The number of all that is known of one server, and of the keys that are its alone."""
        recorded, state, names, now = self.recorded, self.state, self.names, self.now
        record, intent = recorded.servers.get(server), recorded.pending.get(server)
        there = state.hosts[server]
        strange = tuple([c for s, c in state.strange if s == server])
        marks = self._marks(server)
        running = tuple([id(rollout) for rollout in self.running.values()])
        key = (
            server,
            *map(id, (record, intent, there, names, state.vault, state.leaked)),
            strange,
            marks,
            running,
            self.ahead,
            now,
        )
        known = self.canon.pieces.get(key)
        if known is not None:
            return int(known[1])
        pending: Told = ()
        if intent is not None:
            activates = NONE if intent.activates is None else names.at(server, intent.activates)
            placed = record.placements if record is not None else {}
            pending = (_sorted(names.at(server, c) for c in intent.stages if c not in placed), activates)
        told = (
            self._record(server, record) if record is not None else (),
            pending,
            self._host(server, there),
            _sorted(names.at(server, c) for c in strange if c in names.number),
            tuple(self._credential(c) for c in names.of.get(server, ())),
            tuple(server in c.certificates for c in (*names.of.get(server, ()), *names.of_several)),
            tuple(self._targets(server)),
            marks,
        )
        rollouts = tuple(self.running.values())
        return int(self._kept(key, (record, intent, there, names, state.vault, state.leaked, rollouts), told))

    def _record(self, server: HostName, record: ServerRecord) -> Told:
        at, recorded, ahead, target = self.names.at, self.recorded, self.ahead, record.target
        ages = sorted({p.since for p in record.placements.values() if p.standing in SIGNING})
        soak = recorded.playbooks[record.playbook].rollout.soak
        soaks = ahead.goes_back or ahead.puts_back or self.running[record.playbook] is not None
        return (
            record.playbook,
            NONE if target is None else at(server, target),
            _sorted(
                (
                    at(server, c),
                    self._standing(p, target=c == target),
                    p.claim is not None and (ahead.goes_back or c == target),
                    ages.index(p.since) if ahead.goes_back and p.standing in SIGNING else 0,
                    soaks and p.standing is Standing.ACTIVE and p.since + soak <= self.now,
                )
                for c, p in record.placements.items()
            ),
            _sorted(
                at(server, c)
                for c, then in record.cleared.items()
                if then + recorded.credentials[c].in_flight > self.now
            ),
            _sorted(at(server, c) for c in record.missing),
            record.set_back is not None,
            record.given_up != "",
        )

    def _standing(self, placement: Placement, *, target: bool) -> int:
        """Whether a target that is not in use ever was matters only to what it may have to lose."""
        standby = placement.standing is Standing.STANDBY
        if standby and target and placement.claim is not None and not self.ahead.turns:
            return _STANDINGS[Standing.STAGED]
        return _STANDINGS[placement.standing]

    def _credential(self, c: Credential) -> Told:
        return (
            self.names.number[c.id],
            _STATES[c.state],
            c.in_vault,
            c.id in self.state.vault,
            NONE if c.ended is None else _STATES[c.ended],
            c.public is not None,
            c.id in self.state.leaked,
        )

    def _targets(self, server: HostName) -> Iterator[Told]:
        """What running rollouts have in mind for the server."""
        for playbook, rollout in self.running.items():
            if rollout is not None and server in rollout.targets:
                target = rollout.targets[server]
                wave = next((n for n, wave in enumerate(rollout.waves) if server in wave), NONE)
                known = target is not None and target in self.names.number
                name = self.names.at(server, str(target)) if known else NONE - (target is not None)
                yield (playbook, name, wave)

    def _host(self, host: HostName, there: HostState) -> Told:
        at = self.names.at
        return (
            NONE if there.current is None else at(host, there.current),
            _sorted((at(host, c), f.certificate_pem is not None) for c, f in there.credentials.items()),
            _sorted(at(host, c) for c in there.disarmed),
            there.hook_pending,
        )

    def agent(self, agent: HostName) -> tuple[int, tuple[Any, ...]]:
        """What is known of an agent as a whole, and by server."""
        recorded, state, names = self.recorded, self.state, self.names
        record, intent = recorded.agents.get(agent), recorded.pending.get(agent)
        there, marks = state.hosts[agent].bundle, self._marks(agent)
        if agent in self.gone and intent is None and not marks and not (there and edges_of(there)):
            installed = record.installed if record is not None else None
            if installed is None or not installed.lines:
                return NONE, ((NONE, ()),) * len(self.servers)
        key = (agent, *map(id, (record, intent, there, names)), marks)
        known = self.canon.pieces.get(key)
        if known is None:
            whole, pieces = self._told_of(record, intent.bundle if intent is not None else None, there)
            whole = (*whole, intent is not None, marks)
            numbers = (self.canon.number(whole), tuple([self.canon.number(piece) for piece in pieces]))
            known = self.canon.pieces[key] = ((record, intent, there, names), numbers)
        whole_number, piece_numbers = known[1]
        proofs = self._proofs(record, there, uncertain=intent is not None and intent.bundle is not None)
        if not proofs or agent in self.gone:
            return whole_number, tuple([(piece, ()) for piece in piece_numbers])
        return whole_number, tuple(
            [
                (piece, tuple(sorted(proofs.get(server, ()))))
                for piece, server in zip(piece_numbers, self.servers, strict=True)
            ]
        )

    def _told_of(
        self,
        record: AgentRecord | None,
        coming: Installed | None,
        there: TrustBundle | None,
    ) -> tuple[Told, list[Told]]:
        installed = record.installed if record is not None else None
        whole = (
            record is not None and (1 if record.given_up else 2),
            installed is not None and (1 if installed.content else 2),
            coming is None,
            there is not None,
            _compared(there, installed),
            _compared(there, coming),
        )
        known = self._by_server(installed.lines if installed is not None else ())
        new = self._by_server(coming.lines if coming is not None else ())
        edges = self._edges(there)
        return whole, [(known[s], new[s], edges[s]) for s in self.servers]

    def _by_server(self, lines: Iterable[TrustLine]) -> dict[HostName, Told]:
        told: dict[HostName, list[int]] = {server: [] for server in self.servers}
        for line in lines:
            told[line.server].append(self.names.at(line.server, line.credential))
        return {server: _sorted(names) for server, names in told.items()}

    def _edges(self, bundle: TrustBundle | None) -> dict[HostName, Told]:
        told: dict[HostName, list[int]] = {server: [] for server in self.servers}
        if bundle is not None:
            by_key = self.canon.namer.by_key(self.state)
            for server, key in edges_of(bundle):
                told[HostName(server)].append(self.names.at(HostName(server), by_key[key]))
        return {server: _sorted(names) for server, names in told.items()}

    def _proofs(
        self, record: AgentRecord | None, there: TrustBundle | None, *, uncertain: bool
    ) -> dict[HostName, list[Told]]:
        """What the agent has proven, as far as that can ever count again."""
        told: dict[HostName, list[Told]] = {}
        if record is None or not record.proven:
            return told
        if uncertain and not self.ahead.puts_back and _compared(there, record.installed):
            return told
        for line, proof in record.proven.items():
            server = self.recorded.servers.get(line.server)
            if server is None or (line.credential != server.target and not self.ahead.goes_back):
                continue
            age = self.recorded.playbooks[server.playbook].rollout.proof_age
            rollout = self.running[server.playbook]
            placement = server.placements.get(line.credential)
            fresh = (
                rollout is not None
                and bool(rollout.waves)
                and placement is not None
                and placement.claim is not None
                and placement.claim.challenge.nonce == proof.nonce
            )
            name = (
                self.names.at(line.server, line.credential) if line.credential in self.names.number else NONE
            )
            told.setdefault(line.server, []).append(
                (name, proof.at is None or proof.at + age > self.now, fresh)
            )
        return told

    def _marks(self, host: HostName) -> Told:
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
            snap = (self._host(host, state.snapshot[1]), tuple(sorted(self._edges(then).items())), same)
        waived = tuple([playbook for playbook, r in self._last() if host in r.waived])
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
            tuple(sorted(self._edges(bundle).items())),
            bundle is not None and there is not None and bundle.position > there.position,
        )

    def _last(self) -> Iterator[tuple[str, Rollout]]:
        for playbook in self.recorded.playbooks:
            last = self.recorded.last_rollout(playbook)
            if last is not None:
                yield playbook, last

    def rest(self) -> Told:
        """All that belongs to no host."""
        state, goes_back = self.state, self.ahead.goes_back
        rollouts = _sorted(
            (
                playbook,
                last.ended is None,
                last.reverts is not None and last.ended is None and goes_back,
                last.paused != "",
                last.before.digest if goes_back and last.ended is None and last.before is not None else "",
                self.recorded.playbooks[last.playbook].digest,
            )
            for playbook, last in self._last()
        )
        return (
            rollouts,
            tuple([self._credential(c) for c in self.names.of_several]),
            _sorted((name, asked.digest) for name, asked in state.asked.items()),
            goes_back,
            state.perturbed,
        )


def _duties(state: State, names: Names, places: Mapping[HostName, int]) -> frozenset[Told]:
    """What the observer remembers: the more it is, the more has to hold from then on."""
    now, number = state.now, names.number
    duties: list[Told] = [("held", places[agent], places[server]) for agent, server in state.held]
    duties += [("used", places[server], number[c]) for server, c in state.used]
    duties += [
        ("cools", places[server], number[c]) for (server, c), until in state.cooling.items() if until > now
    ]
    return frozenset(duties)


def _sorted(told: Iterable[Any]) -> Told:
    return tuple(sorted(told))


def _compared(there: TrustBundle | None, known: Installed | None) -> int:
    """How a bundle on a host stands to one in the ledger: 0 the same, 1 later, 2 earlier, 3 at odds."""
    if there is None or known is None:
        return 4
    if there.position == known.position:
        return 0 if there.digest == known.digest else 3
    return 1 if there.position > known.position else 2
