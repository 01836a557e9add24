"""One DER value as what it is: a certificate, a key, an encrypted key.

What it is follows from its shape alone, so that a damaged file is called damaged, and not unknown. Shapes:
certificates RFC 5280 section 4.1, public keys section 4.1.2.7, PKCS #8 RFC 5958, PKCS #1 RFC 8017 appendix
A.1, SEC 1 RFC 5915, PKCS #12 RFC 7292 section 4; and of what is not read, requests RFC 2986, revocation lists
RFC 5280 section 5.1, CMS RFC 5652.
"""

from enum import Enum, auto
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from orchestrator.errors import (
    DamagedFileError,
    TooCostlyError,
    UnsupportedFileError,
    UnsupportedKeyError,
    WrongPasswordError,
)
from orchestrator.keys.formats import der, pbe
from orchestrator.keys.formats.budget import Budget
from orchestrator.keys.formats.contents import Contents, Format
from orchestrator.keys.formats.foreign import (
    MOST_RSA_BITS,
    ForeignCertificate,
    ForeignKey,
    ForeignPrivate,
    told_as_damage,
)
from orchestrator.keys.secret import Secret


class Shape(Enum):
    """What a DER value is by its shape."""

    CERTIFICATE = auto()
    PRIVATE = auto()
    LOCKED = auto()
    PUBLIC = auto()
    RSA_PRIVATE = auto()
    RSA_PUBLIC = auto()
    EC_PRIVATE = auto()
    DSA_PRIVATE = auto()
    PKCS12 = auto()
    REQUEST = auto()
    REVOCATION_LIST = auto()
    CMS = auto()
    OTHER = auto()


_REQUESTED = (der.INTEGER, der.SEQUENCE, der.SEQUENCE)
_TIMES = {0x17, 0x18}
_NOT_READ = {
    Shape.REQUEST: "a certificate request, which holds neither a private key nor a certificate",
    Shape.REVOCATION_LIST: "a list of revoked certificates",
    Shape.CMS: "a CMS (PKCS #7) message",
    Shape.OTHER: "a DER value that is neither a key nor a certificate",
}


def shape_of(value: der.Value) -> Shape:
    """What a value is."""
    if value.tag != der.SEQUENCE:
        return Shape.OTHER
    if value.has(der.SEQUENCE, der.SEQUENCE, der.BIT_STRING):
        return _signed(value.parts[0])
    if value.has(der.SEQUENCE, der.BIT_STRING) and value.parts[0].has(der.OID):
        return Shape.PUBLIC
    if value.has(der.SEQUENCE, der.OCTET_STRING) and value.parts[0].has(der.OID):
        return Shape.LOCKED
    if value.has(der.OID, der.CONTEXT_0):
        return Shape.CMS
    if value.has(der.INTEGER, der.SEQUENCE, der.OCTET_STRING):
        return Shape.PRIVATE
    if value.has(der.INTEGER, der.SEQUENCE) and value.parts[1].has(der.OID, der.CONTEXT_0):
        return Shape.PKCS12
    if value.has(der.INTEGER, der.OCTET_STRING):
        return Shape.EC_PRIVATE
    if value.parts and all(part.tag == der.INTEGER for part in value.parts):
        counts = {9: Shape.RSA_PRIVATE, 6: Shape.DSA_PRIVATE, 2: Shape.RSA_PUBLIC}
        return counts.get(len(value.parts), Shape.OTHER)
    return Shape.OTHER


def _signed(body: der.Value) -> Shape:
    """A certificate, a request, or a list of revoked certificates."""
    parts = body.parts[1:] if body.has(der.CONTEXT_0) else body.parts
    tags = tuple(part.tag for part in parts)
    if tags[:4] == (der.INTEGER, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE):
        return Shape.CERTIFICATE
    if tags in {(*_REQUESTED, der.CONTEXT_0), _REQUESTED}:
        return Shape.REQUEST
    return Shape.REVOCATION_LIST if {*tags[:4]} & _TIMES else Shape.OTHER


def read_binary(value: der.Value, password: Secret | None, budget: Budget) -> Contents:
    """A key or a certificate.

    Raises:
        KeyMaterialError: one of its kinds that tell of files, see ``reading.read``.
    """
    shape, whole = shape_of(value), value.whole
    match shape:
        case Shape.CERTIFICATE:
            return Contents(format=Format.DER, certificates=(read_certificate(whole),))
        case Shape.PUBLIC | Shape.RSA_PUBLIC:
            return Contents(format=Format.DER, publics=(_public(whole),))
        case Shape.PRIVATE | Shape.RSA_PRIVATE | Shape.EC_PRIVATE | Shape.DSA_PRIVATE:
            return Contents(format=Format.DER, privates=(read_private(Secret(whole)),))
        case Shape.LOCKED:
            return Contents(
                format=Format.DER, privates=(read_locked(value, password, budget),), encrypted=True
            )
        case _:
            raise UnsupportedFileError(f"{_NOT_READ.get(shape, _NOT_READ[Shape.OTHER])}")


def read_certificate(encoded: bytes) -> ForeignCertificate:
    """A certificate in DER; raises as ``ForeignCertificate.of``."""
    with told_as_damage("the certificate"):
        return ForeignCertificate.of(x509.load_der_x509_certificate(encoded))


def read_private(encoded: Secret) -> ForeignPrivate:
    """An unencrypted private key in DER, examined whole.

    Raises:
        DamagedFileError: malformed, or its numbers are no key.
        UnsupportedKeyError, TooCostlyError: as ``ForeignKey.of``.
    """
    key = _loaded(encoded, examined=False)
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size > MOST_RSA_BITS:
            raise TooCostlyError(
                f"a key of RSA of {key.key_size} bits; at most {MOST_RSA_BITS} bits are read"
            )
        key = _loaded(encoded, examined=True)
    return ForeignPrivate.of(key)


def read_locked(value: der.Value, password: Secret | None, budget: Budget) -> ForeignPrivate:
    """An encrypted private key (RFC 5958 section 3); raises as ``pbe.decrypt`` and ``read_private``."""
    opened = pbe.decrypt(
        value.part(0, der.SEQUENCE), value.part(1, der.OCTET_STRING).octets, password, budget
    )
    try:
        shape = shape_of(der.parse(opened.reveal()))
    except DamagedFileError:
        shape = Shape.OTHER
    if shape is not Shape.PRIVATE:
        # One wrong password in some hundred leaves a padding that looks sound.
        raise WrongPasswordError(pbe.NOT_OPENED) from None
    return read_private(opened)


def _loaded(encoded: Secret, *, examined: bool) -> Any:
    try:
        with told_as_damage("the private key"):
            return load_der_private_key(encoded.reveal(), None, unsafe_skip_rsa_key_validation=not examined)
    except UnsupportedFileError as error:
        raise UnsupportedKeyError(f"{error.message}") from None
    except DamagedFileError as error:
        # The cause may quote what it read; a private key's bytes stay out of every traceback.
        raise DamagedFileError(error.message) from None


def _public(encoded: bytes) -> ForeignKey:
    try:
        with told_as_damage("the public key"):
            return ForeignKey.of(load_der_public_key(encoded))
    except UnsupportedFileError as error:
        raise UnsupportedKeyError(error.message) from error.__cause__
