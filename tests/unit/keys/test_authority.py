import base64
import json
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import IssuerError, KeyMaterialError
from orchestrator.keys.authority import (
    AUTHORITY_BACKDATE,
    Authority,
    certify,
    make_issuer,
    make_request,
    make_root,
)
from orchestrator.keys.certificate import Certificate
from orchestrator.keys.material import Algorithm, KeyPair, Random, generate
from orchestrator.keys.path import verify_chain
from tests.authorities import new_signer

OpenSSL = Callable[..., subprocess.CompletedProcess[bytes]]
Certify = Callable[..., Certificate]

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
algorithms = pytest.mark.parametrize("algorithm", list(Algorithm))


@pytest.fixture
def certified(issuer: Authority, now: datetime, random: Random) -> Certify:
    """Certifies a request for web-01 alone, valid for 30 days, unless the test says otherwise."""

    def run(request_pem: str, **changes: object) -> Certificate:
        order: dict[str, object] = {
            "names": ("web-01",),
            "now": now,
            "not_after": now + 30 * DAY,
            "backdate": 10 * MINUTE,
            "random": random,
        }
        return certify(issuer, request_pem=request_pem, **{**order, **changes})  # type: ignore[arg-type]  # the order above

    return run


def request_with(
    signer: ec.EllipticCurvePrivateKey,
    *,
    subject: tuple[tuple[x509.ObjectIdentifier, str], ...] = (),
    alternatives: tuple[x509.GeneralName, ...] = (),
    extra: x509.ExtensionType | None = None,
) -> str:
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in subject])
    builder = x509.CertificateSigningRequestBuilder(name)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if extra is not None:
        builder = builder.add_extension(extra, critical=True)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.fixture
def signer() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(params=list(Algorithm))
def leaf(request: pytest.FixtureRequest, certified: Certify, random: Random) -> Certificate:
    names = ("web-01", "web_01.example.org")
    return certified(make_request(generate(request.param, random=random), names=names), names=names)


@pytest.fixture
def chain(leaf: Certificate, issuer: Authority, root: Authority, tmp_path: Path) -> tuple[Certificate, ...]:
    """The server's certificate, the issuer's and the root's, written to files for openssl."""
    chain = (leaf, issuer.certificate, root.certificate)
    for name, certificate in zip(("leaf", "issuer", "root"), chain, strict=True):
        (tmp_path / f"{name}.pem").write_text(certificate.pem)
    return chain


def test_openssl_verifies_the_chain_strictly_for_its_names_and_dates_and_no_others(
    chain: tuple[Certificate, ...], now: datetime, openssl: OpenSSL
) -> None:
    leaf, issuer, root = chain

    def verdict(at: datetime, *, name: str = "web-01", untrusted: str = "issuer.pem") -> bytes:
        done = openssl(
            "verify", "-x509_strict", "-purpose", "sslserver", "-attime", str(int(at.timestamp())),
            "-CAfile", "root.pem", "-untrusted", untrusted, "-verify_hostname", name, "leaf.pem",
        )  # fmt: skip
        return done.stdout + done.stderr

    for name in leaf.names:
        assert verdict(now, name=name) == b"leaf.pem: OK\n"
        verify_chain(leaf, [issuer], root, at=now, name=name)
    assert verdict(leaf.not_before) == b"leaf.pem: OK\n"
    assert b"not yet valid" in verdict(leaf.not_before - MINUTE)
    assert b"has expired" in verdict(leaf.not_after + MINUTE)
    assert b"hostname mismatch" in verdict(now, name="web-02")
    assert b"unable to get local issuer" in verdict(now, untrusted="root.pem")


def test_openssl_prints_the_profile_of_a_server_certificate(
    certified: Certify, issuer: Authority, pair: KeyPair, openssl: OpenSSL
) -> None:
    leaf = certified(make_request(pair, names=["web-01"]), names=("web-01", "web-01.example.org"))
    text = openssl("x509", "-noout", "-text", stdin=leaf.pem.encode()).stdout.decode()
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for title, value in (
        ("X509v3 Basic Constraints: critical", "CA:FALSE"),
        ("X509v3 Key Usage: critical", "Digital Signature"),
        ("X509v3 Extended Key Usage:", "TLS Web Server Authentication, TLS Web Client Authentication"),
        ("X509v3 Subject Alternative Name:", "DNS:web-01, DNS:web-01.example.org"),
        ("X509v3 Subject Key Identifier:", identifier(leaf)),
        ("X509v3 Authority Key Identifier:", identifier(issuer.certificate)),
    ):
        assert lines[lines.index(title) + 1].removeprefix("keyid:") == value
    assert "Version: 3 (0x2)" in lines
    assert "Public Key Algorithm: ED25519" in lines


