"""The private keys with which keyrelay logs in to hosts, read once a run.

Without a key file in the inventory, OpenSSH's usual ones are tried. A key that others can read is refused,
as ``ssh`` refuses it. Encrypted keys are not supported yet, and ssh-agent is not asked.
"""

import os
import stat
import threading
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

DEFAULT_FILES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")


class LoginKeyError(Exception):
    """A login key cannot be used; the message names its file and says why."""


class LoginKeys:
    """Login keys by path; safe to ask from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[str, paramiko.PKey | LoginKeyError] = {}

    def of(self, file: str | None) -> tuple[paramiko.PKey, ...]:
        """The keys to try, in their order.

        Args:
            file: the path of the one to use; None: those of OpenSSH's default files that exist.

        Raises:
            LoginKeyError: the key cannot be used, or none of the default files exists.
        """
        if file is not None:
            return (self._key(file),)
        present = [name for name in DEFAULT_FILES if Path(name).expanduser().exists()]
        if not present:
            raise LoginKeyError(f"there is no key to log in with: none of {', '.join(DEFAULT_FILES)} exists")
        return tuple(self._key(name) for name in present)

    def _key(self, file: str) -> paramiko.PKey:
        with self._lock:
            if file not in self._read:
                try:
                    self._read[file] = _read(Path(file).expanduser())
                except LoginKeyError as error:
                    self._read[file] = error
            found = self._read[file]
        if isinstance(found, LoginKeyError):
            raise LoginKeyError(*found.args)
        return found


def _read(path: Path) -> paramiko.PKey:
    try:
        status = path.stat()
        if status.st_uid == os.geteuid() and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = stat.S_IMODE(status.st_mode)
            raise LoginKeyError(f"login key {path} can be read by others (mode {mode:04o}); expected 0600")
        return paramiko.PKey.from_path(path)
    except FileNotFoundError as error:
        raise LoginKeyError(f"login key {path} does not exist") from error
    except OSError as error:
        raise LoginKeyError(f"login key {path} cannot be read: {error.strerror}") from error
    except (TypeError, paramiko.PasswordRequiredException):
        raise LoginKeyError(f"login key {path} is encrypted; keyrelay needs one that is not") from None
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
        # The cause may quote what it read; a private key's bytes stay out of every traceback.
        raise LoginKeyError(f"login key {path} is damaged or of a kind that cannot be used") from None
