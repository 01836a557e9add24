"""One file with a key to log in with: private, encrypted, or public.

Private keys may be in OpenSSH's format, in PKCS #1 or in PKCS #8. What went wrong while one was read is told
without the cause, which may quote what it read.
"""

import base64
import binascii
import io
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from orchestrator.keys.secret import Secret
from orchestrator.remote import user_files

_NAME_ONE = "name one that does with ansible_ssh_private_key_file or IdentityFile"
LARGEST_BYTES = 64 * 1024
_PUBLIC = re.compile(
    rb"(?:sk-)?(?:ssh|ecdsa)[-@.a-z0-9]{1,60}[ \t]+([A-Za-z0-9+/]{16,16384}={0,2})(?:\s.*)?", re.DOTALL
)
_OPENSSH = re.compile(
    rb"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END OPENSSH PRIVATE KEY-----", re.DOTALL
)
_MAGIC = b"openssh-key-v1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """A private key, open."""

    key: paramiko.PKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """An encrypted private key.

    Attributes:
        blob: its public key as it travels, empty where only the passphrase could tell it.
    """

    blob: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """A public key, which says which of ssh-agent's keys is meant."""

    blob: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """No key that can be used.

    Attributes:
        reason: one sentence that names the file.
    """

    reason: str


KeyFile = Private | Locked | Public | Unusable


def read_key_file(path: Path) -> KeyFile:
    """What a file holds; never raises on its account."""
    try:
        data, status = user_files.read_with_status(path, limit_bytes=LARGEST_BYTES)
    except FileNotFoundError:
        return Unusable(reason=f"login key {path} does not exist; {_NAME_ONE}")
    except OSError as error:
        return Unusable(reason=f"login key {path} cannot be read: {error.strerror}")
    if (public := _public_blob(data)) is not None:
        return Public(blob=public)
    if status.st_uid == os.geteuid() and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        return Unusable(reason=f"login key {path} can be read by others (mode {mode:04o}); expected 0600")
    try:
        return Private(key=_opened(data, None))
    except TypeError:
        return Locked(blob=_blob_of_locked(path, data))
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException):
        blob = _blob_of_locked(path, data)
        if blob[4:].startswith(b"sk-"):
            # The key itself is in a device, which ssh-agent can talk to.
            return Public(blob=blob)
        return Unusable(reason=f"login key {path} is damaged or of a kind that cannot be used")


def unlock(path: Path, passphrase: Secret) -> Private | Unusable:
    """The key in an encrypted file; ``Unusable`` when the passphrase is wrong."""
    try:
        return Private(key=_opened(user_files.read(path, limit_bytes=LARGEST_BYTES), passphrase.reveal()))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm, paramiko.SSHException):
        tries = f"ssh-keygen -yf {quote(str(path))} tries one"
        return Unusable(reason=f"the passphrase for login key {path} is wrong; {tries}")


def _opened(data: bytes, password: bytes | None) -> paramiko.PKey:
    """The key; ``TypeError`` when a password is missing, ``ValueError`` when it or the key is wrong."""
    load = load_ssh_private_key if _OPENSSH.search(data) else load_pem_private_key
    key = load(data, password)
    # paramiko reads keys from text only; this text stays in memory.
    text = io.StringIO(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode("ascii"))
    match key:
        case Ed25519PrivateKey():
            return paramiko.Ed25519Key(file_obj=text)
        case EllipticCurvePrivateKey():
            return paramiko.ECDSAKey(file_obj=text)
        case RSAPrivateKey():
            return paramiko.RSAKey(file_obj=text)
        case _:
            raise ValueError("of a kind that cannot be used")


def _public_blob(data: bytes) -> bytes | None:
    found = _PUBLIC.fullmatch(data.strip())
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=True)
    except (binascii.Error, ValueError):
        return None


def _blob_of_locked(path: Path, data: bytes) -> bytes:
    """The public key that an encrypted file shows, or else that of the file beside it; or empty."""
    found = _OPENSSH.search(data)
    if found is not None:
        try:
            message = paramiko.Message(base64.b64decode(b"".join(found[1].split()), validate=True))
        except (binascii.Error, ValueError):
            return b""
        if message.get_bytes(len(_MAGIC)) == _MAGIC:
            for _ in ("cipher", "key derivation", "its options"):
                message.get_binary()
            message.get_int()
            return message.get_binary()
    try:
        beside = user_files.read(path.with_name(f"{path.name}.pub"), limit_bytes=LARGEST_BYTES)
    except OSError:
        return b""
    return _public_blob(beside) or b""
