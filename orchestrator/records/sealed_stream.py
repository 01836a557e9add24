"""A file that is encrypted as a whole under a passphrase of its own, and read only once all of it is proven.

The head is fixed in form: a line that names format and version, what Argon2id needs (``sealing.Header``), and
the stream's own key, sealed under the lock. Then come chunks of 64 KiB, each AES-256-GCM under that key, with
its number and whether it is the last in the nonce, and the head's digest as additional data (the STREAM
construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015). A key seals one file, so no nonce comes twice.

Reading goes over the file twice: nothing of its content is handed out before every chunk, the last included,
has been found to be what was written. Memory is one chunk.
"""

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.errors import BackupError, VaultError, WrongPassphraseError
from orchestrator.keys.material import Random
from orchestrator.keys.secret import Secret
from orchestrator.records.private_files import make_file, sync_folder
from orchestrator.records.sealing import VERSION, Cost, Header, Lock, Sealed

CHUNK_BYTES = 64 * 1024

_MAGIC = b"keyrelay backup "
_FORMAT = _MAGIC + b"1\n"
_TAG_BYTES = 16
_SEALED_BYTES = 12 + 32 + _TAG_BYTES
_PROOF_BYTES = 12 + 27 + _TAG_BYTES
_HEAD = struct.Struct(f">{len(_FORMAT)}s16s16sIII{_PROOF_BYTES}s32s{_SEALED_BYTES}s{_SEALED_BYTES}s")
_RECORD, _PURPOSE = "backup", "backup stream"
_ANOTHER = "take another backup"


def write_sealed(
    path: Path, content: Iterable[bytes], passphrase: Secret, *, random: Random, replace: bool = False
) -> tuple[str, int]:
    """Writes a file 0600, whole or not at all.

    Args:
        path: its name; the folder exists.
        content: pieces of any size.
        passphrase: of this file alone.
        random: gives keys and nonces.
        replace: whether it takes the place of the file of that name; otherwise there must be none.

    Returns:
        The SHA-256 (hex) of the file, and its size in bytes.

    Raises:
        BackupError: there is a file already, the passphrase is empty, or the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.{random(8).hex()}")
    try:
        descriptor = make_file(beside)
        try:
            with os.fdopen(descriptor, "wb") as file:
                digest, size = _write(file, content, passphrase, random)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                beside.replace(path)
            else:
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError as error:
        raise BackupError(f"{path}: there is a file already", hint="choose another name") from error
    except OSError as error:
        raise BackupError(
            f"{path}: {error.strerror}",
            hint=f"see that {path.parent} is there, has room, and may be written into (by a service, too: "
            "its unit has to name it); automatic backups go elsewhere after: keyrelay backup keep FOLDER",
        ) from error
    except VaultError as error:
        raise BackupError(f"{path}: {error.message}", hint=error.hint) from error
    return digest, size


def read_sealed(path: Path, passphrase: Secret) -> Iterator[bytes]:
    """The content of a file that ``write_sealed`` wrote, once the whole file is proven.

    Raises:
        BackupError: missing, no backup, another version's, damaged, or cut.
        WrongPassphraseError: the passphrase is another one.
    """
    try:
        with path.open("rb") as file:
            key, bound = _open_head(file.read(_HEAD.size), passphrase)
            for _ in _chunks(file, key, bound):
                pass
            file.seek(_HEAD.size)
            yield from _chunks(file, key, bound)
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}") from error
    except WrongPassphraseError as error:
        raise WrongPassphraseError(f"{path}: {error.message}", hint=error.hint) from error
    except (BackupError, VaultError) as error:
        raise BackupError(f"{path}: {error.message}", hint=error.hint) from error


def _write(file: BinaryIO, content: Iterable[bytes], passphrase: Secret, random: Random) -> tuple[str, int]:
    header, lock = Lock.make(passphrase, random=random)
    key = random(32)
    sealed = lock.seal(Secret(key), record=_RECORD, purpose=_PURPOSE, random=random)
    head = _HEAD.pack(
        _FORMAT,
        bytes.fromhex(header.vault),
        header.salt,
        header.cost.memory_kib,
        header.cost.iterations,
        header.cost.lanes,
        header.proof,
        header.checksum,
        sealed.wrapped_key,
        sealed.payload,
    )
    cipher, bound = AESGCM(key), hashlib.sha256(head).digest()
    digest, size = hashlib.sha256(), 0

    def put(data: bytes) -> None:
        nonlocal size
        file.write(data)
        digest.update(data)
        size += len(data)

    put(head)
    number, held = 0, bytearray()
    for piece in content:
        held += piece
        while len(held) > CHUNK_BYTES:
            put(cipher.encrypt(_nonce(number, last=False), bytes(held[:CHUNK_BYTES]), bound))
            del held[:CHUNK_BYTES]
            number += 1
    put(cipher.encrypt(_nonce(number, last=True), bytes(held), bound))
    return digest.hexdigest(), size


def _open_head(head: bytes, passphrase: Secret) -> tuple[AESGCM, bytes]:
    if not head.startswith(_MAGIC):
        raise BackupError("it is no backup of keyrelay's")
    if not head.startswith(_FORMAT):
        version = head[len(_MAGIC) :].split(b"\n")[0][:8].decode("ascii", "replace")
        raise BackupError(
            f"it is a backup of format {version!r}, this program reads 1", hint="update keyrelay here"
        )
    if len(head) < _HEAD.size:
        raise BackupError("it has been cut short", hint=_ANOTHER)
    _, vault, salt, memory_kib, iterations, lanes, proof, checksum, wrapped_key, payload = _HEAD.unpack(head)
    header = Header(
        vault=vault.hex(),
        salt=salt,
        cost=Cost(memory_kib=memory_kib, iterations=iterations, lanes=lanes),
        proof=proof,
        checksum=checksum,
    )
    lock = Lock.open_with(passphrase, header)
    sealed = Sealed(version=VERSION, wrapped_key=wrapped_key, payload=payload)
    key = lock.open(sealed, record=_RECORD, purpose=_PURPOSE)
    return AESGCM(key.reveal()), hashlib.sha256(head).digest()


def _chunks(file: BinaryIO, key: AESGCM, bound: bytes) -> Iterator[bytes]:
    number, chunk = 0, file.read(CHUNK_BYTES + _TAG_BYTES)
    while True:
        following = file.read(CHUNK_BYTES + _TAG_BYTES)
        try:
            yield key.decrypt(_nonce(number, last=not following), chunk, bound)
        except InvalidTag as error:
            raise BackupError("it is damaged, or has been cut short", hint=_ANOTHER) from error
        if not following:
            return
        number, chunk = number + 1, following


def _nonce(number: int, *, last: bool) -> bytes:
    return struct.pack(">QBxxx", number, last)
