"""What the host program tells of a host in a survey, in order or not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.keys.authority import certify, make_issuer, make_root
from orchestrator.keys.material import Algorithm
from orchestrator.rotation.observed import HeldEdge
from orchestrator.rotation.reports import Generated, Surveyed
from orchestrator.rotation.visits import Activate, Disarm, Generate, Stage, Survey, Trust
from tests.authorities import new_signer
from tests.integration.program import (
    ED25519,
    FLEET,
    ONE,
    P256,
    SERVER,
    THREE,
    TWO,
    Machine,
    bundle,
    challenge,
    random,
    stage,
)


@pytest.fixture
def settled(machine: Machine) -> Machine:
    """A machine on which ONE is in use, TWO is staged, THREE is disarmed, and bundle 1.5 is trusted."""
    machine.report(stage(ONE), activate_one())
    machine.report(stage(TWO, P256), stage(THREE), Disarm(credentials=(THREE,), in_use=ONE))
    machine.report(Trust(bundle=bundle(5, ED25519)))
    return machine


def activate_one() -> Activate:
    return Activate(credential=ONE, challenge=challenge(), algorithm=Algorithm.ED25519)


def test_a_survey_of_a_machine_never_visited_finds_nothing(machine: Machine) -> None:
    report = machine.report(Survey())

    assert isinstance(report, Surveyed)
    survey = report.survey
    assert survey.user
    assert survey.openssl.startswith("OpenSSL")
    assert (survey.fence, survey.current, survey.bundle) == (None, None, None)
    assert (survey.credentials, survey.problems) == ((), ())
    assert not machine.base.exists()


def test_a_survey_tells_keys_certificates_and_trust_as_they_are(machine: Machine) -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    root = make_root(new_signer(random), fleet=FLEET, now=noon, lifetime=timedelta(days=900), random=random)
    issuer = make_issuer(
        root, new_signer(random), fleet=FLEET, now=noon, lifetime=timedelta(days=800), random=random
    )
    made = machine.report(Generate(credential=ONE, algorithm=Algorithm.ED25519, names=(SERVER,)))
    assert isinstance(made, Generated)
    certificate = certify(
        issuer,
        request_pem=made.request_pem,
        names=(SERVER,),
        now=noon,
        not_after=noon + timedelta(days=90),
        backdate=timedelta(minutes=1),
        random=random,
    )
    stage_it = Stage(
        credential=ONE,
        certificate_pem=certificate.pem,
        chain_pem=issuer.certificate.pem,
        challenge=challenge(),
        algorithm=Algorithm.ED25519,
    )
    expires = noon + timedelta(days=120)
    trusted = bundle(3, ED25519, expires=expires)
    machine.report(stage_it, stage(TWO, P256), stage(THREE))
    machine.report(
        Activate(credential=ONE, challenge=challenge(), algorithm=Algorithm.ED25519),
        Disarm(credentials=(THREE,), in_use=ONE),
        Trust(bundle=trusted),
    )
    before = machine.snapshot()
    report = machine.report(Survey())

    assert isinstance(report, Surveyed)
    survey = report.survey
    one, two, three = survey.credentials
    assert (one.name, one.key, one.certificate_key) == (
        ONE,
        certificate.public_key.spki_digest,
        certificate.public_key.spki_digest,
    )
    assert one.not_after == certificate.not_after
    assert (two.key, two.certificate_key, two.disarmed) == (P256.public.spki_digest, None, False)
    assert (three.name, three.key, three.disarmed) == (THREE, ED25519.public.spki_digest, True)
    assert survey.current == ONE
    assert survey.fence == (1, 3)
    assert survey.bundle is not None
    assert survey.bundle.position == trusted.position
    assert survey.bundle.digest == trusted.digest
    assert survey.bundle.keys == (ED25519.public.spki_digest,)
    assert survey.bundle.edges == (
        HeldEdge(server=SERVER, key=ED25519.public.spki_digest, expires=int(expires.timestamp())),
    )
    assert survey.problems == ()
    assert machine.snapshot() == before


def test_a_survey_names_every_wrong_place(settled: Machine) -> None:
    base = settled.base
    (base / "server" / "credentials" / ONE / "key.pem").chmod(0o644)
    (base / "server" / "credentials").chmod(0o755)
    (base / "agent" / "bundles" / "1.5" / "keys" / f"{ED25519.public.spki_digest}.pem").chmod(0o666)
    (base / "agent" / "bundles" / "1.5").chmod(0o775)
    (base / "agent" / "bundles" / "1.5" / "edges").unlink()
    (base / "agent" / "bundles" / "1.5" / "edges").mkdir(mode=0o755)
    base.chmod(0o777)
    report = settled.report(Survey())

    assert isinstance(report, Surveyed)
    found = {Path(one.path).relative_to(base): (one.found, one.wanted) for one in report.survey.problems}
    assert found == {
        Path(): ("mode 777", "writable by its owner only"),
        Path("server/credentials"): ("mode 755", "mode 700"),
        Path("server/credentials") / ONE / "key.pem": ("mode 644", "mode 600"),
        Path("agent/bundles/1.5"): ("mode 775", "mode 755"),
        Path("agent/bundles/1.5/edges"): ("a folder", "a file"),
        Path("agent/bundles/1.5/keys") / f"{ED25519.public.spki_digest}.pem": ("mode 666", "mode 644"),
    }


def test_a_survey_tells_a_changed_bundle_by_its_digest(settled: Machine) -> None:
    current = settled.base / "agent" / "current"
    with (current / "edges").open("a") as edges:
        edges.write("a line that is none\n")
    (current / "keys" / f"{'0' * 64}.pem").write_text(P256.public.pem)
    report = settled.report(Survey())

    assert isinstance(report, Surveyed)
    held = report.survey.bundle
    assert held is not None
    assert held.digest != bundle(5, ED25519).digest
    assert set(held.keys) == {ED25519.public.spki_digest, P256.public.spki_digest}
    assert [edge.key for edge in held.edges] == [ED25519.public.spki_digest]
    assert [problem.found for problem in report.survey.problems if problem.path.endswith("edges")] == [
        "line 2: a line that is none"
    ]


def test_a_survey_tells_links_that_lead_astray(settled: Machine) -> None:
    for link, target in (("server/current", "/etc"), ("agent/current", "bundles/9.9")):
        (settled.base / link).unlink()
        (settled.base / link).symlink_to(target)
    report = settled.report(Survey())

    assert isinstance(report, Surveyed)
    assert (report.survey.current, report.survey.bundle) == (None, None)
    assert [(problem.path, problem.found) for problem in report.survey.problems] == [
        (f"{settled.base}/agent/current", "a link that leads nowhere"),
        (f"{settled.base}/server/current", "a link to /etc"),
    ]


def test_strange_folders_among_the_credentials_do_not_confuse_a_survey(settled: Machine) -> None:
    (settled.base / "server" / "credentials" / "two\nlines").mkdir(mode=0o700)
    (settled.base / "server" / "credentials" / "old copy").mkdir(mode=0o700)
    (settled.base / "server" / "credentials" / "backup").mkdir(mode=0o700)
    report = settled.report(Survey())

    assert isinstance(report, Surveyed)
    assert [held.name for held in report.survey.credentials] == [ONE, TWO, THREE, "backup"]
    assert any("another name" in problem.found for problem in report.survey.problems)
