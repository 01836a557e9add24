"""The ``group_vars/`` and ``host_vars/`` beside an inventory file.

For each name the first that exists of ``NAME``, ``NAME.yml``, ``NAME.yaml`` and ``NAME.json`` counts. If it
is a folder, all files in it with such an ending, and in folders below it, are read in the order of their
names; hidden files and backups (``~``) are not.

A file that ansible-vault has encrypted as a whole is skipped, with a note: such files hold passwords, which
keyrelay does not need, and to refuse them would refuse most inventories that have any.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.documents import Document
from orchestrator.errors import InputError, Place
from orchestrator.inventory.data_files import is_vaulted, read_content, read_data
from orchestrator.inventory.endpoints import Written, check_variable_name
from orchestrator.inventory.merging import Variables, VarsFiles
from orchestrator.inventory.model import Note
from orchestrator.inventory.names import RESERVED, GroupName, HostName, shown

SUFFIXES = ("", ".yml", ".yaml", ".json")
"""What the names of files with data may end in."""

_SKIPPED = (
    "this file is encrypted by ansible-vault and was skipped; "
    "what it says of a variable that keyrelay reads is not known"
)

_Name = TypeVar("_Name", GroupName, HostName)


def read_vars_files(folder: Path, groups: Iterable[GroupName], hosts: Iterable[HostName]) -> VarsFiles:
    """What ``folder`` says of these groups and hosts; files of other names are not opened.

    Raises:
        InputError: a file cannot be read, is no mapping of variables, or is wrong at a place it names.
    """
    notes: list[Note] = []
    return VarsFiles(
        groups=dict(_by_name(folder / "group_vars", groups, notes)),
        hosts=dict(_by_name(folder / "host_vars", hosts, notes)),
        notes=tuple(notes),
    )


def variables_at(
    document: Document, path: tuple[Any, ...], content: Mapping[Any, Any]
) -> Iterator[tuple[str, Written]]:
    """The variables that ``content``, the mapping at ``path``, sets, without those that Ansible sets itself.

    Raises:
        InputError: a name is not text, or a ``keyrelay_*`` name that does not exist.
    """
    for name, value in content.items():
        if name not in RESERVED:
            yield name, written(document, (*path, name), value)


def written(document: Document, path: tuple[Any, ...], value: Any) -> Written:
    """The variable at ``path``, whose name is the last part.

    Raises:
        InputError: the name is not text, or a ``keyrelay_*`` name that does not exist.
    """
    name = path[-1]
    if not isinstance(name, str):
        raise not_text(document, path, "a variable's name")
    if name.startswith("keyrelay_"):
        check_variable_name(name, place=document.key_place(path))
    text = "" if isinstance(value, (str, dict, list)) else document.source_text(path)
    return Written(value=value, place=document.place(path), text=text)


def not_text(document: Document, path: tuple[Any, ...], allowed: str) -> InputError:
    """The error for a key that YAML did not read as text."""
    return InputError(
        f"found {shown(path[-1])}, which YAML did not read as text; allowed: {allowed}",
        place=document.key_place(path),
        hint=f"write it quoted: {document.quoted_key(path)}",
    )


def kind(value: Any) -> str:
    """What a value is, for an error."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return shown(value)


def _by_name(folder: Path, names: Iterable[_Name], notes: list[Note]) -> Iterator[tuple[_Name, Variables]]:
    present = {path.name: path for path in _listed(folder)} if folder.is_dir() else {}
    if not present:
        return
    for name in names:
        path = next((present[name + suffix] for suffix in SUFFIXES if name + suffix in present), None)
        if path is None:
            continue
        variables: dict[str, Written] = {}
        for file in _files(path) if path.is_dir() else (path,):
            variables |= _read(file, notes)
        yield name, variables


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(_listed(folder)):
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        if path.is_dir():
            if not path.suffix:
                yield from _files(path)
        elif path.suffix in SUFFIXES:
            yield path


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"this folder cannot be read: {error.strerror}", place=Place(file=str(folder))
        ) from error


def _read(path: Path, notes: list[Note]) -> dict[str, Written]:
    content = read_content(path)
    if is_vaulted(content):
        notes.append(Note(place=Place(file=str(path)), message=_SKIPPED))
        return {}
    document = read_data(content, file=str(path))
    if document.value is None:
        return {}
    if not isinstance(document.value, dict):
        found = kind(document.value)
        raise InputError(f"found {found}; allowed: a mapping of variables", place=document.place(()))
    return dict(variables_at(document, (), document.value))
