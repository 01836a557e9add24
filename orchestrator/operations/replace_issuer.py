"""The fleet's own issuer, replaced by another one: a handover like any other, for every playbook at once.

The new issuer certifies from the moment at which the ledger has it. What the one before has certified is due
then, so servers get other keys; agents are given both issuers, prove the new one where they believe servers
by it, and lose the old one with the last key that it certified. Then its own key is destroyed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.errors import RefusedError, UsageError
from orchestrator.keys.authority import ROOT_KEY, Authority, make_issuer
from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.operations.found import LIFETIMES
from orchestrator.operations.handover import Result
from orchestrator.operations.lease import require_free
from orchestrator.operations.planning import carry_out
from orchestrator.policy.desired import PlaybookName
from orchestrator.ports import Ports
from orchestrator.rotation.events import Event, KeyEnded
from orchestrator.rotation.home_events import IssuerAdded, IssuerKeyDestroyed, IssuerKeyIntended
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recognition import refuse_superseded
from orchestrator.rotation.recorded import IssuerRecord, Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """What came of it.

    Attributes:
        before, after: the issuer that is replaced, and the one that certifies now.
        results: of the runs, by playbook.
        gone: whether the old one's key is destroyed.
    """

    before: Certificate
    after: Certificate
    results: tuple[tuple[PlaybookName, Result], ...]
    gone: bool

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.gone and all(result.complete for _, result in self.results)


def rotate_issuer(ports: Ports, *, leaked: str = "", wait: timedelta) -> Rotated:
    """Make another issuer, and hand over to it.

    Args:
        ports: the outside things; the root's key is used once.
        leaked: why somebody else may have the issuer's key; empty: nobody has. With a reason every key that
            agents believe by its word is ended as leaked, so that nobody waits for anybody.
        wait: how long this run may wait, for each playbook.

    Raises:
        UsageError: the fleet is not founded yet.
        RefusedError: the issuer before is still being replaced; or it may have leaked, since agents of this
            restored home know a later one, and nobody has said so.
        VaultError: the root's key does not open, or the new one cannot be kept.
        ConflictError: another controller writes.
    """
    recorded = ports.ledger.read()
    if not recorded.version:
        raise UsageError("there is no fleet yet", hint="Run: keyrelay init")
    require_free(recorded, ports)
    _refuse_unfinished(recorded)
    if not leaked:
        refuse_superseded(recorded)
    before = recorded.own_issuers()[-1]
    root = Authority(certificate=parse_certificate(recorded.root), signer=ports.keys.open(ROOT_KEY))
    recorded, name = _intended(recorded, ports)
    now = ports.clock.now()
    issuer = make_issuer(
        root,
        ports.keys.make(name),
        fleet=recorded.fleet,
        now=now,
        lifetime=LIFETIMES.issuer,
        random=ports.entropy,
    )
    events: list[Event] = [IssuerAdded(record=name, certificate=issuer.certificate.pem, leaked=leaked)]
    if leaked:
        events += _ends(recorded, before, leaked)
    recorded = ports.ledger.append(events, onto=recorded, at=now)
    results = tuple(
        (playbook, carry_out(ports.ledger.read().playbooks[playbook], ports, wait=wait))
        for playbook in sorted(recorded.playbooks)
    )
    if not results:
        ports.keys.destroy(before.record)
        destroyed = IssuerKeyDestroyed(record=before.record)
        ports.ledger.append([destroyed], onto=recorded, at=ports.clock.now())
    return Rotated(
        before=parse_certificate(before.certificate),
        after=issuer.certificate,
        results=results,
        gone=not any(one.kept for one in ports.ledger.read().own_issuers()[:-1]),
    )


def _refuse_unfinished(recorded: Recorded) -> None:
    earlier = [issuer for issuer in recorded.own_issuers()[:-1] if issuer.kept]
    if earlier:
        raise RefusedError(
            f"issuer {earlier[0].key[:12]} is still being replaced by {recorded.own_issuers()[-1].key[:12]}",
            hint="apply or watch each playbook until it is done; keyrelay rollout list tells who blocks it",
        )


def _intended(recorded: Recorded, ports: Ports) -> tuple[Recorded, str]:
    """Write what the new issuer's key is called; what an interrupted run has written is taken again."""
    pending = [issuer.record for issuer in recorded.issuers if not issuer.certificate]
    if pending:
        ports.keys.destroy(pending[-1])
        return recorded, pending[-1]
    name = f"issuer-{ports.entropy(8).hex()}"
    event = IssuerKeyIntended(record=name)
    return ports.ledger.append([event], onto=recorded, at=ports.clock.now()), name


def _ends(recorded: Recorded, before: IssuerRecord, why: str) -> Iterator[Event]:
    """What is written when a thief may certify keys of their own: nothing the issuer vouches for is safe."""
    for credential in recorded.credentials.values():
        certified = {recorded.issuer_of(credential, server) for server in credential.issuers}
        gone = credential.state is KeyState.REMOVED or credential.compromised
        if credential.delegated and before.key in certified and not gone:
            yield KeyEnded(credential=credential.id, how=KeyState.COMPROMISED, reason=why)
