import hashlib
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.authority import Authority, certify, make_issuer, make_request, make_root
from orchestrator.keys.certificate import (
    Certificate,
    belongs_to,
    parse_certificate,
    parse_chain,
)
from orchestrator.keys.material import Algorithm, KeyPair, Random, generate, open_signer
from orchestrator.keys.path import verify_chain
from tests.authorities import new_signer

DAY = timedelta(days=1)


@pytest.fixture
def pair(random: Random) -> KeyPair:
    return generate(Algorithm.ED25519, random=random)


def leaf_of(issuer: Authority, pair: KeyPair, now: datetime, random: Random, *names: str) -> Certificate:
    return certify(
        issuer,
        request_pem=make_request(pair, names=names),
        names=names,
        now=now,
        not_after=now + 30 * DAY,
        backdate=timedelta(minutes=10),
        random=random,
    )


@pytest.fixture
def leaf(issuer: Authority, pair: KeyPair, now: datetime, random: Random) -> Certificate:
    return leaf_of(issuer, pair, now, random, "web-01", "web_01.example.org")


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


def test_a_chain_holds_from_the_server_to_the_root(
    leaf: Certificate, issuer: Authority, root: Authority, now: datetime
) -> None:
    for name in ("web-01", "WEB-01", "web_01.example.org"):
        verify_chain(leaf, [issuer.certificate], root.certificate, at=now, name=name)
    for moment in (leaf.not_before, leaf.not_after):
        verify_chain(leaf, [issuer.certificate], root.certificate, at=moment, name="web-01")


def test_an_expired_certificate_an_early_one_and_a_foreign_name_are_told_apart(
    leaf: Certificate, issuer: Authority, root: Authority, now: datetime
) -> None:
    for moment, name, words in (
        (leaf.not_after + timedelta(seconds=1), "web-01", "'CN=web-01' has expired: it ended 2030-01-31"),
        (leaf.not_before - timedelta(seconds=1), "web-01", "'CN=web-01' is not yet valid: it begins"),
        (now + 800 * DAY, "web-01", "'CN=web-01' has expired"),
        (now, "web-02", "is for web-01, web_01.example.org; expected web-02"),
        (now, "sub.web-01", "expected sub.web-01"),
    ):
        with pytest.raises(KeyMaterialError, match=words):
            verify_chain(leaf, [issuer.certificate], root.certificate, at=moment, name=name)


def test_an_expired_issuer_is_named(
    root: Authority, issuer: Authority, pair: KeyPair, now: datetime, random: Random
) -> None:
    leaf = leaf_of(issuer, pair, now, random, "web-01")
    short = make_issuer(root, new_signer(random), fleet="orchard", now=now, lifetime=31 * DAY, random=random)
    other = leaf_of(short, pair, now, random, "web-01")
    at = now + 30 * DAY
    verify_chain(leaf, [issuer.certificate], root.certificate, at=at, name="web-01")
    verify_chain(other, [short.certificate], root.certificate, at=at, name="web-01")
    longer = at + 2 * DAY
    with pytest.raises(KeyMaterialError, match="has expired"):
        verify_chain(other, [short.certificate], root.certificate, at=longer, name="web-01")


def test_a_chain_of_another_fleet_or_in_another_order_does_not_hold(
    leaf: Certificate, issuer: Authority, root: Authority, now: datetime, random: Random
) -> None:
    strange_root = make_root(new_signer(random), fleet="orchard", now=now, lifetime=900 * DAY, random=random)
    strange = make_issuer(
        strange_root, new_signer(random), fleet="orchard", now=now, lifetime=800 * DAY, random=random
    )
    for intermediates, top, words in (
        ([issuer.certificate], strange_root.certificate, "issuer,O=orchard' was not issued by"),
        ([strange.certificate], strange_root.certificate, "'CN=web-01' was not issued by"),
        ([], root.certificate, "'CN=web-01' was not issued by"),
        ([root.certificate], issuer.certificate, "the chain does not hold"),
        ([issuer.certificate, leaf], root.certificate, "stands in it twice"),
        ([issuer.certificate, root.certificate], root.certificate, "stands in it twice"),
    ):
        with pytest.raises(KeyMaterialError, match=words) as raised:
            verify_chain(leaf, intermediates, top, at=now, name="web-01")
        assert raised.value.message.startswith("the chain does not hold: ")


def test_a_server_cannot_certify(
    issuer: Authority, root: Authority, pair: KeyPair, now: datetime, random: Random
) -> None:
    leaf = leaf_of(issuer, pair, now, random, "web-01")
    pretender = Authority(certificate=leaf, signer=open_signer(pair.private))
    forged = make_issuer(pretender, new_signer(random), fleet="orchard", now=now, lifetime=DAY, random=random)
    with pytest.raises(KeyMaterialError, match="'CN=web-01' may not certify others"):
        verify_chain(forged.certificate, [leaf, issuer.certificate], root.certificate, at=now, name="web-01")


def test_an_authority_is_no_server(issuer: Authority, root: Authority, now: datetime) -> None:
    with pytest.raises(KeyMaterialError, match="could certify others; expected one of a server"):
        verify_chain(issuer.certificate, [], root.certificate, at=now, name="web-01")


def test_an_issuer_below_the_issuer_is_refused_by_its_path_length(
    issuer: Authority, root: Authority, pair: KeyPair, now: datetime, random: Random
) -> None:
    below = make_issuer(
        issuer, new_signer(random), fleet="elsewhere", now=now, lifetime=90 * DAY, random=random
    )
    leaf = leaf_of(below, pair, now, random, "web-01")
    with pytest.raises(KeyMaterialError, match="allows 0 issuers below it, found 1"):
        verify_chain(leaf, [below.certificate, issuer.certificate], root.certificate, at=now, name="web-01")


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
def test_a_flipped_bit_in_a_certificate_is_always_found_and_told_in_our_own_words(
    leaf: Certificate, issuer: Authority, root: Authority, now: datetime
) -> None:
    der = leaf.opened.public_bytes(Encoding.DER)
    unused_bits = len(der) - len(leaf.opened.signature) - 1  # counts bits of padding, which say nothing
    for bit in (bit for bit in range(len(der) * 8) if bit // 8 != unused_bits):
        changed = bytearray(der)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(KeyMaterialError):
            verify_chain(
                parse_certificate(ssl.DER_cert_to_PEM_cert(bytes(changed))),
                [issuer.certificate],
                root.certificate,
                at=now,
                name="web-01",
            )


def self_signed(
    signer: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *extras: x509.UnrecognizedExtension
) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alone")])
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder(name, name, signer.public_key(), 7)
        .not_valid_before(begin)
        .not_valid_after(begin + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    for extra in extras:
        builder = builder.add_extension(extra, critical=True)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_a_certificate_of_a_foreign_kind_of_key_is_refused() -> None:
    with pytest.raises(KeyMaterialError, match="an RSA key of 2048 bits with exponent 65537; expected 3072"):
        parse_certificate(self_signed(rsa.generate_private_key(65537, 2048)))


def test_a_critical_extension_that_is_not_understood_is_refused(leaf: Certificate, now: datetime) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    root = parse_certificate(self_signed(ec.generate_private_key(ec.SECP256R1()), unknown))
    with pytest.raises(KeyMaterialError, match=r"critical extension that is not understood, 1\.3\.6"):
        verify_chain(leaf, [], root, at=now, name="web-01")


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
