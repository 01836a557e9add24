"""A fleet's home on the controller: a folder 0700 with the database and the root's sealed key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator.errors import UsageError
from orchestrator.records.database import sqlite_url
from orchestrator.records.private_files import check_folder, make_folder

_DATABASE = "keyrelay.db"
_ROOT_KEY = "root.key"


def make_folders(path: Path) -> None:
    """The folders of ``path`` that are missing, at most 0755 each whatever the umask; raises ``OSError``."""
    for folder in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        folder.mkdir(mode=0o755, exist_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """One home is one fleet.

    Attributes:
        path: absolute.
    """

    path: Path

    @property
    def database_url(self) -> str:
        """The database of ledger and vault (``database.Database``)."""
        return sqlite_url(self.path / _DATABASE)

    @property
    def root_key(self) -> Path:
        """The root's private key, sealed apart (``sealed_file``); may lie elsewhere once it is made."""
        return self.path / _ROOT_KEY

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new and empty home; missing folders above it are made, and an empty folder is taken as it is.

        Raises:
            UsageError: there is a home or anything else already, others have access to the folder, or it
                cannot be made.
        """
        home = cls(path=path.absolute())
        try:
            if home.path.exists():
                home._require_empty()
            else:
                make_folders(home.path.parent)
                make_folder(home.path)
        except OSError as error:
            raise UsageError(f"{home.path}: {error.strerror}") from error
        return home

    @classmethod
    def open(cls, path: Path) -> Self:
        """The home at ``path``.

        Raises:
            UsageError: there is none, or others have access to it.
        """
        home = cls(path=path.absolute())
        if not (home.path / _DATABASE).exists():
            raise UsageError(
                f"no home at {home.path}",
                hint="if it is elsewhere, name it with --home DIR; a new one is made by: keyrelay init",
            )
        check_folder(home.path, failing_as=UsageError)
        return home

    def _require_empty(self) -> None:
        check_folder(self.path, failing_as=UsageError)
        found = sorted(entry.name for entry in self.path.iterdir())
        if _DATABASE in found:
            raise UsageError(
                f"there is a home at {self.path} already", hint="a home is one fleet: choose another folder"
            )
        if found:
            raise UsageError(f"{self.path} is not empty: it has {found[0]!r}", hint="choose another folder")