def identifier(certificate: Certificate) -> str:
    found = certificate.opened.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return found.value.digest.hex(":").upper()


def test_openssl_prints_what_root_and_issuer_may_do(
    issuer: Authority, root: Authority, openssl: OpenSSL
) -> None:
    for authority, constraints in ((root, "CA:TRUE, pathlen:1"), (issuer, "CA:TRUE, pathlen:0")):
        pem = authority.certificate.pem.encode()
        lines = [
            line.strip()
            for line in openssl("x509", "-noout", "-text", stdin=pem).stdout.decode().splitlines()
        ]
        assert lines[lines.index("X509v3 Basic Constraints: critical") + 1] == constraints
        usage = lines[lines.index("X509v3 Key Usage: critical") + 1]
        assert usage == "Digital Signature, Certificate Sign, CRL Sign"
        assert authority.certificate.is_ca


@algorithms
def test_openssl_accepts_the_requests(algorithm: Algorithm, random: Random, openssl: OpenSSL) -> None:
    pem = make_request(generate(algorithm, random=random), names=["web-01", "web_01"])
    done = openssl("req", "-verify", "-noout", "-text", stdin=pem.encode())
    assert done.returncode == 0
    assert b"verify OK" in done.stdout + done.stderr
    assert b"DNS:web-01, DNS:web_01" in done.stdout


def test_a_request_that_openssl_made_is_certified(certified: Certify, openssl: OpenSSL) -> None:
    made = openssl("req", "-new", "-newkey", "ed25519", "-nodes", "-keyout", "key.pem", "-subj", "/CN=web-01")
    leaf = certified(made.stdout.decode())
    assert leaf.names == ("web-01",)
    assert leaf.public_key.pem.encode() == openssl("pkey", "-pubout", "-in", "key.pem").stdout


def test_a_forged_signature_is_refused(certified: Certify, pair: KeyPair, random: Random) -> None:
    """The request carries one key and is signed with another."""
    request = x509.load_pem_x509_csr(make_request(pair, names=["web-01"]).encode())
    der = request.public_bytes(Encoding.DER)
    forged = der.replace(pair.public.der, generate(Algorithm.ED25519, random=random).public.der)
    assert forged != der
    pem = x509.load_der_x509_csr(forged).public_bytes(Encoding.PEM).decode()
    with pytest.raises(KeyMaterialError, match="does not prove possession of its key"):
        certified(pem)


