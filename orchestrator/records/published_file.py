"""A file for others to read, such as a list of revoked certificates: wholly the old one or wholly the new."""

import os
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.records.private_files import make_file, sync_folder

_MODE = 0o644


def publish(path: Path, data: bytes, *, suffix: str) -> None:
    """Write ``data`` durably in place of what is there; everyone may read it.

    Args:
        path: the file; readers find the old content or the new one.
        data: the whole content.
        suffix: makes the name of the file that is written beside it first; not used by anybody else.

    Raises:
        UsageError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{suffix}")
    try:
        try:
            with os.fdopen(make_file(beside), "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), _MODE)
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", hint="name a file in a folder that you can write to"
        ) from error
