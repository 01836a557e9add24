import hashlib
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from orchestrator.errors import IssuerError, KeyMaterialError
from orchestrator.issuers.embedded import EmbeddedIssuer
from orchestrator.keys.authority import Authority, make_issuer, make_request, make_root
from orchestrator.keys.certificate import parse_certificate, parse_chain
from orchestrator.keys.material import Algorithm, KeyPair, generate
from orchestrator.keys.path import verify_chain
from orchestrator.ports import CertificateOrder, Issuer
from tests.authorities import new_signer

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CALLS = count()


def random(size: int) -> bytes:
    return hashlib.shake_256(next(CALLS).to_bytes(8, "big")).digest(size)


@pytest.fixture
def root() -> Authority:
    return make_root(new_signer(random), fleet="orchard", now=NOW, lifetime=3650 * DAY, random=random)


@pytest.fixture
def issuer(root: Authority) -> Issuer:
    authority = make_issuer(
        root, new_signer(random), fleet="orchard", now=NOW, lifetime=730 * DAY, random=random
    )
    return EmbeddedIssuer(opened=lambda _: authority, random=random)


@pytest.fixture
def pair() -> KeyPair:
    return generate(Algorithm.ED25519, random=random)


def order(request_pem: str, *, days: int = 90) -> CertificateOrder:
    return CertificateOrder(
        names=("web-01",),
        request_pem=request_pem,
        not_after=NOW + days * DAY,
        backdate=timedelta(minutes=1),
    )


def test_an_order_becomes_a_certificate_whose_chain_holds_under_the_root(
    issuer: Issuer, root: Authority, pair: KeyPair
) -> None:
    issued = issuer.issue(order(make_request(pair, names=["web-01"])), now=NOW)
    leaf, chain = parse_certificate(issued.certificate_pem), parse_chain(issued.chain_pem)
    assert root.certificate not in chain
    verify_chain(leaf, chain, root.certificate, at=NOW, name="web-01")
    assert leaf.public_key == pair.public
    assert (leaf.not_before, leaf.not_after) == (NOW - timedelta(minutes=1), NOW + 90 * DAY)


def test_two_certificates_of_one_key_have_serials_of_their_own(issuer: Issuer, pair: KeyPair) -> None:
    request = make_request(pair, names=["web-01"])
    serials = {
        parse_certificate(issuer.issue(order(request), now=NOW).certificate_pem).serial for _ in range(8)
    }
    assert len(serials) == 8


def test_an_order_beyond_the_issuers_end_is_refused_with_the_day_until_which_it_can_certify(
    issuer: Issuer, pair: KeyPair
) -> None:
    with pytest.raises(IssuerError, match="can certify until 2032-01-01") as raised:
        issuer.issue(order(make_request(pair, names=["web-01"]), days=731), now=NOW)
    assert "shorter lifetime" in raised.value.hint


def test_a_request_of_another_host_is_refused(issuer: Issuer, pair: KeyPair) -> None:
    with pytest.raises(KeyMaterialError, match="asks for 'web-02'; the inventory gives web-01"):
        issuer.issue(order(make_request(pair, names=["web-02"])), now=NOW)


def test_an_issuer_does_not_show_its_key(issuer: Issuer) -> None:
    assert "PRIVATE" not in repr(issuer)
