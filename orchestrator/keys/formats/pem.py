"""Blocks of text (RFC 7468), and what each of them holds.

What stands between blocks is left alone, as programs put names and attributes there. A block's label is only
believed as far as what is in it agrees.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from orchestrator.errors import (
    DamagedFileError,
    PasswordNeededError,
    TooCostlyError,
    UnsupportedFileError,
    WrongPasswordError,
)
from orchestrator.keys.formats import der, pbe
from orchestrator.keys.formats.binary import Shape, read_binary, shape_of
from orchestrator.keys.formats.budget import MAX_CERTIFICATES, Budget
from orchestrator.keys.formats.contents import Contents, Format
from orchestrator.keys.formats.foreign import MOST_RSA_BITS, ForeignPrivate, told_as_damage
from orchestrator.keys.formats.openssh import read_openssh_private
from orchestrator.keys.secret import Secret

BEGIN = b"-----BEGIN "
_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>[A-Z0-9. ]{1,64})-----[ \t]*\n"
    rb"(?P<body>[^-]*(?:-(?!----)[^-]*)*)-----END (?P=label)-----"
)
_HEADER = re.compile(rb"^(?P<name>[A-Za-z0-9-]+): ?(?P<value>[^\n]*)\n", re.MULTILINE)
_OPENSSH = "OPENSSH PRIVATE KEY"
_PARAMETERS = frozenset({"EC PARAMETERS", "DSA PARAMETERS", "DH PARAMETERS", "X9.42 DH PARAMETERS"})
"""What stands before keys and is said again in them."""

_LABELS = {
    "CERTIFICATE": {Shape.CERTIFICATE},
    "X509 CERTIFICATE": {Shape.CERTIFICATE},
    "PRIVATE KEY": {Shape.PRIVATE},
    "ENCRYPTED PRIVATE KEY": {Shape.LOCKED},
    "RSA PRIVATE KEY": {Shape.RSA_PRIVATE},
    "EC PRIVATE KEY": {Shape.EC_PRIVATE},
    "DSA PRIVATE KEY": {Shape.DSA_PRIVATE},
    "PUBLIC KEY": {Shape.PUBLIC},
    "RSA PUBLIC KEY": {Shape.RSA_PUBLIC},
}
_READ = f"keyrelay reads {', '.join(sorted([*_LABELS, _OPENSSH]))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block, which may hold a private key.

    Attributes:
        headers: of RFC 1421, as OpenSSL wrote them before PKCS #8.
        body: what the base64 stands for.
        text: the block as it was read.
    """

    label: str
    headers: bytes
    body: Secret
    text: Secret


def read_pem(data: bytes, password: Secret | None, budget: Budget) -> Contents:
    """All keys and certificates of a text, in its order.

    Raises:
        KeyMaterialError: one of its kinds that tell of files, see ``reading.read``.
    """
    found = [_contents(block, password, budget) for block in _blocks(data) if block.label not in _PARAMETERS]
    if not found:
        raise UnsupportedFileError(f"the file holds parameters alone; {_READ}")
    return Contents.together(Format.PEM, found)


def _blocks(data: bytes) -> Iterator[Block]:
    text = data.replace(b"\r\n", b"\n")
    blocks = list(_BLOCK.finditer(text))
    if len(blocks) != text.count(BEGIN):
        raise DamagedFileError(
            f"blocks of PEM that begin in the file: {text.count(BEGIN)}; whole ones: {len(blocks)}",
            hint="it may have been cut off or edited; copy it again",
        )
    if len(blocks) > MAX_CERTIFICATES:
        raise TooCostlyError(f"{len(blocks)} blocks in one file; at most {MAX_CERTIFICATES} are read")
    for block in blocks:
        label, body = block["label"].decode("ascii"), block["body"]
        headers = b"".join(header.group() for header in _HEADER.finditer(body))
        base64_text = b"".join(_HEADER.sub(b"", body).split())
        try:
            encoded = base64.b64decode(base64_text, validate=True)
        except binascii.Error:
            raise DamagedFileError(f"the block {label} is not base64") from None
        yield Block(label=label, headers=headers, body=Secret(encoded), text=Secret(block.group() + b"\n"))


def _contents(block: Block, password: Secret | None, budget: Budget) -> Contents:
    if block.label == _OPENSSH:
        return read_openssh_private(block.text, block.body, password, budget)
    if block.label not in _LABELS:
        raise UnsupportedFileError(f"a PEM block {block.label}; {_READ}")
    if b"ENCRYPTED" in block.headers:
        return Contents(format=Format.PEM, privates=(_read_legacy(block, password),), encrypted=True)
    value = der.parse(block.body.reveal())
    if shape_of(value) not in _LABELS[block.label]:
        raise DamagedFileError(f"what stands in the block {block.label} is none")
    try:
        return read_binary(value, password, budget)
    except UnsupportedFileError as error:
        raise type(error)(f"the block {block.label}: {error.message}", hint=error.hint) from error


def _read_legacy(block: Block, password: Secret | None) -> ForeignPrivate:
    """A key under ``DEK-Info``: one round of MD5, whatever the cipher, so that nothing has to be bounded."""
    if password is None:
        raise PasswordNeededError("the private key is encrypted, and no password was given")
    pem, secret = block.text.reveal(), password.reveal()
    try:
        with told_as_damage("the private key"):
            key = load_pem_private_key(pem, secret, unsafe_skip_rsa_key_validation=True)
            if isinstance(key, rsa.RSAPrivateKey) and key.key_size <= MOST_RSA_BITS:
                key = load_pem_private_key(pem, secret)
    except DamagedFileError as error:
        cause = str(error.__cause__).lower()
        if "password" in cause or "decrypt" in cause:
            raise WrongPasswordError(pbe.NOT_OPENED) from None
        raise DamagedFileError("the private key is damaged, or the password does not open it") from None
    return ForeignPrivate.of(key)
