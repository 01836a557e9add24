"""Hosts that lie or are broken hold up themselves, and nobody else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from orchestrator.issuers.embedded import EmbeddedIssuer
from orchestrator.operations.apply import Applied, apply
from orchestrator.policy.desired import Origin
from orchestrator.ports import CertificateOrder, Fleet, Issued
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lifecycle import Step
from tests.endings import assert_settled
from tests.fake_fleet import counting_random
from tests.world import AGENTS, SERVERS, World, desired

MADE_THERE = desired(servers=SERVERS[:2], agents=AGENTS[:1], origin=Origin.SERVER)
LIAR = SERVERS[0]

Twist = Callable[[rp.Report], rp.Report]


@dataclass(slots=True)
class Lying:
    """A fleet in which one host's reports are not what happened."""

    fleet: Fleet
    twist: Twist

    def run(self, visits: Sequence[vs.Visit]) -> Iterator[rp.Outcome]:
        for outcome in self.fleet.run(visits):
            if outcome.host == LIAR and not isinstance(outcome, rp.Unreachable):
                yield replace(outcome, reports=tuple(map(self.twist, outcome.reports)))
            else:
                yield outcome


def applied(world: World, twist: Twist, *, new_key: bool = False) -> Applied:
    return apply(
        replace(world.ports, fleet=Lying(world.ports.fleet, twist)),
        MADE_THERE,
        wait=timedelta(hours=1),
        agree=lambda _: True,
        new_key=new_key,
    )


def junk_request(report: rp.Report) -> rp.Report:
    return replace(report, request_pem="junk") if isinstance(report, rp.Generated) else report


def forged_signature(report: rp.Report) -> rp.Report:
    return replace(report, signature="00" * 64) if isinstance(report, rp.Staged) else report


def claims_to_disarm(report: rp.Report) -> rp.Report:
    return rp.Disarmed(credentials=(), changed=True) if isinstance(report, rp.Disarmed) else report


@pytest.mark.parametrize(
    ("twist", "step", "reason"),
    [
        (junk_request, Step.MAKE, "its request for a certificate is wrong: expected exactly one"),
        (forged_signature, Step.STAGE, "its signature over a fresh nonce does not verify"),
        (claims_to_disarm, Step.DISARM, "it reports success, and yet nothing changed"),
    ],
)
def test_a_lie_is_told_as_the_reason_and_others_go_on(twist: Twist, step: Step, reason: str) -> None:
    world = World()
    world.apply(MADE_THERE)
    before = world.live_key(SERVERS[1])
    lied = applied(world, twist, new_key=True)
    assert lied.result is not None
    (block,) = lied.result.blocks
    assert block.host == LIAR
    assert dict(zip(block.servers, block.steps, strict=True))[LIAR] is step
    assert block.reason.startswith(reason)
    assert world.live_key(SERVERS[1]) not in {before, None}
    assert_settled(world, MADE_THERE)


def test_a_key_that_another_server_has_too_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines cloned with their randomness would make one key, and each could speak as the other."""
    world = World()

    def same_bytes(size_bytes: int) -> bytes:
        return counting_random("clone")(size_bytes)

    asked: list[tuple[str, ...]] = []
    issue = EmbeddedIssuer.issue

    def counted(issuer: EmbeddedIssuer, order: CertificateOrder, *, now: datetime) -> Issued:
        asked.append(tuple(order.names))
        return issue(issuer, order, now=now)

    monkeypatch.setattr(EmbeddedIssuer, "issue", counted)
    monkeypatch.setattr(world.fleet, "_random", same_bytes)
    result = world.apply(MADE_THERE).result
    assert result is not None
    (block,) = result.blocks
    assert (block.host, block.steps) == (SERVERS[1], (Step.MAKE,))
    assert block.reason == "the key it made is not new: another credential has it already"
    assert (SERVERS[1],) not in asked
    monkeypatch.undo()
    world.wipe(SERVERS[1])
    assert_settled(world, MADE_THERE)
