"""The fleet's certification authority: a root sealed apart, and an issuer that works unattended.

Both are ECDSA P-256, which every verifier of certificates knows; servers' keys may be of any kind. What
a certificate says is decided here and not by the request: of a request only its key is taken, once its
signature proves that the requester holds the private half (RFC 2986 section 3) and its names are found
to be the host's own. The profile is that of RFC 5280 section 4, with key identifiers of RFC 7093 section 2
method 1 (SHA-256, cut to 160 bits), so that nothing needs SHA-1.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.errors import IssuerError, KeyMaterialError
from orchestrator.keys.certificate import UNREADABLE, Certificate
from orchestrator.keys.kinds import Signer
from orchestrator.keys.material import Algorithm, KeyPair, PublicKey, Random, open_signer

AUTHORITY_ALGORITHM = Algorithm.ECDSA_P256
"""The kind of the root's and the issuer's keys."""

ROOT_KEY = "root"
ISSUER_KEY = "issuer"
"""What the keys are called where they are kept (``ports.Keyring``)."""

AUTHORITY_BACKDATE = timedelta(hours=1)
"""How long before its making a root or an issuer is valid, so that hosts whose clocks run late accept it."""

_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}", re.ASCII)
_LONGEST_COMMON_NAME = 64
_SERIAL_BYTES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Something that certifies.

    Attributes:
        certificate: a CA's.
        signer: the private key that belongs to it, wherever it is kept.

    Raises:
        IssuerError: it does not.
    """

    certificate: Certificate
    signer: Signer

    def __post_init__(self) -> None:
        if PublicKey.of(self.signer.public_key()) != self.certificate.public_key:
            raise IssuerError(
                f"the private key is not that of {self.certificate.subject!r}",
                hint="it belongs to another fleet, or to an authority of before",
            )


def make_root(signer: Signer, *, fleet: str, now: datetime, lifetime: timedelta, random: Random) -> Authority:
    """Makes a key the fleet's root: it certifies issuers, and nothing else stands above it.

    Called again with the same key, it renews the root: what hangs below stays valid.

    Args:
        signer: the root's private key.
        fleet: the fleet's name, 1 to 64 characters; the organisation in the certificate.
        now: aware; the certificate begins ``AUTHORITY_BACKDATE`` earlier.
        lifetime: how long from ``now`` the certificate is valid.
        random: gives the serial number.
    """
    public = PublicKey.of(signer.public_key())
    name = _authority_name(fleet, "keyrelay root")
    identifier = key_identifier(public)
    builder = _builder(name, name, public, random=random)
    builder = _dated(builder, now - AUTHORITY_BACKDATE, now + lifetime)
    builder = _as_authority(builder, path_length=1)
    builder = _identified(builder, subject=identifier, issuer=identifier)
    return Authority(certificate=_signed(builder, signer), signer=signer)


def make_issuer(
    root: Authority, signer: Signer, *, fleet: str, now: datetime, lifetime: timedelta, random: Random
) -> Authority:
    """Makes a key an issuer under ``root``: it certifies servers and no further authority.

    Called again with the same key, it renews the issuer: what it has certified stays valid.

    Raises:
        IssuerError: the root is not valid now, or would expire first.
    """
    end = now + lifetime
    begin = _beginning(root, now=now, end=end, backdate=AUTHORITY_BACKDATE)
    public = PublicKey.of(signer.public_key())
    name = _authority_name(fleet, "keyrelay issuer")
    builder = _builder(name, root.certificate.opened.subject, public, random=random)
    builder = _dated(builder, begin, end)
    builder = _as_authority(builder, path_length=0)
    builder = _identified(
        builder, subject=key_identifier(public), issuer=subject_identifier(root.certificate)
    )
    return Authority(certificate=_signed(builder, root.signer), signer=signer)


