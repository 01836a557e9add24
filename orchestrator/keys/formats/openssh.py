"""Keys as OpenSSH writes them: public ones in a line (RFC 4253 section 6.6), private ones (PROTOCOL.key).

The number of bcrypt rounds stands in the clear before everything that is encrypted.
"""

import struct

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from orchestrator.errors import (
    DamagedFileError,
    PasswordNeededError,
    UnsupportedFileError,
    UnsupportedKeyError,
    WrongPasswordError,
)
from orchestrator.keys.formats.budget import MAX_CERTIFICATES, Budget
from orchestrator.keys.formats.contents import Contents, Format
from orchestrator.keys.formats.foreign import ForeignKey, ForeignPrivate, told_as_damage
from orchestrator.keys.material import PublicKey, open_signer
from orchestrator.keys.secret import Secret

BCRYPT_ROUNDS = 64
"""In what is written; ssh-keygen itself takes 24."""

_MAGIC = b"openssh-key-v1\x00"
_KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
PUBLIC_BEGINNINGS = tuple(
    kind.encode() for kind in (*_KINDS, "ssh-dss", "sk-ssh-", "sk-ecdsa-", "ssh-ed448", "ecdsa-sha2-")
)
"""How a line with a public key, or a certificate of OpenSSH's own, begins."""


def read_openssh_public(data: bytes) -> Contents:
    """Public keys, one a line; lines that are empty or begin with ``#`` are left alone.

    Raises:
        UnsupportedFileError: a certificate of OpenSSH's own, or a key on a security key.
        DamagedFileError: a line is no key.
    """
    lines = [line.strip() for line in data.splitlines()]
    told = [line for line in lines if line and not line.startswith(b"#")]
    return Contents.together(
        Format.OPENSSH,
        [Contents(format=Format.OPENSSH, publics=(_public(line),)) for line in told[: MAX_CERTIFICATES + 1]],
    )


def read_openssh_private(pem: Secret, body: Secret, password: Secret | None, budget: Budget) -> Contents:
    """A private key.

    Args:
        pem: the block.
        body: what its base64 stands for.
        password: of the key.
        budget: what it may cost.

    Raises:
        PasswordNeededError, WrongPasswordError: it is encrypted.
        TooCostlyError: more rounds of bcrypt than a file may cost.
        UnsupportedFileError, UnsupportedKeyError, DamagedFileError: as everywhere.
    """
    cipher, rounds = _lock(body.reveal())
    locked = cipher != b"none"
    if locked:
        budget.bcrypt(rounds)
        if password is None:
            raise PasswordNeededError("the private key is encrypted, and no password was given")
    try:
        with told_as_damage("the private key"):
            key = load_ssh_private_key(pem.reveal(), password.reveal() if locked and password else None)
    except UnsupportedFileError as error:
        raise UnsupportedKeyError(error.message) from None
    except DamagedFileError as error:
        cause = str(error.__cause__)
        if "password" in cause.lower() or "Corrupt data: broken checksum" in cause:
            raise WrongPasswordError("the password does not open the file") from None
        raise DamagedFileError(error.message) from None
    return Contents(format=Format.OPENSSH, privates=(ForeignPrivate.of(key),), encrypted=locked)


def write_openssh_public(key: PublicKey, comment: str) -> bytes:
    """One line; the comment is without line breaks."""
    encoded = key.opened.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return encoded + (b" " + comment.encode() if comment else b"") + b"\n"


def write_openssh_private(private: Secret, password: Secret | None) -> Secret:
    """A private key under bcrypt_pbkdf and AES-256-CTR; in the clear without a password."""
    encryption: KeySerializationEncryption = NoEncryption()
    if password is not None:
        builder = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(BCRYPT_ROUNDS)
        encryption = builder.build(password.reveal())
    return Secret(open_signer(private).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption))


def _public(line: bytes) -> ForeignKey:
    kind = line.split(maxsplit=1)[0].decode("ascii", "replace")
    if "-cert-" in kind:
        raise UnsupportedFileError(f"a certificate of OpenSSH's own ({kind}), which is not X.509")
    if kind.startswith("sk-"):
        raise UnsupportedKeyError(f"a key on a security key ({kind}), which keyrelay cannot hand over")
    try:
        with told_as_damage("the public key"):
            return ForeignKey.of(load_ssh_public_key(line))
    except UnsupportedFileError as error:
        raise UnsupportedKeyError(f"an OpenSSH key of kind {kind}, which keyrelay does not read") from error


def _lock(body: bytes) -> tuple[bytes, int]:
    """The cipher, and the rounds of bcrypt; 0 where there are none."""
    if not body.startswith(_MAGIC):
        raise DamagedFileError("the private key is damaged: it does not begin as OpenSSH's do")
    try:
        cipher, at = _string(body, len(_MAGIC))
        derivation, at = _string(body, at)
        options, _ = _string(body, at)
        if derivation != b"bcrypt":
            return cipher, 0
        _, at = _string(options, 0)
        return cipher, int(struct.unpack_from(">I", options, at)[0])
    except struct.error:
        raise DamagedFileError("the private key is damaged: it is cut off") from None


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from(">I", data, at)
    end = at + 4 + size
    if end > len(data):
        raise DamagedFileError("the private key is damaged: it is cut off")
    return data[at + 4 : end], end
