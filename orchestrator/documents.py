"""YAML in which every value knows where it stands.

Scalars resolve by YAML 1.1, as PyYAML's safe loader and so Ansible resolves them: ``yes`` is true, ``0755``
is 493, ``12:30`` is 750. Which scalars were text, and how the others were written, can be asked afterwards,
so that an error can show the quoted form.

Refused, each with its place: more than 8 MiB, more than 40 levels, aliases that contain themselves or unfold
to more than two million values, a key or an anchor that stands twice, a second document, and every tag but
the plain ones; in an inventory ``!vault`` and ``!unsafe`` are allowed too.
"""

import json
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError, Place
from orchestrator.yaml_nodes import Encrypted, Node, parse

__all__ = ["MAX_BYTES", "Document", "Encrypted", "decode", "load_document", "read_document", "read_file"]

MAX_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One YAML document.

    A *path* is a tuple of keys and list positions, as in pydantic's error locations; the document itself is
    at ``()``. Where a path leaves the document, the nearest known parent answers.

    Attributes:
        value: plain dicts, lists, text, numbers, booleans, None, dates; ``Encrypted`` where Ansible's tags
            are allowed. Aliased parts are one object that stands in several places: do not change it.
    """

    file: str
    value: Any
    root: Node | None = field(repr=False, compare=False)
    text: str = field(repr=False, compare=False)

    def place(self, path: tuple[Any, ...]) -> Place:
        """Where the value at ``path`` begins."""
        return self._place(self._walk(path)[1])

    def key_place(self, path: tuple[Any, ...]) -> Place:
        """Where the key of the value at ``path`` begins; of a list's item, where the item begins."""
        key, node = self._walk(path)
        return self._place(key or node)

    def is_text(self, path: tuple[Any, ...]) -> bool:
        """Whether there is a scalar at ``path`` that YAML read as text."""
        node = self._find(path)
        return node is not None and node.is_text

    def source_text(self, path: tuple[Any, ...]) -> str:
        """The scalar at ``path`` as it is written, quotes included; empty if there is none."""
        node = self._find(path)
        return "" if node is None or node.below is not None else self._source(node)

    def quoted(self, path: tuple[Any, ...]) -> str:
        """The scalar at ``path`` in the form that YAML reads as text."""
        node = self._find(path)
        if node is None:
            return '""'
        return json.dumps(node.value if node.is_text else self.source_text(path), ensure_ascii=False)

    def quoted_key(self, path: tuple[Any, ...]) -> str:
        """The last key of ``path`` in the form that YAML reads as text."""
        key, _ = self._walk(path)
        if key is None:
            return json.dumps(str(path[-1]) if path else "", ensure_ascii=False)
        return json.dumps(key.value if key.is_text else self._source(key), ensure_ascii=False)

    def _walk(self, path: tuple[Any, ...]) -> tuple[Node | None, Node | None]:
        """The key's node and the node of the last part of ``path`` that exists."""
        key, node = None, self.root
        for part in path:
            step = _step(node, part)
            if step is None:
                break
            key, node = step
        return key, node

    def _find(self, path: tuple[Any, ...]) -> Node | None:
        node = self.root
        for part in path:
            step = _step(node, part)
            if step is None:
                return None
            node = step[1]
        return node

    def _place(self, node: Node | None) -> Place:
        if node is None:
            return Place(file=self.file, line=1, column=1)
        return Place(file=self.file, line=node.start.line + 1, column=node.start.column + 1)

    def _source(self, node: Node) -> str:
        return self.text[node.start.index : node.end.index].rstrip()


def _step(node: Node | None, part: Any) -> tuple[Node | None, Node] | None:
    if node is None:
        return None
    if isinstance(node.below, dict):
        return node.below.get(part)
    if isinstance(node.below, list) and isinstance(part, int) and 0 <= part < len(node.below):
        return None, node.below[part]
    return None


def read_document(
    text: str | bytes, *, file: str, ansible_tags: bool = False, limit_bytes: int = MAX_BYTES
) -> Document:
    """The one YAML document of ``text``; an empty one has the value None.

    Args:
        text: UTF-8 if bytes; a byte order mark is ignored.
        file: the name that places bear.
        ansible_tags: whether ``!unsafe`` and ``!vault`` are allowed, as ``yaml_nodes.parse`` takes them.
        limit_bytes: what is larger is refused.

    Raises:
        InputError: not UTF-8, not YAML, or one of the refusals that this module lists.
    """
    decoded = decode(text, file=file, limit_bytes=limit_bytes)
    root = parse(decoded, file=file, ansible_tags=ansible_tags)
    return Document(file=file, value=None if root is None else root.value, root=root, text=decoded)


def load_document(path: Path) -> Document:
    """Read the file at ``path``, as ``read_document`` does.

    Raises:
        InputError: as there, or the file is missing, unreadable, too large or no regular file.
    """
    return read_document(read_file(path), file=str(path))


def read_file(path: Path, *, limit_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a file the user names, not larger than ``limit_bytes``.

    Raises:
        InputError: missing, unreadable, too large, or no regular file.
    """
    place = Place(file=str(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise InputError(f"found {kind}; allowed: a file", place=place)
        if status.st_size > limit_bytes:
            raise _too_large(place, limit_bytes)
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except FileNotFoundError as error:
        raise InputError("there is no such file", place=place) from error
    except PermissionError as error:
        raise InputError(
            "this file may not be read", place=place, hint="check its mode and owner, and its folders'"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"this file cannot be read: {reason}", place=place) from error
    if len(content) > limit_bytes:
        raise _too_large(place, limit_bytes)
    return content


def decode(text: str | bytes, *, file: str, limit_bytes: int = MAX_BYTES) -> str:
    """``text`` as characters that UTF-8 can write, without a byte order mark.

    Raises:
        InputError: it is larger than ``limit_bytes``, not UTF-8, or has a lone surrogate.
    """
    place = Place(file=file)
    if len(text) > limit_bytes:
        raise _too_large(place, limit_bytes)
    try:
        decoded = text if isinstance(text, str) else text.decode()
        decoded.encode()  # a lone surrogate is no text either
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"found the byte 0x{error.object[error.start]:02x}, which is not UTF-8",
            place=Place(file=file, line=line),
            hint="save the file as UTF-8",
        ) from error
    except UnicodeEncodeError as error:
        raise InputError("found a lone surrogate, which is not UTF-8", place=place) from error
    return decoded.removeprefix("\ufeff")


def _too_large(place: Place, limit_bytes: int) -> InputError:
    return InputError(f"this file is larger than {limit_bytes // 2**20} MiB", place=place)
