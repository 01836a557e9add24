"""Whether one certificate leads to another."""

import ssl
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.authority import Authority, make_issuer, make_root
from orchestrator.keys.certificate import (
    Certificate,
    parse_certificate,
)
from orchestrator.keys.material import KeyPair, Random, open_signer
from orchestrator.keys.path import verify_chain
from tests.authorities import certified_by, new_signer, self_signed

DAY = timedelta(days=1)


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
    leaf = certified_by(issuer, pair, now, random, "web-01")
    short = make_issuer(root, new_signer(random), fleet="orchard", now=now, lifetime=31 * DAY, random=random)
    other = certified_by(short, pair, now, random, "web-01")
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
    leaf = certified_by(issuer, pair, now, random, "web-01")
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
    leaf = certified_by(below, pair, now, random, "web-01")
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


def test_a_critical_extension_that_is_not_understood_is_refused(leaf: Certificate, now: datetime) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    root = parse_certificate(self_signed(ec.generate_private_key(ec.SECP256R1()), unknown))
    with pytest.raises(KeyMaterialError, match=r"critical extension that is not understood, 1\.3\.6"):
        verify_chain(leaf, [], root, at=now, name="web-01")
