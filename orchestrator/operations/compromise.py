"""compromise: a key has leaked, or is lost: every server that uses it gets another one."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.errors import ConflictError, KeyrelayError, RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.handover import Result, nothing_done
from orchestrator.operations.lease import require_free
from orchestrator.operations.planning import carry_out
from orchestrator.policy.desired import PlaybookName
from orchestrator.ports import Ports
from orchestrator.rotation.edges import broken_edges
from orchestrator.rotation.events import How, KeyEnded
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.lookup import credential_named, ending_of
from orchestrator.rotation.recognition import refuse_stopped
from orchestrator.rotation.recorded import Credential, Recorded

_TRIES = 20
"""So often whoever hands over may write first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of it.

    Attributes:
        credential: as it stands now; ``removed`` when nobody holds or trusts it any more.
        before: what a person had said of its end before (``lookup.ending_of``); empty: nothing.
        result: of the run of its own playbook.
        others: of the runs of other playbooks with a server that may have had it, by playbook.
        broken: the edges (server, agent) that do not hold now.
    """

    credential: Credential
    before: str
    result: Result
    others: tuple[tuple[PlaybookName, Result], ...]
    broken: tuple[tuple[HostName, HostName], ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do in any of the runs."""
        return self.result.complete and all(result.complete for _, result in self.others)


def end_key(ports: Ports, key: str, *, lost: bool, reason: str, wait: timedelta) -> Ended:
    """Write that a key leaked (or is lost), and hand over to another one.

    Servers that have gone to another playbook since, and may still have it, are visited by a run of that.
    A leak does not wait for a rollout that is paused (``engine.decide``); everything else of it stays paused.
    A key that is removed may have leaked before: then that is written, for lists of revoked certificates, and
    nobody is visited unless agents would believe the key for its certificate alone. A run that is refused
    keeps none of another playbook from its own. What was said of a key before stays as it was said.

    Args:
        ports: the outside things.
        key: a thumbprint, or its beginning.
        lost: nobody has it, so S1, S6 and S7 stay in force; otherwise they are suspended for this key.
        reason: for the ledger.
        wait: how long this run may wait.

    Raises:
        UsageError: no such key, or several.
        RefusedError: the key is gone and now to be called lost, or compromised and now to be called lost.
        ConflictError: another controller hands over; what was said of the key is written all the same.
    """
    recorded = ports.ledger.read()
    known = credential_named(recorded, key)
    _refuse_ending(known, lost=lost)
    refuse_stopped(recorded)
    how: How = KeyState.LOST if lost else KeyState.COMPROMISED
    if known.ended is not how:
        event = KeyEnded(credential=known.id, how=how, reason=reason)
        recorded = _written(ports, event, onto=recorded)
    try:
        require_free(recorded, ports)
    except ConflictError as error:
        raise ConflictError(
            f"{error.message}; the ledger says that the key is {how} now, and that run heeds it",
            hint="When it has ended, run keyrelay compromise again for what is left to do.",
        ) from error
    if recorded.credentials[known.id].state is KeyState.REMOVED:
        return _ended(recorded, known, nothing_done(recorded, known.playbook))
    elsewhere = {
        one.playbook for server, one in recorded.servers.items() if known.id in recorded.may_hold(server)
    }
    results: dict[PlaybookName, Result] = {}
    refused: list[KeyrelayError] = []
    for playbook in (known.playbook, *sorted(elsewhere - {known.playbook})):
        try:
            results[playbook] = carry_out(recorded.playbooks[playbook], ports, wait=wait)
        except KeyrelayError as error:
            refused.append(error)
    if refused:
        raise refused[0]
    own = results.pop(known.playbook)
    return _ended(ports.ledger.read(), known, own, tuple(results.items()))


def _written(ports: Ports, event: KeyEnded, *, onto: Recorded) -> Recorded:
    """The ledger with a person's word, which waits for nobody, though others may write meanwhile."""
    for _ in range(_TRIES):
        with suppress(ConflictError):
            return ports.ledger.append([event], onto=onto, at=ports.clock.now())
        onto = ports.ledger.read()
    return ports.ledger.append([event], onto=onto, at=ports.clock.now())


def _refuse_ending(known: Credential, *, lost: bool) -> None:
    if known.compromised and lost:
        raise RefusedError(
            f"the key is {ending_of(known)}", hint="A key that leaked does not get safer by being lost."
        )
    if known.state is KeyState.REMOVED and lost:
        raise RefusedError(
            f"the key is removed since {known.state_since:%Y-%m-%d %H:%M:%SZ}: nobody holds it"
        )
    if known.awaits:
        raise RefusedError(
            "the key waits for its rollout: no host has it", hint="run: keyrelay cert drop KEY"
        )


def _ended(
    recorded: Recorded,
    known: Credential,
    result: Result,
    others: tuple[tuple[PlaybookName, Result], ...] = (),
) -> Ended:
    return Ended(
        credential=recorded.credentials[known.id],
        before=ending_of(known),
        result=result,
        others=others,
        broken=tuple(broken_edges(recorded)),
    )
