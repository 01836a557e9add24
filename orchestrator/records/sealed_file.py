"""A file that holds one secret under a passphrase of its own, such as the root's private key.

One line of JSON: the lock's header and the sealed secret of ``sealing.py``, byte strings in base64. The bytes
have to be exactly those that this program would write, so a changed byte is found wherever it stands.
"""

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import VaultError
from orchestrator.keys.material import Random
from orchestrator.keys.secret import Secret
from orchestrator.records.private_files import check_file, make_file, sync_folder
from orchestrator.records.sealing import Cost, Header, Lock, Sealed

MAX_SECRET_BYTES = 16 * 1024
_MAX_FILE_BYTES = 2 * MAX_SECRET_BYTES
_FORMAT = "keyrelay sealed file 1"
_RECORD = "sealed file"

_Octets = Annotated[bytes, Field(max_length=_MAX_FILE_BYTES)]


class _Document(BaseModel):
    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        hide_input_in_errors=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    format: str
    purpose: str
    vault: str
    salt: _Octets
    memory_kib: int
    iterations: int
    lanes: int
    proof: _Octets
    checksum: _Octets
    version: int
    wrapped_key: _Octets
    payload: _Octets

    def render(self) -> bytes:
        return self.model_dump_json().encode("ascii") + b"\n"


def seal_file(path: Path, secret: Secret, passphrase: Secret, *, purpose: str, random: Random) -> None:
    """Writes a new file 0600, whole or not at all; ``purpose`` is what the reader has to name again.

    Raises:
        VaultError: there is a file already, the passphrase is empty, or the file cannot be written.
    """
    if len(secret.reveal()) > MAX_SECRET_BYTES:
        raise VaultError(f"{path}: the secret is larger than {MAX_SECRET_BYTES} bytes")
    header, lock = Lock.make(passphrase, random=random)
    sealed = lock.seal(secret, record=_RECORD, purpose=purpose, random=random)
    document = _Document(
        format=_FORMAT,
        purpose=purpose,
        vault=header.vault,
        salt=header.salt,
        memory_kib=header.cost.memory_kib,
        iterations=header.cost.iterations,
        lanes=header.cost.lanes,
        proof=header.proof,
        checksum=header.checksum,
        version=sealed.version,
        wrapped_key=sealed.wrapped_key,
        payload=sealed.payload,
    )
    beside = path.with_name(f".{path.name}.{random(8).hex()}")
    try:
        _write_new(path, beside, document.render())
    except FileExistsError as error:
        raise VaultError(
            f"{path}: there is a file already", hint="it may hold a key: move it away"
        ) from error
    except OSError as error:
        raise VaultError(f"{path}: {error.strerror}") from error


def open_file(path: Path, passphrase: Secret, *, purpose: str) -> Secret:
    """The secret of a file that ``seal_file`` wrote.

    Raises:
        VaultError: missing, open to others, damaged, sealed for another purpose, or the passphrase is wrong;
            says which.
    """
    check_file(path, failing_as=VaultError)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise VaultError(f"{path}: {error.strerror}") from error
    try:
        return _open(data, passphrase, purpose)
    except VaultError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error


def _open(data: bytes, passphrase: Secret, purpose: str) -> Secret:
    try:
        document = _Document.model_validate_json(data)
    except ValidationError as error:
        raise VaultError("damaged, or no sealed file", hint="restore it from a backup") from error
    if document.format != _FORMAT:
        raise VaultError(f"its format is {document.format!r}, expected {_FORMAT!r}")
    if document.render() != data:
        raise VaultError("damaged", hint="restore it from a backup")
    if document.purpose != purpose:
        raise VaultError(f"it holds a secret for {document.purpose!r}, expected {purpose!r}")
    header = Header(
        vault=document.vault,
        salt=document.salt,
        cost=Cost(memory_kib=document.memory_kib, iterations=document.iterations, lanes=document.lanes),
        proof=document.proof,
        checksum=document.checksum,
    )
    sealed = Sealed(version=document.version, wrapped_key=document.wrapped_key, payload=document.payload)
    return Lock.open_with(passphrase, header).open(sealed, record=_RECORD, purpose=purpose)


def _write_new(path: Path, beside: Path, data: bytes) -> None:
    descriptor = make_file(beside)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A rename would replace a file that is there; a link never does.
        os.link(beside, path)
    finally:
        beside.unlink()
    sync_folder(path.parent)
