"""Another issuer takes over: agents hold both for a while, and nobody is without its servers meanwhile."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import RefusedError, UsageError
from orchestrator.keys.authority import ISSUER_KEY, Authority, certify, make_request
from orchestrator.keys.bundle import Use
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import Algorithm, SpkiDigest, generate, sign
from orchestrator.operations.replace_issuer import Rotated, rotate_issuer
from orchestrator.policy.desired import Desired, Origin, Policy, RolloutSpec
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.reports import Checked, Verdict
from orchestrator.rotation.visits import Challenge, Check, Claim, Trust, Visit, Voucher
from tests.endings import assert_settled
from tests.fakes import FakeLedger
from tests.mortal import KilledError
from tests.world import AGENTS, SERVERS, World, desired, endpoint

HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> World:
    return World()


def rotate(world: World, *, leaked: str = "", wait: timedelta = HOUR) -> Rotated:
    world.eye.begins()
    return rotate_issuer(world.ports, leaked=leaked, wait=wait)


def carried(world: World) -> list[set[SpkiDigest]]:
    """The issuers in each agent's bundle: all that certify but the root."""
    root = parse_certificate(world.recorded.root).public_key
    bundles = [world.fleet.hosts[agent].bundle for agent in AGENTS]
    return [
        {key.public.spki_digest for key in bundle.keys if Use.CERTIFY in key.uses and key.public != root}
        for bundle in bundles
        if bundle is not None
    ]


def issuers_in_use(world: World) -> set[SpkiDigest]:
    """Who certified what servers use."""
    recorded = world.recorded
    targets = {s: recorded.credentials[r.target] for s, r in recorded.servers.items() if r.target is not None}
    return {recorded.issuer_of(credential, server) for server, credential in targets.items()}


@pytest.mark.parametrize(
    ("policy", "origin"),
    [
        *((policy, Origin.CONTROLLER) for policy in Policy),
        (Policy.PER_SERVER, Origin.SERVER),
        (Policy.DELEGATED, Origin.SERVER),
    ],
)
def test_servers_are_certified_anew_and_the_old_issuer_goes(
    world: World, policy: Policy, origin: Origin
) -> None:
    wanted = desired(policy, origin=origin)
    world.apply(wanted)
    old = world.recorded.own_issuers()[-1]
    before = world.keys_in_use()

    rotated = rotate(world)

    assert rotated.complete
    new = world.recorded.own_issuers()[-1].key
    assert (rotated.before.public_key.spki_digest, rotated.after.public_key.spki_digest) == (old.key, new)
    assert issuers_in_use(world) == {new}
    assert carried(world) == [{new}] * len(AGENTS)
    assert not before & world.keys_in_use()
    assert set(world.key_vault.kept) == {"root", world.recorded.own_issuers()[-1].record}
    assert_settled(world, wanted)


def test_agents_hold_both_issuers_until_the_last_message_of_the_old_one(world: World) -> None:
    world.apply(desired(Policy.DELEGATED))
    old = world.recorded.own_issuers()[-1].key
    rotated = rotate(world, wait=timedelta(minutes=11))
    new = world.recorded.own_issuers()[-1].key
    assert not rotated.complete
    assert carried(world) == [{old, new}] * len(AGENTS)
    assert issuers_in_use(world) == {new}
    with pytest.raises(RefusedError, match=f"issuer {old[:12]} is still being replaced by {new[:12]}"):
        rotate(world)
    assert world.apply(desired(Policy.DELEGATED)).complete
    assert carried(world) == [{new}] * len(AGENTS)


def test_no_server_switches_before_its_agents_have_proven_the_new_issuer(world: World) -> None:
    world.apply(desired(Policy.DELEGATED))
    before = world.keys_in_use()
    world.fleet.trouble(AGENTS[0], unreachable="off")
    rotated = rotate(world)
    assert world.keys_in_use() == before
    ((_, result),) = rotated.results
    assert [block.host for block in result.blocks] == [AGENTS[0]]
    assert set(world.key_vault.kept) >= {ISSUER_KEY}
    world.fleet.heal(AGENTS[0])
    assert world.apply(desired(Policy.DELEGATED)).complete
    assert ISSUER_KEY not in world.key_vault.kept


def test_every_playbook_is_handed_over_and_the_old_key_goes_with_the_last(world: World) -> None:
    one = desired(Policy.DELEGATED, servers=SERVERS[:2])
    other = desired(Policy.PER_SERVER, servers=SERVERS[2:], name="other")
    world.apply(one)
    world.apply(other)
    rotated = rotate(world)
    assert [playbook for playbook, _ in rotated.results] == ["main", "other"]
    assert rotated.complete
    assert_settled(world, one, other)
    assert issuers_in_use(world) == {world.recorded.own_issuers()[-1].key}


