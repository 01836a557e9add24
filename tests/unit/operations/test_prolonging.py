"""Waiting does no harm: no certificate in use ends, and no agent refuses it, while a rollout stands still."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestrator.errors import IssuerError
from orchestrator.inventory.model import HostName
from orchestrator.keys.certificate import parse_certificate
from orchestrator.operations.audit import audit
from orchestrator.operations.authority import renew_issuer
from orchestrator.operations.due import due
from orchestrator.operations.rollouts import pause, resume
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import Desired, Origin, Policy, RolloutSpec, Share
from orchestrator.ports import CertificateOrder, Issued
from orchestrator.rotation.drift import Finding
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Rollout
from tests.endings import assert_settled
from tests.fake_state import survey
from tests.world import AGENTS, SERVERS, Silent, World, desired

LIFETIME = timedelta(days=90)
DUE = timedelta(days=60)
SPARE = timedelta(days=30)
GRACE = timedelta(days=30)
OFTEN = timedelta(days=7)
ONE = desired(servers=SERVERS[:1], agents=AGENTS[:2], lifetime=LIFETIME)
ORIGINS = pytest.mark.parametrize("origin", list(Origin))


def one_server(origin: Origin, **others: Any) -> Desired:
    return desired(servers=SERVERS[:1], agents=AGENTS[:2], lifetime=LIFETIME, origin=origin, **others)


def passes(world: World, by: timedelta) -> None:
    world.clock.wait_until(world.clock.now() + by)


def running(world: World) -> Rollout:
    (rollout,) = (r for r in world.recorded.rollouts.values() if r.ended is None)
    return rollout


def certificate_end(world: World, server: HostName) -> datetime:
    """The end of the certificate that the server uses."""
    host = world.fleet.hosts[server]
    assert host.current is not None
    pem = host.credentials[host.current].certificate_pem
    assert pem is not None
    return parse_certificate(pem).not_after


def refused_from(world: World, agent: HostName, server: HostName) -> datetime:
    """When the agent ceases to believe the key that the server uses."""
    bundle = world.fleet.hosts[agent].bundle
    assert bundle is not None
    live = world.live_key(server)
    if any(delegation.server == server for delegation in bundle.delegations):
        return certificate_end(world, server) + bundle.delegations[0].grace
    (expires,) = (k.expires for k in bundle.keys if server in k.servers and k.public.spki_digest == live)
    assert expires is not None
    return expires


def expired(world: World, wanted: Desired) -> list[str]:
    """What of the keys in use has ended on hosts that can be reached."""
    now = world.clock.now()
    away = {host for host, faults in world.fleet.faults.items() if faults.unreachable or faults.refuses}
    found: list[str] = []
    for server in wanted.servers():
        if server in away or world.fleet.hosts[server].current is None:
            continue
        if certificate_end(world, server) <= now:
            found.append(server)
        found += [
            f"{agent} refuses {server}"
            for agent in wanted.agents()
            if agent not in away and refused_from(world, agent, server) <= now
        ]
    return found


@ORIGINS
def test_a_rollout_that_waits_for_an_agent_keeps_the_key_in_use_good(origin: Origin) -> None:
    world, wanted = World(), one_server(origin)
    world.apply(wanted)
    first, begins = world.live_key(SERVERS[0]), world.clock.now()
    passes(world, DUE)
    world.fleet.trouble(AGENTS[1], unreachable="off")
    for _ in range(30):
        watch_once(world.ports, wanted)
        assert expired(world, wanted) == []
        passes(world, OFTEN)
    assert world.live_key(SERVERS[0]) == first
    assert refused_from(world, AGENTS[1], SERVERS[0]) == begins + LIFETIME + GRACE
    world.fleet.heal(AGENTS[1])
    assert_settled(world, wanted)
    assert world.live_key(SERVERS[0]) != first


@ORIGINS
def test_a_paused_rollout_keeps_the_key_in_use_good_and_does_nothing_else(origin: Origin) -> None:
    world, wanted = World(), one_server(origin)
    world.apply(wanted)
    first = world.live_key(SERVERS[0])
    passes(world, DUE)
    world.fleet.trouble(AGENTS[1], unreachable="off")
    watch_once(world.ports, wanted)
    world.fleet.heal(AGENTS[1])
    rollout = running(world).id
    pause(world.ports.ledger, rollout, clock=world.clock, reason="a person looks")
    trusts = world.trusted(AGENTS[1], SERVERS[0])
    for _ in range(30):
        watch_once(world.ports, wanted)
        assert expired(world, wanted) == []
        passes(world, OFTEN)
    assert running(world).id == rollout
    assert world.live_key(SERVERS[0]) == first
    assert world.trusted(AGENTS[1], SERVERS[0]) == trusts
    resume(world.ports, rollout, wait=timedelta(hours=1))
    assert_settled(world, wanted)


def test_a_paused_rollout_brings_agents_the_later_end_of_an_issuer_that_was_renewed() -> None:
    world = World()
    wanted = desired(Policy.DELEGATED, servers=SERVERS[:1], agents=AGENTS[:2], lifetime=LIFETIME)
    world.apply(wanted)
    first = world.live_key(SERVERS[0])
    world.apply(wanted, new_key=True, wait=timedelta(0))
    pause(world.ports.ledger, running(world).id, clock=world.clock, reason="a person looks")
    passes(world, OFTEN)
    lifetime = timedelta(days=6 * 365)
    renewed = renew_issuer(
        world.ledger, world.keys, clock=world.clock, entropy=world.entropy, lifetime=lifetime
    )

    watch_once(world.ports, wanted)

    assert {ends for agent in AGENTS[:2] for ends in issuers_end(world, agent)} == {renewed.not_after}
    assert running(world).paused
    resume(world.ports, running(world).id, wait=timedelta(hours=1))
    assert_settled(world, wanted)
    assert world.live_key(SERVERS[0]) != first


def issuers_end(world: World, agent: HostName) -> set[datetime]:
    """When the issuers end that an agent believes servers by."""
    bundle = world.fleet.hosts[agent].bundle
    assert bundle is not None
    return {delegation.issuer.not_after for delegation in bundle.delegations}


@ORIGINS
def test_a_soak_that_outlasts_the_old_key_keeps_the_way_back_open(origin: Origin) -> None:
    world = World()
    spec = RolloutSpec(soak=timedelta(days=50))
    wanted = one_server(origin, rollout=spec)
    world.apply(wanted)
    first = world.live_key(SERVERS[0])
    passes(world, timedelta(days=65))
    for _ in range(7):
        world.apply(wanted, wait=timedelta(0))
        assert world.live_key(SERVERS[0]) != first
        passes(world, OFTEN)
    (old,) = (c for c in world.recorded.credentials.values() if c.public and c.public.spki_digest == first)
    held = next(h for h in survey(world.fleet.hosts[SERVERS[0]]).credentials if h.name == old.id)
    assert held.not_after is not None
    assert held.not_after > world.clock.now()
    assert world.apply(wanted, wait=timedelta(days=2)).complete


def test_what_is_prolonged_says_until_when_and_why() -> None:
    world = World()
    world.apply(ONE)
    passes(world, DUE)
    world.fleet.trouble(AGENTS[1], unreachable="connection refused")
    watch_once(world.ports, ONE)
    assert not any(c.prolonged for c in world.recorded.credentials.values())
    passes(world, SPARE / 2)
    watch_once(world.ports, ONE)
    (kept,) = (c for c in world.recorded.credentials.values() if c.prolonged)
    assert kept.prolonged == world.clock.now() + SPARE
    assert kept.prolonged_why == "it waits for agent-2: connection refused"
    assert kept.state is KeyState.ACTIVE


def test_a_key_that_is_kept_again_and_again_is_told_of_ever_more_loudly() -> None:
    world = World()
    world.apply(ONE)
    passes(world, DUE + SPARE / 2)
    world.fleet.trouble(AGENTS[1], unreachable="off")
    since = world.clock.now()
    for times in range(1, 4):
        watch_once(world.ports, ONE)
        words = "once" if times == 1 else f"{times} times"
        told = f"kept in use {words} since {since:%Y-%m-%d}, as it waits for agent-2: off"
        (warning,) = due(world.ledger, world.clock).warnings
        assert told in warning
        assert ("nothing else ends that" in warning) == (times == 3)
        assert any(told in finding.detail for finding in audited(world) if finding.host == SERVERS[0])
        passes(world, SPARE / 2)
    world.fleet.heal(AGENTS[1])
    assert_settled(world, ONE)
    assert not any("kept in use" in warning for warning in due(world.ledger, world.clock).warnings)


@ORIGINS
def test_a_key_is_kept_for_no_longer_than_the_playbook_allows(origin: Origin) -> None:
    world, wanted = World(), bounded(one_server(origin), timedelta(days=120))
    world.apply(wanted)
    first, made = world.live_key(SERVERS[0]), world.clock.now()
    passes(world, DUE)
    world.fleet.trouble(AGENTS[1], unreachable="off")
    for _ in range(10):
        watch_once(world.ports, wanted)
        passes(world, OFTEN)
    (kept,) = (c for c in world.recorded.credentials.values() if c.prolonged)
    assert kept.prolonged == kept.not_before + timedelta(days=120)
    assert refused_from(world, AGENTS[0], SERVERS[0]) == kept.prolonged + GRACE < world.clock.now() + GRACE
    (warning,) = due(world.ledger, world.clock).warnings
    assert f"certificate.longest ends that on {made + timedelta(days=120):%Y-%m-%d}" in warning
    world.fleet.heal(AGENTS[1])
    assert_settled(world, wanted)
    assert world.live_key(SERVERS[0]) != first


def audited(world: World) -> tuple[Finding, ...]:
    told = audit({}, ledger=world.ledger, fleet=world.fleet, clock=world.clock, progress=Silent())
    return told.findings


def bounded(wanted: Desired, longest: timedelta) -> Desired:
    """The same playbook, which keeps no key in use for longer than so from its making."""
    return replace(wanted, certificate=replace(wanted.certificate, longest=longest))


def test_nothing_is_prolonged_while_there_is_time() -> None:
    world = World()
    world.apply(ONE)
    passes(world, DUE + SPARE / 2 - timedelta(hours=2))
    assert world.apply(ONE).complete
    assert not any(c.prolonged for c in world.recorded.credentials.values())


def test_the_hook_runs_for_the_new_certificate_and_the_way_to_the_new_key_stays_open() -> None:
    world = World()
    wanted = one_server(Origin.CONTROLLER, hooks={SERVERS[0]: "reload"})
    world.apply(wanted)
    passes(world, DUE + SPARE / 2)
    world.fleet.trouble(AGENTS[1], unreachable="off")
    world.fleet.visits.clear()
    watch_once(world.ports, wanted)
    (visit,) = (v for v in world.fleet.visits if any(o.kind == "activate" for o in v.orders))
    assert [order.kind for order in visit.orders] == ["stage", "activate"]
    assert not world.fleet.hosts[SERVERS[0]].hook_pending


def test_an_issuer_that_refuses_holds_up_nothing_else() -> None:
    world = World()
    wanted = ONE
    world.apply(wanted)
    passes(world, DUE + SPARE / 2)
    world.fleet.trouble(AGENTS[1], unreachable="off")
    watch_once(world.ports, wanted)
    passes(world, SPARE)
    issue = world.ports.issuer.issue

    class Ending:
        def issue(self, order: CertificateOrder, *, now: datetime) -> Issued:
            if order.not_after < now + LIFETIME - timedelta(days=1):
                raise IssuerError("it ends too early")
            return issue(order, now=now)

    object.__setattr__(world.ports, "issuer", Ending())
    applied = watch_once(world.ports, wanted)
    assert not applied.complete
    world.fleet.heal(AGENTS[1])
    assert_settled(world, wanted)


TROUBLES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"unreachable": "off"},
        {"refuses": "the lock is held"},
        {"hook_fails": "no such unit"},
        {"skew": timedelta(hours=1)},
    ]
)
IN_WAVES = RolloutSpec(soak=timedelta(minutes=10), waves=(Share(number=1), Share(number=100, percent=True)))


@st.composite
def fleets(draw: st.DrawFn) -> Desired:
    policy = draw(st.sampled_from(list(Policy)))
    origin = (
        draw(st.sampled_from(list(Origin)))
        if policy in {Policy.PER_SERVER, Policy.DELEGATED}
        else Origin.CONTROLLER
    )
    return desired(
        policy,
        servers=SERVERS[:2],
        agents=AGENTS[:2],
        origin=origin,
        lifetime=LIFETIME,
        rollout=IN_WAVES,
        hooks=dict.fromkeys(SERVERS[:2], "reload"),
    )


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    fleets(),
    st.dictionaries(st.sampled_from((*SERVERS[:2], *AGENTS[:2])), TROUBLES, min_size=1),
    st.none() | st.integers(0, 5),
    st.integers(1, 20),
)
def test_whatever_blocks_a_rollout_nothing_in_use_ends(
    wanted: Desired, troubles: dict[HostName, dict[str, Any]], paused: int | None, weeks: int
) -> None:
    answering = 4 - sum("unreachable" in trouble for trouble in troubles.values())
    assume(sum("skew" in trouble for trouble in troubles.values()) * 2 <= answering)
    world = World()
    world.apply(wanted, wait=timedelta(days=3))
    passes(world, DUE - timedelta(days=4))
    for host, trouble in troubles.items():
        world.fleet.trouble(host, **trouble)
    for week in range(weeks):
        applied = watch_once(world.ports, wanted)
        world.eye.check_end(applied, wanted)
        assert expired(world, wanted) == []
        under_way = world.recorded.running(wanted.playbook)
        if week == paused and under_way is not None and not under_way.paused:
            pause(world.ports.ledger, running(world).id, clock=world.clock, reason="a person looks")
        passes(world, OFTEN)
    for host in troubles:
        world.fleet.heal(host)
    for rollout in [r for r in world.recorded.rollouts.values() if r.paused and r.ended is None]:
        resume(world.ports, rollout.id, wait=timedelta(days=3))
    passes(world, timedelta(days=2))
    assert_settled(world, wanted)
