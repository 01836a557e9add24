"""What a file of keys holds, whatever its format."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from orchestrator.errors import TooCostlyError
from orchestrator.keys.formats.budget import MAX_CERTIFICATES
from orchestrator.keys.formats.foreign import ForeignCertificate, ForeignKey, ForeignPrivate


class Format(StrEnum):
    """The forms that files come in and are written in."""

    PEM = "pem"
    """Blocks of text (RFC 7468): keys and certificates, one after the other."""
    DER = "der"
    """One key or one certificate in binary."""
    PKCS12 = "pkcs12"
    """A key with its certificates under a password (RFC 7292): .p12, .pfx."""
    JWK = "jwk"
    """One key in JSON (RFC 7517), encrypted as RFC 7517 section 7 has it."""
    JWKS = "jwks"
    """A set of keys in JSON (RFC 7517 section 5)."""
    OPENSSH = "openssh"
    """A key as ssh-keygen writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The keys and certificates of a file, in its order.

    Attributes:
        format: the form the file came in.
        publics: keys that came without a private half.
        encrypted: whether a password had to be used.
    """

    format: Format
    privates: tuple[ForeignPrivate, ...] = ()
    certificates: tuple[ForeignCertificate, ...] = ()
    publics: tuple[ForeignKey, ...] = ()
    encrypted: bool = False

    @classmethod
    def together(cls, form: Format, several: Iterable["Contents"]) -> Self:
        """What several parts hold, in their order; raises ``TooCostlyError`` for too much."""
        parts = tuple(several)
        whole = cls(
            format=form,
            privates=tuple(key for part in parts for key in part.privates),
            certificates=tuple(one for part in parts for one in part.certificates),
            publics=tuple(key for part in parts for key in part.publics),
            encrypted=any(part.encrypted for part in parts),
        )
        if len(whole) > MAX_CERTIFICATES:
            raise TooCostlyError(
                f"{len(whole)} keys and certificates in one file; at most {MAX_CERTIFICATES} are read"
            )
        return whole

    def __len__(self) -> int:
        return len(self.privates) + len(self.certificates) + len(self.publics)
