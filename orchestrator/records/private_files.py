"""Files and folders that nobody but their owner can read, whatever the umask.

A mode is given with the name and set again on the open file, so there is no moment at which others could
open it, and a umask of 0777 does not lock out the owner. What is already there is checked, not mended:
whoever opened it up should know that others may have read it.
"""

import os
import shlex
import stat
from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import KeyrelayError

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def make_folder(path: Path) -> None:
    """A new folder 0700, in a folder that exists; its name is durable afterwards.

    Raises:
        OSError: it exists, or cannot be made.
    """
    path.mkdir(mode=FOLDER_MODE)
    path.chmod(FOLDER_MODE)
    sync_folder(path.parent)


def make_file(path: Path) -> int:
    """A new empty file 0600, open for writing; its name is durable after ``sync_folder``.

    Raises:
        OSError: it exists (as whatever), or cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable; raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_folder(path: Path, *, failing_as: type[KeyrelayError]) -> None:
    """Refuse a folder that is not this user's alone."""
    _check(path, kind=stat.S_ISDIR, noun="folder", mode=FOLDER_MODE, failing_as=failing_as)


def check_file(path: Path, *, failing_as: type[KeyrelayError]) -> None:
    """Refuse a file that is not this user's alone, or no plain file."""
    _check(path, kind=stat.S_ISREG, noun="file", mode=FILE_MODE, failing_as=failing_as)


def _check(
    path: Path, *, kind: Callable[[int], bool], noun: str, mode: int, failing_as: type[KeyrelayError]
) -> None:
    try:
        found = path.lstat()
    except OSError as error:
        raise failing_as(f"{path}: {error.strerror}") from error
    if not kind(found.st_mode):
        raise failing_as(f"{path}: expected a {noun}, found something else")
    if found.st_uid != os.geteuid():
        raise failing_as(
            f"{path}: belongs to user {found.st_uid}, expected {os.geteuid()}",
            hint="run keyrelay as the user whose home this is",
        )
    if stat.S_IMODE(found.st_mode) & ~mode & 0o7077:
        raise failing_as(
            f"{path}: others have access (mode {stat.S_IMODE(found.st_mode):04o}), expected {mode:04o}",
            hint=f"find out who may have read it, then: chmod {mode:o} {shlex.quote(str(path))}",
        )
