"""Certificates that somebody else's authority has issued: what is demanded of them before they are used.

keyrelay's own authority is of one kind of key; others' may be of any that is not weak. A server's own
certificate is one of a key that keyrelay made or asked for. ``keys/path.py`` has the rules for the path; what
was asked for (key, names, period) is compared here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.certificate import UNREADABLE, Certificate, extension
from orchestrator.keys.formats.foreign import ForeignCertificate
from orchestrator.keys.material import PublicKey, ascii_text
from orchestrator.keys.name_constraints import Kind, told
from orchestrator.keys.path import (
    Path,
    check_authority,
    check_path,
    first_sound,
    is_root,
    paths_from,
    require_server,
)

MOST_CERTIFICATES = 10
"""In one answer of an authority, and among the roots it may end at."""


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


def parse_roots(pem: str | bytes) -> tuple[ForeignCertificate, ...]:
    """Reads the certificates that a chain may end at: roots, or authorities below one.

    Raises:
        KeyMaterialError: none, too many, damaged, weak, or not an authority's.
    """
    roots = _certificates(ascii_text(pem, "certificates of authorities"))
    for root in roots:
        check_authority(root)
    return roots


def accept(answer: str | bytes, expected: Expected, roots: Sequence[ForeignCertificate]) -> Accepted:
    """Finds the certificate that was asked for in what an authority answered, and checks its chain.

    Args:
        answer: PEM blocks in any order; text around them is passed over.
        expected: what the certificate has to be.
        roots: what is trusted; the chain ends at one of them, which the answer may hold or leave out.

    Raises:
        KeyMaterialError: says what was found and what was expected.
    """
    there = _certificates(ascii_text(answer, "certificates"))
    leaf = _leaf(there, expected.public)
    pool = (*roots, *(one for one in there if one != leaf and one not in roots))

    def check(path: Path) -> None:
        if path[-1] not in roots:
            wanted = " or ".join(repr(root.subject) for root in roots)
            raise KeyMaterialError(
                f"the chain ends at {path[-1].subject!r}, issued by {path[-1].issuer!r},"
                f" which is not trusted; expected {wanted} above it",
                hint="the answer holds the certificates between, or the playbook's root is another one",
            )
        check_path(path)
        _check_period(leaf, expected.begins_by, expected.ends_from)
        for authority in path[1:]:
            _check_period(authority, expected.at, expected.ends_from)

    path = first_sound(paths_from(leaf, pool, trusted=roots), check)
    require_server(leaf)
    _check_asked_for(leaf, expected)
    sent = [one.pem for one in path[1:] if not is_root(one)]
    return Accepted(certificate=leaf.certificate, chain_pem="".join(sent))


def _certificates(text: str) -> tuple[ForeignCertificate, ...]:
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except UNREADABLE as error:
        raise KeyMaterialError("expected certificates in PEM, found none that can be read") from error
    if len(found) > MOST_CERTIFICATES:
        raise KeyMaterialError(f"found {len(found)} certificates; expected at most {MOST_CERTIFICATES}")
    return tuple(ForeignCertificate.of(one) for one in dict.fromkeys(found))


def _leaf(there: Sequence[ForeignCertificate], public: PublicKey) -> ForeignCertificate:
    mine = [certificate for certificate in there if certificate.key.spki_digest == public.spki_digest]
    if len(mine) != 1:
        raise KeyMaterialError(
            f"of {len(there)} certificates {len(mine)} are of the key that was to be certified; expected one"
        )
    return mine[0]


def _check_period(certificate: ForeignCertificate, begins_by: datetime, ends_from: datetime) -> None:
    begin, end = certificate.not_before, certificate.not_after
    if begin > begins_by:
        raise _wrong(certificate, f"begins {_instant(begin)}; expected {_instant(begins_by)} or before")
    if end < ends_from:
        raise _wrong(certificate, f"ends {_instant(end)}; expected {_instant(ends_from)} or later")


def _check_asked_for(leaf: ForeignCertificate, expected: Expected) -> None:
    found = _names(leaf)
    if {(kind, str(name).lower()) for kind, name in found} != {
        (x509.DNSName, name.lower()) for name in expected.names
    }:
        named = ", ".join(told(kind, name) for kind, name in found) or "no name"
        raise KeyMaterialError(f"the certificate is for {named}; expected {', '.join(expected.names)}")
    if expected.ends_by is not None and leaf.not_after > expected.ends_by:
        raise _wrong(
            leaf, f"ends {_instant(leaf.not_after)}; expected {_instant(expected.ends_by)} or before"
        )


def _names(leaf: ForeignCertificate) -> tuple[tuple[Kind, object], ...]:
    """All that it is for: its alternative names, and common names that are not among them, as dNSNames."""
    alternative = extension(leaf.opened, x509.SubjectAlternativeName)
    if alternative is None:
        return ()
    given = [(type(name), name.value) for name in alternative]
    known = {str(name).lower() for kind, name in given if kind is x509.DNSName}
    common = [str(one.value) for one in leaf.opened.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return (*given, *((x509.DNSName, name) for name in common if name.lower() not in known))


def _wrong(certificate: ForeignCertificate, what: str) -> KeyMaterialError:
    return KeyMaterialError(f"the certificate of {certificate.name!r} {what}")


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")
