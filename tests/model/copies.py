"""Copies of the home: taken at any moment, put back or left alive at any later one (S8, S9).

A copy that no host has outrun goes on as it is. Any other one is refused by hosts and by its own ledger, even
where it has written as many entries as the true one or more; what goes on is what ``restore`` makes of it,
and from then on the home that was true before is refused.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.operations.asking import survey
from orchestrator.operations.planning import prepare_to_change
from orchestrator.operations.restore import Request, asked_hosts, foresee, restore
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Recorded
from tests import fake_host
from tests.fake_state import HostState
from tests.model.invariants import BrokenError
from tests.model.moves import Move, costing
from tests.model.naming import denied_by
from tests.model.observer import relieved
from tests.model.stage import Stage, digest_of
from tests.model.state import Backup, State


class Copies:
    """What becomes of copies of ledger and vault."""

    def __init__(self, stage: Stage, inventory: Mapping[HostName, Endpoint]) -> None:
        self.stage = stage
        self.inventory = inventory
        self.every_host = tuple(inventory)
        self._refused: dict[tuple[int, int], tuple[object, object]] = {}

    def moves(self, state: State) -> Iterator[Move]:
        backup = state.backup
        if backup is None and state.late is None and state.left.may("restores"):
            for move in self._restored(state, state.vault):
                yield costing(move, "restores")
        if backup is None:
            if state.left.may("backups") and not state.recorded.stopped:
                yield costing(Move(label=("backup",), after=self._copied(state)), "backups")
        elif backup.passed:
            for host in sorted(backup.passed):
                self._check_refused(state, backup, host)
            yield from self._restored(state, backup.vault, self._copy(state, backup))
        elif state.late is None:
            yield Move(label=("restore",), after=self._put_back(state, backup))

    def _copied(self, state: State) -> State:
        fences = {host: there.fence for host, there in state.hosts.items()}
        copy = Backup(recorded=state.recorded, vault=state.vault, meddled=state.meddled, fences=fences)
        return state.changed(backup=copy)

    def _put_back(self, state: State, backup: Backup) -> State:
        """The copy as it is; nothing that was written since was ever shown to a host."""
        return state.changed(
            recorded=backup.recorded,
            vault=backup.vault,
            meddled=state.meddled | backup.meddled,
            leaked=_still_leaked(state, backup.recorded),
            forks=(*state.forks, backup.recorded.version),
            backup=None,
            perturbed=True,
        )

    def _copy(self, state: State, backup: Backup) -> State:
        """The copy as a home of its own, beside the true one."""
        forks = (*state.forks, backup.recorded.version)
        return state.changed(recorded=backup.recorded, vault=backup.vault, forks=forks, backup=None)

    def _check_refused(self, state: State, backup: Backup, host: HostName) -> None:
        """Neither a host that followed a later ledger nor the copy goes on, whatever the copy wrote."""
        there = state.hosts[host]
        key = (id(backup.recorded), id(there))
        if key in self._refused:
            return
        self._refused[key] = (backup.recorded, there)
        copy = self._copy(state, backup)
        for version in _lengths(backup.recorded, there):
            longer = _written_on(copy, version)
            if not self._is_stopped(longer, host):
                raise BrokenError("S9", f"an old copy goes on, though {host} has seen a later ledger")
            fence = vs.Fence(
                generation=longer.recorded.generation, counter=version, head=longer.recorded.head
            )
            remembered = backup.fences.get(host)
            visit = vs.Visit(
                endpoint=state.recorded.endpoints[host],
                orders=(vs.Erase(credentials=()),),
                fence=fence,
                remembers=() if remembered is None else (remembered,),
            )
            _, outcome = fake_host.obey(there, visit, now=state.now, random=self.stage.numbers)
            if not isinstance(outcome, rp.Refused) or not outcome.fenced:
                raise BrokenError("S8", f"{host} obeys an old copy of the home")

    def _is_stopped(self, home: State, host: HostName) -> bool:
        """Whether a home that asks this host alone, for whatever playbook, stops for good."""
        stage = self.stage
        for asked in home.asked.values():
            if host not in asked.endpoints:
                continue
            stage.put_on(home)
            stage.away = frozenset(self.every_host) - {host}
            try:
                prepare_to_change(asked, stage.ports)
            except RefusedError:
                if stage.ledger.recorded.stopped:
                    continue
            return False
        return True

    def _restored(self, state: State, kept: Mapping[str, int], copy: State | None = None) -> Iterator[Move]:
        """``restore`` of a copy or of the home as it is, at a person's word on who says that a key leaked."""
        what = "this home" if copy is None else "with a new generation"
        home = copy or state
        for word, request in self._answers(home, kept):
            after = self._gone_on(home, request)
            self._check_overtaken(state, after)
            yield Move(label=("restore", what, *word), after=after)

    def _answers(self, home: State, kept: Mapping[str, int]) -> Iterator[tuple[tuple[str, ...], Request]]:
        """What a person may answer: hosts that accuse a key are believed, or they are not."""
        stage = self.stage
        stage.put_on(home)
        names = [name for name in home.recorded.credentials if name in kept]
        plain = Request(endpoints=self.inventory, kept=names)
        asked = asked_hosts(home.recorded, plain).values()
        answers = survey(stage, asked, stage.ports.progress, whole=True)
        accused = foresee(home.recorded, answers, plain, random=stage.numbers).accused
        hosts = {one.host for one in accused}
        if not hosts:
            yield (), plain
            return
        yield ("hosts are believed",), replace(plain, believe=hosts)
        yield ("hosts are not believed",), replace(plain, disbelieve=hosts)

    def _gone_on(self, home: State, request: Request) -> State:
        stage = self.stage
        stage.put_on(home)
        try:
            restore(stage.ports, request, agree=lambda _: True)
        except RefusedError as error:
            raise BrokenError(
                "S9", f"every host answers, and yet the home is not restored: {error}"
            ) from error
        after = stage.ledger.recorded
        _check_heeded(home, after, request.disbelieve)
        leaked = _still_leaked(home, after)
        known = relieved(home, leaked - _called_leaked(after)) if request.disbelieve else home
        return stage.taken_off(
            known,
            hosts=dict(stage.hosts),
            meddled=frozenset(),
            leaked=leaked & known.leaked,
            perturbed=True,
        )

    def _check_overtaken(self, state: State, after: State) -> None:
        """S8: the home of before stops wherever the restored one was."""
        for host in self.every_host:
            earlier = state.changed(hosts=after.hosts, backup=None)
            if after.hosts[host] is not state.hosts[host] and not self._is_stopped(earlier, host):
                raise BrokenError(
                    "S8", f"the home of before goes on, though {host} was met by a restored one"
                )