def test_issuers_follow_each_other_for_as_long_as_one_likes(world: World) -> None:
    wanted = desired(Policy.DELEGATED, rollout=RolloutSpec(soak=timedelta(0)))
    world.apply(wanted)
    for _ in range(3):
        assert rotate(world).complete
    assert len(world.recorded.own_issuers()) == 4
    assert [issuer.kept for issuer in world.recorded.own_issuers()] == [False, False, False, True]
    assert_settled(world, wanted)


@pytest.mark.parametrize("policy", [Policy.SHARED, Policy.DELEGATED])
@pytest.mark.parametrize("points", [0, 1, 2, 3, 4, 5, 6, 8, 11, 15, 20, 26, 33, 41, 50, 60])
def test_a_replacement_that_is_killed_goes_on_with_the_next_run(
    world: World, policy: Policy, points: int
) -> None:
    wanted = desired(policy, servers=SERVERS[:2], agents=AGENTS[:2])
    world.apply(wanted)
    world.life.dies_after(points)
    with pytest.raises(KilledError):
        rotate(world)
    world.life.rise()
    if len(world.recorded.own_issuers()) == 1:
        assert rotate(world).complete
    assert_settled(world, wanted)
    assert len(world.recorded.own_issuers()) == 2
    assert issuers_in_use(world) == {world.recorded.own_issuers()[-1].key}
    assert set(world.key_vault.kept) == {"root", world.recorded.own_issuers()[-1].record}


def test_before_anything_was_applied_it_is_done_at_once(world: World) -> None:
    rotated = rotate(world)
    assert rotated.complete
    assert set(world.key_vault.kept) == {"root", world.recorded.own_issuers()[-1].record}
    world.apply(desired())
    assert issuers_in_use(world) == {world.recorded.own_issuers()[-1].key}


def test_without_a_fleet_there_is_no_issuer_to_replace(world: World) -> None:
    ports = replace(world.ports, ledger=FakeLedger())
    with pytest.raises(UsageError, match="no fleet yet"):
        rotate_issuer(ports, wait=HOUR)


def thief_speaks(world: World, authority: Authority, wanted: Desired) -> Verdict:
    """What an agent says of a key that the thief of an issuer's key certified for a server."""
    pair = generate(Algorithm.ED25519, random=world.entropy)
    now = world.clock.now()
    certificate = certify(
        authority,
        request_pem=make_request(pair, names=(SERVERS[0],)),
        names=(SERVERS[0],),
        now=now,
        not_after=now + timedelta(days=1),
        backdate=timedelta(minutes=1),
        random=world.entropy,
    )
    asked = Challenge(fleet=world.recorded.fleet, server=SERVERS[0], nonce="ab" * 32)
    voucher = Voucher(certificate_pem=certificate.pem, issuer=authority.certificate.public_key.spki_digest)
    claim = Claim(
        challenge=asked,
        key=pair.public.spki_digest,
        signature=sign(pair.private, asked.text()).hex(),
        voucher=voucher,
    )
    visit = Visit(endpoint=endpoint(wanted.agents()[0]), orders=(Check(claims=(claim,)),))
    (outcome,) = world.fleet.run([visit])
    (report,) = outcome.reports  # type: ignore[union-attr]  # an agent that answers reports
    assert isinstance(report, Checked)
    return report.verdicts[0]


def test_a_leaked_issuer_is_left_without_any_wait_and_its_thief_is_not_believed(world: World) -> None:
    wanted = desired(Policy.DELEGATED)
    world.apply(wanted)
    stolen = Authority(
        certificate=parse_certificate(world.recorded.issuer), signer=world.ports.keys.open(ISSUER_KEY)
    )
    assert thief_speaks(world, stolen, wanted) is Verdict.VALID
    world.eye.leaked |= world.keys_in_use()
    waits = len(world.clock.waits)

    rotated = rotate(world, leaked="a laptop was stolen", wait=timedelta(0))

    assert rotated.complete
    assert world.clock.waits[waits:] == []
    assert thief_speaks(world, stolen, wanted) is Verdict.UNTRUSTED
    states = [c.state for c in world.recorded.credentials.values()]
    assert states == [KeyState.REMOVED] * 3 + [KeyState.ACTIVE] * 3
    bundle = world.fleet.hosts[AGENTS[0]].bundle
    assert bundle is not None
    assert bundle.denied == ()
    assert_settled(world, wanted)


def test_a_leaked_issuer_that_nobody_believes_by_itself_is_replaced_by_the_usual_rules(world: World) -> None:
    world.apply(desired())
    rotated = rotate(world, leaked="a laptop was stolen")
    assert rotated.complete
    assert {c.ended for c in world.recorded.credentials.values()} == {None}


def test_agents_are_visited_no_more_often_than_for_new_keys(world: World) -> None:
    world.apply(desired())
    seen = len(world.fleet.visits)
    world.apply(desired(), new_key=True)
    for_keys = sum(any(isinstance(o, Trust) for o in v.orders) for v in world.fleet.visits[seen:])
    seen = len(world.fleet.visits)
    rotate(world)
    for_issuer = sum(any(isinstance(o, Trust) for o in v.orders) for v in world.fleet.visits[seen:])
    assert for_issuer == for_keys
