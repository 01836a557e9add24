import hashlib
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.authority import Authority
from orchestrator.keys.certificate import (
    Certificate,
    belongs_to,
    parse_certificate,
    parse_chain,
)
from orchestrator.keys.material import Algorithm, KeyPair, Random, generate
from tests.authorities import self_signed

DAY = timedelta(days=1)


def test_a_certificate_tells_what_it_says(leaf: Certificate, pair: KeyPair, now: datetime) -> None:
    assert leaf.names == ("web-01", "web_01.example.org")
    assert leaf.not_before == now - timedelta(minutes=10)
    assert leaf.not_after == now + 30 * DAY
    assert leaf.not_before.tzinfo is UTC
    assert leaf.public_key == pair.public
    assert leaf.subject == "CN=web-01"
    assert leaf.issuer == "CN=keyrelay issuer,O=orchard"
    assert not leaf.is_ca
    assert leaf.fingerprint == hashlib.sha256(leaf.opened.public_bytes(Encoding.DER)).hexdigest()
    assert leaf.serial == leaf.opened.serial_number > 0


def test_a_certificate_belongs_to_its_own_key_alone(leaf: Certificate, pair: KeyPair, random: Random) -> None:
    assert belongs_to(leaf, pair.public)
    assert not belongs_to(leaf, generate(Algorithm.ED25519, random=random).public)


def test_certificates_come_back_from_their_pem(leaf: Certificate, issuer: Authority, root: Authority) -> None:
    assert parse_certificate(leaf.pem) == leaf
    assert parse_certificate(b"text before\n" + leaf.pem.replace("\n", "\r\n").encode()) == leaf
    chain = (leaf, issuer.certificate, root.certificate)
    assert parse_chain("".join(one.pem for one in chain)) == chain
    assert parse_chain(" \n") == parse_chain(b"") == ()


def test_a_certificate_of_a_foreign_kind_of_key_is_refused() -> None:
    with pytest.raises(KeyMaterialError, match="an RSA key of 2048 bits with exponent 65537; expected 3072"):
        parse_certificate(self_signed(rsa.generate_private_key(65537, 2048)))


def test_a_certificate_whose_name_is_of_a_kind_that_nobody_can_read_is_refused(leaf: Certificate) -> None:
    whole = leaf.opened.public_bytes(Encoding.DER)
    text, bits = bytes([0x0C, 6]) + b"web-01", bytes([0x03, 6, 0]) + b"web-0"
    assert whole.count(text) == 1
    damaged = ssl.DER_cert_to_PEM_cert(whole.replace(text, bits))
    with pytest.raises(KeyMaterialError, match="can be read"):
        parse_certificate(damaged)


def test_text_that_is_no_certificate_is_refused(leaf: Certificate) -> None:
    for text, words in (
        ("", "exactly one certificate"),
        (leaf.pem * 2, "exactly one certificate"),
        (leaf.pem.replace("MII", "MIJ", 1), "can be read"),
        (leaf.public_key.pem, "can be read"),
        (b"\xff", "not text"),
    ):
        with pytest.raises(KeyMaterialError, match=words):
            parse_certificate(text)
    with pytest.raises(KeyMaterialError, match="no certificate in PEM"):
        parse_chain("something else")
