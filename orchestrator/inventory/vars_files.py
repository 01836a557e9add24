"""The ``group_vars/`` and ``host_vars/`` beside an inventory file.

For each name the first that exists of ``NAME``, ``NAME.yml``, ``NAME.yaml`` and ``NAME.json`` counts. If it
is a folder, all files in it with such an ending, and in folders below it, are read in the order of their
names; hidden files and backups (``~``) are not.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.documents import Document, read_document, read_file
from orchestrator.errors import InputError, Place
from orchestrator.inventory.endpoints import Written, check_variable_name
from orchestrator.inventory.merging import Variables, VarsFiles
from orchestrator.inventory.names import GroupName, HostName, shown

_SUFFIXES = ("", ".yml", ".yaml", ".json")
_VAULT_HEADER = b"$ANSIBLE_VAULT;"

_Name = TypeVar("_Name", GroupName, HostName)


def read_vars_files(folder: Path, groups: Iterable[GroupName], hosts: Iterable[HostName]) -> VarsFiles:
    """What ``folder`` says of these groups and hosts; files of other names are not opened.

    Raises:
        InputError: a file cannot be read, is no mapping of variables, or is wrong at a place it names.
    """
    return VarsFiles(
        groups=dict(_by_name(folder / "group_vars", groups)),
        hosts=dict(_by_name(folder / "host_vars", hosts)),
    )


def written(document: Document, path: tuple[Any, ...], value: Any) -> Written:
    """The variable at ``path``, whose name is the last part.

    Raises:
        InputError: the name is not text, or a ``keyrelay_*`` name that does not exist.
    """
    name = path[-1]
    if not isinstance(name, str):
        raise not_text(document, path, "a variable's name")
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


def refuse_vault(content: bytes, place: Place) -> None:
    """Refuse a file that ansible-vault has encrypted as a whole.

    Raises:
        InputError: it is one.
    """
    if content.startswith(_VAULT_HEADER):
        raise InputError(
            "this file is encrypted by ansible-vault, which keyrelay does not open",
            place=place,
            hint="give keyrelay an inventory without it; keyrelay needs no secret from an inventory",
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


def _by_name(folder: Path, names: Iterable[_Name]) -> Iterator[tuple[_Name, Variables]]:
    present = {path.name: path for path in _listed(folder)} if folder.is_dir() else {}
    if not present:
        return
    for name in names:
        path = next((present[name + suffix] for suffix in _SUFFIXES if name + suffix in present), None)
        if path is None:
            continue
        variables: dict[str, Written] = {}
        for file in _files(path) if path.is_dir() else (path,):
            variables |= _read(file)
        yield name, variables


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(_listed(folder)):
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        if path.is_dir():
            if not path.suffix:
                yield from _files(path)
        elif path.suffix in _SUFFIXES:
            yield path


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"this folder cannot be read: {error.strerror}", place=Place(file=str(folder))
        ) from error


def _read(path: Path) -> dict[str, Written]:
    place = Place(file=str(path))
    content = read_file(path)
    refuse_vault(content, place)
    document = read_document(content, file=str(path))
    if document.value is None:
        return {}
    if not isinstance(document.value, dict):
        found = kind(document.value)
        raise InputError(f"found {found}; allowed: a mapping of variables", place=document.place(()))
    return {name: written(document, (name,), value) for name, value in document.value.items()}
