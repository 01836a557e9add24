"""Certification paths: whether one certificate leads to another, for all who have to know.

RFC 5280 section 6.1 as far as keyrelay needs it: signatures and names from one certificate to the next, the
right to certify, path lengths, name constraints, validity, and nothing critical that is not understood. Every
key and every signature that is relied on has to be strong. Left out are policies, since nobody asks for any:
who makes one of their rules critical is refused. What was revoked is not looked at: agents trust keys, and
drop them with a bundle.

The caller says where trust begins; the certificate there has to be valid and one that may certify, like any
other. ``docs/adr/0021-one-way-to-check-a-path.md`` tells why this is not ``cryptography``'s own verifier.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from orchestrator.errors import ChainError, ExpiredCertificateError, KeyMaterialError, NotYetValidError
from orchestrator.keys.certificate import Certificate, extension
from orchestrator.keys.formats.foreign import ForeignCertificate, told_as_damage
from orchestrator.keys.name_constraints import fault_in_names

Path = tuple[ForeignCertificate, ...]
"""From a certificate upwards, each issued by the next."""

_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.NameConstraints,
    x509.CertificatePolicies,
)
"""Extensions that may be critical. Policies may, since every policy is accepted."""

_MAX_TRIED = 500
"""So many links are tried while paths are looked for; a path of a hundred needs a hundred."""


def paths_from(
    leaf: ForeignCertificate,
    authorities: Sequence[ForeignCertificate],
    *,
    trusted: Collection[ForeignCertificate] = (),
) -> Iterator[Path]:
    """Every path upwards from a certificate that cannot be made longer, found depth first.

    Args:
        leaf: the first of each path.
        authorities: who may stand above it, in the order in which they are tried.
        trusted: where a path ends, even though it could be made longer.

    Raises:
        ChainError: too much was tried.
    """
    tried = 0
    waiting: list[Path] = [(leaf,)]
    while waiting:
        path = waiting.pop()
        longer: list[Path] = []
        if path[-1] not in trusted and not is_root(path[-1]):
            for candidate in authorities:
                if candidate in path or not names_issuer(path[-1], candidate):
                    continue
                tried += 1
                if tried > _MAX_TRIED:
                    raise ChainError(f"no chain was found within {_MAX_TRIED} attempts")
                if _issued(path[-1], candidate):
                    longer.append((*path, candidate))
        if longer:
            waiting += reversed(longer)
        else:
            yield path


def first_sound(paths: Iterable[Path], check: Callable[[Path], None]) -> Path:
    """The first path that a check does not refuse; raises what it said of the first one if there is none."""
    refusal: KeyMaterialError | None = None
    for path in paths:
        try:
            check(path)
        except KeyMaterialError as error:
            refusal = refusal or error
        else:
            return path
    raise refusal or ChainError("the certificates do not make a chain")


def check_path(path: Sequence[ForeignCertificate]) -> None:
    """Whether each certificate was issued by the next one, and all of them allow it, whatever the time.

    Nobody relies on the signature of the last one.

    Raises:
        ChainError: one was not issued by the next, may not certify what is below it, or has a critical
            extension that is not understood.
        WeakKeyError: a key or a signature is too weak.
    """
    if len({one.der for one in path}) < len(path):
        raise ChainError("the chain does not hold: a certificate stands in it twice")
    path[-1].key.require_strong(f"the key of {path[-1].name!r}")
    for certificate in path[:-1]:
        certificate.require_strong()
    for certificate in path:
        _require_understood(certificate)
    below = 0
    for certificate, above in pairwise(path):
        require_authority(above, below=below)
        below += not above.self_issued
        if not _issued(certificate, above):
            raise _broken(certificate, f"was not issued by {above.name!r}")
    _require_permitted_names(path)


def check_authority(certificate: ForeignCertificate) -> None:
    """Whether a path may end at a certificate; raises as ``check_path``."""
    check_path((certificate,))
    require_authority(certificate, below=0)


def require_authority(certificate: ForeignCertificate, *, below: int) -> None:
    """RFC 5280 section 6.1.4 (k) to (n); ``below`` counts the issuers under it that are not self-issued."""
    constraints = extension(certificate.opened, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise _broken(certificate, "may not certify others: it is not one of an authority")
    usage = extension(certificate.opened, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise _broken(certificate, "may not certify others: its key usage does not say so")
    if constraints.path_length is not None and below > constraints.path_length:
        raise _broken(certificate, f"allows {constraints.path_length} issuers below it, found {below}")


def require_valid(certificate: ForeignCertificate, *, at: datetime) -> None:
    """Raises ``ExpiredCertificateError`` or ``NotYetValidError`` outside its validity."""
    now = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    if at < certificate.not_before:
        raise NotYetValidError(
            f"the certificate of {certificate.name!r} is not yet valid: it begins"
            f" {certificate.not_before:%Y-%m-%d %H:%M:%SZ}, and it is {now}",
            hint="compare the clocks of this machine and of the one that issued it",
        )
    if at > certificate.not_after:
        raise ExpiredCertificateError(
            f"the certificate of {certificate.name!r} has expired: it ended"
            f" {certificate.not_after:%Y-%m-%d %H:%M:%SZ}, and it is {now}",
            hint="have it renewed, or leave it out and let keyrelay certify the key",
        )


def require_server(leaf: ForeignCertificate) -> None:
    """Whether a certificate is one of a server: to sign with, and not to certify; raises ``ChainError``.

    What it says nothing of is allowed, as RFC 5280 has it.
    """
    usage = extension(leaf.opened, x509.KeyUsage)
    extended = extension(leaf.opened, x509.ExtendedKeyUsage)
    if leaf.is_ca or (usage is not None and usage.key_cert_sign):
        raise _broken(leaf, "could certify others; expected one of a server")
    if usage is not None and not usage.digital_signature:
        raise _broken(leaf, "is not for signatures: its key usage lacks digitalSignature")
    if extended is not None and ExtendedKeyUsageOID.SERVER_AUTH not in extended:
        raise _broken(leaf, "is not for servers: its extended key usage lacks serverAuth")


def verify_chain(
    leaf: Certificate, intermediates: Sequence[Certificate], root: Certificate, *, at: datetime, name: str
) -> None:
    """Checks that ``leaf`` is a server's certificate for ``name``, under ``root``, at that moment.

    Args:
        leaf: the server's certificate.
        intermediates: from the leaf's issuer upwards, without the root.
        root: trusted by itself; its dates and its right to certify are checked all the same.
        at: aware.
        name: compared exactly, without regard to case; wildcards are not known.

    Raises:
        KeyMaterialError: the chain does not hold, a certificate has expired or is not yet valid, or the leaf
            is for other names; each in its own words, checked in this order.
    """
    path = tuple(map(whole, (leaf, *intermediates, root)))
    check_path(path)
    for certificate in path:
        require_valid(certificate, at=at)
    require_server(path[0])
    if name.lower() not in {known.lower() for known in leaf.names}:
        found = ", ".join(leaf.names) or "no name"
        raise KeyMaterialError(f"the certificate is for {found}; expected {name}")


@lru_cache(maxsize=8192)
def whole(certificate: Certificate) -> ForeignCertificate:
    """A certificate of keyrelay's own kinds of key among those of any kind; kept."""
    return ForeignCertificate.of(certificate.opened)


