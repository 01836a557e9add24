"""PKCS #12 (RFC 7292): a key, its certificate and chain under one password.

The file is opened here and not by a library, for three reasons: what it costs is known before it is spent,
also where one encrypted part holds another; a wrong password is told from a damaged file by the code over
the whole; and NSS writes BER. Writing leaves the container to ``cryptography`` and renews the code over it,
whose derivation it leaves at 2,048 rounds, which would make that the cheapest place to try passwords.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import PBES, serialize_key_and_certificates

from orchestrator.errors import (
    DamagedFileError,
    PasswordNeededError,
    UnsupportedFileError,
    WrongPasswordError,
)
from orchestrator.keys.formats import der, pbe
from orchestrator.keys.formats.binary import read_certificate, read_locked, read_private
from orchestrator.keys.formats.budget import Budget
from orchestrator.keys.formats.contents import Contents, Format
from orchestrator.keys.material import Random, open_signer
from orchestrator.keys.secret import Secret

_VERSION = 3
_DATA = "1.2.840.113549.1.7.1"
_ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
_KEY_BAG = "1.2.840.113549.1.12.10.1.1"
_LOCKED_KEY_BAG = "1.2.840.113549.1.12.10.1.2"
_CERTIFICATE_BAG = "1.2.840.113549.1.12.10.1.3"
_NESTED_BAG = "1.2.840.113549.1.12.10.1.6"
_X509_CERTIFICATE = "1.2.840.113549.1.9.22.1"
_SHA256 = "2.16.840.1.101.3.4.2.1"
_PBMAC1 = "1.2.840.113549.1.5.14"
_HASHES: Mapping[str, str] = MappingProxyType(
    {
        "1.3.14.3.2.26": "sha1",
        "2.16.840.1.101.3.4.2.4": "sha224",
        _SHA256: "sha256",
        "2.16.840.1.101.3.4.2.2": "sha384",
        "2.16.840.1.101.3.4.2.3": "sha512",
    }
)


def read_pkcs12(file: der.Value, password: Secret | None, budget: Budget) -> Contents:
    """The keys and certificates of a file.

    Raises:
        PasswordNeededError, WrongPasswordError: it is not opened by ``password``.
        UnsupportedFileError: an algorithm that is not read.
        DamagedFileError: malformed, or changed since it was written.
        TooCostlyError: more work than a file may cost.
    """
    if file.part(0, der.INTEGER).integer() != _VERSION:
        raise UnsupportedFileError("a PKCS #12 file of a version other than 3")
    authenticated = file.part(1, der.SEQUENCE)
    if authenticated.part(0, der.OID).oid() != _DATA:
        raise UnsupportedFileError(
            "a PKCS #12 file under a public key; keyrelay reads those under a password"
        )
    content = _content(authenticated)
    used = password
    if len(file.parts) > 2:  # noqa: PLR2004 - the third part is the code over the second
        used = _checked(file.part(2, der.SEQUENCE), content, password, budget)
    safes = der.parse(content)
    privates, certificates = [], []
    for bag in _bags(safes, used, budget, checked=len(file.parts) > 2):  # noqa: PLR2004 - as above
        name, inner = bag.part(0, der.OID).oid(), bag.part(1, der.CONTEXT_0)
        if name == _KEY_BAG:
            privates.append(read_private(Secret(inner.part(0, der.SEQUENCE).whole)))
        elif name == _LOCKED_KEY_BAG:
            privates.append(read_locked(inner.part(0, der.SEQUENCE), used, budget))
        elif name == _CERTIFICATE_BAG:
            held = inner.part(0, der.SEQUENCE)
            if held.part(0, der.OID).oid() != _X509_CERTIFICATE:
                raise UnsupportedFileError("a PKCS #12 file with a certificate that is not X.509")
            certificates.append(read_certificate(_inner_string(held.part(1, der.CONTEXT_0))))
    together = Contents(
        format=Format.PKCS12,
        privates=tuple(privates),
        certificates=tuple(certificates),
        encrypted=True,
    )
    return Contents.together(Format.PKCS12, [together])


def write_pkcs12(
    private: Secret,
    certificates: tuple[x509.Certificate, ...],
    password: Secret,
    *,
    name: str,
    random: Random,
) -> Secret:
    """A file with a key and its certificates, AES-256 throughout, 600,000 rounds everywhere.

    Args:
        private: PKCS #8 PEM, as a ``KeyPair`` has it.
        certificates: the key's own, and then its chain upwards; may be empty.
        password: UTF-8.
        name: the friendly name under which programs list the key.
        random: gives the salt of the code over the whole.
    """
    secret = pbe.bmp_password(password)
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(pbe.ITERATIONS)
        .hmac_hash(hashes.SHA256())
        .key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC)
        .build(password.reveal())
    )
    own, chain = certificates[:1], certificates[1:]
    file = serialize_key_and_certificates(
        name.encode(),
        open_signer(private),
        own[0] if own else None,
        chain,
        encryption,
    )
    read = der.parse(file)
    content = _content(read.part(1, der.SEQUENCE))
    salt = random(16)
    key = pbe.pkcs12_key("sha256", secret, salt, pbe.ITERATIONS, use=pbe.MAC_USE, size=32)
    algorithm = der.encode(der.SEQUENCE, der.encode_oid(_SHA256), der.encode(der.NULL))
    code = der.encode(der.OCTET_STRING, hmac.digest(key, content, "sha256"))
    over_all = der.encode(
        der.SEQUENCE,
        der.encode(der.SEQUENCE, algorithm, code),
        der.encode(der.OCTET_STRING, salt),
        der.encode_integer(pbe.ITERATIONS),
    )
    return Secret(der.encode(der.SEQUENCE, read.parts[0].whole, read.parts[1].whole, over_all))


def _content(info: der.Value) -> bytes:
    """The octets of a ContentInfo of the type data."""
    return _inner_string(info.part(1, der.CONTEXT_0))


def _inner_string(tagged: der.Value) -> bytes:
    if len(tagged.parts) != 1:
        raise DamagedFileError("the PKCS #12 file has a part that is not one string of octets")
    return tagged.parts[0].string()


def _checked(over_all: der.Value, content: bytes, password: Secret | None, budget: Budget) -> Secret:
    """The password that the code over the whole proves."""
    told = over_all.part(0, der.SEQUENCE)
    algorithm, code = told.part(0, der.SEQUENCE), told.part(1, der.OCTET_STRING).octets
    salt = over_all.part(1, der.OCTET_STRING).octets
    rounds = over_all.parts[2].integer() if len(over_all.parts) > 2 else 1  # noqa: PLR2004 - DEFAULT 1
    name = algorithm.part(0, der.OID).oid()
    if not rounds:
        raise DamagedFileError("the file asks for no round of password hashing")
    for tried in _meant(password):
        if name == _PBMAC1:
            found = pbe.pbmac1(algorithm.part(1, der.SEQUENCE), content, tried, budget)
        elif name in _HASHES:
            budget.hash(rounds)
            hashed, secret = _HASHES[name], pbe.bmp_password(tried)
            size = hashlib.new(hashed).digest_size
            key = pbe.pkcs12_key(hashed, secret, salt, rounds, use=pbe.MAC_USE, size=size)
            found = hmac.digest(key, content, hashed)
        else:
            raise UnsupportedFileError(f"a PKCS #12 file whose code over all is not read by keyrelay, {name}")
        if hmac.compare_digest(found, code):
            return tried
    if password is None:
        raise PasswordNeededError("the file is encrypted, and no password was given")
    raise WrongPasswordError(f"{pbe.NOT_OPENED}, or the file was changed since it was written")


def _meant(password: Secret | None) -> tuple[Secret, ...]:
    """Programs differ in whether no password is an empty one, and people do not know which it was."""
    if password is None or not password.reveal():
        return (Secret(b""), pbe.NO_PASSWORD)
    return (password,)


def _bags(safes: der.Value, password: Secret | None, budget: Budget, *, checked: bool) -> Iterator[der.Value]:
    for info in safes.parts:
        name = info.part(0, der.OID).oid()
        if name == _DATA:
            yield from _flat(der.parse(_content(info)))
        elif name == _ENCRYPTED_DATA:
            body = info.part(1, der.CONTEXT_0).part(0, der.SEQUENCE).part(1, der.SEQUENCE)
            if len(body.parts) < 3 or body.parts[2].tag not in {der.PRIMITIVE_0, der.CONTEXT_0}:  # noqa: PLR2004 - RFC 5652, 8
                raise DamagedFileError("the PKCS #12 file has an encrypted part without content")
            algorithm, locked = body.part(1, der.SEQUENCE), body.parts[2].string()
            yield from _flat(_opened(algorithm, locked, password, budget, checked=checked))
        else:
            raise UnsupportedFileError(f"a PKCS #12 file with a part that keyrelay does not read, {name}")


def _opened(
    algorithm: der.Value, locked: bytes, password: Secret | None, budget: Budget, *, checked: bool
) -> der.Value:
    try:
        return der.parse(pbe.decrypt(algorithm, locked, password, budget).reveal())
    except (WrongPasswordError, DamagedFileError) as error:
        if checked:
            raise DamagedFileError(
                "a part of the PKCS #12 file does not open with the file's password"
            ) from error
        raise WrongPasswordError(pbe.NOT_OPENED) from error


def _flat(safe: der.Value) -> Iterator[der.Value]:
    """The bags of a safe, and of the safes in it; ``der.parse`` bounds how deep that goes."""
    for bag in safe.parts:
        if bag.tag == der.SEQUENCE and bag.has(der.OID) and bag.parts[0].oid() == _NESTED_BAG:
            yield from _flat(bag.part(1, der.CONTEXT_0).part(0, der.SEQUENCE))
        else:
            yield bag
