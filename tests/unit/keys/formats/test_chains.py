from datetime import timedelta
from itertools import permutations
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from orchestrator.errors import (
    ChainError,
    ExpiredCertificateError,
    KeyMismatchError,
    NotYetValidError,
    UnsupportedFileError,
    UnsupportedKeyError,
    WeakKeyError,
)
from orchestrator.keys.formats.chains import chain_of
from orchestrator.keys.formats.contents import Contents, Format
from orchestrator.keys.formats.foreign import ForeignCertificate, ForeignPrivate
from orchestrator.keys.formats.intake import examine, take
from orchestrator.keys.formats.reading import read
from orchestrator.keys.material import Algorithm, open_signer
from tests.key_files import MADE_AT, Certified, certified

VECTORS = Path(cryptography_vectors.__file__).parent
MADE = certified(Algorithm.ECDSA_P256)


def foreign(made: Certified) -> list[ForeignCertificate]:
    return [ForeignCertificate.of(one) for one in made.certificates]


def private(made: Certified) -> ForeignPrivate:
    return ForeignPrivate.of(open_signer(made.pair.private))


def file_of(*certificates: ForeignCertificate, key: ForeignPrivate | None = None) -> Contents:
    return Contents(format=Format.PEM, privates=(key,) if key else (), certificates=certificates)


def self_signed(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web-01")])
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(MADE_AT - timedelta(days=1))
        .not_valid_after(MADE_AT + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_chain_is_put_in_order(order: tuple[int, ...]) -> None:
    certificates = foreign(MADE)
    for key in (private(MADE).public, None):
        chain = chain_of([certificates[n] for n in order], key, at=MADE_AT)
        assert chain.certificates == tuple(certificates)
        assert chain.without_root == (certificates[1],)


def test_what_stands_there_twice_counts_once() -> None:
    certificates = foreign(MADE)
    assert chain_of(certificates * 2, None, at=MADE_AT).certificates == tuple(certificates)


def test_a_chain_may_end_before_its_root() -> None:
    leaf, issuer, _ = foreign(MADE)
    assert chain_of([issuer, leaf], None, at=MADE_AT).certificates == (leaf, issuer)


def test_authorities_at_hand_complete_a_chain() -> None:
    leaf, issuer, root = foreign(MADE)
    other = foreign(certified(Algorithm.ECDSA_P256, made_at=MADE_AT + timedelta(days=1)))[1]
    chain = chain_of([leaf], None, at=MADE_AT, others=[root, other, issuer])
    assert chain.certificates == (leaf, issuer, root)


def test_a_certificate_of_another_key_is_told_from_it() -> None:
    other = certified(Algorithm.ED25519)
    with pytest.raises(KeyMismatchError, match="does not belong to the certificate of 'CN=web-01'"):
        take([file_of(foreign(MADE)[0], key=private(other))], at=MADE_AT)
    with pytest.raises(KeyMismatchError, match="none of the 3 certificates"):
        take([file_of(*foreign(MADE)), file_of(key=private(other))], at=MADE_AT)


def test_a_certificate_that_is_no_part_of_the_chain_is_refused() -> None:
    stranger = ForeignCertificate.of(self_signed(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(ChainError, match="no part of the chain"):
        take([file_of(*foreign(MADE), stranger, key=private(MADE))], at=MADE_AT)


def test_an_issuer_between_that_no_file_holds_is_named() -> None:
    leaf, issuer, root = foreign(MADE)
    told = f"the certificate of {leaf.name!r} is issued by {issuer.name!r}, which no file holds"
    with pytest.raises(ChainError) as refused:
        take([file_of(leaf, key=private(MADE)), file_of(root)], at=MADE_AT)
    assert refused.value.message == told


def test_an_issuer_that_did_not_sign_is_refused() -> None:
    leaf, _, root = foreign(MADE)
    namesake = foreign(certified(Algorithm.ECDSA_P256, made_at=MADE_AT + timedelta(days=1)))[1]
    with pytest.raises(ChainError, match="was not issued by"):
        chain_of([leaf, namesake], None, at=MADE_AT)
    with pytest.raises(ChainError, match="could be the first"):
        chain_of([leaf, root, ForeignCertificate.of(MADE.certificates[0])][:2], None, at=MADE_AT)


def test_a_server_certificate_cannot_certify_others() -> None:
    key = open_signer(MADE.pair.private)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    below = (
        x509.CertificateBuilder(
            MADE.certificates[0].subject,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "below")]),
            key.public_key(),
            2,
        )
        .not_valid_before(MADE_AT)
        .not_valid_after(MADE_AT + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(ChainError, match="may not certify others: it is not one of an authority"):
        chain_of([ForeignCertificate.of(below), *foreign(MADE)], None, at=MADE_AT)


def test_a_certificate_outside_its_time_is_refused() -> None:
    with pytest.raises(NotYetValidError, match=r"begins 2030-01-01 11:50:00Z, and it is 2029-12-31"):
        take([file_of(foreign(MADE)[0], key=private(MADE))], at=MADE_AT - timedelta(days=1))
    with pytest.raises(ExpiredCertificateError, match=r"ended 2030-01-31 12:00:00Z"):
        take([file_of(*foreign(MADE), key=private(MADE))], at=MADE_AT + timedelta(days=31))


def test_of_two_certificates_of_a_key_the_one_that_is_valid_is_taken() -> None:
    newer = certified(Algorithm.ECDSA_P256, lifetime=timedelta(days=60))
    both = file_of(foreign(MADE)[0], *foreign(newer), key=private(MADE))
    found = take([both], at=MADE_AT + timedelta(days=40))
    assert found.chain is not None
    assert found.chain.leaf.opened == newer.certificates[0]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (rsa.generate_private_key(65537, 1024), "RSA of 1024 bits: too weak"),  # noqa: S505 - to be refused
        (ec.generate_private_key(ec.SECP192R1()), "ECDSA on secp192r1: too weak"),
    ],
)
def test_a_weak_key_is_refused(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, words: str) -> None:
    certificate = ForeignCertificate.of(self_signed(key))
    with pytest.raises(WeakKeyError, match=words):
        take([file_of(certificate, key=ForeignPrivate.of(key))], at=MADE_AT)
    assert [type(one) for one in examine(file_of(certificate), at=MADE_AT)] == [WeakKeyError]


def test_a_signature_over_sha1_is_refused() -> None:
    (old,) = read((VECTORS / "x509/ee-pss-sha1-cert.pem").read_bytes()).certificates
    faults = examine(file_of(old), at=old.not_before)
    assert [type(one) for one in faults] == [WeakKeyError]
    assert "signed over MD5 or SHA-1, which can be forged" in faults[0].message


def test_a_key_of_another_kind_is_told_from_a_weak_one() -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        with pytest.raises(UnsupportedKeyError, match="expected ed25519, ecdsa-p256 or rsa-3072"):
            take([file_of(key=ForeignPrivate.of(key))], at=MADE_AT)


def test_one_private_key_is_needed() -> None:
    with pytest.raises(UnsupportedFileError, match="found no private keys where one is needed"):
        take([file_of(*foreign(MADE))], at=MADE_AT)
    other = private(certified(Algorithm.ED25519))
    with pytest.raises(UnsupportedFileError, match="found 2 private keys"):
        take([file_of(key=other), file_of(key=private(MADE))], at=MADE_AT)
    same = take([file_of(key=other), file_of(key=other)], at=MADE_AT)
    assert same.chain is None
