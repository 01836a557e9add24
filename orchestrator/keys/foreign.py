"""Certificates that somebody else's authority has issued: what is demanded of them before they are used.

keyrelay's own authority is of one kind of key; others' may be of any that is not weak, so they are looked at
as ``cryptography`` sees them. A server's own certificate is one of a key that keyrelay made or asked for.
Of RFC 5280 section 6.1 the parts are checked that chains without policies and name constraints have; a
critical extension that is not understood is refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.certificate import UNREADABLE, Certificate
from orchestrator.keys.material import PublicKey, ascii_text

MOST_CERTIFICATES = 10
"""In one answer of an authority, and among the roots it may end at."""

LEAST_RSA_BITS = 2048
"""Of an authority's key (NIST SP 800-57 part 1, table 2: 112 bits)."""

_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.CertificatePolicies,
)
_SOUND_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512, hashes.SHA3_256, hashes.SHA3_384)
_SOUND_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a certificate that somebody else issued has to be.

    Attributes:
        public: the key that was to be certified.
        names: that it is for, these and no others.
        at: the present; all certificates above it have to be valid by then.
        begins_by: when it has to be valid at the latest.
        ends_from: when it may end at the earliest; all certificates above it have to be valid until then.
        ends_by: when it has to end at the latest; None: when it likes.
    """

    public: PublicKey
    names: tuple[str, ...]
    at: datetime
    begins_by: datetime
    ends_from: datetime
    ends_by: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A certificate that is what was expected, and what stands above it, without the root."""

    certificate: Certificate
    chain_pem: str


def parse_roots(pem: str | bytes) -> tuple[x509.Certificate, ...]:
    """Reads the certificates that a chain may end at: roots, or authorities below one.

    Raises:
        KeyMaterialError: none, too many, damaged, weak, or not an authority's.
    """
    roots = _certificates(ascii_text(pem, "certificates of authorities"))
    for root in roots:
        _check_authority(root, below=0)
    return roots


def accept(answer: str | bytes, expected: Expected, roots: Sequence[x509.Certificate]) -> Accepted:
    """Finds the certificate that was asked for in what an authority answered, and checks its chain.

    Args:
        answer: PEM blocks in any order; text around them is passed over.
        expected: what the certificate has to be.
        roots: what is trusted; the chain ends at one of them, which the answer may hold or leave out.

    Raises:
        KeyMaterialError: says what was found and what was expected.
    """
    there = list(_certificates(ascii_text(answer, "certificates")))
    leaf = _leaf(there, expected.public)
    there.remove(leaf)
    above = list(_above(leaf, there, roots))
    for depth, authority in enumerate(above):
        _check_authority(authority, below=depth)
    _check_period(leaf, expected.begins_by, expected.ends_from)
    for certificate in above:
        _check_period(certificate, expected.at, expected.ends_from)
    for certificate in (leaf, *above[:-1]):
        if not _is_soundly_signed(certificate):
            raise _wrong(certificate, "is signed over a hash that is not sound; expected SHA-256 or better")
    _check_leaf(leaf, expected)
    top = above[-1]
    sent = above[:-1] if top.subject == top.issuer else above
    return Accepted(certificate=Certificate.of(leaf), chain_pem="".join(map(_pem, sent)))


def _certificates(text: str) -> tuple[x509.Certificate, ...]:
    try:
        found = tuple(x509.load_pem_x509_certificates(text.encode()))
        for certificate in found:
            list(certificate.extensions)
    except UNREADABLE as error:
        raise KeyMaterialError("expected certificates in PEM, found none that can be read") from error
    if len(found) > MOST_CERTIFICATES:
        raise KeyMaterialError(f"found {len(found)} certificates; expected at most {MOST_CERTIFICATES}")
    return tuple(dict.fromkeys(found))


def _leaf(there: Sequence[x509.Certificate], public: PublicKey) -> x509.Certificate:
    mine = [certificate for certificate in there if _is_of(certificate, public)]
    if len(mine) != 1:
        raise KeyMaterialError(
            f"of {len(there)} certificates {len(mine)} are of the key that was to be certified; expected one"
        )
    return mine[0]


def _is_of(certificate: x509.Certificate, public: PublicKey) -> bool:
    try:
        return PublicKey.of(certificate.public_key()) == public
    except (KeyMaterialError, *UNREADABLE):
        return False


