"""What an agent with delegated trust believes: the host program, under each shell, against forgeries."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey, Use
from orchestrator.keys.certificate import Certificate
from orchestrator.keys.delegation import Delegation, Denied
from orchestrator.keys.material import Algorithm, KeyPair, PublicKey, sign
from orchestrator.rotation.observed import HeldDelegation
from orchestrator.rotation.reports import Checked, Failed, Surveyed, Trusted, Verdict
from orchestrator.rotation.visits import Check, Claim, Survey, Trust, Voucher
from tests.forgeries import GRACE, SERVER, Forge
from tests.integration.program import SHELLS, Machine, challenge, programs

NOW = datetime.now(UTC)  # noqa: TID251 - openssl judges by the machine's own clock


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    return Forge(tmp_path_factory.mktemp("forge"), now=NOW)


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(base=tmp_path / "base", path=programs(tmp_path / "bin", request.param))


def bundle(
    issuer: Certificate,
    sequence: int = 1,
    *,
    servers: tuple[str, ...] = (SERVER,),
    grace: timedelta = GRACE,
    denied: tuple[PublicKey, ...] = (),
    pinned: tuple[KeyPair, ...] = (),
) -> TrustBundle:
    return TrustBundle(
        fleet="fleet 1",
        position=Position(epoch=1, sequence=sequence),
        keys=(
            TrustedKey(public=issuer.public_key, uses=(Use.CERTIFY, Use.LOG)),
            *(TrustedKey(public=pair.public, servers=(SERVER,)) for pair in pinned),
        ),
        delegations=tuple(Delegation(server=server, issuer=issuer, grace=grace) for server in servers),
        denied=tuple(Denied(key=key, expires=NOW + timedelta(days=9)) for key in denied),
    )


def claim(
    pair: KeyPair,
    certificate: str,
    issuer: Certificate,
    *,
    server: str = SERVER,
    signer: KeyPair | None = None,
) -> Claim:
    asked = challenge(server)
    return Claim(
        challenge=asked,
        key=pair.public.spki_digest,
        signature=sign((signer or pair).private, asked.text()).hex(),
        voucher=Voucher(certificate_pem=certificate, issuer=issuer.public_key.spki_digest),
    )


def verdicts(machine: Machine, *claims: Claim) -> tuple[Verdict, ...]:
    report = machine.report(Check(claims=claims))
    assert isinstance(report, Checked)
    return report.verdicts


def test_every_forgery_is_seen_and_what_is_real_is_believed(machine: Machine, forge: Forge) -> None:
    forgeries = forge.forgeries
    claims = tuple(claim(forge.pair(), one.certificate_pem, forge.issuer) for one in forgeries)
    installed = machine.report(Trust(bundle=bundle(forge.issuer), claims=claims))
    assert isinstance(installed, Trusted)
    found = {one.name: verdict for one, verdict in zip(forgeries, installed.verdicts, strict=True)}
    assert found == {one.name: one.verdict for one in forgeries}
    machine.report(Trust(bundle=bundle(forge.issuer, 2, grace=timedelta(0))))
    found = {one.name: v for one, v in zip(forgeries, verdicts(machine, *claims), strict=True)}
    assert found == {one.name: one.strict for one in forgeries}
    assert machine.noise == b""


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_key_of_any_kind_is_believed_by_its_certificate(
    machine: Machine, algorithm: Algorithm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    forge = Forge(tmp_path_factory.mktemp("forge"), now=NOW, algorithm=algorithm)
    real = forge.real
    pair, thief = forge.pair(), forge.pair("thief")
    machine.report(Trust(bundle=bundle(forge.issuer)))
    assert verdicts(
        machine,
        claim(pair, real, forge.issuer),
        claim(pair, real, forge.issuer, signer=thief),
        claim(thief, real, forge.issuer),
    ) == (Verdict.VALID, Verdict.INVALID, Verdict.UNCERTIFIED)


def test_names_and_issuers_that_the_bundle_does_not_know_are_refused(machine: Machine, forge: Forge) -> None:
    real = forge.real
    pair, other = forge.pair(), forge.certificate("other")
    machine.report(Trust(bundle=bundle(forge.issuer, servers=("a.example", f"a.{SERVER}", "web.exampl"))))
    assert verdicts(machine, claim(pair, real, forge.issuer)) == (Verdict.UNTRUSTED,)
    machine.report(Trust(bundle=bundle(forge.issuer, 2)))
    assert verdicts(
        machine,
        claim(pair, real, other),
        claim(pair, real, forge.issuer, server="a.example"),
        claim(pair, real, forge.issuer),
        replace(claim(pair, real, forge.issuer), voucher=None),
    ) == (Verdict.UNTRUSTED, Verdict.UNTRUSTED, Verdict.VALID, Verdict.UNTRUSTED)


def test_an_issuer_vouches_for_no_name_that_it_may_not_certify(machine: Machine, forge: Forge) -> None:
    told = {}
    for sequence, domain in enumerate(("example", "elsewhere.test"), 1):
        issuer = forge.limited_issuer(domain)
        machine.report(Trust(bundle=bundle(issuer, sequence)))
        told[domain] = verdicts(machine, claim(forge.pair(), forge.real, issuer))
    assert told == {"example": (Verdict.VALID,), "elsewhere.test": (Verdict.UNCERTIFIED,)}


def test_a_denied_key_is_refused_however_good_its_certificate(machine: Machine, forge: Forge) -> None:
    real = forge.real
    pair, thief = forge.pair(), forge.pair("thief")
    machine.report(Trust(bundle=bundle(forge.issuer, denied=(thief.public, pair.public))))
    assert verdicts(machine, claim(pair, real, forge.issuer)) == (Verdict.DENIED,)
    machine.report(Trust(bundle=bundle(forge.issuer, 2, denied=(thief.public,))))
    assert verdicts(machine, claim(pair, real, forge.issuer)) == (Verdict.VALID,)


def test_what_is_no_certificate_vouches_for_nobody(machine: Machine, forge: Forge) -> None:
    machine.report(Trust(bundle=bundle(forge.issuer)))
    real = forge.real
    body = real.splitlines()
    cut = "\n".join([*body[:5], body[-1], ""])
    assert verdicts(machine, claim(forge.pair(), cut, forge.issuer)) == (Verdict.UNCERTIFIED,)


def test_an_agent_may_know_one_server_by_its_key_and_another_by_its_issuer(
    machine: Machine, forge: Forge
) -> None:
    pair = forge.pair("thief")
    wanted = bundle(forge.issuer, servers=("other.example",), pinned=(pair,))
    known = replace(claim(pair, "", forge.issuer), voucher=None)
    vouched = claim(forge.pair(), forge.forgeries[6].certificate_pem, forge.issuer, server="other.example")
    installed = machine.report(Trust(bundle=wanted, claims=(known, vouched)))
    assert isinstance(installed, Trusted)
    assert installed.verdicts == (Verdict.VALID, Verdict.VALID)
    folder = machine.base / "agent" / "current"
    assert {path.name: path.read_bytes() for path in folder.glob("issuers/*")} == {
        f"{forge.issuer.public_key.spki_digest}.pem": forge.issuer.pem.encode()
    }
    assert (folder / "delegations").read_text().split()[:2] == [
        "other.example",
        forge.issuer.public_key.spki_digest,
    ]


@contextmanager
def credulous(machine: Machine, verb: str) -> Iterator[None]:
    """An openssl that says yes to everything that is asked with one verb."""
    program = machine.path / "openssl"
    real = program.readlink()
    program.unlink()
    answer = (
        'for last; do :; done; echo "$last: OK"'
        if verb == "verify"
        else "echo Signature Verified Successfully"
    )
    program.write_text(f'#!/bin/sh\nif [ "$1" = {verb} ]; then {answer}; else exec {real} "$@"; fi\n')
    program.chmod(0o755)
    yield
    program.unlink()
    program.symlink_to(real)


def test_an_openssl_that_accepts_every_certificate_is_found_out(machine: Machine, forge: Forge) -> None:
    one = claim(forge.pair(), forge.real, forge.issuer)
    machine.report(Trust(bundle=bundle(forge.issuer)))
    with credulous(machine, "verify"):
        outcome = machine.run(Check(claims=(one,)))
    assert isinstance(outcome, Failed)
    assert outcome.reason == "its openssl accepts a forged certificate"


def test_a_survey_tells_who_may_vouch_for_whom(machine: Machine, forge: Forge) -> None:
    wanted = bundle(forge.issuer, denied=(forge.pair().public,))
    machine.report(Trust(bundle=wanted))
    report = machine.report(Survey())
    assert isinstance(report, Surveyed)
    held = report.survey.bundle
    assert held is not None
    issuer = forge.issuer.public_key.spki_digest
    assert held.digest == wanted.digest
    assert held.delegations == (HeldDelegation(server=HostName(SERVER), issuer=issuer, grace=172800),)
    assert (held.denied, held.issuers) == ((forge.pair().public.spki_digest,), (issuer,))
    assert report.survey.problems == ()
