"""Servers that an issuer vouches for: agents know no key, and are left alone when one is renewed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.keys.material import Algorithm
from orchestrator.operations.apply import Applied
from orchestrator.operations.audit import audit
from orchestrator.operations.authority import renew_issuer
from orchestrator.operations.compromise import Ended, end_key
from orchestrator.operations.prove import prove
from orchestrator.operations.replace_issuer import rotate_issuer
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import CertificateSpec, Desired, Origin, Policy, Prove, RolloutSpec, Share
from orchestrator.ports import CertificateOrder, Issued
from orchestrator.rotation.drift import Drift
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import TrustLine
from orchestrator.rotation.reports import Verdict
from orchestrator.rotation.visits import Activate, Check, Survey, Trust
from tests.endings import assert_settled
from tests.world import AGENTS, SERVERS, Silent, World, desired, with_agents

LIFETIME = timedelta(days=7)
GRACE = timedelta(days=1)
IN_WAVES = RolloutSpec(
    soak=timedelta(minutes=10), waves=(Share(number=1), Share(number=100, percent=True)), prove=Prove.DIRECT
)


def wanted(
    *,
    servers: Sequence[HostName] = SERVERS,
    algorithm: Algorithm = Algorithm.ED25519,
    origin: Origin = Origin.CONTROLLER,
    rollout: RolloutSpec | None = None,
) -> Desired:
    found = desired(Policy.DELEGATED, servers=servers, algorithm=algorithm, origin=origin, rollout=rollout)
    certificate = CertificateSpec(lifetime=LIFETIME, renew_at=Fraction(1, 2), grace=GRACE)
    return replace(found, certificate=certificate)


@pytest.fixture
def world() -> World:
    return World()


def pass_time(world: World, by: timedelta) -> None:
    world.clock.wait_until(world.clock.now() + by)


def changing_visits(world: World, since: int, hosts: Sequence[HostName]) -> list[list[str]]:
    """The orders of visits to these hosts that were no survey."""
    return [
        [order.kind for order in visit.orders]
        for visit in world.fleet.visits[since:]
        if visit.endpoint.host in hosts and not isinstance(visit.orders[0], Survey)
    ]


def leak(world: World, server: HostName) -> Ended:
    target = world.recorded.servers[server].target
    assert target is not None
    public = world.recorded.credentials[target].public
    assert public is not None
    world.eye.leaked.add(public.spki_digest)
    return end_key(world.ports, public.thumbprint, lost=False, reason="on a train", wait=timedelta(0))


def test_agents_hold_the_issuer_and_names_and_no_key_of_a_server(world: World) -> None:
    narrow = {AGENTS[0]: SERVERS[:1]}
    asked = replace(wanted(), trust_sets=desired(listens=narrow).trust_sets)
    assert world.apply(asked).complete
    issuer = world.recorded.own_issuers()[-1].key
    for agent in AGENTS:
        bundle = world.fleet.hosts[agent].bundle
        assert bundle is not None
        assert [key for key in bundle.keys if key.signs] == []
        assert {(one.server, one.issuer_key, one.grace) for one in bundle.delegations} == {
            (server, issuer, GRACE) for server in narrow.get(agent, SERVERS)
        }
    assert len(world.keys_in_use()) == len(SERVERS)
    assert world.orphans() == []


def test_certificates_are_short_and_backdated_by_twice_the_clock_skew(world: World) -> None:
    world.apply(wanted())
    for credential in world.recorded.credentials.values():
        (server,) = credential.servers
        certificate = parse_certificate(credential.certificates[server])
        assert certificate.not_after == credential.not_before + LIFETIME
        assert certificate.not_before <= credential.not_before - 2 * timedelta(seconds=30)


@pytest.mark.parametrize("origin", Origin)
@pytest.mark.parametrize("rollout", [None, IN_WAVES], ids=["at once", "in waves"])
def test_servers_renew_their_keys_and_no_agent_is_visited(
    world: World, origin: Origin, rollout: RolloutSpec | None
) -> None:
    asked = wanted(origin=origin, rollout=rollout)
    world.apply(asked)
    pass_time(world, timedelta(hours=25))
    before, bundles = world.keys_in_use(), {a: world.fleet.hosts[a].bundle for a in AGENTS}
    visits = len(world.fleet.visits)

    pass_time(world, LIFETIME / 2)
    applied = watch_once(world.ports, asked)
    while not applied.complete:
        pass_time(world, timedelta(minutes=10))
        applied = watch_once(world.ports, asked)

    assert not before & world.keys_in_use()
    assert len(world.keys_in_use()) == len(SERVERS)
    assert changing_visits(world, visits, AGENTS) == []
    assert {a: world.fleet.hosts[a].bundle for a in AGENTS} == bundles
    assert_settled(world, asked)


def test_a_plan_to_renew_names_servers_and_no_agent(world: World) -> None:
    world.apply(wanted())
    applied = world.apply(wanted(), new_key=True)
    assert {change.host for change in applied.prepared.plan.changes} == set(SERVERS)


def test_an_old_key_is_erased_when_no_message_signed_with_it_can_be_under_way(world: World) -> None:
    world.apply(wanted())
    old = {server: world.fleet.hosts[server].current for server in SERVERS}
    world.apply(wanted(), new_key=True, wait=timedelta(minutes=10))
    assert all(list(world.fleet.hosts[s].disarmed) == [old[s]] for s in SERVERS)
    pass_time(world, wanted().messages.in_flight)
    assert world.apply(wanted()).complete
    assert all(not world.fleet.hosts[s].disarmed for s in SERVERS)


def test_an_agent_that_is_away_keeps_no_server_from_renewing(world: World) -> None:
    world.apply(wanted())
    before = world.keys_in_use()
    world.fleet.trouble(AGENTS[0], unreachable="off")
    applied = world.apply(wanted(), new_key=True)
    assert not before & world.keys_in_use()
    assert applied.result is not None
    assert applied.result.blocks == ()
    assert world.orphans() == []


def test_another_kind_of_key_is_proven_by_agents_with_the_bundle_they_have(world: World) -> None:
    world.apply(wanted())
    bundles, visits = {a: world.fleet.hosts[a].bundle for a in AGENTS}, len(world.fleet.visits)
    assert world.apply(wanted(algorithm=Algorithm.ECDSA_P256)).complete
    assert {a: world.fleet.hosts[a].bundle for a in AGENTS} == bundles
    made = changing_visits(world, visits, AGENTS)
    assert made
    assert {kind for kinds in made for kind in kinds} == {"check"}
    kinds = [v.orders[0].kind for v in world.fleet.visits[visits:]]
    assert kinds.index("check") < kinds.index("activate")


def test_a_server_whose_agents_cannot_verify_the_new_kind_does_not_switch(world: World) -> None:
    world.apply(wanted())
    before = world.keys_in_use()
    world.fleet.trouble(AGENTS[0], unreachable="off")
    applied = world.apply(wanted(algorithm=Algorithm.ECDSA_P256))
    assert world.keys_in_use() == before
    assert applied.result is not None
    assert [block.host for block in applied.result.blocks] == [AGENTS[0]]


def test_an_agent_that_joins_proves_the_issuer_for_each_name(world: World) -> None:
    world.apply(with_agents(wanted(), AGENTS[:1]))
    keys = world.keys_in_use()
    assert world.apply(wanted()).complete
    assert world.keys_in_use() == keys
    installed = [order for visit in world.fleet.visits for order in visit.orders if isinstance(order, Trust)][
        -1
    ]
    assert {claim.challenge.server for claim in installed.claims} == set(SERVERS)
    assert all(claim.voucher is not None for claim in installed.claims)
    assert_settled(world, wanted())


def test_a_leaked_key_is_denied_by_its_agents_until_its_certificate_has_ended(world: World) -> None:
    world.apply(wanted())
    leaked = world.live_key(SERVERS[0])
    assert leaked is not None
    ended = leak(world, SERVERS[0])
    assert ended.result.complete
    assert ended.broken == ()
    assert ended.credential.state is KeyState.REMOVED
    for agent in AGENTS:
        bundle = world.fleet.hosts[agent].bundle
        assert bundle is not None
        assert [(one.key.spki_digest, one.expires) for one in bundle.denied] == [
            (leaked, ended.credential.not_after + GRACE)
        ]
        assert not world.eye.vouches(agent, SERVERS[0], leaked)
    assert world.orphans() == []

    pass_time(world, LIFETIME + GRACE)
    visits = len(world.fleet.visits)
    world.apply(wanted())
    assert changing_visits(world, visits, AGENTS) == []
    world.apply(with_agents(wanted(servers=SERVERS[:2]), AGENTS))
    bundles = [world.fleet.hosts[agent].bundle for agent in AGENTS]
    assert [bundle.denied for bundle in bundles if bundle is not None] == [(), (), ()]


def test_an_agent_that_was_away_still_believes_the_leaked_key_and_is_named(world: World) -> None:
    world.apply(wanted())
    leaked = world.live_key(SERVERS[0])
    assert leaked is not None
    world.fleet.trouble(AGENTS[0], unreachable="off")
    ended = leak(world, SERVERS[0])
    assert world.live_key(SERVERS[0]) != leaked
    assert ended.credential.state is KeyState.COMPROMISED
    assert [block.host for block in (ended.result.blocks)] == [AGENTS[0]]
    assert world.eye.vouches(AGENTS[0], SERVERS[0], leaked)
    assert ended.broken == ()
    world.fleet.heal(AGENTS[0])
    assert world.apply(wanted()).complete
    assert not world.eye.vouches(AGENTS[0], SERVERS[0], leaked)
    assert world.recorded.credentials[ended.credential.id].state is KeyState.REMOVED


@pytest.mark.parametrize("before", [wanted(), desired(Policy.SHARED)], ids=["renewed", "moved"])
def test_a_key_of_the_past_is_denied_if_it_leaks_before_its_certificate_ends(
    world: World, before: Desired
) -> None:
    world.apply(before)
    old = next(iter(world.recorded.credentials.values()))
    assert old.public is not None
    key = old.public.spki_digest
    world.apply(wanted(), new_key=before.policy is Policy.DELEGATED)
    assert world.recorded.credentials[old.id].state is KeyState.REMOVED
    assert any(world.eye.vouches(AGENTS[0], server, key) for server in SERVERS)

    world.eye.leaked.add(key)
    ended = end_key(world.ports, old.public.thumbprint, lost=False, reason="a tape", wait=timedelta(0))

    assert ended.result.complete
    assert ended.credential.state is KeyState.REMOVED
    assert not any(world.eye.vouches(agent, server, key) for agent in AGENTS for server in SERVERS)
    assert world.orphans() == []
    again = end_key(world.ports, old.public.thumbprint, lost=False, reason="again", wait=timedelta(0))
    assert again.before.endswith(": a tape")
    assert again.result.visits == 0


def test_a_leaked_key_is_denied_for_as_long_as_the_grace_of_today_allows(world: World) -> None:
    world.apply(wanted())
    leaked = world.live_key(SERVERS[0])
    assert leaked is not None
    ended = leak(world, SERVERS[0])
    longer = replace(wanted(), certificate=replace(wanted().certificate, grace=5 * GRACE))
    with_fewer = with_agents(longer, AGENTS[:2])
    world.apply(with_fewer)
    pass_time(world, LIFETIME + 2 * GRACE)
    assert world.clock.now() > ended.credential.expires
    world.apply(longer)
    for agent in AGENTS:
        assert not world.eye.vouches(agent, SERVERS[0], leaked)


def test_a_key_of_the_past_can_leak_for_as_long_as_the_grace_of_today_allows(world: World) -> None:
    world.apply(wanted())
    old = world.recorded.credentials[next(iter(world.recorded.credentials))]
    assert old.public is not None
    key = old.public.spki_digest
    world.apply(wanted(), new_key=True)
    longer = replace(wanted(), certificate=replace(wanted().certificate, grace=20 * GRACE))
    world.apply(with_agents(longer, AGENTS[:2]))
    world.apply(longer)
    pass_time(world, old.expires + GRACE - world.clock.now())
    assert any(world.eye.vouches(AGENTS[0], server, key) for server in SERVERS)

    end_key(world.ports, old.public.thumbprint, lost=False, reason="a tape", wait=timedelta(0))

    assert not any(world.eye.vouches(agent, server, key) for agent in AGENTS for server in SERVERS)


@pytest.mark.parametrize("after", [Policy.SHARED, Policy.PER_SERVER])
def test_agents_that_deny_a_key_go_over_to_another_policy(world: World, after: Policy) -> None:
    world.apply(wanted())
    leak(world, SERVERS[0])
    assert world.apply(desired(after)).complete
    assert_settled(world, desired(after))
    assert world.orphans() == []


def test_a_leak_changes_nothing_for_the_other_servers(world: World) -> None:
    world.apply(wanted())
    others = {server: world.live_key(server) for server in SERVERS[1:]}
    leak(world, SERVERS[0])
    assert {server: world.live_key(server) for server in SERVERS[1:]} == others


def test_every_edge_can_be_proven_at_any_time(world: World) -> None:
    world.apply(wanted())
    edges = prove({}, ledger=world.ledger, fleet=world.fleet, entropy=world.entropy, progress=Silent())
    assert len(edges) == len(AGENTS) * len(SERVERS)
    assert {edge.detail for edge in edges} == {Verdict.VALID}


def test_a_certificate_that_has_ended_is_believed_no_more_and_renewing_mends_it(world: World) -> None:
    world.apply(wanted())
    pass_time(world, LIFETIME + GRACE + timedelta(hours=1))
    edges = prove({}, ledger=world.ledger, fleet=world.fleet, entropy=world.entropy, progress=Silent())
    assert {edge.detail for edge in edges} == {Verdict.EXPIRED}
    assert world.apply(wanted()).complete
    edges = prove({}, ledger=world.ledger, fleet=world.fleet, entropy=world.entropy, progress=Silent())
    assert {edge.detail for edge in edges} == {Verdict.VALID}


def test_a_renewal_that_waits_keeps_the_key_in_use_certified_by_the_issuer_that_agents_know(
    world: World,
) -> None:
    world.apply(wanted())
    old = world.recorded.own_issuers()[-1].key
    world.fleet.trouble(AGENTS[0], unreachable="off")
    rotate_issuer(world.ports, wait=timedelta(0))
    for _ in range(20):
        pass_time(world, LIFETIME / 14)
        watch_once(world.ports, wanted())
        for server in SERVERS:
            known = world.recorded.credentials[str(world.fleet.hosts[server].current)]  # type: ignore[index]
            assert world.recorded.issuer_of(known, server) == old
            assert parse_certificate(known.certificates[server]).not_after > world.clock.now()
    edges = prove({}, ledger=world.ledger, fleet=world.fleet, entropy=world.entropy, progress=Silent())
    assert {edge.detail for edge in edges if edge.agent != AGENTS[0]} == {Verdict.VALID}
    world.fleet.heal(AGENTS[0])
    edges = prove({}, ledger=world.ledger, fleet=world.fleet, entropy=world.entropy, progress=Silent())
    assert {edge.detail for edge in edges} == {Verdict.VALID}
    assert_settled(world, wanted())


def test_a_certificate_that_agents_would_refuse_never_leaves(world: World) -> None:
    real = world.ports.issuer

    class Foreign:
        """Says that the root certified what the issuer did."""

        def issue(self, order: CertificateOrder, *, now: object) -> Issued:
            issued = real.issue(order, now=now)  # type: ignore[arg-type]  # as it came
            return replace(issued, chain_pem=world.recorded.root)

    world.ports = replace(world.ports, issuer=Foreign())
    applied = world.apply(wanted())
    assert applied.result is not None
    assert {block.host for block in applied.result.blocks} == set(SERVERS)
    assert all("would not be believed: it is uncertified" in b.reason for b in applied.result.blocks)
    assert not any(isinstance(o, Activate) for v in world.fleet.visits for o in v.orders)


def test_a_line_of_trust_names_a_credential_or_an_issuer() -> None:
    with pytest.raises(ValueError, match="names a credential or an issuer"):
        TrustLine(server=SERVERS[0])


def test_a_name_that_an_agent_no_longer_listens_to_is_taken_from_it(world: World) -> None:
    world.apply(wanted())
    narrow = replace(wanted(), trust_sets=desired(listens={AGENTS[0]: SERVERS[:1]}).trust_sets)
    assert world.apply(narrow).complete
    bundle = world.fleet.hosts[AGENTS[0]].bundle
    assert bundle is not None
    assert [one.server for one in bundle.delegations] == [SERVERS[0]]
    assert not any(isinstance(o, Check) for o in world.fleet.visits[-1].orders)


def test_playbooks_of_both_kinds_share_an_agent(world: World) -> None:
    pinned = desired(servers=SERVERS[:1], name="pinned")
    delegated = wanted(servers=SERVERS[1:])
    world.apply(pinned)
    world.apply(delegated)
    assert_settled(world, pinned, delegated)
    world.apply(delegated, new_key=True)
    world.apply(pinned, new_key=True)
    assert_settled(world, pinned, delegated)


def test_a_renewed_issuer_reaches_agents_before_its_earlier_certificate_ends(world: World) -> None:
    asked = wanted(servers=SERVERS[:1])
    assert world.apply(asked).complete
    before = parse_certificate(world.recorded.issuer)
    pass_time(world, before.not_after - world.clock.now() - timedelta(days=10))
    assert world.apply(asked, new_key=True).complete
    life = timedelta(days=1825)
    renewed = renew_issuer(world.ledger, world.keys, clock=world.clock, entropy=world.entropy, lifetime=life)
    found = audit({}, ledger=world.ledger, fleet=world.fleet, clock=world.clock, progress=Silent()).findings
    assert {(one.host, one.drift) for one in found if one.drift is not Drift.OK} == {
        (agent, Drift.PREVIOUS) for agent in AGENTS
    }
    plan = watched(world, asked).prepared.plan
    assert {(change.host, change.why) for change in plan.changes} == {
        (agent, "its trust bundle is not as it should be") for agent in AGENTS
    }
    assert {issuer.not_after for issuer in believed(world)} == {renewed.not_after}
    visits = len(world.fleet.visits)
    assert watched(world, asked).complete
    assert changing_visits(world, visits, AGENTS) == []
    while world.clock.now() < before.not_after + timedelta(days=2):
        pass_time(world, LIFETIME / 2)
        world.apply(asked)
    edges = prove({}, ledger=world.ledger, fleet=world.fleet, entropy=world.entropy, progress=Silent())
    assert [edge for edge in edges if not edge.holds] == []
    assert_settled(world, asked)


def believed(world: World) -> set[Certificate]:
    """The issuers that agents let vouch, as they know them."""
    bundles = [world.fleet.hosts[agent].bundle for agent in AGENTS]
    return {one.issuer for bundle in bundles if bundle is not None for one in bundle.delegations}


def watched(world: World, asked: Desired) -> Applied:
    world.eye.begins()
    return watch_once(world.ports, asked)
