"""Chains of certificates from other programs: put in order, and checked.

What is checked is RFC 5280 section 6.1 without what keyrelay has no use for: policies, name constraints and
revocation lists. A certificate that makes one of those critical is refused, not passed. Who is trusted at the
top is not decided here either: agents trust keys, not authorities.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from orchestrator.errors import (
    ChainError,
    ExpiredCertificateError,
    KeyMaterialError,
    KeyMismatchError,
    NotYetValidError,
)
from orchestrator.keys.formats.foreign import ForeignCertificate, ForeignKey, told_as_damage

_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.CertificatePolicies,
)
"""Extensions that may be critical. Policies may, since every policy is accepted."""

_MAX_TRIED = 500
"""So many links are tried while a chain is looked for; a chain of a hundred needs a hundred."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Certificates in order.

    Attributes:
        leaf: the key's own.
        above: from the leaf's issuer upwards; its last may be self-signed.
    """

    leaf: ForeignCertificate
    above: tuple[ForeignCertificate, ...]

    @property
    def certificates(self) -> tuple[ForeignCertificate, ...]:
        """All of them, the leaf first."""
        return (self.leaf, *self.above)

    @property
    def without_root(self) -> tuple[ForeignCertificate, ...]:
        """What stands between the leaf and a self-signed certificate at the top."""
        top = self.above[-1:]
        return self.above[:-1] if top and top[0].self_issued else self.above


def chain_of(
    certificates: Sequence[ForeignCertificate],
    key: ForeignKey | None,
    *,
    at: datetime,
    others: Sequence[ForeignCertificate] = (),
) -> Chain:
    """The chain that the certificates make, in whatever order they came.

    Args:
        certificates: at least one; what stands there twice counts once.
        key: whose certificate is at the bottom; None: the one that certifies none of the others.
        at: where several chains are possible, one that holds at this moment is preferred.
        others: authorities that are at hand and may complete the chain; need not be part of it.

    Raises:
        KeyMismatchError: none of them is the key's.
        ChainError: they make no one chain, or it does not hold.
        WeakKeyError: a key or a signature in it is too weak.
        ExpiredCertificateError, NotYetValidError: one of them is not valid at that moment.
    """
    every = tuple({certificate.der: certificate for certificate in certificates}.values())
    first: KeyMaterialError | None = None
    for leaf in _leaves(every, key):
        for chain in _chains(leaf, (*every, *(one for one in others if one not in every))):
            try:
                _require_all_used(chain, every, key)
                check_chain(chain, at=at)
            except KeyMaterialError as error:
                first = first or error
            else:
                return chain
    raise first or ChainError("the certificates do not make a chain")


def check_chain(chain: Chain, *, at: datetime) -> None:
    """Whether each certificate was issued by the next one, may be, and is valid; raises as ``chain_of``."""
    for certificate in chain.certificates:
        if _is_root(certificate):
            # Nobody relies on the signature of a root on itself.
            certificate.key.require_strong(f"the key of {certificate.name!r}")
        else:
            certificate.require_strong()
    below = 0
    for certificate in chain.certificates:
        _require_understood(certificate)
        if certificate is not chain.leaf:
            _require_authority(certificate, below)
            below += not certificate.self_issued
    for certificate in chain.certificates:
        require_valid(certificate, at=at)


def require_valid(certificate: ForeignCertificate, *, at: datetime) -> None:
    """Raises ``ExpiredCertificateError`` or ``NotYetValidError`` outside its validity."""
    now = at.astimezone(UTC).isoformat(timespec="seconds")
    if at < certificate.not_before:
        raise NotYetValidError(
            f"the certificate of {certificate.name!r} is not yet valid: it begins"
            f" {certificate.not_before.isoformat()}, and it is {now}",
            hint="compare the clocks of this machine and of the one that issued it",
        )
    if at > certificate.not_after:
        raise ExpiredCertificateError(
            f"the certificate of {certificate.name!r} has expired: it ended"
            f" {certificate.not_after.isoformat()}, and it is {now}",
            hint="have it renewed, or leave it out and let keyrelay certify the key",
        )


def _leaves(every: Sequence[ForeignCertificate], key: ForeignKey | None) -> Sequence[ForeignCertificate]:
    """The certificates that may be at the bottom, the one that lasts longest first."""
    if key is not None:
        found = [certificate for certificate in every if certificate.key == key]
        if not found:
            told = every[0].name
            raise KeyMismatchError(
                f"the private key does not belong to the certificate of {told!r}"
                if len(every) == 1
                else f"the private key belongs to none of the {len(every)} certificates"
            )
        return sorted(found, key=lambda certificate: certificate.not_after, reverse=True)
    found = [one for one in every if not any(_names_issuer(o, one) for o in every if o is not one)]
    if len(found) != 1:
        raise ChainError(f"of {len(every)} certificates {len(found)} could be the first; expected one chain")
    return found


def _chains(leaf: ForeignCertificate, every: Sequence[ForeignCertificate]) -> Iterator[Chain]:
    """Every chain upwards from the leaf that cannot be made longer, found depth first."""
    tried = 0
    waiting: list[tuple[ForeignCertificate, ...]] = [(leaf,)]
    while waiting:
        path = waiting.pop()
        longer: list[tuple[ForeignCertificate, ...]] = []
        if not _is_root(path[-1]):
            for candidate in every:
                if candidate in path or not _names_issuer(path[-1], candidate):
                    continue
                tried += 1
                if tried > _MAX_TRIED:
                    raise ChainError(f"no chain was found within {_MAX_TRIED} attempts")
                if _issued(path[-1], candidate):
                    longer.append((*path, candidate))
        if longer:
            waiting += reversed(longer)
        else:
            yield Chain(leaf=path[0], above=path[1:])


def _require_all_used(chain: Chain, every: Sequence[ForeignCertificate], key: ForeignKey | None) -> None:
    """Refuse certificates that are no part of it; other certificates of the same key are only older ones."""
    left = [one for one in every if one not in chain.certificates and one.key != key]
    if not left:
        return
    top = chain.certificates[-1]
    named = next((one for one in left if _names_issuer(top, one)), None)
    if named is not None:
        raise ChainError(
            f"the chain does not hold: the certificate of {top.name!r} was not issued by"
            f" {named.name!r}, though it names it"
        )
    raise ChainError(
        f"the certificate of {left[0].name!r} is no part of the chain of {chain.leaf.name!r}",
        hint="leave out certificates that do not belong to it",
    )


def _require_understood(certificate: ForeignCertificate) -> None:
    for extension in certificate.opened.extensions:
        if extension.critical and not isinstance(extension.value, _UNDERSTOOD):
            raise _broken(
                certificate, f"has a critical extension that is not known, {extension.oid.dotted_string}"
            )


def _require_authority(certificate: ForeignCertificate, below: int) -> None:
    """RFC 5280 section 6.1.4 (k) to (n); ``below`` counts the issuers under it that are not self-issued."""
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise _broken(certificate, "may not certify others: it is not one of an authority")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise _broken(certificate, "may not certify others: its key usage does not say so")
    if constraints.path_length is not None and below > constraints.path_length:
        raise _broken(certificate, f"allows {constraints.path_length} issuers below it, found {below}")


def _names_issuer(below: ForeignCertificate, above: ForeignCertificate) -> bool:
    return below.opened.issuer == above.opened.subject


def _is_root(certificate: ForeignCertificate) -> bool:
    return certificate.self_issued and _issued(certificate, certificate)


def _issued(below: ForeignCertificate, above: ForeignCertificate) -> bool:
    try:
        with told_as_damage("the certificate"):
            below.opened.verify_directly_issued_by(above.opened)
    except (InvalidSignature, KeyMaterialError):
        return False
    return True


def _broken(certificate: ForeignCertificate, what: str) -> ChainError:
    return ChainError(f"the chain does not hold: the certificate of {certificate.name!r} {what}")


def _extension(certificate: ForeignCertificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.opened.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
