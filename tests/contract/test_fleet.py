"""What every ``Fleet`` does: the one in memory, and the one that reaches real hosts over SSH."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from orchestrator.keys.material import Algorithm, PublicKey
from orchestrator.rotation import reports, visits
from orchestrator.rotation.reports import Changed, Failed, Refused, Unchanged, Unreachable
from orchestrator.rotation.visits import Visit
from tests.fleet_worlds import (
    AGENT,
    ONE,
    OTHER,
    SERVER,
    THREE,
    TWO,
    World,
    activate,
    certificate,
    challenge,
    key,
    revert,
    stage,
    survey,
    verified,
    visit,
)


def test_no_visits_give_no_outcomes(world: World) -> None:
    assert list(world.fleet.run([])) == []


def test_every_visit_has_one_outcome_and_an_unreachable_host_holds_up_nobody(world: World) -> None:
    world.cut_off(AGENT)
    hosts = (SERVER, AGENT, OTHER)

    outcomes = {
        outcome.host: outcome
        for outcome in world.fleet.run(
            [Visit(endpoint=world.endpoint(host), orders=(visits.Survey(),)) for host in hosts]
        )
    }

    assert set(outcomes) == set(hosts)
    assert isinstance(outcomes[SERVER], Unchanged)
    assert isinstance(outcomes[OTHER], Unchanged)
    match outcomes[AGENT]:
        case Unreachable(reason=reason):
            assert reason.startswith("connection refused on ")
        case outcome:
            pytest.fail(f"ended as {outcome}")


def test_the_rest_of_a_run_may_be_left(world: World) -> None:
    outcomes = world.fleet.run(
        [Visit(endpoint=world.endpoint(host), orders=(visits.Survey(),)) for host in (SERVER, AGENT, OTHER)]
    )

    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]  # both are generators

    assert list(outcomes) == []


def test_an_empty_host_holds_nothing(world: World) -> None:
    found = survey(world, SERVER)

    assert (found.fence, found.current, found.credentials, found.bundle) == (None, None, (), None)
    assert found.problems == ()
    assert found.openssl.startswith("OpenSSL ")


def test_a_visit_that_changes_something_without_a_fence_is_a_mistake(world: World) -> None:
    with pytest.raises(ValueError, match="fence"):
        visit(world, SERVER, stage(key()), fence=False)


def test_a_staged_credential_lies_beside_the_one_in_use_and_signs(world: World, algorithm: Algorithm) -> None:
    pair = key(algorithm)
    order = stage(pair)

    first, again = visit(world, SERVER, order), visit(world, SERVER, order)

    assert isinstance(first, Changed)
    assert isinstance(again, Unchanged)
    for outcome in (first, again):
        (report,) = outcome.reports
        assert isinstance(report, reports.Staged)
        assert verified(pair.public, report.signature, order.challenge)
    found = survey(world, SERVER)
    (held,) = found.credentials
    assert (held.name, held.disarmed, held.key) == (ONE, False, pair.public.spki_digest)
    assert held.certificate_key == pair.public.spki_digest
    assert held.not_after == datetime(2040, 1, 1, tzinfo=UTC)
    assert found.current is None


def test_another_credential_under_the_same_id_is_refused_and_the_first_stays(world: World) -> None:
    first = key()
    visit(world, SERVER, stage(first))

    assert isinstance(visit(world, SERVER, stage(key())), Refused)
    assert survey(world, SERVER).credentials[0].key == first.public.spki_digest


def test_a_later_certificate_of_the_same_key_replaces_the_one_before(world: World) -> None:
    pair, other = key(), key()
    first = stage(pair)
    later = replace(stage(pair), certificate_pem=certificate(other), chain_pem=certificate(other))
    visit(world, SERVER, first, activate())

    assert isinstance(visit(world, SERVER, later), Changed)
    assert isinstance(visit(world, SERVER, later), Unchanged)

    found = survey(world, SERVER)
    (held,) = found.credentials
    assert (found.current, held.key) == (ONE, pair.public.spki_digest)
    assert held.certificate_digest == hashlib.sha256(later.certificate_pem.encode()).hexdigest()


def test_where_it_is_in_use_the_hook_is_due_again(world: World) -> None:
    pair = key()
    later = replace(stage(pair), certificate_pem=certificate(key()))
    visit(world, SERVER, stage(pair), activate())
    assert isinstance(visit(world, SERVER, activate()), Unchanged)

    visit(world, SERVER, later)

    assert isinstance(visit(world, SERVER, activate(hook=world.failing_hook(SERVER))), Failed)
    assert survey(world, SERVER).current == ONE


def test_a_key_made_on_the_host_is_requested_once_and_certified(world: World, algorithm: Algorithm) -> None:
    order = visits.Generate(credential=ONE, algorithm=algorithm, names=(SERVER, "server.example"))

    first, again = visit(world, SERVER, order), visit(world, SERVER, order)

    assert isinstance(first, Changed)
    assert isinstance(again, Unchanged)
    (made,), (repeated,) = first.reports, again.reports
    assert isinstance(made, reports.Generated)
    assert made.changed
    assert repeated == replace(made, changed=False)
    request = x509.load_pem_x509_csr(made.request_pem.encode())
    public = PublicKey.of(request.public_key())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert request.is_signature_valid
    assert public.algorithm is algorithm
    assert names.get_values_for_type(x509.DNSName) == [SERVER, "server.example"]

    pem = certificate(key(algorithm))
    certified = replace(stage(key(algorithm), own=True), certificate_pem=pem, chain_pem=pem)
    for expected in (Changed, Unchanged):
        outcome = visit(world, SERVER, certified)
        assert isinstance(outcome, expected)
        (report,) = outcome.reports
        assert isinstance(report, reports.Staged)
        assert verified(public, report.signature, certified.challenge)
    assert isinstance(visit(world, SERVER, order), Unchanged)


def test_a_credential_whose_key_is_not_there_cannot_be_staged_without_one(world: World) -> None:
    assert isinstance(visit(world, SERVER, stage(key(), own=True)), Refused)


def test_a_credential_that_came_from_elsewhere_is_not_generated_again(world: World) -> None:
    visit(world, SERVER, stage(key()))

    order = visits.Generate(credential=ONE, algorithm=Algorithm.ED25519, names=(SERVER,))

    assert isinstance(visit(world, SERVER, order), Refused)


def test_a_key_made_on_the_host_is_not_replaced_by_another(world: World) -> None:
    visit(world, SERVER, visits.Generate(credential=ONE, algorithm=Algorithm.ED25519, names=(SERVER,)))

    assert isinstance(visit(world, SERVER, stage(key())), Refused)


def test_an_activated_credential_is_the_one_that_signs(world: World, algorithm: Algorithm) -> None:
    pair = key(algorithm)
    visit(world, SERVER, stage(pair))
    order = activate(algorithm=algorithm)

    first, again = visit(world, SERVER, order), visit(world, SERVER, order)
    asked = challenge()
    signed = visit(world, SERVER, visits.Sign(challenge=asked), fence=False)

    assert isinstance(first, Changed)
    assert isinstance(again, Unchanged)
    assert isinstance(signed, Unchanged)
    (report,), (proof,) = first.reports, signed.reports
    assert isinstance(report, reports.Activated)
    assert verified(pair.public, report.signature, order.challenge)
    assert isinstance(proof, reports.Signed)
    assert proof.credential == ONE
    assert verified(pair.public, proof.signature, asked)
    assert survey(world, SERVER).current == ONE


def test_what_is_not_staged_completely_is_not_activated(world: World) -> None:
    visit(world, SERVER, visits.Generate(credential=ONE, algorithm=Algorithm.ED25519, names=(SERVER,)))

    assert isinstance(visit(world, SERVER, activate(ONE)), Refused)
    assert isinstance(visit(world, SERVER, activate(TWO)), Refused)
    assert survey(world, SERVER).current is None


def test_without_a_credential_in_use_nothing_is_signed(world: World) -> None:
    visit(world, SERVER, stage(key()))

    assert isinstance(visit(world, SERVER, visits.Sign(challenge=challenge()), fence=False), Refused)


def test_a_hook_that_fails_leaves_the_credential_of_before_in_use(world: World) -> None:
    visit(world, SERVER, stage(key(), ONE), activate(ONE), stage(key(), TWO))

    outcome = visit(world, SERVER, activate(TWO, hook=world.failing_hook(SERVER)))

    assert isinstance(outcome, Failed)
    assert "exited 1: not today" in outcome.reason
    assert f"back on {ONE}" in outcome.reason
    assert survey(world, SERVER).current == ONE


def test_a_hook_that_fails_the_first_time_leaves_no_credential_in_use(world: World) -> None:
    visit(world, SERVER, stage(key()))

    assert isinstance(visit(world, SERVER, activate(hook=world.failing_hook(SERVER))), Failed)
    assert survey(world, SERVER).current is None


def test_a_service_that_keeps_its_key_takes_the_host_back_and_is_told_by_a_fresh_signature(
    world: World,
) -> None:
    old, new = key(), key(Algorithm.ECDSA_P256)
    keeps = world.service_with(SERVER, old.private)
    visit(world, SERVER, stage(old, ONE), activate(ONE), stage(new, TWO))
    order = replace(activate(TWO, Algorithm.ECDSA_P256), prove=keeps)

    outcome = visit(world, SERVER, order)

    assert isinstance(outcome, Failed)
    assert outcome.reason == f"after 1s the service still signs with the key of {ONE}; back on {ONE}"
    found = survey(world, SERVER)
    assert (found.current, found.hook_due) == (ONE, False)
    visit(world, SERVER, activate(TWO, Algorithm.ECDSA_P256))
    asked = visits.Sign(challenge=challenge(), prove=keeps)
    signed = visit(world, SERVER, asked, visits.Disarm(credentials=(ONE,), in_use=TWO))
    assert isinstance(signed, Refused)
    assert signed.reason == f"the service does not sign with the key of {TWO}, which is in use"
    (report,) = signed.reports
    assert isinstance(report, reports.Signed)
    assert report.credential == TWO
    assert verified(old.public, report.signature, asked.challenge)


def test_an_earlier_credential_is_reverted_to_until_it_is_disarmed(world: World) -> None:
    old, new = key(), key()
    visit(world, SERVER, stage(old, ONE), activate(ONE), stage(new, TWO), activate(TWO))

    back = visit(world, SERVER, revert(ONE))
    assert isinstance(back, Changed)
    assert isinstance(back.reports[0], reports.Reverted)
    assert survey(world, SERVER).current == ONE

    order = visits.Disarm(credentials=(ONE,), in_use=TWO)
    assert isinstance(visit(world, SERVER, order), Refused)
    assert isinstance(visit(world, SERVER, activate(TWO), order), Changed)
    assert isinstance(visit(world, SERVER, order), Unchanged)
    assert isinstance(visit(world, SERVER, revert(ONE)), Refused)
    assert isinstance(visit(world, SERVER, stage(old, ONE)), Refused)
    found = survey(world, SERVER)
    assert found.current == TWO
    assert [(held.name, held.disarmed) for held in found.credentials] == [(ONE, True), (TWO, False)]


def test_the_credential_in_use_is_disarmed_and_erased_only_by_a_server_that_leaves(world: World) -> None:
    visit(world, SERVER, stage(key()), activate())

    assert isinstance(visit(world, SERVER, visits.Disarm(credentials=(ONE,), in_use=ONE)), Refused)
    assert isinstance(visit(world, SERVER, visits.Erase(credentials=(ONE,))), Refused)
    leaving = visits.Disarm(credentials=(ONE,), in_use=None)
    assert isinstance(visit(world, SERVER, leaving), Changed)
    assert isinstance(visit(world, SERVER, leaving), Unchanged)
    found = survey(world, SERVER)
    assert found.current is None
    assert [held.disarmed for held in found.credentials] == [True]
    erasing = visits.Erase(credentials=(ONE,))
    assert isinstance(visit(world, SERVER, erasing), Changed)
    assert isinstance(visit(world, SERVER, erasing), Unchanged)
    assert survey(world, SERVER).credentials == ()


def test_what_was_never_there_is_disarmed_and_erased_already(world: World) -> None:
    visit(world, SERVER, stage(key()), activate())

    assert isinstance(visit(world, SERVER, visits.Disarm(credentials=(THREE,), in_use=ONE)), Unchanged)
    assert isinstance(visit(world, SERVER, visits.Erase(credentials=(THREE,))), Unchanged)


@pytest.mark.parametrize(("generation", "counter"), [(2, 6), (1, 9)])
def test_a_controller_that_is_behind_is_refused(world: World, generation: int, counter: int) -> None:
    visit(world, SERVER, stage(key()), generation=2, counter=7)

    outcome = visit(world, SERVER, activate(), generation=generation, counter=counter)

    assert isinstance(outcome, Refused)
    assert outcome.reason == f"fenced: a controller at 2.7 was here, this one is at {generation}.{counter}"
    found = survey(world, SERVER)
    assert (found.fence, found.current) == ((2, 7), None)


def test_the_fence_rises_with_a_visit_even_when_all_stood_already(world: World) -> None:
    order = stage(key())
    visit(world, SERVER, order, counter=3)

    assert isinstance(visit(world, SERVER, order, counter=8), Unchanged)
    assert survey(world, SERVER).fence == (1, 8)


def test_a_visit_that_is_refused_raises_no_fence(world: World) -> None:
    visit(world, SERVER, stage(key()), counter=3)

    assert isinstance(visit(world, SERVER, activate(TWO), counter=8), Refused)
    assert survey(world, SERVER).fence == (1, 3)


def test_orders_are_done_in_turn_until_one_is_refused(world: World) -> None:
    outcome = visit(world, SERVER, stage(key(), ONE), activate(TWO), stage(key(), THREE), counter=4)

    assert isinstance(outcome, Refused)
    assert [report.kind for report in outcome.reports] == ["stage"]
    found = survey(world, SERVER)
    assert [held.name for held in found.credentials] == [ONE]
    assert found.fence == (1, 4)


def test_clocks_that_agree_show_no_skew(world: World) -> None:
    outcome = visit(world, SERVER, visits.Survey(), fence=False)

    assert isinstance(outcome, Unchanged)
    assert abs(outcome.skew) < timedelta(seconds=2)
