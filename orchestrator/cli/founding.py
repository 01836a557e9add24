"""How a home comes to be: in a folder beside its place, which gets its name when all of it is there.

So a home is whole or not there at all, whether it is founded or made of a backup, and a folder that holds
anything else is left alone. Whoever makes one holds its folder locked; a folder that nobody holds was left by
a program that was killed, and the next one that makes a home in the same place removes it.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from orchestrator.cli.keyrings import home_keys, new_token_keys
from orchestrator.cli.machine import SystemClock, system_entropy
from orchestrator.errors import UsageError
from orchestrator.keys.secret import Secret
from orchestrator.keys.token import Token
from orchestrator.operations.found import LIFETIMES, Lifetimes, found
from orchestrator.ports import Keyring
from orchestrator.records.database import Database
from orchestrator.records.home import Home
from orchestrator.records.ledger import SqlLedger
from orchestrator.records.vault import SqlVault


@contextmanager
def home_in_the_making(path: Path) -> Iterator[Home]:
    """A home that appears under its name only when all of it is there; what is left unfinished is removed.

    Raises:
        UsageError: there is something at ``path`` already.
    """
    target = path.absolute()
    refuse_taken(target)
    with ExitStack() as stack:
        home = _begun(target, stack)
        try:
            yield home
            _put_in_place(home.path, target)
        except BaseException:
            shutil.rmtree(home.path, ignore_errors=True)
            raise


def found_home(
    path: Path,
    *,
    passphrase: Secret,
    root: Secret | Token,
    clock: SystemClock,
    pin_file: Path | None = None,
    lifetimes: Lifetimes = LIFETIMES,
) -> str:
    """Make a home and found its fleet; the folder appears under its name only when all of it is there.

    Args:
        path: where the home is to stand.
        passphrase: the vault's.
        root: the passphrase of the root's sealed key; or the token that is to keep both keys.
        clock: the present.
        pin_file: where the token's PIN is.
        lifetimes: of root and issuer.

    Returns:
        The fleet's id.

    Raises:
        UsageError: there is something at ``path`` already.
        VaultError, LedgerError: the home cannot be written, or the token cannot be used.
    """
    fleet = system_entropy(8).hex()
    with home_in_the_making(path) as home, ExitStack() as stack:
        database = stack.enter_context(closing(Database.create(home.database_url)))
        vault = SqlVault.create(database, passphrase, random=system_entropy)
        if isinstance(root, Token):
            token = root
            keys: Keyring = stack.enter_context(new_token_keys(token, pin_file, fleet=fleet))
        else:
            token, keys = None, home_keys(vault, home.root_key, lambda: root)
        found(
            SqlLedger(database),
            keys,
            fleet=fleet,
            clock=clock,
            entropy=system_entropy,
            lifetimes=lifetimes,
            token=token,
        )
    return fleet


def refuse_taken(target: Path) -> None:
    """Refuse a path at which a new home cannot stand.

    Raises:
        UsageError: there is a home, or anything else but an empty folder.
    """
    if not target.exists() and not target.is_symlink():
        return
    if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
        return
    try:
        Home.open(target)
    except UsageError as error:
        message = f"{target} is there already, and is no empty folder"
        raise UsageError(message, hint="choose another folder") from error
    raise UsageError(
        f"there is a home at {target} already", hint="a home is one fleet: choose another folder"
    )


def _begun(target: Path, stack: ExitStack) -> Home:
    """A new folder beside ``target``, held until ``stack`` ends; what nobody holds is removed first."""
    _sweep(target)
    home = Home.create(target.with_name(f"{target.name}.new-{system_entropy(4).hex()}"))
    if not _hold(home.path, stack):
        raise UsageError(f"{target}: another keyrelay makes a home there", hint="run the command again")
    return home


def _sweep(target: Path) -> None:
    """Remove what makers of homes left at ``target`` that were killed."""
    ours = re.compile(re.escape(target.name) + r"\.new-[0-9a-f]{8}")
    for left in target.parent.iterdir() if target.parent.is_dir() else ():
        with ExitStack() as meanwhile:
            if ours.fullmatch(left.name) and _hold(left, meanwhile):
                shutil.rmtree(left, ignore_errors=True)


def _hold(folder: Path, stack: ExitStack) -> bool:
    """Keep a folder locked until ``stack`` ends; False where somebody else does, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except OSError:
        return False


def _put_in_place(made: Path, target: Path) -> None:
    """Rename, durably; onto an empty folder too."""
    try:
        made.rename(target)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"{target}: {error.strerror}", hint="choose another folder") from error
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
