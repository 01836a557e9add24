"""Chains of certificates from other programs: put in order, and checked.

``keys/path.py`` has the rules. Who is trusted at the top is not decided: agents trust keys, not authorities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.errors import ChainError, KeyMismatchError
from orchestrator.keys.formats.foreign import ForeignCertificate, ForeignKey
from orchestrator.keys.path import (
    Path,
    check_path,
    first_sound,
    is_root,
    names_issuer,
    paths_from,
    require_valid,
)


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
    pool = (*every, *(one for one in others if one not in every))

    def check(path: Path) -> None:
        _require_all_used(path, every, key)
        check_path(path)
        if not is_root(path[-1]):
            path[-1].require_strong()
        for certificate in path:
            require_valid(certificate, at=at)

    leaf, *above = first_sound((p for leaf in _leaves(every, key) for p in paths_from(leaf, pool)), check)
    return Chain(leaf=leaf, above=tuple(above))


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
    found = [one for one in every if not any(names_issuer(o, one) for o in every if o is not one)]
    if len(found) != 1:
        raise ChainError(f"of {len(every)} certificates {len(found)} could be the first; expected one chain")
    return found


def _require_all_used(path: Path, every: Sequence[ForeignCertificate], key: ForeignKey | None) -> None:
    """Refuse certificates that are no part of it; other certificates of the same key are only older ones."""
    left = [one for one in every if one not in path and one.key != key]
    if not left:
        return
    top = path[-1]
    named = next((one for one in left if names_issuer(top, one)), None)
    if named is not None:
        raise ChainError(
            f"the chain does not hold: the certificate of {top.name!r} was not issued by"
            f" {named.name!r}, though it names it"
        )
    if not is_root(top):
        raise ChainError(
            f"the certificate of {top.name!r} is issued by {top.issuer!r}, which no file holds",
            hint=f"add its certificate; or leave out that of {left[0].name!r}, which is no part of the chain",
        )
    raise ChainError(
        f"the certificate of {left[0].name!r} is no part of the chain of {path[0].name!r}",
        hint="leave out certificates that do not belong to it",
    )