def make_request(pair: KeyPair, *, names: Sequence[str]) -> str:
    """A PKCS#10 request in PEM (RFC 2986) for ``names``; raises ``KeyMaterialError`` for a bad name."""
    checked = _checked_names(names)
    builder = x509.CertificateSigningRequestBuilder(subject_name=_subject(checked)).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(name) for name in checked]), critical=False
    )
    match open_signer(pair.private):
        case ed25519.Ed25519PrivateKey() as signer:
            request = builder.sign(signer, None)
        case ec.EllipticCurvePrivateKey() as signer:
            request = builder.sign(signer, hashes.SHA256(), ecdsa_deterministic=True)
        case rsa.RSAPrivateKey() as signer:
            request = builder.sign(signer, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode("ascii")


def certify(
    issuer: Authority,
    *,
    request_pem: str,
    names: Sequence[str],
    now: datetime,
    not_after: datetime,
    backdate: timedelta,
    random: Random,
) -> Certificate:
    """Certifies the key of a request for ``names``.

    Args:
        issuer: who certifies.
        request_pem: one PKCS#10 request; it names at least one and none but ``names``. What else it asks
            for is not granted.
        names: all the names the inventory gives this server; each becomes a dNSName.
        now: aware.
        not_after: aware; the last second the certificate is valid.
        backdate: how long before ``now`` it begins, but never before the issuer's own certificate does.
        random: gives the serial number.

    Raises:
        KeyMaterialError: the request is damaged, its signature is not by its own key, it asks for foreign
            names, or its key is of a kind keyrelay does not use.
        IssuerError: the issuer is not valid now or would expire before the certificate, or the certificate
            would already have ended.
    """
    checked = _checked_names(names)
    key = read_request(request_pem, names=checked).public
    begin = _beginning(issuer, now=now, end=not_after, backdate=backdate)
    subject = _subject(checked)
    builder = _builder(subject, issuer.certificate.opened.subject, key, random=random)
    builder = _dated(builder, begin, not_after)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in checked]),
            # RFC 5280 section 4.1.2.6: critical when the subject is empty.
            critical=not list(subject),
        )
    )
    builder = _identified(builder, subject=key_identifier(key), issuer=subject_identifier(issuer.certificate))
    return _signed(builder, issuer.signer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """A request that is proven and asks for no more than it may.

    Attributes:
        public: the key to certify.
        pem: the request in canonical PEM, without anything around it.
    """

    public: PublicKey
    pem: str


def read_request(request_pem: str, *, names: Sequence[str]) -> Requested:
    """Reads one PKCS#10 request that names at least one and none but ``names``.

    Raises:
        KeyMaterialError: damaged, not proven by its own key, asks for foreign names, or of a kind of key that
            keyrelay does not use.
    """
    if request_pem.count("-----BEGIN ") != 1:
        raise KeyMaterialError("expected exactly one certificate request in PEM")
    try:
        request = x509.load_pem_x509_csr(request_pem.encode())
        extensions = list(request.extensions)
        proven = request.is_signature_valid
        public = request.public_key()
        subject = request.subject
    except UNREADABLE as error:
        raise KeyMaterialError("the certificate request is damaged or cannot be read") from error
    key = PublicKey.of(public)
    if not proven:
        raise KeyMaterialError(
            "the certificate request does not prove possession of its key: its signature does not verify"
        )
    asked = _requested_names(subject, extensions)
    foreign = [name for name in asked if name not in names]
    if foreign:
        raise KeyMaterialError(
            f"the certificate request asks for {foreign[0]!r}; the inventory gives {', '.join(names)}",
            hint="the request may come from another host; nothing was certified",
        )
    if not asked:
        raise KeyMaterialError(f"the certificate request names no host; expected {', '.join(names)}")
    return Requested(public=key, pem=request.public_bytes(Encoding.PEM).decode("ascii"))


def _requested_names(
    subject: x509.Name, extensions: Sequence[x509.Extension[x509.ExtensionType]]
) -> list[str]:
    asked = []
    for attribute in subject:
        if attribute.oid != NameOID.COMMON_NAME or not isinstance(attribute.value, str):
            raise KeyMaterialError(
                f"the certificate request's subject has {attribute.rfc4514_string()!r};"
                " only a common name is allowed"
            )
        asked.append(attribute.value)
    for extension in extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            for name in extension.value:
                if not isinstance(name, x509.DNSName):
                    raise KeyMaterialError(
                        f"the certificate request asks for a {type(name).__name__}; only a DNSName is allowed"
                    )
                asked.append(name.value)
    return asked


def _beginning(authority: Authority, *, now: datetime, end: datetime, backdate: timedelta) -> datetime:
    """When a certificate that ends at ``end`` begins, so that it lies inside the authority's validity."""
    above = authority.certificate
    if now < above.not_before:
        raise IssuerError(
            f"{above.subject!r} cannot certify yet: its certificate begins {above.not_before.isoformat()}",
            hint="set this machine's clock right",
        )
    if end > above.not_after:
        raise IssuerError(
            f"{above.subject!r} can certify until {above.not_after.isoformat()},"
            f" and this certificate would end {end.astimezone(UTC).isoformat()}",
            hint="ask for a shorter lifetime, or renew the issuer first",
        )
    if end <= now:
        raise IssuerError(f"a certificate that ended {end.astimezone(UTC).isoformat()} would never be valid")
    return max(now - backdate, above.not_before)


def _checked_names(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        raise KeyMaterialError("a certificate for no name")
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise KeyMaterialError(
                f"{name!r} cannot stand in a certificate: 1 to 253 of A-Z a-z 0-9 . _ - are allowed",
                hint="give the host such a name in the inventory; ansible_host may hold its address",
            )
    return tuple(dict.fromkeys(names))


def _authority_name(fleet: str, role: str) -> x509.Name:
    if not 1 <= len(fleet) <= _LONGEST_COMMON_NAME or not fleet.isprintable():
        raise KeyMaterialError(
            f"the fleet's name {fleet!r} cannot stand in a certificate: 1 to {_LONGEST_COMMON_NAME} printable"
            " characters are allowed"
        )
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, fleet),
            x509.NameAttribute(NameOID.COMMON_NAME, role),
        ]
    )


