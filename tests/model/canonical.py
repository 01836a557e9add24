"""What makes two states one: the same but for names, numbers and times that nothing depends on.

See ``docs/explanation/model.md`` for what is left out and why nothing is lost by it. Each host is told in
pieces, one for each server, in which keys have names of their own, so that servers trade places by trading
pieces.
"""

import marshal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import permutations
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import TrustBundle
from orchestrator.keys.material import SpkiDigest
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import (
    SIGNING,
    AgentRecord,
    Credential,
    Installed,
    Rollout,
    Standing,
    TrustLine,
)
from orchestrator.rotation.visits import CredentialId
from tests.fake_state import HostState
from tests.model.state import Left, State

Key = bytes
Told = tuple[Any, ...]
NONE = -1
_STATES = {state: number for number, state in enumerate(KeyState)}
_STANDINGS = {standing: number for number, standing in enumerate(Standing)}
_LEFT = tuple(f.name for f in fields(Left))
_OF_SEVERAL = 100
_FOREIGN = 200
_MOST_KNOWN = 100_000

_edges: dict[int, tuple[TrustBundle, tuple[tuple[str, SpkiDigest], ...]]] = {}


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


def edges_of(bundle: TrustBundle) -> tuple[tuple[str, SpkiDigest], ...]:
    """Server and key of each edge."""
    known = _edges.get(id(bundle))
    if known is not None:
        return known[1]
    if len(_edges) > _MOST_KNOWN:
        _edges.clear()
    found = tuple((server, key.public.spki_digest) for key in bundle.keys for server in key.servers)
    _edges[id(bundle)] = (bundle, found)
    return found


def canonical(state: State, symmetry: Symmetry) -> tuple[Key, Mapping[HostName, Any]]:
    """The name of the state's class, and what there is to tell of each agent on its own."""
    teller = _Teller(state, symmetry)
    servers = [teller.server(name) for name in symmetry.names]
    agents = {a: teller.agent(a) for group in symmetry.agents for a in group}
    rest = teller.rest()
    best = b""
    for order in symmetry.servers:
        told = (
            [servers[n] for n in order],
            [
                sorted((whole, [pieces[n] for n in order]) for whole, pieces in (agents[a] for a in group))
                for group in symmetry.agents
            ],
            rest,
        )
        key = marshal.dumps(told, 2)
        best = key if not best or key < best else best
    alike = {
        agent: (number, marshal.dumps(agents[agent], 2))
        for number, group in enumerate(symmetry.agents)
        if len(group) > 1
        for agent in group
    }
    return blake2b(best, digest_size=12).digest(), alike


