"""A key that has ended holds up its own server, and nobody who shares an agent with it (L1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import apply
from orchestrator.operations.compromise import end_key
from orchestrator.operations.handover import hand_over
from orchestrator.policy.desired import Desired, Policy
from orchestrator.ports import Fleet
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lifecycle import KeyState, Step
from tests.endings import assert_settled
from tests.world import AGENTS, SERVERS, World, desired

LIFETIME = timedelta(days=90)
GRACE = timedelta(days=30)
BOTH = AGENTS[:2]
POLICIES = pytest.mark.parametrize("policy", [Policy.PER_SERVER, Policy.DELEGATED])


def playbooks(policy: Policy) -> tuple[Desired, Desired]:
    """One server each, and the same agents; only the key of the second one ends soon."""
    first = desired(policy, servers=SERVERS[:1], agents=BOTH, name="first")
    second = desired(policy, servers=SERVERS[1:2], agents=BOTH, name="second", lifetime=LIFETIME)
    return first, second


def world_at(short_of_the_end: timedelta, policy: Policy) -> World:
    """Both are handed over; the second one's key ends after so long."""
    world = World()
    begun = world.clock.now()
    for wanted in playbooks(policy):
        assert world.apply(wanted).complete
    world.clock.wait_until(begun + LIFETIME + GRACE - short_of_the_end)
    return world


@POLICIES
def test_another_playbook_whose_key_has_ended_holds_nobody_up(policy: Policy) -> None:
    first, second = playbooks(policy)
    world = world_at(-timedelta(hours=1), policy)
    before = world.live_key(SERVERS[0])
    applied = world.apply(first, new_key=True)
    assert applied.complete, applied.result
    assert world.live_key(SERVERS[0]) not in {before, None}
    assert world.apply(first).result is None
    assert_settled(world, first, second)


@POLICIES
def test_a_leaked_key_goes_whatever_key_has_ended_elsewhere(policy: Policy) -> None:
    world = world_at(-timedelta(hours=1), policy)
    target = world.recorded.servers[SERVERS[0]].target
    assert target is not None
    public = world.recorded.credentials[target].public
    assert public is not None
    world.eye.leaked.add(public.spki_digest)
    ended = end_key(world.ports, public.thumbprint, lost=False, reason="found on a train", wait=timedelta(0))
    assert ended.result.complete, ended.result.blocks
    assert ended.credential.state is KeyState.REMOVED


@POLICIES
def test_an_agent_that_takes_another_key_for_ended_proves_all_others_in_the_same_visit(
    policy: Policy,
) -> None:
    first, second = playbooks(policy)
    world = world_at(timedelta(seconds=10), policy)
    for agent in BOTH:
        world.fleet.trouble(agent, skew=timedelta(seconds=20))
    before = world.live_key(SERVERS[0])
    applied = world.apply(first, new_key=True, wait=timedelta(0))
    assert applied.result is not None
    assert applied.result.blocks == ()
    assert world.live_key(SERVERS[0]) not in {before, None}
    for agent in BOTH:
        world.fleet.heal(agent)
    assert_settled(world, first, second)


@dataclass(slots=True)
class Doubting:
    """A fleet in which an agent can verify nothing that one server signs."""

    fleet: Fleet
    agent: HostName
    server: HostName

    def run(self, visits: Sequence[vs.Visit]) -> Iterator[rp.Outcome]:
        asked = {visit.endpoint.host: visit.orders for visit in visits}
        for outcome in self.fleet.run(visits):
            if outcome.host != self.agent or isinstance(outcome, rp.Unreachable):
                yield outcome
                continue
            told = zip(asked[outcome.host], outcome.reports, strict=False)
            yield replace(outcome, reports=tuple(self._doubts(order, report) for order, report in told))

    def _doubts(self, order: vs.Order, report: rp.Report) -> rp.Report:
        if not isinstance(order, vs.Trust | vs.Check) or not isinstance(report, rp.Trusted | rp.Checked):
            return report
        verdicts = zip(order.claims, report.verdicts, strict=True)
        return replace(
            report,
            verdicts=tuple(
                rp.Verdict.INVALID if claim.challenge.server == self.server else verdict
                for claim, verdict in verdicts
            ),
        )


def test_a_server_whose_signature_one_agent_cannot_verify_stays_and_the_others_switch() -> None:
    world, wanted = World(), desired(agents=BOTH)
    world.apply(wanted)
    before = {server: world.live_key(server) for server in SERVERS}
    doubting = Doubting(world.ports.fleet, agent=BOTH[0], server=SERVERS[2])
    applied = apply(
        replace(world.ports, fleet=doubting),
        wanted,
        wait=timedelta(hours=1),
        agree=lambda _: True,
        new_key=True,
    )
    assert [server for server in SERVERS if world.live_key(server) == before[server]] == [SERVERS[2]]
    assert applied.result is not None
    (block,) = applied.result.blocks
    steps = dict(zip(block.servers, block.steps, strict=True))
    assert (block.host, steps[SERVERS[2]]) == (BOTH[0], Step.PUBLISH)
    assert set(steps.values()) == {Step.SOAK, Step.PUBLISH}
    assert block.reason == "it could not verify the signature of server-3 (invalid)"
    assert_settled(world, wanted)


def test_a_new_key_that_ends_before_all_have_proven_it_is_named_with_its_end() -> None:
    world, wanted = World(), desired(servers=SERVERS[:1], agents=BOTH, lifetime=LIFETIME)
    made = world.clock.now()
    world.fleet.trouble(BOTH[0], unreachable="off")
    world.apply(wanted, wait=timedelta(0))
    world.fleet.heal(BOTH[0])
    world.clock.wait_until(made + LIFETIME + GRACE)
    result = hand_over(world.ports, world.recorded, wanted.playbook, aside={}, wait=timedelta(0))
    (block,) = (block for block in result.blocks if block.host == BOTH[0])
    ended = made + LIFETIME + GRACE
    assert block.reason == f"server-1 of playbook 'main': its key ended on {ended:%Y-%m-%d %H:%M:%SZ}"
    assert_settled(world, wanted)