def _subject(names: Sequence[str]) -> x509.Name:
    """The first name for people to read, when X.520's limit of 64 characters lets it stand; else empty."""
    fits = len(names[0]) <= _LONGEST_COMMON_NAME
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if fits else [])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, *, random: Random
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        subject_name=subject, issuer_name=issuer, public_key=key.opened, serial_number=_serial(random)
    )


def _serial(random: Random) -> int:
    """159 random bits, so that it is positive in 20 octets (RFC 5280 section 4.1.2.2)."""
    return (int.from_bytes(random(_SERIAL_BYTES), "big") >> 1) or 1


def _dated(builder: x509.CertificateBuilder, begin: datetime, end: datetime) -> x509.CertificateBuilder:
    if begin.tzinfo is None or end.tzinfo is None:
        raise ValueError("the time of a certificate has no time zone")
    begin, end = (moment.astimezone(UTC).replace(microsecond=0) for moment in (begin, end))
    return builder.not_valid_before(begin).not_valid_after(end)


def _as_authority(builder: x509.CertificateBuilder, *, path_length: int) -> x509.CertificateBuilder:
    return builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=path_length), critical=True
    ).add_extension(_key_usage(authority=True), critical=True)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    """Everyone signs; an authority signs certificates and revocation lists too, and links of the log."""
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _identified(
    builder: x509.CertificateBuilder, *, subject: bytes, issuer: bytes
) -> x509.CertificateBuilder:
    return builder.add_extension(x509.SubjectKeyIdentifier(subject), critical=False).add_extension(
        x509.AuthorityKeyIdentifier(issuer, None, None), critical=False
    )


def key_identifier(key: PublicKey) -> bytes:
    """What certificates call a key (RFC 7093 section 2, method 1)."""
    match key.opened:
        case ed25519.Ed25519PublicKey() as opened:
            bits = opened.public_bytes_raw()
        case ec.EllipticCurvePublicKey() as opened:
            bits = opened.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        case rsa.RSAPublicKey() as opened:
            bits = opened.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return hashlib.sha256(bits).digest()[:20]


def subject_identifier(certificate: Certificate) -> bytes:
    """What a CA's certificate calls its key."""
    return certificate.opened.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def _signed(builder: x509.CertificateBuilder, signer: Signer) -> Certificate:
    match signer:
        case ed25519.Ed25519PrivateKey():
            return Certificate.of(builder.sign(signer, None))
        case ec.EllipticCurvePrivateKey():
            return Certificate.of(builder.sign(signer, hashes.SHA256(), ecdsa_deterministic=True))
        case rsa.RSAPrivateKey():
            return Certificate.of(builder.sign(signer, hashes.SHA256()))
