"""What time does: ticks, proofs that grow old, and certificates that come near their end."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.prolonging import in_use, last_call
from orchestrator.rotation.recorded import Credential
from tests.model import material
from tests.model.invariants import BrokenError
from tests.model.moves import Move, costing
from tests.model.observer import live
from tests.model.people import People
from tests.model.runs import Runs
from tests.model.state import TICK, State


class Clock:
    """Moves that change nothing but the time."""

    def __init__(self, runs: Runs, people: People, playbooks: Sequence[PlaybookName]) -> None:
        self.runs = runs
        self.people = people
        self.playbooks = tuple(playbooks)

    def tick(self, state: State, *, good: bool = False) -> Move:
        return Move(label=("tick",), after=state.changed(now=state.now + TICK), good=good)

    def moves(self, state: State) -> Iterator[Move]:
        if state.left.may("ageing"):
            age = max(asked.rollout.proof_age for asked in state.asked.values())
            yield costing(Move(label=("age",), after=state.changed(now=state.now + age)), "ageing")
        if state.left.may("nearing"):
            yield from self._nearing(state)
        if state.refused_at is not None and state.refused_at >= state.now and self._is_quiet(state):
            after = state.changed(now=state.refused_at + timedelta(seconds=1))
            _check_believed(after)
            yield Move(label=("agents would have refused the keys of before",), after=after)

    def _nearing(self, state: State) -> Iterator[Move]:
        """A rollout stands still for so long that what is in use has to be prolonged."""
        keys = list(self._in_use(state))
        if not keys:
            return
        calls = [call for key in keys if (call := last_call(state.recorded, key)) is not None]
        near = min(calls, default=state.now)
        if near > state.now:
            refused_at = min(key.expires for key in keys)
            label = ("the certificates in use are near their end",)
            after = state.changed(now=near, refused_at=refused_at, perturbed=True)
            yield costing(Move(label=label, after=after), "nearing")

    def _in_use(self, state: State) -> Iterator[Credential]:
        recorded = state.recorded
        for playbook in self.playbooks:
            if recorded.running(playbook) is not None:
                servers = [server for server, one in recorded.servers.items() if one.playbook == playbook]
                yield from in_use(recorded, frozenset(servers))

    def _is_quiet(self, state: State) -> bool:
        """Whether runs have done whatever they can, and time alone changes nothing."""
        if state.recorded.pending or state.meddled:
            return False
        for name in self.playbooks:
            if name not in state.recorded.playbooks:
                return False
            decision = self.runs.decide(state, name, frozenset())
            if decision.moves or (decision.waits and not decision.paused):
                return False
            if state.recorded.running(name) is None and self.people.planned(state, name) is not None:
                return False
        return True


def _check_believed(state: State) -> None:
    """L4: what servers use is certified for longer, and agents know.

    Raises:
        BrokenError: one of the two has ended.
    """
    for agent, server in state.held:
        using = live(state, server)
        if using is None or using in state.leaked or agent in state.waived | state.adrift:
            continue
        pem = state.hosts[server].credentials[using].certificate_pem
        if pem is not None and material.parsed(pem).not_after <= state.now:
            raise BrokenError("L4", f"the certificate of {server} has ended while a rollout stood still")
        end = _refused_at(state, agent, server, using)
        if end is not None and end <= state.now:
            raise BrokenError("L4", f"{agent} does not believe {server} any more, whose rollout stood still")


def _refused_at(state: State, agent: HostName, server: HostName, credential: str) -> datetime | None:
    """From when on the agent refuses the key that it knows the server by."""
    bundle, made = state.hosts[agent].bundle, state.made[credential]
    known = (
        [k for k in bundle.keys if k.public.spki_digest == made.key and server in k.servers] if bundle else []
    )
    return known[0].expires if known else None
