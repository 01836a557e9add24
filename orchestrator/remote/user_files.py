"""The files of a user's SSH set-up: keys, certificates, known_hosts, ssh_config.

Whatever an inventory names is read here, and a name may lead anywhere: to a pipe that nobody fills, to a
device without an end, to a user that does not exist. Each of these is an ``OSError`` that says why.
"""

import errno
import os
import stat
from pathlib import Path

LARGEST_BYTES = 8 * 1024 * 1024


def expanded(name: str) -> Path:
    """A path with ``~`` or ``~user`` at its beginning replaced.

    Raises:
        OSError: there is no such user, or none that has a home.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        user = name.partition("/")[0]
        raise OSError(errno.EINVAL, f"there is no home folder for {user}", name) from error


def exists(path: Path) -> bool:
    """Whether there is something at a path; not where one cannot look."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises for a name that is too long


def read(path: Path, *, limit_bytes: int = LARGEST_BYTES) -> bytes:
    """What a regular file holds; ``/dev/null`` holds nothing.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, is no regular file, or is larger than ``limit_bytes``.
    """
    return read_with_status(path, limit_bytes=limit_bytes)[0]


def read_with_status(path: Path, *, limit_bytes: int = LARGEST_BYTES) -> tuple[bytes, os.stat_result]:
    """As ``read``, with the owner and mode of the file that was read."""
    try:
        # A pipe is opened without waiting for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            if _is_null(status):
                return b"", status
            number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
            raise OSError(number, "it is not a regular file", str(path))
        return _content(descriptor, path, limit_bytes), status
    finally:
        os.close(descriptor)


def _content(descriptor: int, path: Path, limit_bytes: int) -> bytes:
    content = bytearray()
    try:
        # The size that a file states may be wrong: below /proc it is 0.
        while part := os.read(descriptor, limit_bytes + 1 - len(content)):
            content += part
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    if len(content) > limit_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {limit_bytes // 1024} KiB", str(path))
    return bytes(content)


def _is_null(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116 - a device