def _above(
    leaf: x509.Certificate, there: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> Iterator[x509.Certificate]:
    """Who certified it, and who certified that one, up to and with a trusted one."""
    below, left = leaf, [one for one in there if one not in roots]
    while True:
        trusted = next((root for root in roots if _issued(root, below)), None)
        if trusted is not None:
            yield trusted
            return
        authority = next((one for one in left if _issued(one, below)), None)
        if authority is None:
            raise KeyMaterialError(
                f"the chain ends at {_subject(below)}, issued by {below.issuer.rfc4514_string()!r},"
                f" which is not trusted; expected {' or '.join(map(_subject, roots))} above it",
                hint="the answer holds the certificates between, or the playbook's root is another one",
            )
        yield authority
        left.remove(authority)
        below = authority


def _issued(above: x509.Certificate, below: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_authority(certificate: x509.Certificate, *, below: int) -> None:
    """Refuses one that may not certify, or whose signatures somebody could forge."""
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        raise _wrong(certificate, "may not certify others")
    if constraints.path_length is not None and below > constraints.path_length:
        raise _wrong(certificate, f"allows {constraints.path_length} issuers below it, found {below}")
    _check_extensions(certificate)
    match certificate.public_key():
        case rsa.RSAPublicKey(key_size=bits) if bits < LEAST_RSA_BITS:
            raise _wrong(certificate, f"has an RSA key of {bits} bits; expected {LEAST_RSA_BITS} or more")
        case ec.EllipticCurvePublicKey(curve=curve) if not isinstance(curve, _SOUND_CURVES):
            raise _wrong(certificate, f"has a key on the curve {curve.name}; expected P-256, P-384 or P-521")
        case (
            rsa.RSAPublicKey()
            | ec.EllipticCurvePublicKey()
            | ed25519.Ed25519PublicKey()
            | ed448.Ed448PublicKey()
        ):
            pass
        case _:
            raise _wrong(certificate, "has a key that signs in no way that is known")


def _check_period(certificate: x509.Certificate, begins_by: datetime, ends_from: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begin > begins_by:
        raise _wrong(certificate, f"begins {_instant(begin)}; expected {_instant(begins_by)} or before")
    if end < ends_from:
        raise _wrong(certificate, f"ends {_instant(end)}; expected {_instant(ends_from)} or later")


def _check_leaf(leaf: x509.Certificate, expected: Expected) -> None:
    constraints = _extension(leaf, x509.BasicConstraints)
    usage = _extension(leaf, x509.KeyUsage)
    if constraints is not None and constraints.ca:
        raise _wrong(leaf, "could certify others; expected one of a server")
    if usage is not None and not usage.digital_signature:
        raise _wrong(leaf, "is not for signatures: its key usage lacks digitalSignature")
    _check_extensions(leaf)
    found = _names(leaf)
    wanted = {name.lower() for name in expected.names}
    if {name.lower() for name in found} != wanted:
        named = ", ".join(found) or "no name"
        raise KeyMaterialError(f"the certificate is for {named}; expected {', '.join(expected.names)}")
    if expected.ends_by is not None and leaf.not_valid_after_utc > expected.ends_by:
        raise _wrong(
            leaf,
            f"ends {_instant(leaf.not_valid_after_utc)}; expected {_instant(expected.ends_by)} or before",
        )


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """All that it is for: its alternative names, of whatever kind, and common names beside them."""
    alternative = _extension(leaf, x509.SubjectAlternativeName)
    given = [str(name.value) for name in alternative] if alternative is not None else []
    common = [
        str(one.value)
        for one in leaf.subject
        if one.oid == x509.NameOID.COMMON_NAME and str(one.value).lower() not in {n.lower() for n in given}
    ]
    return tuple(given + common) if given else ()


def _is_soundly_signed(certificate: x509.Certificate) -> bool:
    """Whether its signature is over a sound hash; Ed25519 and Ed448 bring their own."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return False
    return algorithm is None or isinstance(algorithm, _SOUND_HASHES)


def _check_extensions(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        if extension.critical and not isinstance(extension.value, _UNDERSTOOD):
            raise _wrong(
                certificate,
                f"has a critical extension that is not understood, {extension.oid.dotted_string}",
            )


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _wrong(certificate: x509.Certificate, what: str) -> KeyMaterialError:
    return KeyMaterialError(f"the certificate of {_subject(certificate)} {what}")


def _subject(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string())


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
