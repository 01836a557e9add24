"""Passphrases: from a file or the terminal, never from an argument, which every user of a machine can see."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getpass
from pathlib import Path

from orchestrator.errors import UsageError, WrongPassphraseError
from orchestrator.keys.secret import Secret

VARIABLE = "KEYRELAY_PASSPHRASE_FILE"
_MAX_BYTES = 4096
_LEAST = 5
"""So many characters has a new one, as with ``ssh-keygen``."""


def obtain(file: Path | None, *, what: str, option: str, new: bool = False) -> Secret:
    """A passphrase, from ``file`` if there is one, else asked for on the terminal.

    Args:
        file: one trailing newline is not part of the passphrase.
        what: whose it is, for the question, e.g. ``the vault``.
        option: how a file is named on the command line, for the hint.
        new: nothing is locked with it yet: it may not be short, and a terminal is asked again, since a slip
            of the hand would lock everything away.

    Raises:
        UsageError: there is neither a file nor a terminal, the file is missing, another user's or open to
            others, or the passphrase is empty or too long, or short and new.
    """
    if file is not None:
        return _checked(_from_file(file), str(file), new=new)
    if not sys.stdin.isatty():
        raise UsageError(
            f"the passphrase of {what} is needed, and there is no terminal to ask on",
            hint=f"keep it in a file that only you can read, and name that with {option}",
        )
    first = getpass(f"Passphrase of {what}: ")
    if new and getpass("Once more: ") != first:
        raise UsageError("the two passphrases differ", hint="run the command again")
    return _checked(first.encode(), "the passphrase", new=new)


@contextmanager
def blamed(file: Path | None) -> Iterator[None]:
    """Says of a passphrase that turns out to be wrong where it came from; None: from the terminal."""
    try:
        yield
    except WrongPassphraseError as error:
        if error.hint:
            raise
        whose = "type it again" if file is None else f"it was read from {file}: is that the right one?"
        raise WrongPassphraseError(error.message, hint=whose) from error


def obtain_both(vault_file: Path | None, root_file: Path | None) -> tuple[Secret, Secret]:
    """The passphrases of a new vault and a new root key, which is sealed apart.

    Raises:
        UsageError: as ``obtain``; or they are the same, which would undo that.
    """
    vault = obtain(vault_file, what="the vault", option="--passphrase-file", new=True)
    root = obtain(root_file, what="the root key", option="--root-passphrase-file", new=True)
    if vault == root:
        raise UsageError(
            "the vault and the root key have the same passphrase",
            hint="the root key is used rarely and by hand: give it one of its own, and keep that elsewhere",
        )
    return vault, root


def ask(question: str) -> Secret | None:
    """A secret that somebody at the terminal gives; None: there is no terminal, or nothing was given."""
    if not sys.stdin.isatty():
        return None
    given = getpass(f"{question}: ")
    return Secret(given.encode()) if given else None


def _from_file(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_uid not in {0, os.geteuid()}:
                raise UsageError(
                    f"{file}: the passphrase belongs to user {status.st_uid}; "
                    f"allowed: root and the user who runs keyrelay ({os.geteuid()})",
                    hint="copy it into a file of your own that only you can read",
                )
            if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077:
                raise UsageError(
                    f"{file}: others have access to the passphrase (mode {stat.S_IMODE(status.st_mode):04o})",
                    hint=f"chmod 600 {file}, and choose another passphrase if somebody may have read it",
                )
            return stream.read(_MAX_BYTES + 2)
    except OSError as error:
        raise UsageError(f"{file}: the passphrase cannot be read: {error.strerror}") from error


def _checked(data: bytes, where: str, *, new: bool) -> Secret:
    passphrase = data.removesuffix(b"\n")
    if not passphrase or len(passphrase) > _MAX_BYTES:
        found = "empty" if not passphrase else "too long"
        raise UsageError(f"{where}: a passphrase of 1 to {_MAX_BYTES} bytes is needed, this one is {found}")
    length = len(passphrase.decode(errors="replace"))
    if new and length < _LEAST:
        raise UsageError(
            f"{where}: a new passphrase has at least {_LEAST} characters, this one has {length}",
            hint="for a file that nobody types: openssl rand -base64 24",
        )
    return Secret(passphrase)