def names_issuer(below: ForeignCertificate, above: ForeignCertificate) -> bool:
    """Whether one certificate says that the other one's subject issued it, which need not be true."""
    return below.opened.issuer == above.opened.subject


def is_root(certificate: ForeignCertificate) -> bool:
    """Whether it is signed by its own key."""
    return certificate.self_issued and _issued(certificate, certificate)


def _require_understood(certificate: ForeignCertificate) -> None:
    for one in certificate.opened.extensions:
        if one.critical and not isinstance(one.value, _UNDERSTOOD):
            raise _broken(
                certificate, f"has a critical extension that is not understood, {one.oid.dotted_string}"
            )


def _require_permitted_names(path: Sequence[ForeignCertificate]) -> None:
    """RFC 5280 section 6.1.3 (b) and (c): all below an authority, but its own renewals."""
    for height, authority in enumerate(path):
        constraints = extension(authority.opened, x509.NameConstraints)
        if constraints is None:
            continue
        for depth, certificate in enumerate(path[:height]):
            if depth and certificate.self_issued:
                continue
            fault = fault_in_names(certificate.opened, constraints)
            if fault:
                raise _broken(certificate, fault)


def _issued(below: ForeignCertificate, above: ForeignCertificate) -> bool:
    try:
        with told_as_damage("the certificate"):
            below.opened.verify_directly_issued_by(above.opened)
    except (InvalidSignature, KeyMaterialError):
        return False
    return True


def _broken(certificate: ForeignCertificate, what: str) -> ChainError:
    return ChainError(f"the chain does not hold: the certificate of {certificate.name!r} {what}")
