"""Certificates by ACME, from a real server on loopback, with the guide's own program for http-01."""

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.cli.machine import SystemClock, system_entropy
from orchestrator.errors import IssuerError, KeyMaterialError
from orchestrator.issuers.acme import AcmeIssuer
from orchestrator.issuers.chosen import ChosenIssuer
from orchestrator.keys.authority import make_request
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import Algorithm, generate
from orchestrator.policy.desired import AcmeSpec
from orchestrator.ports import CertificateOrder, Issued
from tests.fakes import FakeVault
from tests.pebble import Pebble, running

GUIDE = Path(__file__).parents[2] / "docs/how-to/use-an-acme-server.md"
NAMES = ("web-01.example.test",)

MakeSpec = Callable[..., AcmeSpec]


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with running(tmp_path_factory.mktemp("acme") / "pebble") as pebble:
        yield pebble


@pytest.fixture
def spec(pebble: Pebble, tmp_path: Path) -> AcmeSpec:
    (program,) = re.findall(
        r"^```sh\n(#!/bin/sh.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    path = tmp_path / "publish"
    path.write_text(program.replace("/srv/www", str(pebble.webroot)), encoding="utf-8")
    path.chmod(0o755)
    return AcmeSpec(
        directory=pebble.directory,
        publish=(str(path),),
        contact="certificates@example.test",
        server_ca=pebble.server_ca,
        root=pebble.root,
        timeout=timedelta(minutes=1),
    )


def order(
    algorithm: Algorithm = Algorithm.ECDSA_P256, *, names: tuple[str, ...] = NAMES, days: int = 60
) -> CertificateOrder:
    return CertificateOrder(
        names=names,
        request_pem=make_request(generate(algorithm, random=system_entropy), names=names),
        not_after=SystemClock().now() + timedelta(days=days),
        backdate=timedelta(minutes=1),
    )


def issued(spec: AcmeSpec, wanted: CertificateOrder, vault: FakeVault | None = None) -> Issued:
    issuer = AcmeIssuer(spec=spec, vault=vault or FakeVault(), random=system_entropy)
    return issuer.issue(wanted, now=SystemClock().now())


def refusal(spec: AcmeSpec, wanted: CertificateOrder) -> str:
    with pytest.raises(IssuerError) as refused:
        issued(spec, wanted)
    return refused.value.message


@pytest.mark.parametrize("algorithm", [Algorithm.ECDSA_P256, Algorithm.RSA_3072])
def test_a_server_that_sees_the_answer_certifies(
    algorithm: Algorithm, spec: AcmeSpec, pebble: Pebble, tmp_path: Path
) -> None:
    got = issued(spec, order(algorithm))
    leaf = parse_certificate(got.certificate_pem)
    assert leaf.names == NAMES
    assert leaf.public_key.algorithm is algorithm
    assert got.chain_pem.count("BEGIN CERTIFICATE") == 1
    for name, text in (("leaf", leaf.pem), ("chain", got.chain_pem), ("root", pebble.root)):
        (tmp_path / f"{name}.pem").write_text(text, encoding="ascii")
    verify = ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "chain.pem", "leaf.pem"]
    subprocess.run(verify, check=True, capture_output=True, cwd=tmp_path)
    assert list((pebble.webroot / ".well-known/acme-challenge").iterdir()) == []


def test_the_account_is_made_once_and_used_again(spec: AcmeSpec) -> None:
    vault = FakeVault()
    chosen = ChosenIssuer(
        own=AcmeIssuer(spec=spec, vault=vault, random=system_entropy), vault=vault, random=system_entropy
    )
    for _ in "ab":
        assert chosen.issue(replace(order(), issuer=spec), now=SystemClock().now()).chain_pem
    (record,) = vault.kept
    assert record.startswith("acme-")


def test_a_host_that_does_not_answer_is_told(spec: AcmeSpec) -> None:
    silent = replace(spec, publish=("/bin/true",))
    told = refusal(silent, order())
    assert told.startswith(f"the ACME server {spec.directory} did not see the answer: ")
    assert "404" in told


def test_a_program_that_fails_is_told(spec: AcmeSpec) -> None:
    assert refusal(replace(spec, publish=("/bin/false",)), order()) == (
        "the program for http-01 /bin/false ended with 1, and did not say why"
    )


def test_a_lifetime_beyond_the_servers_is_told(spec: AcmeSpec) -> None:
    assert "answered what is not used: the certificate of" in refusal(spec, order(days=3650))


def test_another_root_is_told(spec: AcmeSpec, pebble: Pebble) -> None:
    assert "which is not trusted" in refusal(replace(spec, root=pebble.server_ca), order())


def test_a_server_that_nobody_vouches_for_or_that_is_not_there_is_told(spec: AcmeSpec) -> None:
    assert "cannot be reached: " in refusal(replace(spec, server_ca=""), order())
    nowhere = replace(spec, directory="https://127.0.0.1:1/dir")
    assert refusal(nowhere, order()).startswith("the ACME server https://127.0.0.1:1/dir cannot be reached: ")


def test_what_the_server_refuses_is_told_in_its_words(spec: AcmeSpec) -> None:
    assert " refuses: " in refusal(spec, order(names=("no_such_name",)))


def test_a_request_that_proves_nothing_never_reaches_the_server(spec: AcmeSpec) -> None:
    foreign = replace(order(), names=("db-01.example.test",))
    with pytest.raises(KeyMaterialError, match="asks for"):
        issued(replace(spec, directory="https://127.0.0.1:1/dir"), foreign)
