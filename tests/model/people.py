"""What people may do at any time: apply, edit, take back, waive, and say that a key leaked."""

from collections.abc import Iterator, Sequence

from orchestrator.errors import RefusedError
from orchestrator.operations.planning import prepare_to_change, record
from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.rotation import events as ev
from orchestrator.rotation import home_events as he
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.patience import waiver_cost
from orchestrator.rotation.revert import plan_revert
from orchestrator.rotation.standing import View
from tests.model import material
from tests.model.invariants import BrokenError
from tests.model.moves import Move, costing
from tests.model.stage import Stage
from tests.model.state import State


class People:
    """The hands on the fleet."""

    def __init__(self, stage: Stage, playbooks: Sequence[PlaybookName], edits: Sequence[Desired]) -> None:
        self.stage = stage
        self.playbooks = tuple(playbooks)
        self.edits = tuple(edits)

    def planned(
        self, state: State, playbook: PlaybookName, *, new_key: bool = False, wanted: Desired | None = None
    ) -> Move | None:
        """apply, as far as it only writes; hosts that are pending do not answer."""
        stage = self.stage
        stage.put_on(state)
        stage.away = frozenset(state.recorded.pending)
        asked = wanted or state.asked[playbook]
        try:
            prepared = prepare_to_change(asked, stage.ports, new_key=new_key)
        except RefusedError:
            return None
        if prepared.plan.start is None:
            return None
        record(prepared, stage.ports)
        meddled = state.meddled - prepared.answers.surveys.keys()
        after = stage.taken_off(state, meddled=meddled, asked={**state.asked, playbook: asked})
        return Move(label=("apply", playbook, new_key, asked.digest), after=after)

    def moves(self, state: State) -> Iterator[Move]:
        left = state.left
        for playbook in self.playbooks:
            if playbook not in state.recorded.playbooks:
                continue
            if left.may("new_keys"):
                move = self.planned(state, playbook, new_key=True)
                if move is not None:
                    yield costing(move, "new_keys")
            if left.may("reverts"):
                yield from self._reverted(state, playbook)
            if left.may("pauses"):
                yield from self._paused(state, playbook)
            if left.may("waivers"):
                yield from self._waived(state, playbook)
            if state.recorded.pending and (state.meddled or state.leaked):
                move = self.planned(state, playbook)
                if move is not None:
                    yield move
        if left.may("edits"):
            for wanted in self.edits:
                if state.asked[wanted.playbook] is not wanted:
                    move = self.planned(state, wanted.playbook, wanted=wanted)
                    if move is not None:
                        yield costing(move, "edits")
        if left.may("issuers"):
            yield from self._issuer_replaced(state)
        if left.may("compromises"):
            yield from self._compromised(state)

    def _reverted(self, state: State, playbook: PlaybookName) -> Iterator[Move]:
        rollout = state.recorded.running(playbook)
        if rollout is None:
            return
        stage = self.stage
        stage.put_on(state)
        try:
            event = plan_revert(state.recorded, rollout, random=stage.numbers)
        except RefusedError as error:
            self._check_refusal(state, playbook, str(error))
            return
        waived = [ev.AgentsWaived(rollout=event.rollout, agents=rollout.waived)] if rollout.waived else []
        stage.ledger.append([event, *waived], onto=state.recorded, at=state.now)
        after = stage.taken_off(state, asked={**state.asked, playbook: event.desired})
        yield costing(Move(label=("revert", playbook), after=after), "reverts")

    def _check_refusal(self, state: State, playbook: PlaybookName, why: str) -> None:
        """L5: a rollout can be taken back as long as every server still has its old key within reach."""
        rollout = state.recorded.running(playbook)
        if rollout is None or rollout.reverts is not None or rollout.before is None:
            return
        for server in rollout.before.servers():
            target = rollout.targets.get(server)
            old = {c for s, c in state.used if s == server and c != target}
            leaked = state.recorded.servers[server].placements.keys() & state.leaked
            intent = state.recorded.pending.get(server)
            unsure = intent is not None and intent.disarms
            if not old or leaked or unsure or server in state.meddled:
                return
        raise BrokenError("L5", f"no server has put its old key away, and yet: {why}")

    def _paused(self, state: State, playbook: PlaybookName) -> Iterator[Move]:
        rollout = state.recorded.running(playbook)
        if rollout is None or rollout.paused:
            return
        self.stage.put_on(state)
        event = ev.RolloutPaused(rollout=rollout.id, reason="a person said so")
        self.stage.ledger.append([event], onto=state.recorded, at=state.now)
        yield costing(Move(label=("pause", playbook), after=self.stage.taken_off(state)), "pauses")

    def _waived(self, state: State, playbook: PlaybookName) -> Iterator[Move]:
        rollout = state.recorded.running(playbook)
        if rollout is None:
            return
        view = View.of(state.recorded, state.now)
        for agent in state.recorded.playbooks[playbook].agents():
            if agent in rollout.waived:
                continue
            self.stage.put_on(state)
            event = ev.AgentsWaived(rollout=rollout.id, agents={agent: waiver_cost(view, agent)})
            self.stage.ledger.append([event], onto=state.recorded, at=state.now)
            after = self.stage.taken_off(state, waived=state.waived | {agent})
            yield costing(Move(label=("waive", agent), after=after), "waivers")

    def set_up_anew(self, state: State) -> Iterator[Move]:
        """A person looks at a server on which a key is not to be seen, and says that it is gone."""
        stage = self.stage
        for server, known in state.recorded.servers.items():
            gone = tuple(sorted(c for c in known.missing if c not in state.hosts[server].credentials))
            if gone:
                stage.put_on(state)
                event = ev.HostSetUpAnew(host=server, gone=gone)
                stage.ledger.append([event], onto=state.recorded, at=state.now)
                yield Move(label=("gone", server), after=stage.taken_off(state), good=True)

    def _issuer_replaced(self, state: State) -> Iterator[Move]:
        """What ``replace_issuer`` writes; the runs that it begins are runs like any other."""
        stage = self.stage
        stage.put_on(state)
        name = f"issuer-{len(state.recorded.issuers) + 1}"
        pem = material.ISSUER_PEMS[len(state.recorded.issuers)]
        events: list[ev.Event] = [
            he.IssuerKeyIntended(record=name),
            he.IssuerAdded(record=name, certificate=pem),
        ]
        stage.ledger.append(events, onto=state.recorded, at=state.now)
        move = Move(label=("the issuer is replaced",), after=stage.taken_off(state, perturbed=True))
        yield costing(move, "issuers")

    def _compromised(self, state: State) -> Iterator[Move]:
        for credential in state.recorded.credentials.values():
            if credential.public is None or credential.state is KeyState.REMOVED or credential.ended:
                continue
            self.stage.put_on(state)
            event = ev.KeyEnded(credential=credential.id, how=KeyState.COMPROMISED, reason="it leaked")
            self.stage.ledger.append([event], onto=state.recorded, at=state.now)
            ended = self.stage.taken_off(state, leaked=state.leaked | {credential.id}, perturbed=True)
            move = Move(label=("compromise", credential.state), after=ended)
            yield costing(move, "compromises")
