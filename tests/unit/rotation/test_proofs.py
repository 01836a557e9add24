"""What of an outcome is believed."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.keys.material import Algorithm, SpkiDigest, generate, sign
from orchestrator.policy.desired import Origin
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.proofs import judge
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.reports import Verdict
from orchestrator.rotation.visits import Challenge, Claim, CredentialId
from tests.fake_fleet import counting_random
from tests.world import AGENTS, SERVERS, World, desired

SERVER, AGENT = SERVERS[0], AGENTS[0]
UNSIGNED = "its signature over a fresh nonce does not verify with the key it should have"


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    return world


def target(recorded: Recorded) -> CredentialId:
    wanted = recorded.servers[SERVER].target
    assert wanted is not None
    return wanted


def challenge(recorded: Recorded) -> Challenge:
    return Challenge(fleet=recorded.fleet, server=SERVER, nonce="1f" * 32)


def signed(world: World, *, text: bytes | None = None) -> str:
    private = world.vault.open(target(world.recorded), "credential")
    return sign(private, challenge(world.recorded).text() if text is None else text).hex()


def switching(world: World) -> Iterable[tuple[vs.Order, type[rp.Report]]]:
    recorded = world.recorded
    credential, asked = target(recorded), challenge(recorded)
    algorithm = recorded.credentials[credential].key.algorithm
    yield (
        vs.Stage(
            credential=credential,
            certificate_pem="",
            chain_pem="",
            challenge=asked,
            algorithm=algorithm,
        ),
        rp.Staged,
    )
    yield vs.Activate(credential=credential, challenge=asked, algorithm=algorithm), rp.Activated
    yield vs.Revert(credential=credential, challenge=asked, algorithm=algorithm), rp.Reverted


def changed(*reports: rp.Report, host: HostName = SERVER, skew: timedelta = timedelta(0)) -> rp.Changed:
    return rp.Changed(host=host, reports=reports, skew=skew)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["stage", "activate", "revert"])
@pytest.mark.parametrize(
    ("signature", "believed"),
    [("right", True), ("other text", False), ("other key", False), ("no hex", False), ("", False)],
)
def test_a_server_is_believed_when_its_signature_verifies(
    world: World, kind: int, signature: str, *, believed: bool
) -> None:
    order, report = list(switching(world))[kind]
    stranger = generate(
        world.recorded.credentials[target(world.recorded)].key.algorithm, random=counting_random("s")
    )
    given = {
        "right": signed(world),
        "other text": signed(world, text=b"keyrelay proof 1\nanother\n"),
        "other key": sign(stranger.private, challenge(world.recorded).text()).hex(),
        "no hex": "zz",
        "": "",
    }[signature]
    outcome = changed(report(credential=target(world.recorded), signature=given, changed=True))  # type: ignore[call-arg]
    judged = judge(world.recorded, (order,), outcome)
    if believed:
        assert judged is outcome
    else:
        assert judged == rp.Failed(host=SERVER, reason=UNSIGNED)


@pytest.mark.parametrize(("asked", "told"), [("keyrelay stores 1\n", ""), ("", "f" * 64)])
def test_a_server_whose_stores_were_filled_by_another_manifest_is_not_believed(
    world: World, asked: str, told: str
) -> None:
    credential, algorithm = target(world.recorded), Algorithm.ED25519
    order = vs.Activate(
        credential=credential, challenge=challenge(world.recorded), algorithm=algorithm, stores=asked
    )
    report = rp.Activated(credential=credential, signature=signed(world), changed=True, stores=told)
    judged = judge(world.recorded, (order,), changed(report))
    assert isinstance(judged, rp.Failed)
    assert judged.reason.startswith("its stores are filled by manifest ")


def test_a_server_that_leaves_has_to_say_that_its_stores_are_empty(world: World) -> None:
    order = vs.Disarm(credentials=(), in_use=None)
    emptied = changed(rp.Disarmed(credentials=(), changed=True, emptied=True))
    assert judge(world.recorded, (order,), emptied) is emptied
    judged = judge(world.recorded, (order,), changed(rp.Disarmed(credentials=(), changed=True)))
    assert isinstance(judged, rp.Failed)


def test_a_signature_with_a_key_that_is_not_known_yet_proves_nothing() -> None:
    fresh = World()
    wanted = desired(servers=SERVERS[:1], agents=AGENTS[:1], origin=Origin.SERVER)
    fresh.fleet.trouble(SERVER, unreachable="off")
    fresh.apply(wanted)
    order, _ = next(iter(switching(fresh)))
    outcome = changed(rp.Staged(credential=target(fresh.recorded), signature="00", changed=True))
    assert isinstance(judge(fresh.recorded, (order,), outcome), rp.Failed)


def claims(count: int) -> tuple[Claim, ...]:
    return tuple(
        Claim(
            challenge=Challenge(fleet="f", server=HostName(f"server-{n}"), nonce="00"),
            key=SpkiDigest("ab" * 32),
            signature="",
        )
        for n in range(count)
    )


def trust(world: World, count: int) -> tuple[vs.Trust, rp.Trusted]:
    bundle = world.fleet.hosts[AGENT].bundle
    assert bundle is not None
    order = vs.Trust(bundle=bundle, claims=claims(count))
    report = rp.Trusted(
        position=bundle.position, digest=bundle.digest, verdicts=(Verdict.VALID,) * count, changed=True
    )
    return order, report


def test_an_agent_is_believed_when_it_uses_its_bundle_and_verified_all(world: World) -> None:
    order, report = trust(world, 2)
    outcome = changed(report, host=AGENT)
    assert judge(world.recorded, (order,), outcome) is outcome


def test_another_bundle_than_the_one_given_is_not_believed(world: World) -> None:
    order, report = trust(world, 0)
    for wrong in (
        replace(report, digest="00" * 32),
        replace(report, position=Position(epoch=1, sequence=77)),
    ):
        judged = judge(world.recorded, (order,), changed(wrong, host=AGENT))
        assert isinstance(judged, rp.Failed)
        assert "not the one it was given" in judged.reason


def test_a_missing_verdict_is_not_a_good_one(world: World) -> None:
    order, report = trust(world, 2)
    judged = judge(world.recorded, (order,), changed(replace(report, verdicts=(Verdict.VALID,)), host=AGENT))
    assert judged == rp.Failed(host=AGENT, reason="it gave 1 verdicts on 2 signatures")


@pytest.mark.parametrize("verdict", [Verdict.INVALID, Verdict.UNTRUSTED, Verdict.EXPIRED])
def test_a_bad_verdict_names_its_server_and_leaves_the_others_theirs(world: World, verdict: Verdict) -> None:
    check = vs.Check(claims=claims(2))
    report = rp.Checked(digest="", verdicts=(Verdict.VALID, verdict))
    judged = judge(world.recorded, (check,), changed(report, host=AGENT))
    assert judged == rp.Refused(
        host=AGENT,
        reason=f"it could not verify the signature of server-1 ({verdict})",
        reports=(report,),
        unverified={HostName("server-1"): verdict},
    )


def test_many_bad_verdicts_are_counted_after_the_first_three(world: World) -> None:
    check = vs.Check(claims=claims(5))
    report = rp.Checked(digest="", verdicts=(Verdict.INVALID,) * 5)
    judged = judge(world.recorded, (check,), changed(report, host=AGENT))
    assert isinstance(judged, rp.Refused)
    assert judged.reason.endswith("server-2 (invalid) and 2 more")


def test_what_came_before_an_unproven_report_stands(world: World) -> None:
    order, _ = next(iter(switching(world)))
    erase = vs.Erase(credentials=())
    reports = (
        rp.Erased(credentials=(), changed=True),
        rp.Staged(credential=target(world.recorded), signature="", changed=True),
    )
    judged = judge(world.recorded, (erase, order), changed(*reports))
    assert judged == rp.Failed(host=SERVER, reason=UNSIGNED, reports=reports[:1])


def test_an_answer_to_another_order_is_not_believed(world: World) -> None:
    judged = judge(world.recorded, (vs.Survey(),), changed(rp.Erased(credentials=(), changed=True)))
    assert judged == rp.Failed(host=SERVER, reason="it answered erase to survey")


@pytest.mark.parametrize(("orders", "reports"), [(1, 0), (2, 1), (1, 2)])
def test_each_order_has_its_report(world: World, orders: int, reports: int) -> None:
    asked = (vs.Erase(credentials=()),) * orders
    told = (rp.Erased(credentials=(), changed=False),) * reports
    judged = judge(world.recorded, asked, changed(*told))
    assert isinstance(judged, rp.Failed)
    assert judged.reason == f"it reported on {reports} of {orders} orders"


def test_a_visit_that_broke_off_may_have_fewer_reports(world: World) -> None:
    outcome = rp.Failed(host=SERVER, reason="gone", reports=())
    assert judge(world.recorded, (vs.Erase(credentials=()),), outcome) == outcome


def test_reasons_call_keys_by_the_names_that_people_know_and_leave_all_else_alone(world: World) -> None:
    known = world.recorded.credentials[target(world.recorded)]
    assert known.public is not None
    name, other = f"key {known.public.thumbprint[:10]}", "ab" * 16
    for said, told in {
        f"the service still signs with the key of {known.id}; back on {known.id}": (
            f"the service still signs with {name}; back on {name}"
        ),
        f"credential {known.id} is disarmed here": f"{name} is disarmed here",
        f"visit {other} holds the lock": f"visit {other} holds the lock",
        f"its digest is {known.id}{other}": f"its digest is {known.id}{other}",
    }.items():
        refused = rp.Refused(host=SERVER, reason=said)
        assert judge(world.recorded, (vs.Erase(credentials=()),), refused) == replace(refused, reason=told)


def test_a_service_that_signs_with_another_key_of_the_fleet_is_told_by_that_key() -> None:
    fresh = World()
    wanted = desired(servers=SERVERS[:1], agents=AGENTS[:1])
    fresh.apply(wanted)
    old, before = target(fresh.recorded), signed(fresh)
    fresh.apply(wanted, new_key=True)
    new = target(fresh.recorded)
    order = vs.Sign(challenge=challenge(fresh.recorded))
    names = {c: name_of(fresh.recorded.credentials[c]) for c in (old, new)}
    wrong = f"it still signs with {names[old]}, not with {names[new]}"
    report = rp.Signed(credential=new, signature=before)

    said = rp.Refused(host=SERVER, reason="it does not sign with it", reports=(report,))
    assert judge(fresh.recorded, (order, vs.Disarm(credentials=(old,), in_use=new)), said) == rp.Refused(
        host=SERVER, reason=wrong
    )
    assert judge(fresh.recorded, (order,), changed(report)) == rp.Failed(host=SERVER, reason=wrong)


@pytest.mark.parametrize(("skew_s", "way"), [(31, "ahead"), (-31, "behind")])
def test_a_clock_that_is_off_makes_proof_worthless(world: World, skew_s: int, way: str) -> None:
    report = rp.Erased(credentials=(), changed=True)
    outcome = changed(report, skew=timedelta(seconds=skew_s))
    judged = judge(world.recorded, (vs.Erase(credentials=()),), outcome)
    reason = f"its clock is 31 s {way}; messages.clock_skew allows 30 s"
    assert judged == rp.Refused(host=SERVER, reason=reason, reports=(report,), skew=outcome.skew)


def test_a_wrong_clock_is_told_before_the_verdicts_that_it_may_explain(world: World) -> None:
    check = vs.Check(claims=claims(1))
    report = rp.Checked(digest="", verdicts=(Verdict.EXPIRED,))
    ahead = timedelta(days=400)
    judged = judge(world.recorded, (check,), changed(report, host=AGENT, skew=ahead))
    assert judged == rp.Refused(
        host=AGENT,
        reason="its clock is 34560000 s ahead; messages.clock_skew allows 30 s; "
        "and it could not verify the signature of server-0 (expired)",
        reports=(report,),
        skew=ahead,
    )


def test_a_clock_within_bounds_is_fine(world: World) -> None:
    outcome = changed(rp.Erased(credentials=(), changed=True), skew=timedelta(seconds=-30))
    assert judge(world.recorded, (vs.Erase(credentials=()),), outcome) == outcome


def test_an_unreachable_host_said_nothing(world: World) -> None:
    outcome = rp.Unreachable(host=SERVER, reason="off")
    assert judge(world.recorded, (vs.Survey(),), outcome) is outcome
