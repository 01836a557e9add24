"""What somebody else's authority answers is used only when it is what was asked for."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.foreign import Expected, accept, parse_roots
from orchestrator.keys.formats.foreign import ForeignCertificate
from orchestrator.keys.kinds import Signer
from orchestrator.keys.material import Algorithm, KeyPair, Random, generate, open_signer

DAY = timedelta(days=1)
AnyKey = Signer | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject: str,
    key: AnyKey,
    issuer: str,
    issuer_key: AnyKey,
    now: datetime,
    *extensions: tuple[x509.ExtensionType, bool],
    begin: timedelta = -DAY,
    days: int = 365,
    over: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        subject_name=name(subject),
        issuer_name=name(issuer),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now + begin,
        not_valid_after=now + days * DAY,
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    if isinstance(issuer_key, ed25519.Ed25519PrivateKey):
        return builder.sign(issuer_key, None)
    return builder.sign(issuer_key, over or hashes.SHA256())  # type: ignore[arg-type]  # a signer of any kind


def pem(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


def trusted(*roots: x509.Certificate) -> tuple[ForeignCertificate, ...]:
    return parse_roots(pem(*roots))


def authority(path_length: int | None = None) -> tuple[x509.ExtensionType, bool]:
    return x509.BasicConstraints(ca=True, path_length=path_length), True


def named(*names: str) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False


def usage(*only: str) -> tuple[x509.ExtensionType, bool]:
    uses = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**{**uses, **dict.fromkeys(only, True)}), True


class House:
    """Somebody else's authority: an RSA root, and a P-384 issuer under it."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.root_key = rsa.generate_private_key(65537, 2048)
        self.issuer_key = ec.generate_private_key(ec.SECP384R1())
        self.root = certificate("root", self.root_key, "root", self.root_key, now, authority(), days=4000)
        self.issuer = certificate(
            "issuer", self.issuer_key, "root", self.root_key, now, authority(0), days=2000
        )

    def leaf(
        self, pair: KeyPair, *extensions: tuple[x509.ExtensionType, bool], **how: object
    ) -> x509.Certificate:
        return certificate(
            "web-01",
            open_signer(pair.private),
            "issuer",
            self.issuer_key,
            self.now,
            *(extensions or (named("web-01"),)),
            **how,  # type: ignore[arg-type]  # as ``certificate`` takes them
        )


@pytest.fixture(scope="module")
def houses() -> dict[datetime, House]:
    return {}


@pytest.fixture
def house(now: datetime, houses: dict[datetime, House]) -> House:
    return houses.setdefault(now, House(now))


@pytest.fixture
def expected(pair: KeyPair, now: datetime) -> Expected:
    return Expected(
        public=pair.public,
        names=("web-01",),
        at=now,
        begins_by=now - timedelta(minutes=1),
        ends_from=now + 300 * DAY,
        ends_by=now + 366 * DAY,
    )


Refused = Callable[..., str]


@pytest.fixture
def refused(house: House, expected: Expected) -> Refused:
    """Why an answer is refused."""

    def run(*certificates: x509.Certificate, roots: tuple[x509.Certificate, ...] = ()) -> str:
        with pytest.raises(KeyMaterialError) as error:
            accept(pem(*certificates), expected, trusted(*(roots or (house.root,))))
        return error.value.message

    return run


def test_a_chain_in_any_order_with_text_around_it_and_without_the_root_is_accepted(
    house: House, pair: KeyPair, expected: Expected
) -> None:
    leaf = house.leaf(pair)
    for answer in (
        pem(leaf, house.issuer),
        pem(house.root, house.issuer, leaf, leaf),
        f"Hello\n{pem(house.issuer)}\n{pem(leaf)}bye",
    ):
        accepted = accept(answer, expected, trusted(house.root))
        assert accepted.certificate.opened == leaf
        assert accepted.chain_pem == pem(house.issuer)


def test_an_authority_below_the_root_can_be_what_is_trusted_and_is_then_part_of_the_chain(
    house: House, pair: KeyPair, expected: Expected
) -> None:
    accepted = accept(pem(house.leaf(pair)), expected, trusted(house.issuer))
    assert accepted.chain_pem == pem(house.issuer)


