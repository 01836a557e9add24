"""What befalls hosts, ledger and visits without anybody wanting it."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.rotation.plan import make_plan
from tests import fake_host
from tests.fake_state import HostState, survey
from tests.model.invariants import BrokenError
from tests.model.moves import Move, costing, settled
from tests.model.stage import Stage
from tests.model.state import Backup, Late, State


class Mishaps:
    """Images that are put back, copies that are restored, visits that come late, proofs that age."""

    def __init__(self, stage: Stage, hosts: Sequence[HostName]) -> None:
        self.stage = stage
        self.every_host = tuple(hosts)

    def moves(self, state: State) -> Iterator[Move]:
        left = state.left
        if left.may("ageing"):
            after = state.changed(now=state.now + self._old_age(state))
            yield costing(Move(label=("age",), after=after), "ageing")
        if state.late is not None:
            yield self._arrived(state, state.late)
        if state.snapshot is not None:
            yield self._rolled_back(state, *state.snapshot)
        if left.may("backups") and state.backup is None:
            kept = Backup(recorded=state.recorded, vault=state.vault, meddled=state.meddled)
            yield costing(Move(label=("backup",), after=state.changed(backup=kept)), "backups")
        if state.backup is not None and state.late is None:
            yield from self._restored(state, state.backup)

    def images(self, state: State, move: Move) -> Iterator[Move]:
        """The same move, with an image kept of a host that it changes.

        An image from any earlier moment at which the host was the same would do no less and no more.
        """
        after = move.after
        if state.snapshot is not None or not after.left.may("snapshots") or move.label[0] == "rollback":
            return
        for host, there in after.hosts.items():
            then = state.hosts[host]
            if then is not there and _content(then) != _content(there):
                imaged = after.changed(snapshot=(host, then))
                kept = Move(label=("imaged", host, move.label), after=imaged, fault=move.fault)
                yield costing(kept, "snapshots")

    def _old_age(self, state: State) -> timedelta:
        return max(d.rollout.proof_age for d in state.asked.values())

    def _arrived(self, state: State, late: Late) -> Move:
        host = late.visit.endpoint.host
        there, _ = fake_host.obey(state.hosts[host], late.visit, now=state.now, random=self.stage.numbers)
        after = state.changed(hosts={**state.hosts, host: there}, late=None)
        return settled(state, after, ("arrives", host), {host: there})

    def _rolled_back(self, state: State, host: HostName, then: HostState) -> Move:
        """Someone puts an earlier image of a host back."""
        hosts = {**state.hosts, host: then}
        held = frozenset(edge for edge in state.held if host not in edge)
        backup = state.backup
        if backup is not None:
            backup = None if backup.passed else replace(backup, meddled=backup.meddled | {host})
        late = state.late
        if late is not None:
            late = replace(late, blind=late.blind | {host})
        after = state.changed(
            hosts=hosts,
            late=late,
            held=held,
            used=frozenset(u for u in state.used if u[0] != host),
            meddled=state.meddled | {host},
            adrift=state.adrift | {host},
            snapshot=None,
            backup=backup,
            perturbed=True,
        )
        return Move(label=("rollback", host), after=after)

    def _restored(self, state: State, backup: Backup) -> Iterator[Move]:
        """An older ledger and vault are put back: no harm, or refused (S9)."""
        if not backup.passed:
            after = state.changed(
                recorded=backup.recorded,
                vault=backup.vault,
                meddled=state.meddled | backup.meddled,
                backup=None,
                perturbed=True,
            )
            yield Move(label=("restore",), after=after)
            return
        for host in sorted(backup.passed):
            surveys = {host: survey(state.hosts[host])}
            for asked in state.asked.values():
                if host not in asked.endpoints:
                    continue
                with suppress(RefusedError):
                    make_plan(asked, backup.recorded, surveys, now=state.now, random=self.stage.numbers)
                    raise BrokenError("S9", f"a restored ledger goes on, though {host} has seen a later one")


def _content(there: HostState) -> tuple[object, ...]:
    bundle = there.bundle.digest if there.bundle is not None else None
    return (there.current, there.credentials, there.disarmed, bundle)
