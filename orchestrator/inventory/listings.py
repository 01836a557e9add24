"""What ``ansible-inventory --list`` and inventory scripts write: groups with lists, and ``_meta.hostvars``.

    {"web": {"hosts": ["web1"], "vars": {}, "children": ["paris"]}, "_meta": {"hostvars": {"web1": {}}}}

A group may be a bare list of its hosts. Unlike in a YAML inventory, hosts are no patterns. Groups that are
listed as children exist, whether or not they are described. What Ansible only warns of is an error here, as
in YAML inventories; a host that has variables and stands in no group does not exist there either, and is
noted.

Source: Ansible's developer guide, "Developing dynamic inventory", inventory script conventions.
"""

from collections.abc import Mapping
from typing import Any

from orchestrator.documents import Document
from orchestrator.errors import InputError
from orchestrator.inventory.merging import Merging
from orchestrator.inventory.model import Note
from orchestrator.inventory.names import GroupName, HostName, group_name, host_name, shown
from orchestrator.inventory.vars_files import kind, variables_at

META = "_meta"
_SECTIONS = ("hosts", "vars", "children")
_NAMED = 3


def is_listing(document: Document) -> bool:
    """Whether a mapping is a listing rather than a YAML inventory."""
    return META in document.value


def read_listing(document: Document, merging: Merging) -> None:
    """Tell ``merging`` what a listing states.

    Raises:
        InputError: it is malformed; names the place.
    """
    _Listing(document, merging).read()


class _Listing:
    def __init__(self, document: Document, merging: Merging) -> None:
        self._document = document
        self._merging = merging
        self._hosts: dict[HostName, None] = {}

    def read(self) -> None:
        hostvars = self._hostvars()
        for name, body in self._document.value.items():
            if name != META:
                self._group(name, body)
        for host in self._hosts:
            body = self._mapping((META, "hostvars", host), hostvars.get(host), f"the host {host}")
            variables = variables_at(self._document, (META, "hostvars", host), body)
            self._merging.set_host_variables(host, dict(variables))
        self._note_others([name for name in hostvars if name not in self._hosts])

    def _hostvars(self) -> Mapping[Any, Any]:
        meta = self._document.value[META]
        hostvars = meta.get("hostvars") if isinstance(meta, dict) else meta
        if isinstance(meta, dict) and isinstance(hostvars, dict):
            return hostvars
        raise InputError(
            f"found {kind(hostvars)} as hostvars of {META}; allowed: a mapping of hosts",
            place=self._document.place((META, "hostvars")),
        )

    def _group(self, text: Any, body: Any) -> None:
        place = self._document.key_place((text,))
        name = group_name(text, place=place)
        self._merging.add_group(name, place)
        if isinstance(body, list):
            self._add_hosts((text,), name, body)
            return
        sections = self._mapping((text,), body, f"the group {name}")
        if not sections.keys() & set(_SECTIONS):
            message = f"found nothing that describes the group {name}; allowed: {', '.join(_SECTIONS)}"
            raise InputError(message, place=place)
        for section, content in sections.items():
            path = (text, section)
            match section:
                case "hosts":
                    self._add_hosts(path, name, content)
                case "vars":
                    mapping = self._mapping(path, content, f"vars of {name}")
                    for variable, one in variables_at(self._document, path, mapping):
                        self._merging.set_group_variable(name, variable, one)
                case "children":
                    self._add_children(path, name, content)
                case _:
                    raise InputError(
                        f"found {shown(section)} in the group {name}; allowed: {', '.join(_SECTIONS)}",
                        place=self._document.key_place(path),
                    )

    def _add_hosts(self, path: tuple[Any, ...], group: GroupName, content: Any) -> None:
        for position, text in self._names(path, content, f"hosts of {group}"):
            place = self._document.place(position)
            host = host_name(text, place=place)
            self._merging.add_host(host, group, {}, place=place)
            self._hosts[host] = None

    def _add_children(self, path: tuple[Any, ...], group: GroupName, content: Any) -> None:
        for position, text in self._names(path, content, f"children of {group}"):
            place = self._document.place(position)
            child = group_name(text, place=place)
            self._merging.add_group(child, place)
            self._merging.add_child(group, child, place)

    def _names(self, path: tuple[Any, ...], content: Any, what: str) -> list[tuple[tuple[Any, ...], str]]:
        if not isinstance(content, list):
            message = f"found {kind(content)} as {what}; allowed: a list of names"
            raise InputError(message, place=self._document.place(path))
        for position, text in enumerate(content):
            if not isinstance(text, str):
                message = f"found {kind(text)} in {what}; allowed: a name"
                raise InputError(message, place=self._document.place((*path, position)))
        return [((*path, position), text) for position, text in enumerate(content)]

    def _mapping(self, path: tuple[Any, ...], content: Any, what: str) -> Mapping[Any, Any]:
        if content is None:
            return {}
        if not isinstance(content, dict):
            message = f"found {kind(content)} as {what}; allowed: a mapping"
            raise InputError(message, place=self._document.place(path))
        return content

    def _note_others(self, names: list[Any]) -> None:
        if not names:
            return
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        message = (
            f"{META} has variables of {', '.join(map(shown, names[:_NAMED]))}{more}, "
            "which no group lists; to Ansible they are no hosts either"
        )
        self._merging.add_note(
            Note(place=self._document.key_place((META, "hostvars", names[0])), message=message)
        )
