"""What the agents of every ``Fleet`` do with trust bundles and claims."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Algorithm
from orchestrator.rotation import reports, visits
from orchestrator.rotation.observed import HeldDelegation
from orchestrator.rotation.reports import Changed, Failed, Refused, Unchanged, Verdict
from orchestrator.rotation.visits import Hook
from tests.fleet_worlds import (
    AGENT,
    SERVER,
    World,
    bundle,
    claim,
    delegating,
    key,
    survey,
    visit,
    vouched,
    vouching,
)


@pytest.fixture
def works() -> Hook:
    return Hook(command="true")


def test_an_agent_tells_of_each_claim_what_its_bundle_says(world: World, algorithm: Algorithm) -> None:
    trusted, unknown = key(algorithm), key(algorithm)
    claims = (
        claim(trusted),
        claim(trusted, altered=True),
        claim(unknown),
        claim(trusted, server=HostName("server-02")),
        claim(trusted),
    )
    expected = (Verdict.VALID, Verdict.INVALID, Verdict.UNTRUSTED, Verdict.UNTRUSTED, Verdict.VALID)
    wanted = bundle(1, trusted, key())

    installed = visit(world, AGENT, visits.Trust(bundle=wanted, claims=claims))
    checked = visit(world, AGENT, visits.Check(claims=claims), fence=False)

    assert isinstance(installed, Changed)
    assert installed.reports == (
        reports.Trusted(position=wanted.position, digest=wanted.digest, verdicts=expected, changed=True),
    )
    assert isinstance(checked, Unchanged)
    assert checked.reports == (reports.Checked(digest=wanted.digest, verdicts=expected),)


def test_a_key_is_expired_from_its_last_second_on(world: World) -> None:
    pair = key()
    over = bundle(1, pair, expires=datetime(2020, 1, 1, tzinfo=UTC))
    later = bundle(2, pair, expires=datetime(2040, 1, 1, tzinfo=UTC))

    for wanted, verdict in ((over, Verdict.EXPIRED), (later, Verdict.VALID)):
        outcome = visit(world, AGENT, visits.Trust(bundle=wanted, claims=(claim(pair),)))
        assert isinstance(outcome, Changed)
        (report,) = outcome.reports
        assert isinstance(report, reports.Trusted)
        assert report.verdicts == (verdict,)


def test_a_bundle_takes_the_place_of_an_earlier_one_and_is_surveyed(world: World) -> None:
    one, two = key(), key()
    visit(world, AGENT, visits.Trust(bundle=bundle(1, one)))
    wanted = bundle(2, two, one, expires=datetime(2040, 1, 1, tzinfo=UTC))

    assert isinstance(visit(world, AGENT, visits.Trust(bundle=wanted)), Changed)
    assert isinstance(visit(world, AGENT, visits.Trust(bundle=wanted)), Unchanged)

    held = survey(world, AGENT).bundle
    assert held is not None
    assert (held.position, held.digest) == (wanted.position, wanted.digest)
    assert sorted(held.keys) == sorted([one.public.spki_digest, two.public.spki_digest])
    assert {(edge.server, edge.expires) for edge in held.edges} == {(SERVER, 2208988800)}


def test_a_bundle_never_goes_back_nor_changes_under_its_number(world: World) -> None:
    pair = key()
    visit(world, AGENT, visits.Trust(bundle=bundle(5, pair, epoch=2)))

    for refused in (bundle(4, pair, epoch=2), bundle(9, pair, epoch=1), bundle(5, key(), epoch=2)):
        assert isinstance(visit(world, AGENT, visits.Trust(bundle=refused)), Refused)
    held = survey(world, AGENT).bundle
    assert held is not None
    assert held.digest == bundle(5, pair, epoch=2).digest
    assert isinstance(visit(world, AGENT, visits.Trust(bundle=bundle(0, pair, epoch=3))), Changed)


def test_an_agent_that_listens_to_nobody_trusts_nobody(world: World) -> None:
    wanted = bundle(1)

    outcome = visit(world, AGENT, visits.Trust(bundle=wanted, claims=(claim(key()),)))

    assert isinstance(outcome, Changed)
    assert outcome.reports == (
        reports.Trusted(
            position=wanted.position, digest=wanted.digest, verdicts=(Verdict.UNTRUSTED,), changed=True
        ),
    )


def test_without_a_bundle_nothing_is_checked(world: World) -> None:
    assert isinstance(visit(world, AGENT, visits.Check(claims=(claim(key()),)), fence=False), Refused)


def test_an_agent_believes_what_its_issuer_certifies_and_nothing_else(
    world: World, algorithm: Algorithm
) -> None:
    pair, leaked, other = key(algorithm), key(algorithm), vouching()
    issuer = vouching()
    claims = (
        vouched(pair, issuer),
        vouched(pair, issuer, altered=True),
        vouched(leaked, issuer),
        vouched(pair, other),
        vouched(pair, issuer, server=HostName("server-02")),
        vouched(pair, other, told=issuer),
        vouched(pair, issuer, ended=True),
        claim(pair),
    )
    expected = (
        Verdict.VALID,
        Verdict.INVALID,
        Verdict.DENIED,
        Verdict.UNTRUSTED,
        Verdict.UNTRUSTED,
        Verdict.UNCERTIFIED,
        Verdict.EXPIRED,
        Verdict.UNTRUSTED,
    )
    wanted = delegating(1, issuer, denied=(leaked,))

    installed = visit(world, AGENT, visits.Trust(bundle=wanted, claims=claims))
    checked = visit(world, AGENT, visits.Check(claims=claims), fence=False)

    assert isinstance(installed, Changed)
    assert installed.reports == (
        reports.Trusted(position=wanted.position, digest=wanted.digest, verdicts=expected, changed=True),
    )
    assert isinstance(checked, Unchanged)
    assert checked.reports == (reports.Checked(digest=wanted.digest, verdicts=expected),)
    held = survey(world, AGENT).bundle
    assert held is not None
    spki = issuer.certificate.public_key.spki_digest
    assert held.delegations == (HeldDelegation(server=SERVER, issuer=spki, grace=60),)
    assert (held.denied, held.issuers, held.keys) == ((leaked.public.spki_digest,), (spki,), ())


def test_an_agent_goes_from_a_key_to_its_issuer_and_back(world: World) -> None:
    pair, issuer = key(), vouching()
    for number, wanted in enumerate((bundle(1, pair), delegating(2, issuer), bundle(3, pair))):
        claims = (claim(pair), vouched(pair, issuer))
        outcome = visit(world, AGENT, visits.Trust(bundle=wanted, claims=claims))
        assert isinstance(outcome, Changed)
        (report,) = outcome.reports
        assert isinstance(report, reports.Trusted)
        expected = (Verdict.VALID, Verdict.UNTRUSTED)
        assert report.verdicts == (expected if number != 1 else expected[::-1])
        held = survey(world, AGENT).bundle
        assert held is not None
        assert held.digest == wanted.digest


def test_a_bundle_stays_though_its_hook_fails_and_nothing_is_proven_with_it(world: World) -> None:
    old, new = key(), key()
    visit(world, AGENT, visits.Trust(bundle=bundle(1, old)))
    wanted = bundle(2, old, new)
    fails = world.failing_hook(AGENT)

    outcome = visit(world, AGENT, visits.Trust(bundle=wanted, claims=(claim(new),), hooks=(fails,)))

    assert isinstance(outcome, Failed)
    assert outcome.reason == f"bundle {wanted.position} is in use, but the hook exited 1: not today"
    assert not outcome.reports
    found = survey(world, AGENT)
    assert found.bundle is not None
    assert (found.bundle.digest, found.untold) == (wanted.digest, True)
    checked = visit(world, AGENT, visits.Check(claims=(claim(new),)), fence=False)
    assert isinstance(checked, Refused)
    assert checked.reason == f"the hook for bundle {wanted.position} has yet to run well"


def test_a_hook_that_failed_runs_again_though_the_bundle_is_there(world: World, works: Hook) -> None:
    pair = key()
    order = visits.Trust(bundle=bundle(1, pair), claims=(claim(pair),))
    visit(world, AGENT, replace(order, hooks=(world.failing_hook(AGENT),)))
    assert isinstance(visit(world, AGENT, replace(order, hooks=(world.failing_hook(AGENT),))), Failed)
    world.mend(AGENT)

    assert isinstance(visit(world, AGENT, replace(order, hooks=(works,))), Changed)
    assert not survey(world, AGENT).untold
    assert isinstance(visit(world, AGENT, replace(order, hooks=(works,))), Unchanged)


def test_a_survey_tells_which_bundles_programs_may_use_that_were_not_told_of_the_one_in_use(
    world: World, works: Hook
) -> None:
    pairs = [key() for _ in range(6)]
    bundles = [bundle(number, pair, pairs[0]) for number, pair in enumerate(pairs[1:], start=1)]
    first, told, between, before, last = bundles
    for one in (first, told):
        visit(world, AGENT, visits.Trust(bundle=one, hooks=(works,)))
    assert survey(world, AGENT).loaded == ()

    for one in (between, before, last):
        visit(world, AGENT, visits.Trust(bundle=one, hooks=(world.failing_hook(AGENT),)))

    found = survey(world, AGENT)
    assert [(one.position, one.digest) for one in found.loaded] == [
        (told.position, told.digest),
        (before.position, before.digest),
    ]
    for held, one in zip(found.loaded, (told, before), strict=True):
        assert {edge.key for edge in held.edges} == {trusted.public.spki_digest for trusted in one.keys}
        assert set(held.keys) == {trusted.public.spki_digest for trusted in one.keys} - {
            trusted.public.spki_digest for trusted in last.keys
        }
    world.mend(AGENT)
    visit(world, AGENT, visits.Trust(bundle=last, hooks=(works,)))
    assert survey(world, AGENT).loaded == ()


def test_a_hook_that_nobody_asks_for_any_more_is_due_no_longer(world: World) -> None:
    order = visits.Trust(bundle=bundle(1, key()))
    visit(world, AGENT, replace(order, hooks=(world.failing_hook(AGENT),)))

    assert isinstance(visit(world, AGENT, order), Changed)
    assert not survey(world, AGENT).untold
    assert isinstance(visit(world, AGENT, order), Unchanged)


def test_of_several_hooks_each_has_to_run_well(world: World, works: Hook) -> None:
    order = visits.Trust(bundle=bundle(1, key()), hooks=(works, world.failing_hook(AGENT), works))

    assert isinstance(visit(world, AGENT, order), Failed)
    assert survey(world, AGENT).untold
