"""Ansible's inventories, read from disk: YAML files, listings, directories, and their variable files.

What each key means is Ansible's; what Ansible skips with a warning is an error here, for a host that silently
drops out of an inventory would be left without its keys. Each error names file, line, column, what was found
and what is allowed.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.documents import Document
from orchestrator.errors import InputError, Place, UsageError
from orchestrator.inventory.endpoints import Written
from orchestrator.inventory.listings import is_listing, read_listing
from orchestrator.inventory.merging import Merging
from orchestrator.inventory.model import Inventory
from orchestrator.inventory.names import GroupName, group_name, host_name, shown
from orchestrator.inventory.ranges import unfold
from orchestrator.inventory.sources import files_of, folder_of, read_source
from orchestrator.inventory.vars_files import kind, not_text, read_vars_files, variables_at

_SECTIONS = ("hosts", "children", "vars")


def load(sources: Sequence[Path]) -> Inventory:
    """The inventory that the sources make together, with their ``group_vars/`` and ``host_vars/``.

    Args:
        sources: files and directories; what a later one says wins over an earlier one's.

    Raises:
        UsageError: there are no sources.
        InputError: a file is missing, no inventory that is read, or wrong at a place it names.
    """
    if not sources:
        raise UsageError("no inventory was given", hint="name one with -i FILE")
    merging = Merging(Place(file=str(sources[0])))
    files = [file for source in sources for file in files_of(source)]
    for file in files:
        document = read_source(file)
        if is_listing(document):
            read_listing(document, merging)
        else:
            _Source(document, merging).read()
    merging.reconcile()
    # A folder that comes up again counts where it comes up last.
    folders = reversed(dict.fromkeys(folder_of(source) for source in reversed(sources)))
    variables = [read_vars_files(folder, merging.groups, merging.hosts) for folder in folders]
    return merging.inventory(variables, sources=tuple(str(file) for file in files))


class _Source:
    """Tells a ``Merging`` what one inventory file states."""

    def __init__(self, document: Document, merging: Merging) -> None:
        self._document = document
        self._merging = merging

    def read(self) -> None:
        for path, name, body in self._entries((), self._document.value, "a group's name"):
            self._group(path, name, body)

    def _entries(
        self, path: tuple[Any, ...], mapping: Mapping[Any, Any], what: str
    ) -> Iterator[tuple[tuple[Any, ...], str, Any]]:
        for key, value in mapping.items():
            here = (*path, key)
            if not isinstance(key, str):
                raise not_text(self._document, here, what)
            yield here, key, value

    def _group(self, path: tuple[Any, ...], text: str, body: Any) -> GroupName:
        place = self._document.key_place(path)
        name = group_name(text, place=place)
        self._merging.add_group(name, place)
        sections = self._mapping(path, body, f"the group {name}", one_name=False)
        for section_path, section, content in self._entries(path, sections, ", ".join(_SECTIONS)):
            match section:
                case "vars":
                    for variable, one in self._variables(section_path, content, f"vars of {name}"):
                        self._merging.set_group_variable(name, variable, one)
                case "children":
                    self._children(section_path, name, content)
                case "hosts":
                    self._hosts(section_path, name, content)
                case _:
                    raise InputError(
                        f"found {shown(section)} in the group {name}; allowed: {', '.join(_SECTIONS)}",
                        place=self._document.key_place(section_path),
                        hint="a group below this one belongs under children, a variable under vars",
                    )
        return name

    def _children(self, path: tuple[Any, ...], parent: GroupName, content: Any) -> None:
        children = self._mapping(path, content, f"children of {parent}", one_name=True)
        for child_path, text, body in self._entries(path, children, "a group's name"):
            child = self._group(child_path, text, body)
            self._merging.add_child(parent, child, self._document.key_place(child_path))

    def _hosts(self, path: tuple[Any, ...], group: GroupName, content: Any) -> None:
        hosts = self._mapping(path, content, f"hosts of {group}", one_name=True)
        for host_path, pattern, body in self._entries(path, hosts, "a host's name"):
            place = self._document.key_place(host_path)
            variables = dict(self._variables(host_path, body, f"the host {pattern}"))
            names, port = unfold(pattern, place=place)
            # A port in the pattern counts for a host that is new, and less than a variable.
            first = {} if port is None else {"ansible_port": Written(value=port, place=place, text=str(port))}
            for name in (host_name(text, place=place) for text in names):
                new = first and not self._merging.has_host(name)
                self._merging.add_host(name, group, first | variables if new else variables, place=place)

    def _variables(self, path: tuple[Any, ...], content: Any, what: str) -> Iterator[tuple[str, Written]]:
        return variables_at(self._document, path, self._mapping(path, content, what, one_name=False))

    def _mapping(
        self, path: tuple[Any, ...], content: Any, what: str, *, one_name: bool
    ) -> Mapping[Any, Any]:
        if content is None:
            return {}
        if isinstance(content, dict):
            return content
        if one_name and isinstance(content, str):
            return {content: None}
        hint = "end each name with a colon and put no dash before it" if one_name else ""
        raise InputError(
            f"found {kind(content)} as {what}; allowed: a mapping",
            place=self._document.place(path),
            hint=hint,
        )
