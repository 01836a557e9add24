"""The inventory and the playbooks that come with keyrelay, and how they are laid out for a user.

They have one home in the source tree, the top-level folders ``inventory/`` and ``playbooks/``; a wheel
carries them below ``orchestrator/examples/``.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orchestrator
from orchestrator.errors import UsageError
from orchestrator.records.home import make_folders

FOLDERS = ("inventory", "playbooks")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidOut:
    """What became of each shipped file, as paths."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]


def find_examples() -> Path:
    """The folder that has ``inventory/`` and ``playbooks/``.

    Raises:
        UsageError: this installation has none.
    """
    package = Path(orchestrator.__file__).parent
    for folder in (package / "examples", package.parent):
        if all((folder / name).is_dir() for name in FOLDERS):
            return folder
    raise UsageError("this installation came without its example files", hint="install keyrelay again")


def lay_out(directory: Path) -> LaidOut:
    """Copy the examples into ``directory``, made if missing; a file that is there already is left alone.

    Raises:
        UsageError: a file or folder cannot be written.
    """
    written: list[Path] = []
    kept: list[Path] = []
    source = find_examples()
    for relative in _files(source):
        target = directory / relative
        try:
            make_folders(target.parent)
            with (
                open(target, "xb", opener=_owners_to_write) as file,
                (source / relative).open("rb") as shipped,
            ):
                shutil.copyfileobj(shipped, file)
            written.append(target)
        except FileExistsError:
            kept.append(target)
        except OSError as error:
            raise UsageError(f"{target}: {error.strerror}") from error
    return LaidOut(written=tuple(written), kept=tuple(kept))


def _owners_to_write(path: str, flags: int) -> int:
    return os.open(path, flags, 0o644)


def _files(source: Path) -> Iterator[Path]:
    for name in FOLDERS:
        for path in sorted((source / name).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(source)
