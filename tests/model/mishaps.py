"""What befalls hosts and visits without anybody wanting it; copies of the home are in ``copies.py``."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestrator.inventory.model import HostName
from tests import fake_host
from tests.fake_state import HostState
from tests.model.moves import Move, costing, settled
from tests.model.stage import Stage
from tests.model.state import Late, State


class Mishaps:
    """Images that are put back, visits that come late, proofs that age."""

    def __init__(self, stage: Stage, hosts: Sequence[HostName]) -> None:
        self.stage = stage
        self.every_host = tuple(hosts)

    def moves(self, state: State) -> Iterator[Move]:
        if state.late is not None:
            yield self._arrived(state, state.late)
        if state.snapshot is not None:
            yield self._rolled_back(state, *state.snapshot)

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


def _content(there: HostState) -> tuple[object, ...]:
    bundle = there.bundle.digest if there.bundle is not None else None
    return (there.current, there.credentials, there.disarmed, bundle)
