"""Small file systems that fill up, run out of inodes or turn read-only, and get well again; for root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

SIZE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system of eight megabytes that is mounted on a folder."""

    folder: Path

    @property
    def fill(self) -> tuple[str, ...]:
        """The command that takes all space that is left."""
        return ("dd", "if=/dev/zero", f"of={self.folder / '.filler'}", "bs=4096")

    @property
    def turn_read_only(self) -> tuple[str, ...]:
        """The command after which nothing can be written."""
        return ("mount", "-o", "remount,ro", str(self.folder))

    def leave_blocks(self, count: int) -> None:
        """Leave so many pages of 4096 bytes."""
        left = os.statvfs(self.folder)
        with (self.folder / ".filler").open("wb") as file, suppress(OSError):
            file.write(bytes((left.f_bavail - count) * left.f_frsize))

    def leave_inodes(self, count: int) -> None:
        """Leave room for so many new files and folders."""
        status = os.statvfs(self.folder)
        self._remount(f"nr_inodes={status.f_files - status.f_ffree + count}")

    def heal(self) -> None:
        """Writable, with room and inodes enough."""
        self._remount("rw,nr_inodes=100000")
        (self.folder / ".filler").unlink(missing_ok=True)

    def _remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)


@contextmanager
def mounted(folder: Path) -> Iterator[Disk]:
    """A file system of its own in an empty folder, readable by its owner only."""
    folder.mkdir(mode=0o700, exist_ok=True)
    options = f"size={SIZE_BYTES},mode=0700,nr_inodes=100000"
    command = ["mount", "-t", "tmpfs", "-o", options, "keyrelay-faults", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a file system")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