def test_a_certificate_by_the_root_itself_has_an_empty_chain(
    house: House, pair: KeyPair, expected: Expected
) -> None:
    leaf = certificate(
        "web-01", open_signer(pair.private), "root", house.root_key, house.now, named("web-01"), days=365
    )
    assert accept(pem(leaf), expected, trusted(house.root)).chain_pem == ""


def test_names_are_those_that_were_asked_for(house: House, pair: KeyPair, refused: Refused) -> None:
    assert (
        refused(house.leaf(pair, named("web-02")), house.issuer)
        == "the certificate is for web-02, web-01; expected web-01"
    )
    assert "is for web-01, db-01;" in refused(house.leaf(pair, named("web-01", "db-01")), house.issuer)
    assert "is for no name;" in refused(house.leaf(pair, usage("digital_signature")), house.issuer)
    address = x509.SubjectAlternativeName([x509.DNSName("web-01"), x509.UniformResourceIdentifier("x:y")])
    assert "is for web-01, a name of the kind UniformResourceIdentifier, 'x:y';" in refused(
        house.leaf(pair, (address, False)), house.issuer
    )


def test_a_name_of_another_kind_is_another_name(house: House, pair: KeyPair, refused: Refused) -> None:
    for kind in (x509.RFC822Name, x509.UniformResourceIdentifier):
        san = x509.SubjectAlternativeName([kind("web-01")])
        assert f"is for a name of the kind {kind.__name__}, 'web-01', web-01; expected web-01" in refused(
            house.leaf(pair, (san, False)), house.issuer
        )


def test_the_key_is_the_one_that_was_to_be_certified(house: House, refused: Refused, random: Random) -> None:
    other = generate(Algorithm.ED25519, random=random)
    assert "of 2 certificates 0 are of the key" in refused(house.leaf(other), house.issuer)


def test_two_certificates_of_the_key_are_one_too_many(house: House, pair: KeyPair, refused: Refused) -> None:
    assert "of 3 certificates 2 are of the key" in refused(house.leaf(pair), house.leaf(pair), house.issuer)


def test_the_period_is_the_one_that_was_asked_for(house: House, pair: KeyPair, refused: Refused) -> None:
    assert (
        "'CN=web-01' begins 2030-01-01T12:00:00+00:00; expected 2030-01-01T11:59:00+00:00 or before"
        in refused(house.leaf(pair, begin=timedelta()), house.issuer)
    )
    assert "'CN=web-01' ends 2030-10-27T12:00:00+00:00; expected" in refused(
        house.leaf(pair, days=299), house.issuer
    )
    assert "expected 2031-01-02T12:00:00+00:00 or before" in refused(house.leaf(pair, days=367), house.issuer)


def test_what_stands_above_has_to_be_valid_for_as_long(house: House, pair: KeyPair, refused: Refused) -> None:
    short = certificate("issuer", house.issuer_key, "root", house.root_key, house.now, authority(0), days=299)
    assert "'CN=issuer' ends 2030-10-27T12:00:00+00:00; expected" in refused(house.leaf(pair), short)


def test_a_chain_that_ends_elsewhere_is_refused(
    house: House, pair: KeyPair, refused: Refused, now: datetime
) -> None:
    stranger = House(now)
    assert refused(stranger.leaf(pair), stranger.issuer, stranger.root) == (
        "the chain ends at 'CN=root', issued by 'CN=root', which is not trusted; expected 'CN=root' above it"
    )
    assert "the chain ends at 'CN=web-01', issued by 'CN=issuer'" in refused(house.leaf(pair))


def test_authorities_above_may_certify(house: House, pair: KeyPair, refused: Refused) -> None:
    for extensions, why in (
        ((), "may not certify others"),
        (((x509.BasicConstraints(ca=False, path_length=None), True),), "may not certify others"),
        ((authority(), usage("digital_signature")), "may not certify others"),
    ):
        between = certificate(
            "issuer", house.issuer_key, "root", house.root_key, house.now, *extensions, days=2000
        )
        assert why in refused(house.leaf(pair), between)