def test_a_flipped_bit_in_a_request_is_always_found_and_told_in_our_own_words(
    certified: Certify, pair: KeyPair
) -> None:
    request = x509.load_pem_x509_csr(make_request(pair, names=["web-01"]).encode())
    der = request.public_bytes(Encoding.DER)
    unused_bits = len(der) - len(request.signature) - 1  # counts bits of padding, which say nothing
    for bit in (bit for bit in range(len(der) * 8) if bit // 8 != unused_bits):
        changed = bytearray(der)
        changed[bit // 8] ^= 1 << bit % 8
        text = base64.encodebytes(bytes(changed)).decode()
        with pytest.raises(KeyMaterialError):
            certified(f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n")


@pytest.mark.parametrize(
    ("subject", "alternatives", "words"),
    [
        ((), ("web-02",), "asks for 'web-02'; the inventory gives web-01"),
        (((NameOID.COMMON_NAME, "web-02"),), ("web-01",), "asks for 'web-02'"),
        (((NameOID.COMMON_NAME, "web-01"),), ("web-01", "*.example.org"), r"asks for '\*\.example\.org'"),
        (((NameOID.COMMON_NAME, "WEB-01"),), (), "asks for 'WEB-01'"),
        (((NameOID.COMMON_NAME, "web-01"), (NameOID.COMMON_NAME, "web-02")), (), "asks for 'web-02'"),
        (((NameOID.ORGANIZATION_NAME, "orchard"),), ("web-01",), "only a common name is allowed"),
        ((), (), "names no host; expected web-01"),
    ],
)
def test_a_request_for_other_names_than_the_hosts_own_is_refused(
    subject: tuple[tuple[x509.ObjectIdentifier, str], ...],
    alternatives: tuple[str, ...],
    words: str,
    certified: Certify,
    signer: ec.EllipticCurvePrivateKey,
) -> None:
    names = tuple(x509.DNSName(name) for name in alternatives)
    with pytest.raises(KeyMaterialError, match=words):
        certified(request_with(signer, subject=subject, alternatives=names))


def test_a_request_for_a_name_that_is_no_host_name_is_refused(
    certified: Certify, signer: ec.EllipticCurvePrivateKey
) -> None:
    with pytest.raises(KeyMaterialError, match="asks for a RFC822Name; only a DNSName is allowed"):
        certified(request_with(signer, alternatives=(x509.RFC822Name("root@web-01"),)))


def test_a_request_of_another_kind_of_key_is_refused(certified: Certify) -> None:
    foreign = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(KeyMaterialError, match="a kind keyrelay does not use"):
        certified(request_with(foreign, alternatives=(x509.DNSName("web-01"),)))


def test_a_request_cannot_make_itself_an_authority(
    certified: Certify, signer: ec.EllipticCurvePrivateKey
) -> None:
    wish = x509.BasicConstraints(ca=True, path_length=None)
    leaf = certified(request_with(signer, alternatives=(x509.DNSName("web-01"),), extra=wish))
    assert not leaf.is_ca


def test_text_that_is_no_single_request_is_refused(certified: Certify, pair: KeyPair) -> None:
    good = make_request(pair, names=["web-01"])
    for text, words in (
        ("", "exactly one certificate request"),
        (good * 2, "exactly one certificate request"),
        (good.replace("MIG", "MIH", 1), "damaged"),
        (pair.public.pem, "damaged"),
    ):
        assert text != good
        with pytest.raises(KeyMaterialError, match=words):
            certified(text)


def test_all_names_of_the_host_stand_in_the_certificate_whatever_the_request_named(
    certified: Certify, pair: KeyPair
) -> None:
    leaf = certified(make_request(pair, names=["b"]), names=("a", "b", "a"))
    assert leaf.names == ("a", "b")
    assert leaf.subject == "CN=a"


@pytest.mark.parametrize("name", ["", "a b", "a\n", "ä", "*.a", "a/b", "a" * 254])
def test_a_name_that_cannot_stand_in_a_certificate_is_refused(name: str, pair: KeyPair) -> None:
    with pytest.raises(KeyMaterialError, match="cannot stand in a certificate"):
        make_request(pair, names=[name])


def test_a_certificate_for_nobody_is_refused(pair: KeyPair) -> None:
    with pytest.raises(KeyMaterialError, match="for no name"):
        make_request(pair, names=[])


def test_a_long_name_stands_in_a_critical_san_under_an_empty_subject(
    certified: Certify, pair: KeyPair, issuer: Authority, root: Authority, now: datetime
) -> None:
    name = ".".join(["x" * 40] * 3)
    leaf = certified(make_request(pair, names=[name]), names=(name,))
    assert leaf.subject == ""
    assert leaf.opened.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    verify_chain(leaf, [issuer.certificate], root.certificate, at=now, name=name)


def test_a_certificate_begins_earlier_by_the_backdate_but_not_before_its_issuer(
    certified: Certify, issuer: Authority, pair: KeyPair, now: datetime
) -> None:
    request = make_request(pair, names=["web-01"])
    assert certified(request).not_before == now - 10 * MINUTE
    assert certified(request, backdate=40 * DAY).not_before == issuer.certificate.not_before
    assert issuer.certificate.not_before == now - AUTHORITY_BACKDATE


def test_an_issuer_certifies_to_its_own_last_second_and_says_so_beyond(
    certified: Certify, issuer: Authority, pair: KeyPair
) -> None:
    request = make_request(pair, names=["web-01"])
    last = issuer.certificate.not_after
    assert certified(request, not_after=last).not_after == last
    with pytest.raises(IssuerError, match="can certify until 2032-01-01T12:00:00"):
        certified(request, not_after=last + timedelta(seconds=1))


def test_an_issuer_certifies_neither_before_it_begins_nor_for_the_past(
    certified: Certify, issuer: Authority, pair: KeyPair, now: datetime
) -> None:
    request = make_request(pair, names=["web-01"])
    with pytest.raises(IssuerError, match="cannot certify yet"):
        certified(request, now=issuer.certificate.not_before - MINUTE)
    with pytest.raises(IssuerError, match="would never be valid"):
        certified(request, not_after=now)


def test_a_root_certifies_no_issuer_that_would_outlive_it(
    root: Authority, now: datetime, random: Random
) -> None:
    with pytest.raises(IssuerError, match="root,O=orchard' can certify until"):
        make_issuer(root, new_signer(random), fleet="orchard", now=now, lifetime=3651 * DAY, random=random)


def test_a_time_without_a_zone_is_a_programmers_error(now: datetime, random: Random) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        make_root(
            new_signer(random), fleet="orchard", now=now.replace(tzinfo=None), lifetime=DAY, random=random
        )


@pytest.mark.parametrize("fleet", ["", "x" * 65, "two\nlines"])
def test_a_fleet_whose_name_cannot_stand_in_a_certificate_is_refused(
    fleet: str, now: datetime, random: Random
) -> None:
    with pytest.raises(KeyMaterialError, match="cannot stand in a certificate"):
        make_root(new_signer(random), fleet=fleet, now=now, lifetime=DAY, random=random)


def test_the_same_randomness_and_time_make_the_same_certificate(now: datetime) -> None:
    same: Random = lambda size: b"\x07" * size  # noqa: E731 (a source of one line)
    one, other = (
        make_root(new_signer(same), fleet="orchard", now=now, lifetime=DAY, random=same).certificate
        for _ in "ab"
    )
    assert one == other


@settings(deadline=None)
@given(st.binary(min_size=20, max_size=20))
def test_serials_are_positive_fit_20_octets_and_carry_159_random_bits(drawn: bytes) -> None:
    issuer, request, now = FIXED
    leaf = certify(
        issuer,
        request_pem=request,
        names=["web-01"],
        now=now,
        not_after=now + DAY,
        backdate=MINUTE,
        random=lambda size: drawn[:size],
    )
    assert 0 < leaf.serial < 2**159
    assert leaf.serial == int.from_bytes(drawn) >> 1 or leaf.serial == 1


def fixed() -> tuple[Authority, str, datetime]:
    now = datetime.fromisoformat("2030-01-01T12:00:00+00:00")
    source = iter(range(1, 250))
    random: Random = lambda size: bytes([next(source)] * size)  # noqa: E731 (a source of one line)
    root = make_root(new_signer(random), fleet="orchard", now=now, lifetime=30 * DAY, random=random)
    issuer = make_issuer(root, new_signer(random), fleet="orchard", now=now, lifetime=20 * DAY, random=random)
    return issuer, make_request(generate(Algorithm.ED25519, random=random), names=["web-01"]), now


FIXED = fixed()


def test_the_private_key_of_an_authority_belongs_to_its_certificate_and_is_not_shown(root: Authority) -> None:
    assert root.certificate.public_key.opened == root.signer.public_key()
    assert isinstance(root.signer, ec.EllipticCurvePrivateKey)
    number = root.signer.private_numbers().private_value
    assert str(number) not in repr(root)
    assert f"{number:x}" not in repr(root)
    with pytest.raises(TypeError):
        json.dumps(root.signer)


def test_an_issuer_renewed_over_the_same_key_still_vouches_for_what_it_certified(
    root: Authority, issuer: Authority, now: datetime, random: Random
) -> None:
    pair = generate(Algorithm.ED25519, random=random)
    leaf = certify(
        issuer,
        request_pem=make_request(pair, names=["web-01"]),
        names=["web-01"],
        now=now,
        not_after=now + 30 * DAY,
        backdate=MINUTE,
        random=random,
    )
    later = now + 10 * DAY
    renewed = make_issuer(root, issuer.signer, fleet="orchard", now=later, lifetime=900 * DAY, random=random)
    assert renewed.certificate.serial != issuer.certificate.serial
    verify_chain(leaf, [renewed.certificate], root.certificate, at=later, name="web-01")
    again = make_root(root.signer, fleet="orchard", now=later, lifetime=7300 * DAY, random=random)
    verify_chain(leaf, [issuer.certificate], again.certificate, at=later, name="web-01")
