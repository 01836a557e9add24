"""Files of keys on this machine: read with a bound, written for their owner alone and never by surprise."""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.cli import passphrases
from orchestrator.errors import KeyrelayError, PasswordNeededError, UsageError
from orchestrator.keys.formats.budget import MAX_FILE_BYTES
from orchestrator.keys.formats.contents import Contents
from orchestrator.keys.formats.reading import read
from orchestrator.keys.secret import Secret
from orchestrator.records.private_files import make_file, make_folder, sync_folder

PASSWORD_OPTION = "--password-file"  # noqa: S105 - the name of an option


def read_files(files: Sequence[Path], password_file: Path | None) -> tuple[Contents, ...]:
    """What the files hold; a password is asked for once, and only where one is needed.

    Raises:
        KeyrelayError: of the kind that ``reading.read`` raises, with the file's name.
        UsageError: a file cannot be read, or there is no password.
    """
    password = (
        passphrases.obtain(password_file, what="the file", option=PASSWORD_OPTION) if password_file else None
    )
    found: list[Contents] = []
    for file in files:
        data = _octets(file)
        try:
            try:
                found.append(read(data, password))
            except PasswordNeededError:
                password = passphrases.obtain(None, what=str(file), option=PASSWORD_OPTION)
                found.append(read(data, password))
        except UsageError:
            raise
        except KeyrelayError as error:
            raise type(error)(f"{file}: {error.message}", hint=error.hint) from error
    return tuple(found)


def refuse_taken(file: Path, *, replace: bool) -> None:
    """Refuse a path that nothing may be written to; looked at before anything is recorded.

    Raises:
        UsageError: it is there already, and is not to be replaced or no plain file; its folder is missing.
    """
    try:
        status = file.lstat()
    except FileNotFoundError:
        if not file.absolute().parent.is_dir():
            raise UsageError(f"{file}: there is no folder {file.absolute().parent}") from None
        return
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{file} is no plain file", hint="give the name of a new file")
    if not replace:
        raise UsageError(f"{file} is there already", hint="give another name, or --replace")


def refuse_taken_folder(folder: Path) -> None:
    """Refuse a path at which a new folder cannot be made.

    Raises:
        UsageError: there is something; the folder around it is missing.
    """
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} is there already", hint="give the name of a new folder")
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"{folder}: there is no folder {folder.absolute().parent}")


def write_folder(folder: Path, files: Mapping[str, Secret]) -> None:
    """A new folder 0700 with these files.

    Raises:
        UsageError: as ``refuse_taken_folder``, or it cannot be written.
    """
    refuse_taken_folder(folder)
    try:
        make_folder(folder.absolute())
    except OSError as error:
        raise UsageError(f"{folder}: it cannot be made: {error.strerror}") from error
    for name, data in files.items():
        write_file(folder / name, data, replace=False)


def write_file(file: Path, data: Secret, *, replace: bool) -> None:
    """A new file 0600, whole or not at all.

    Raises:
        UsageError: as ``refuse_taken``, or it cannot be written.
    """
    refuse_taken(file, replace=replace)
    made = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        with os.fdopen(make_file(made), "wb") as stream:
            stream.write(data.reveal())
            stream.flush()
            os.fsync(stream.fileno())
        try:
            if replace:
                made.replace(file)
            else:
                file.hardlink_to(made)
        finally:
            made.unlink(missing_ok=True)
        sync_folder(file.absolute().parent)
    except FileExistsError as error:
        raise UsageError(f"{file} is there already", hint="give another name, or --replace") from error
    except OSError as error:
        raise UsageError(f"{file}: it cannot be written: {error.strerror}") from error


def _octets(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