class _Teller:
    def __init__(self, state: State, symmetry: Symmetry) -> None:
        self.state = state
        self.names = symmetry.names
        self.symmetry = symmetry
        self.now = state.now
        self.recorded = recorded = state.recorded
        self.by_key = {
            c.public.spki_digest: c.id for c in recorded.credentials.values() if c.public is not None
        }
        self.goes_back = state.left.reverts > 0
        self.running = {name: recorded.running(name) for name in recorded.playbooks}
        self.name: dict[HostName, dict[str, int]] = {server: {} for server in symmetry.names}
        self.of: dict[HostName, list[Credential]] = {server: [] for server in symmetry.names}
        self.of_several: list[Credential] = []
        ranks: dict[str, int] = {}
        for credential in self._in_order():
            rank = ranks[credential.scope] = ranks.get(credential.scope, NONE) + 1
            alone = credential.scope.startswith("server:")
            for server in symmetry.names:
                mine = server in credential.servers
                base = _OF_SEVERAL if not alone else 0 if mine else _FOREIGN
                self.name[server][credential.id] = base + rank
                if alone and mine:
                    self.of[server].append(credential)
            if not alone:
                self.of_several.append(credential)

    def _credential(self, c: Credential, name: int) -> Told:
        return (
            name,
            _STATES[c.state],
            c.in_vault,
            c.id in self.state.vault,
            NONE if c.ended is None else _STATES[c.ended],
            c.public is not None,
            c.id in self.state.leaked,
        )

    def server(self, server: HostName) -> Told:
        """All that is known of one server, and of the keys that are its alone."""
        recorded, name, state = self.recorded, self.name[server], self.state
        record = recorded.servers.get(server)
        told: Told = ()
        if record is not None:
            ages = sorted({p.since for p in record.placements.values() if p.standing in SIGNING})
            soak = recorded.playbooks[record.playbook].rollout.soak
            target = record.target
            told = (
                record.playbook,
                NONE if target is None else name[target],
                sorted(
                    (
                        name[c],
                        _STANDINGS[p.standing],
                        p.claim is not None and (self.goes_back or c == target),
                        ages.index(p.since) if self.goes_back and p.standing in SIGNING else 0,
                        p.standing is Standing.ACTIVE and p.since + soak <= self.now,
                    )
                    for c, p in record.placements.items()
                ),
                sorted(
                    name[c]
                    for c, at in record.cleared.items()
                    if at + recorded.credentials[c].in_flight > self.now
                ),
                record.set_back is not None,
                record.given_up != "",
            )
        intent = recorded.pending.get(server)
        pending: Told = ()
        if intent is not None:
            activates = NONE if intent.activates is None else name[intent.activates]
            pending = (sorted(name[c] for c in intent.stages), activates)
        return (
            told,
            pending,
            self._host(server, state.hosts[server]),
            sorted(name[c] for s, c in state.used if s == server),
            sorted(name[c] for s, c in state.strange if s == server and c in name),
            sorted(name[c] for (s, c), until in state.cooling.items() if s == server and until > self.now),
            [self._credential(c, name[c.id]) for c in self.of[server]],
            [server in c.certificates for c in (*self.of[server], *self.of_several)],
            list(self._targets(server)),
            self._marks(server),
        )

    def _targets(self, server: HostName) -> Iterator[Told]:
        """What running rollouts have in mind for the server."""
        for playbook, rollout in self.running.items():
            if rollout is not None and server in rollout.targets:
                target = rollout.targets[server]
                wave = next((n for n, wave in enumerate(rollout.waves) if server in wave), NONE)
                yield (playbook, NONE if target is None else self.name[server].get(target, NONE - 1), wave)

    def _host(self, host: HostName, there: HostState) -> Told:
        name = self.name.get(host, {})
        return (
            NONE if there.current is None else name[there.current],
            sorted((name[c], f.certificate_pem is not None) for c, f in there.credentials.items()),
            sorted(name[c] for c in there.disarmed),
            there.hook_pending,
        )

    def agent(self, agent: HostName) -> tuple[Told, list[Told]]:
        """What is known of an agent as a whole, and by server."""
        recorded, there = self.recorded, self.state.hosts[agent].bundle
        record = recorded.agents.get(agent)
        intent = recorded.pending.get(agent)
        installed = record.installed if record is not None else None
        coming = intent.bundle if intent is not None else None
        whole = (
            record is not None and (1 if record.given_up else 2),
            installed is not None and (1 if installed.content else 2),
            intent is not None and (1 if coming is None else 2),
            there is not None,
            _compared(there, installed),
            _compared(there, coming),
            self._marks(agent),
        )
        known = self._by_server(installed.lines if installed is not None else ())
        new = self._by_server(coming.lines if coming is not None else ())
        edges = self._edges(there)
        proofs = self._proofs(record)
        held = {s for a, s in self.state.held if a == agent}
        pieces: list[Told] = [(known[s], new[s], edges[s], proofs[s], s in held) for s in self.names]
        return whole, pieces

    def _by_server(self, lines: Iterable[TrustLine]) -> dict[HostName, list[int]]:
        told: dict[HostName, list[int]] = {server: [] for server in self.names}
        for line in lines:
            told[line.server].append(self.name[line.server][line.credential])
        for names in told.values():
            names.sort()
        return told

    def _edges(self, bundle: TrustBundle | None) -> dict[HostName, list[int]]:
        told: dict[HostName, list[int]] = {server: [] for server in self.names}
        if bundle is not None:
            for server, key in edges_of(bundle):
                name = HostName(server)
                told[name].append(self.name[name][self.by_key[key]])
            for names in told.values():
                names.sort()
        return told

    def _proofs(self, record: AgentRecord | None) -> dict[HostName, list[Told]]:
        told: dict[HostName, list[Told]] = {server: [] for server in self.names}
        if record is None:
            return told
        for line, proof in record.proven.items():
            server = self.recorded.servers.get(line.server)
            if server is None or (line.credential != server.target and not self.goes_back):
                continue
            age = self.recorded.playbooks[server.playbook].rollout.proof_age
            young = proof.at is None or proof.at + age > self.now
            rollout = self.running[server.playbook]
            placement = server.placements.get(line.credential)
            fresh = (
                rollout is not None
                and bool(rollout.waves)
                and placement is not None
                and placement.claim is not None
                and placement.claim.challenge.nonce == proof.nonce
            )
            told[line.server].append((self.name[line.server].get(line.credential, NONE), young, fresh))
        for names in told.values():
            names.sort()
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
            snap = (self._host(host, state.snapshot[1]), sorted(self._edges(then).items()), same)
        waived = [playbook for playbook, r in self._last() if host in r.waived]
        late: Told = ()
        if state.late is not None and state.late.visit.endpoint.host == host:
            visit, fence = state.late.visit, state.hosts[host].fence
            overtaken = fence is not None and visit.fence is not None and visit.fence < fence
            late = ([self._order(host, order) for order in visit.orders], overtaken)
        return (
            host in state.meddled,
            host in state.adrift,
            host in state.waived,
            waived,
            snap,
            state.backup is not None and host in state.backup.passed,
            late,
        )

    def _order(self, host: HostName, order: vs.Order) -> Told:
        name = self.name.get(host, {})
        bundle = getattr(order, "bundle", None)
        there = self.state.hosts[host].bundle
        return (
            order.kind,
            [name[c] for c in _credentials(order)],
            sorted(self._edges(bundle).items()),
            bundle is not None and there is not None and bundle.position > there.position,
        )

    def _last(self) -> Iterator[tuple[str, Rollout]]:
        for playbook in self.recorded.playbooks:
            last = self.recorded.last_rollout(playbook)
            if last is not None:
                yield playbook, last

    def rest(self) -> Told:
        """All that belongs to no host."""
        state = self.state
        rollouts = sorted(
            (
                playbook,
                last.ended is None,
                last.reverts is not None,
                last.paused != "",
                last.before.digest if last.ended is None and last.before is not None else "",
                self.recorded.playbooks[last.playbook].digest,
            )
            for playbook, last in self._last()
        )
        backup = state.backup
        copied: Told = ()
        if backup is not None and not backup.passed:
            copied = (backup.recorded.version == self.recorded.version, len(backup.vault))
        elif backup is not None:
            copied = (True,)
        return (
            rollouts,
            [self._credential(c, _OF_SEVERAL + n) for n, c in enumerate(self.of_several)],
            sorted((name, asked.digest) for name, asked in state.asked.items()),
            [getattr(state.left, name) for name in _LEFT],
            copied,
        )

    def _in_order(self) -> list[Credential]:
        """Credentials that anything still depends on, the oldest first."""
        recorded, state = self.recorded, self.state
        named: set[str] = {*state.vault, *(c for _, c in state.cooling)}
        for agent in {*recorded.agents, *recorded.pending}:
            for bundle in recorded.bundles(agent):
                named.update(line.credential for line in bundle.lines)
        hosts = list(state.hosts.values())
        if state.snapshot is not None:
            hosts.append(state.snapshot[1])
        orders = () if state.late is None else state.late.visit.orders
        bundles = [there.bundle for there in hosts if there.bundle is not None]
        bundles += [order.bundle for order in orders if isinstance(order, vs.Trust)]
        for there in hosts:
            named.update(there.credentials, there.disarmed)
        for whole in bundles:
            named.update(self.by_key[key] for _, key in edges_of(whole))
        for record in recorded.servers.values():
            named.update(record.placements)
            named.update(record.cleared)
            if record.target is not None:
                named.add(record.target)
        for intent in recorded.pending.values():
            named.update(intent.stages)
            if intent.activates is not None:
                named.add(intent.activates)
        for order in orders:
            named.update(_credentials(order))
        return [c for c in recorded.credentials.values() if c.id in named or c.in_vault]


def _credentials(order: vs.Order) -> tuple[CredentialId, ...]:
    match order:
        case vs.Generate() | vs.Stage() | vs.Activate() | vs.Revert():
            return (order.credential,)
        case vs.Disarm() | vs.Erase():
            return tuple(sorted(order.credentials))
        case _:
            return ()


def _compared(there: TrustBundle | None, known: Installed | None) -> int:
    """How a bundle on a host stands to one in the ledger: 0 the same, 1 later, 2 earlier, 3 at odds."""
    if there is None or known is None:
        return 4
    if there.position == known.position:
        return 0 if there.digest == known.digest else 3
    return 1 if there.position > known.position else 2
