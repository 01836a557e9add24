"""The port ``BackupStore`` over a home and the files of its backups."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from orchestrator.errors import BackupError
from orchestrator.keys.material import Random
from orchestrator.keys.secret import Secret
from orchestrator.records.backup import MovedOnError, kept_keys, reseal, write_backup
from orchestrator.records.database import Database
from orchestrator.records.home import Home
from orchestrator.records.private_files import sync_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeBackups:
    """Backups of one home.

    Attributes:
        passphrase: asked for when a backup is written or read.
    """

    home: Home
    database: Database
    passphrase: Callable[[], Secret]
    random: Random

    def kept(self) -> frozenset[str]:
        """The names of all secrets that the vault keeps now."""
        return kept_keys(self.database)

    def write(
        self, path: str, name: str, *, taken: datetime, covering: Collection[str]
    ) -> tuple[str, int] | None:
        """Writes a backup, as ``ports.BackupStore`` says."""
        try:
            return write_backup(
                self.home,
                self.database,
                Path(path),
                self.passphrase(),
                name=name,
                taken=taken,
                covering=covering,
                random=self.random,
            )
        except MovedOnError:
            return None

    def reseal(self, path: str, *, without: Collection[str]) -> tuple[str, int]:
        """Writes a backup anew without some of its secrets."""
        return reseal(Path(path), self.passphrase(), without=without, random=self.random)

    def remove(self, path: str) -> bool:
        """Removes a backup's file; whether there was one."""
        try:
            Path(path).unlink()
            sync_folder(Path(path).parent)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise BackupError(
                f"{path}: {error.strerror}", hint="remove it by hand, then run it again"
            ) from error
        return True
