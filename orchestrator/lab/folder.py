"""The lab's folder: who may write to it, and how its files get there."""

import fcntl
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from orchestrator.errors import LabError


def make_directory(directory: Path, *, user: str) -> None:
    """Makes the lab's folder and checks that hosts will keep keys below it.

    Raises:
        LabError: it cannot be written, holds something else, or other users can change what is in it.
    """
    account = pwd.getpwnam(user)
    try:
        if not directory.exists():
            directory.mkdir(parents=True, mode=0o700)
            os.chown(directory, account.pw_uid, account.pw_gid)
        if (directory / "inventory.yml").exists() and not (directory / "lab.json").exists():
            raise LabError(
                f"{directory} holds an inventory that is no lab's: it would be overwritten",
                hint="choose an empty or a new folder",
            )
        (directory / ".lock").touch(mode=0o600)
    except OSError as error:
        raise LabError(f"{directory}: the lab's folder cannot be written: {error.strerror}") from error
    for folder in (directory, *directory.parents):
        status = folder.stat()
        shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        if shared or status.st_uid not in (0, account.pw_uid):
            raise LabError(
                f"{directory}: hosts keep no keys there, since other users can change {folder}",
                hint="choose a folder that belongs to you alone, e.g. one below /tmp or your home",
            )
        if not status.st_mode & stat.S_IXOTH and status.st_uid != account.pw_uid:
            raise LabError(f"{directory}: {user} cannot enter {folder}", hint="choose another folder")


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the lab's folder against another keyrelay that brings it up or down.

    Raises:
        LabError: the folder belongs to another user.
    """
    try:
        lock = (directory / ".lock").open("wb")
    except OSError as error:
        raise LabError(f"{directory}: the lab cannot be changed: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def open_to(directory: Path, users: Iterable[str]) -> None:
    """Lets other users pass through the lab's folder, so that they find their home and who is let in.

    Raises:
        LabError: a folder above lets them not pass.
    """
    directory.chmod(0o711)
    for folder in directory.parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise LabError(
                f"{directory}: {', '.join(sorted(users))} cannot enter {folder}", hint="choose another folder"
            )


def make_folder(folder: Path, *, owner: tuple[int, int], open_to_all: bool = False) -> None:
    """Makes a folder of mode 0700 (0711 if others may pass) whatever the umask, or leaves one that exists."""
    try:
        folder.mkdir(mode=0o700)
        os.chown(folder, *owner)
        if open_to_all:
            folder.chmod(0o711)
    except FileExistsError:
        return
    except OSError as error:
        raise LabError(f"{folder}: cannot be made: {error.strerror}") from error


def write(file: Path, content: bytes, *, owner: tuple[int, int] = (-1, -1), public: bool = False) -> None:
    """Writes a file of mode 0600 (0644 if public) in one rename: readers see it wholly old or wholly new.

    Without an ``owner`` (user and group id) it belongs to this process's user.
    """
    fresh = file.with_name(f".{file.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchown(descriptor, *owner)
            os.fchmod(descriptor, 0o644 if public else 0o600)
            stream.write(content)
        fresh.replace(file)
    except OSError as error:
        raise LabError(f"{file}: cannot be written: {error.strerror}") from error


def write_key_pair(file: Path, *, owner: tuple[int, int]) -> None:
    """Makes an ed25519 key pair in OpenSSH's formats: ``file`` and ``file.pub``."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    write(file, private, owner=owner)
    write(file.with_suffix(".pub"), public + b"\n", owner=owner)
