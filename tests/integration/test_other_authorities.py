"""The programs of the guide to one's own CA, as it has them: a real ``openssl ca``, a real ``cfssl``."""

import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.cli.machine import SystemClock, system_entropy
from orchestrator.errors import IssuerError
from orchestrator.issuers.command import CommandIssuer
from orchestrator.keys.authority import make_request
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import Algorithm, KeyPair, generate
from orchestrator.policy.desired import CommandSpec
from orchestrator.ports import CertificateOrder, Issued
from tests.authorities import OurCa

NAMES = ("web-01",)

Authority = Callable[[str], CommandIssuer]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An issuer that is a program of the guide."""
    ours = OurCa.make(tmp_path / "our-ca")

    def make(runs: str) -> CommandIssuer:
        root = (ours.folder / "issuer.pem").read_text(encoding="ascii")
        argv = (str(ours.program(runs)),)
        return CommandIssuer(spec=CommandSpec(argv=argv, root=root, timeout=timedelta(minutes=2)))

    return make


def certified(issuer: CommandIssuer, pair: KeyPair) -> Issued:
    now = SystemClock().now()
    order = CertificateOrder(
        names=NAMES,
        request_pem=make_request(pair, names=NAMES),
        not_after=now + timedelta(days=90),
        backdate=timedelta(minutes=1),
    )
    return issuer.issue(order, now=now)


@pytest.mark.parametrize(
    ("program", "algorithm"),
    [
        *[("openssl ca -batch", algorithm) for algorithm in Algorithm],
        ("cfssl sign", Algorithm.ECDSA_P256),
        ("cfssl sign", Algorithm.RSA_3072),
    ],
)
def test_the_guides_programs_certify_what_is_asked_of_them(
    program: str, algorithm: Algorithm, authority: Authority, tmp_path: Path
) -> None:
    issuer = authority(program)
    pair = generate(algorithm, random=system_entropy)
    first, second = certified(issuer, pair), certified(issuer, pair)
    leaf = parse_certificate(first.certificate_pem)
    assert leaf.public_key == pair.public
    assert leaf.names == NAMES
    assert leaf.serial != parse_certificate(second.certificate_pem).serial
    assert first.chain_pem == ""
    (tmp_path / "leaf.pem").write_text(leaf.pem, encoding="ascii")
    (tmp_path / "root.pem").write_text(issuer.spec.root, encoding="ascii")
    subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "leaf.pem"],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )


def test_what_cfssl_does_not_know_it_refuses_in_its_own_words(authority: Authority) -> None:
    pair = generate(Algorithm.ED25519, random=system_entropy)
    with pytest.raises(IssuerError, match=r"program ended with 1: .*algorithm unimplemented"):
        certified(authority("cfssl sign"), pair)
