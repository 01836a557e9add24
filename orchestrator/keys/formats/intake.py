"""From what files hold to a key that keyrelay can hand over, with its certificates in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.errors import KeyMaterialError, UnsupportedFileError
from orchestrator.keys.formats.chains import Chain, chain_of
from orchestrator.keys.formats.contents import Contents
from orchestrator.keys.material import KeyPair


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A key that keyrelay can hand over.

    Attributes:
        chain: its certificate and what is above it; None: the files hold no certificate.
    """

    pair: KeyPair
    chain: Chain | None


def take(files: Sequence[Contents], *, at: datetime) -> Taken:
    """The one private key in some files, and its certificates.

    Args:
        files: in any order; key and certificates may be in one file or in several.
        at: the present; certificates have to be valid.

    Raises:
        UnsupportedFileError: there is no private key, or there are several.
        WeakKeyError: a key or a signature is too weak.
        KeyMismatchError: the certificate is one of another key.
        ChainError: the certificates make no chain, or it does not hold.
        ExpiredCertificateError, NotYetValidError: a certificate is not valid now.
        UnsupportedKeyError: the key is of a kind that keyrelay does not hand over.
    """
    privates = {key.public.der: key for one in files for key in one.privates}
    if len(privates) != 1:
        held = ", ".join(_told(one) for one in files)
        raise UnsupportedFileError(
            f"found {len(privates) or 'no'} private keys where one is needed; the files hold {held}",
            hint="name the file with the private key, and those with its certificate and chain",
        )
    (private,) = privates.values()
    private.public.require_strong("the private key")
    certificates = [certificate for one in files for certificate in one.certificates]
    chain = chain_of(certificates, private.public, at=at) if certificates else None
    pair = private.pair
    if chain is not None:
        _ = chain.leaf.certificate
    return Taken(pair=pair, chain=chain)


def examine(contents: Contents, *, at: datetime) -> tuple[KeyMaterialError, ...]:
    """What is wrong with the keys and certificates of a file, for somebody who only looks at it.

    Returns:
        One error of each key and certificate that is too weak, and one of the chain; empty: nothing.
    """
    found: list[KeyMaterialError] = []
    for key, whose in [
        *((private.public, "the private key") for private in contents.privates),
        *((public, "the public key") for public in contents.publics),
    ]:
        try:
            key.require_strong(whose)
        except KeyMaterialError as error:
            found.append(error)
    if contents.certificates:
        key_of_file = contents.privates[0].public if len(contents.privates) == 1 else None
        try:
            chain_of(contents.certificates, key_of_file, at=at)
        except KeyMaterialError as error:
            found.append(error)
    return tuple(found)


def _told(contents: Contents) -> str:
    counted = [
        f"1 {what}" if len(things) == 1 else f"{len(things)} {what}s"
        for what, things in (
            ("private key", contents.privates),
            ("certificate", contents.certificates),
            ("public key", contents.publics),
        )
        if things
    ]
    return " and ".join(counted) or "nothing"
