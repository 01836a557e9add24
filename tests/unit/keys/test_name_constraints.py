"""Which names an authority allows the certificates below it."""

from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.keys.name_constraints import fault_in_names
from tests.fakes import NOON

KEY = ec.generate_private_key(ec.SECP256R1())
DNS, MAIL, URI = x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier


def subject(**parts: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(getattr(NameOID, oid), text) for oid, text in parts.items()])


def certificate(*names: x509.GeneralName, whose: x509.Name | None = None) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        subject(COMMON_NAME="issuer"), whose or x509.Name([]), KEY.public_key(), 1
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.not_valid_before(NOON).not_valid_after(NOON).sign(KEY, hashes.SHA256())


def address(text: str) -> x509.IPAddress:
    return x509.IPAddress(ip_address(text))


def network(text: str) -> x509.IPAddress:
    return x509.IPAddress(ip_network(text))


def directory(**parts: str) -> x509.DirectoryName:
    return x509.DirectoryName(subject(**parts))


@pytest.mark.parametrize(
    ("base", "inside", "outside"),
    [
        (DNS("example.test"), DNS("EXAMPLE.test"), DNS("an-example.test")),
        (DNS("example.test"), DNS("a_1.b.example.test"), DNS("test")),
        (DNS(".example.test"), DNS("a.example.test"), DNS("example.test")),
        (MAIL("ops@example.test"), MAIL("ops@Example.test"), MAIL("Ops@example.test")),
        (MAIL("example.test"), MAIL("ops@example.test"), MAIL("ops@a.example.test")),
        (MAIL(".example.test"), MAIL("ops@a.example.test"), MAIL("ops@example.test")),
        (URI("example.test"), URI("https://example.test:8443/a"), URI("https://a.example.test")),
        (URI(".example.test"), URI("spiffe://a.example.test/x"), URI("https://example.test")),
        (network("192.0.2.0/24"), address("192.0.2.7"), address("192.0.3.7")),
        (network("2001:db8::/32"), address("2001:db8::1"), address("2001:db9::1")),
        (
            directory(ORGANIZATION_NAME="Orchard  Ltd"),
            directory(ORGANIZATION_NAME="orchard ltd", COMMON_NAME="x"),
            directory(COMMON_NAME="x", ORGANIZATION_NAME="Orchard Ltd"),
        ),
    ],
)
def test_a_name_is_inside_or_outside_of_what_an_authority_may_certify(
    base: x509.GeneralName, inside: x509.GeneralName, outside: x509.GeneralName
) -> None:
    permitting, excluding = x509.NameConstraints([base], None), x509.NameConstraints(None, [base])
    assert fault_in_names(certificate(inside), permitting) == ""
    assert fault_in_names(certificate(outside), permitting).endswith(
        "which an authority above it does not permit"
    )
    assert fault_in_names(certificate(inside, outside), permitting)
    assert fault_in_names(certificate(inside), excluding).endswith("which an authority above it excludes")
    assert fault_in_names(certificate(outside), excluding) == ""


def test_a_constraint_says_nothing_of_names_of_another_kind() -> None:
    limits = x509.NameConstraints([DNS("example.test"), network("192.0.2.0/24")], [DNS("a.example.test")])
    assert fault_in_names(certificate(MAIL("ops@elsewhere.test"), URI("x:y")), limits) == ""
    assert fault_in_names(certificate(), limits) == ""
    assert fault_in_names(certificate(DNS("b.example.test"), address("192.0.2.1")), limits) == ""
    assert fault_in_names(certificate(address("2001:db8::1")), limits)
    assert fault_in_names(certificate(DNS("a.example.test")), limits)


def test_a_subject_and_the_mail_addresses_in_it_are_names_too() -> None:
    orchard = subject(ORGANIZATION_NAME="Orchard", EMAIL_ADDRESS="ops@example.test")
    for base, held in (
        (directory(ORGANIZATION_NAME="Orchard"), True),
        (directory(ORGANIZATION_NAME="Meadow"), False),
        (MAIL("example.test"), True),
        (MAIL("elsewhere.test"), False),
    ):
        assert (fault_in_names(certificate(whose=orchard), x509.NameConstraints([base], None)) == "") is held


@pytest.mark.parametrize(
    ("name", "base"),
    [
        (
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.4")),
        ),
        (URI("urn:a:b"), URI("example.test")),
        (URI("https://192.0.2.1/"), URI("example.test")),
        (URI("https://[2001:db8::1]/"), URI("example.test")),
        (URI("https://[broken"), URI("example.test")),
    ],
)
def test_what_cannot_be_told_is_refused(name: x509.GeneralName, base: x509.GeneralName) -> None:
    for limits in (x509.NameConstraints([base], None), x509.NameConstraints(None, [base])):
        assert "cannot be told" in fault_in_names(certificate(name), limits)
