"""What ``-i`` names: files, and directories of files; and what in them is no inventory for keyrelay.

In a directory Ansible's rules hold: every file counts, in the order of the names' bytes, and those of
folders below it; hidden files, ``group_vars``, ``host_vars``, ``vars_plugins`` and names with one of
``IGNORED_ENDINGS`` do not. A file that is no inventory is an error, while Ansible warns and goes on without
its hosts.

INI files, scripts and the configurations of plugins are not read. ``ansible-inventory --list`` turns each of
them into a listing, which is.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from orchestrator.documents import Document
from orchestrator.errors import InputError, Place
from orchestrator.inventory.data_files import is_vaulted, read_content, read_data
from orchestrator.inventory.vars_files import SUFFIXES, kind

IGNORED_NAMES = ("group_vars", "host_vars", "vars_plugins")
IGNORED_ENDINGS = (
    *(".bak", ".cfg", ".md", ".orig", ".pyc", ".pyo", ".retry", ".rpm", ".rst", ".swp", ".txt", "~"),
)
MAX_FOLDERS_DEEP = 20
MAX_FILES = 10_000

_INI_LINE = re.compile(r"^\[[\w.:-]+\]\s*$|^[\w.-]+(\s+\w+=\S+)+\s*$", re.MULTILINE)
_PLAIN_LINE = re.compile(r"[\w.:\[\]-]*")
_RUNS_NOTHING = "keyrelay runs no inventory script and no plugin; "


def files_of(source: Path) -> Iterator[Path]:
    """The inventory files of one source, in Ansible's order; the source itself unless it is a directory.

    Raises:
        InputError: a directory has no inventory file, has too many, or cannot be read.
    """
    if not source.is_dir():
        yield source
        return
    count = 0
    for file in _below(source, MAX_FOLDERS_DEEP):
        count += 1
        if count > MAX_FILES:
            raise InputError(f"found more than {MAX_FILES} files", place=Place(file=str(source)))
        yield file
    if not count:
        raise InputError("there is no inventory file in this directory", place=Place(file=str(source)))


def folder_of(source: Path) -> Path:
    """Where the ``group_vars/`` and ``host_vars/`` of a source stand."""
    return source if source.is_dir() else source.parent


def read_source(path: Path) -> Document:
    """The data of one inventory file, a mapping.

    Raises:
        InputError: the file is missing, no data, or an inventory of a kind that is not read.
    """
    place = Place(file=str(path))
    if "," in str(path) and not path.exists():
        hint = "write the hosts into a file, each on a line: ungrouped: {hosts: {NAME: }}"
        raise InputError("there is no such file, and a list of hosts is no inventory", place=place, hint=hint)
    content = read_content(path)
    if content.startswith((b"#!", b"\x7fELF")):
        raise InputError("this is an inventory script", place=place, hint=_RUNS_NOTHING + _through(path))
    if is_vaulted(content):
        hint = "give keyrelay an inventory without it; keyrelay needs no secret from an inventory"
        message = "this file is encrypted by ansible-vault, which keyrelay does not open"
        raise InputError(message, place=place, hint=hint)
    if path.suffix == ".toml":
        raise InputError("this is an inventory in TOML form, not YAML", place=place, hint=_through(path))
    document = _data(path, content)
    if not isinstance(document.value, dict):
        found = kind(document.value)
        message = f"found {found}; allowed: a mapping of groups"
        raise InputError(message, place=document.place(()), hint=_through(path))
    if path.suffix not in SUFFIXES:
        allowed = ", ".join(suffix for suffix in SUFFIXES if suffix)
        message = f"the file's name ends in {path.suffix}; allowed: {allowed}, or no ending"
        raise InputError(message, place=place, hint="rename it; Ansible does not read it as YAML either")
    if document.value.get("plugin") and "_meta" not in document.value:
        raise InputError(
            "this is the configuration of an inventory plugin",
            place=document.key_place(("plugin",)),
            hint=_RUNS_NOTHING + _through(path),
        )
    return document


def _data(path: Path, content: bytes) -> Document:
    ini = InputError(
        "this is an inventory in INI form, not YAML", place=Place(file=str(path)), hint=_through(path)
    )
    text = content.decode(errors="replace")
    try:
        document = read_data(content, file=str(path))
    except InputError as error:
        if _INI_LINE.search(text):
            raise ini from error
        raise
    if isinstance(document.value, dict):
        return document
    hosts_alone = isinstance(document.value, str) and path.suffix in {"", ".ini"}
    if _INI_LINE.search(text) or (hosts_alone and all(map(_PLAIN_LINE.fullmatch, text.split("\n")))):
        raise ini
    return document


def _through(path: Path) -> str:
    return (
        "let Ansible read it: "
        f"ansible-inventory -i {path} --list > inventory.json writes a file that keyrelay reads"
    )


def _below(folder: Path, levels: int) -> Iterator[Path]:
    place = Place(file=str(folder))
    if not levels:
        raise InputError(f"found more than {MAX_FOLDERS_DEEP} folders in one another", place=place)
    try:
        paths = sorted(folder.iterdir(), key=lambda path: os.fsencode(path.name))
    except OSError as error:
        raise InputError(f"this folder cannot be read: {error.strerror}", place=place) from error
    for path in paths:
        name = path.name
        if name.startswith(".") or name in IGNORED_NAMES or name.endswith(IGNORED_ENDINGS):
            continue
        if path.is_dir():
            yield from _below(path, levels - 1)
        else:
            yield path