def _check_heeded(home: State, after: Recorded, doubted: Collection[HostName]) -> None:
    """S9: a key that a host remembers as leaked has leaked, or is at least never used anew."""
    stones = _leaked_by_hosts(home)
    for credential in after.credentials.values():
        if credential.public is None or credential.public.spki_digest not in stones:
            continue
        over = credential.over or credential.ended is not None or credential.state is KeyState.REMOVED
        if not (credential.compromised or (doubted and over)):
            raise BrokenError("S9", "a key that a host remembers as leaked is taken for a sound one")


def _called_leaked(recorded: Recorded) -> frozenset[str]:
    return frozenset(c.id for c in recorded.credentials.values() if c.compromised)


def _still_leaked(state: State, recorded: Recorded) -> frozenset[str]:
    """The keys that the home, or a host, still knows to have leaked; what all forgot nobody can heed."""
    ended, stones = _called_leaked(recorded), _leaked_by_hosts(state)
    return frozenset(
        c for c in state.leaked if c in ended or (c in state.made and state.made[c].key in stones)
    )


def _leaked_by_hosts(state: State) -> set[SpkiDigest]:
    """What servers and agents remember as leaked, and what agents deny."""
    remembered = {s.key for there in state.hosts.values() for s in there.ended if s.how == "compromised"}
    bundles = [there.bundle for there in state.hosts.values() if there.bundle is not None]
    return remembered.union(*map(denied_by, bundles))


def _lengths(copied: Recorded, there: HostState) -> Iterator[int]:
    """How many entries the copy may have: as it is; as many as the ledger the host follows; and more."""
    yield copied.version
    if there.fence is not None and there.fence.generation == copied.generation:
        yield there.fence.counter
        yield there.fence.counter + 1


def _written_on(copy: State, version: int) -> State:
    """The copy, having written so many entries that no host heard of."""
    if version <= copy.recorded.version:
        return copy
    head = digest_of(version, copy.forks)
    return copy.changed(recorded=replace(copy.recorded, version=version, head=head))