def test_names_that_an_authority_above_may_not_certify_are_refused_even_where_that_is_not_critical(
    house: House, pair: KeyPair, expected: Expected, refused: Refused
) -> None:
    for critical in (True, False):
        for permitted, excluded, why in (
            (["web-01"], None, ""),
            (
                ["example.test"],
                None,
                "'CN=web-01' is for web-01, which an authority above it does not permit",
            ),
            (None, ["web-01"], "'CN=web-01' is for web-01, which an authority above it excludes"),
        ):
            subtrees = [
                None if names is None else list(map(x509.DNSName, names)) for names in (permitted, excluded)
            ]
            limits = (x509.NameConstraints(*subtrees), critical)
            limited = certificate(
                "issuer", house.issuer_key, "root", house.root_key, house.now, authority(), limits, days=2000
            )
            if why:
                assert why in refused(house.leaf(pair), limited)
            else:
                accept(pem(house.leaf(pair), limited), expected, trusted(house.root))


def test_an_issuer_with_two_ways_up_is_believed_by_the_one_that_holds(
    house: House, pair: KeyPair, expected: Expected
) -> None:
    ended = certificate("issuer", house.issuer_key, "root", house.root_key, house.now, authority(0), days=1)
    accepted = accept(pem(house.leaf(pair), ended, house.issuer), expected, trusted(house.root))
    assert accepted.chain_pem == pem(house.issuer)


def test_path_lengths_hold(house: House, pair: KeyPair, refused: Refused) -> None:
    low_key = ec.generate_private_key(ec.SECP256R1())
    low = certificate("low", low_key, "issuer", house.issuer_key, house.now, authority(), days=1000)
    leaf = certificate("web-01", open_signer(pair.private), "low", low_key, house.now, named("web-01"))
    assert "'CN=issuer' allows 0 issuers below it, found 1" in refused(leaf, low, house.issuer)


def test_weak_keys_above_are_refused(house: House, pair: KeyPair, refused: Refused) -> None:
    for weak, why in (
        (rsa.generate_private_key(65537, 1024), "is RSA of 1024 bits: too weak"),  # noqa: S505 - weak on purpose
        (ec.generate_private_key(ec.SECP192R1()), "is ECDSA on secp192r1: too weak"),
    ):
        between = certificate("issuer", weak, "root", house.root_key, house.now, authority(), days=2000)
        leaf = certificate("web-01", open_signer(pair.private), "issuer", weak, house.now, named("web-01"))
        assert why in refused(leaf, between)


def test_a_certificate_of_an_authority_is_not_one_of_a_server(
    house: House, pair: KeyPair, refused: Refused
) -> None:
    assert "could certify others" in refused(house.leaf(pair, named("web-01"), authority()), house.issuer)
    no_signatures = usage("key_encipherment")
    assert "lacks digitalSignature" in refused(house.leaf(pair, named("web-01"), no_signatures), house.issuer)
    certifying = usage("digital_signature", "key_cert_sign")
    assert "could certify others" in refused(house.leaf(pair, named("web-01"), certifying), house.issuer)
    client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False
    assert "lacks serverAuth" in refused(house.leaf(pair, named("web-01"), client), house.issuer)


@pytest.mark.parametrize(
    "answer", ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_answer_without_certificates_says_so(answer: str, expected: Expected, house: House) -> None:
    with pytest.raises(KeyMaterialError, match="expected certificates in PEM"):
        accept(answer, expected, trusted(house.root))


def test_too_many_certificates_are_not_looked_at(house: House, expected: Expected) -> None:
    with pytest.raises(KeyMaterialError, match="found 11 certificates; expected at most 10"):
        accept(pem(*[house.issuer] * 11), expected, trusted(house.root))


def test_roots_are_certificates_of_authorities(house: House, pair: KeyPair) -> None:
    assert [one.opened for one in trusted(house.root, house.issuer)] == [house.root, house.issuer]
    with pytest.raises(KeyMaterialError, match="may not certify others"):
        parse_roots(pem(house.leaf(pair)))
