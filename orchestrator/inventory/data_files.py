"""A file of an inventory as Ansible reads its data: JSON if it is JSON, YAML 1.1 if not.

The difference shows in few values (``1e3`` is a number in JSON and text in YAML 1.1), but JSON as
``ansible-inventory`` writes it has characters beyond U+FFFF in a form that no YAML reader takes. There, a
value that ansible-vault encrypted is ``{"__ansible_vault": …}``, one that must not be rendered
``{"__ansible_unsafe": …}``.

Refused is what ``documents`` refuses, and a lone surrogate in JSON. Files may be larger here, since a listing
repeats the variables of groups for every host.
"""

import json
import re
from bisect import bisect_right
from pathlib import Path
from typing import Any

from orchestrator.documents import Document, Encrypted, decode, read_document, read_file
from orchestrator.errors import InputError, Place
from orchestrator.yaml_nodes import MAX_DEPTH, MAX_NUMBER_CHARACTERS, MAX_VALUES, Node

MAX_BYTES = 64 * 2**20

_VAULT_HEADER = b"$ANSIBLE_VAULT;"
_VAULT_KEY = "__ansible_vault"
_UNSAFE_KEY = "__ansible_unsafe"
# Blanks, commas and colons between tokens carry nothing once the text is known to be JSON.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[^\s,:{}\[\]"]+')
_WORDS = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}


def read_content(path: Path) -> bytes:
    """The bytes of a file of an inventory.

    Raises:
        InputError: missing, unreadable, larger than ``MAX_BYTES``, or no regular file.
    """
    return read_file(path, limit_bytes=MAX_BYTES)


def is_vaulted(content: bytes) -> bool:
    """Whether ansible-vault has encrypted the file as a whole."""
    return content.startswith(_VAULT_HEADER)


def read_data(content: bytes, *, file: str) -> Document:
    """The data of a file; an empty one has the value None.

    Raises:
        InputError: neither JSON nor YAML, or beyond a limit.
    """
    text = decode(content, file=file, limit_bytes=MAX_BYTES)
    if not text.lstrip().startswith("{"):
        return read_document(text, file=file, ansible_tags=True, limit_bytes=MAX_BYTES)
    try:
        json.loads(text, parse_int=len, parse_float=len)
    except RecursionError as error:
        message = f"found more than {MAX_DEPTH} levels of mappings and lists"
        raise InputError(message, place=Place(file=file)) from error
    except json.JSONDecodeError as error:
        if not file.endswith(".json"):
            return read_document(text, file=file, ansible_tags=True, limit_bytes=MAX_BYTES)
        try:
            return read_document(text, file=file, ansible_tags=True, limit_bytes=MAX_BYTES)
        except InputError:
            place = Place(file=file, line=error.lineno, column=error.colno)
            raise InputError(f"this is not JSON: {error.msg}", place=place) from error
    root = _Json(text, file).read()
    return Document(file=file, value=root.value, root=root, text=text)


class _Mark:
    """Where a token begins or ends, as PyYAML's marks tell it."""

    __slots__ = ("_line_starts", "index")

    def __init__(self, index: int, line_starts: list[int]) -> None:
        self.index = index
        self._line_starts = line_starts

    @property
    def line(self) -> int:
        return bisect_right(self._line_starts, self.index) - 1

    @property
    def column(self) -> int:
        return self.index - self._line_starts[self.line]


class _Json:
    """Builds nodes from text that is known to be JSON, without recursion."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._line_starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._open: list[tuple[Node, Node | None]] = []
        self._key: Node | None = None
        self._count = 0

    def read(self) -> Node:
        root: Node | None = None
        for token in _TOKEN.finditer(self._text):
            self._count += 1
            if self._count > MAX_VALUES:
                raise self._wrong(token.start(), f"found more than {MAX_VALUES} values")
            word = token[0]
            if word in {"{", "["}:
                self._begin(token)
                continue
            node = self._end(token) if word in {"}", "]"} else self._scalar(token)
            if not self._open:
                root = node
            elif self._key is None and isinstance(self._open[-1][0].below, dict):
                self._take_key(node)
            else:
                self._add(node)
        assert root is not None  # noqa: S101 - a text with no value is no JSON
        return root

    def _mark(self, index: int) -> _Mark:
        return _Mark(index, self._line_starts)

    def _wrong(self, index: int, message: str) -> InputError:
        mark = self._mark(index)
        place = Place(file=self._file, line=mark.line + 1, column=mark.column + 1)
        return InputError(message, place=place)

    def _begin(self, token: re.Match[str]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise self._wrong(token.start(), f"found more than {MAX_DEPTH} levels of mappings and lists")
        start = self._mark(token.start())
        node = Node({} if token[0] == "{" else [], start, start)
        node.below = {} if token[0] == "{" else []
        self._open.append((node, self._key))
        self._key = None

    def _end(self, token: re.Match[str]) -> Node:
        node, self._key = self._open.pop()
        node.end = self._mark(token.end())
        value = node.value
        if isinstance(value, dict) and (_VAULT_KEY in value or _UNSAFE_KEY in value):
            return self._meant(node, value)
        return node

    def _meant(self, node: Node, value: dict[str, Any]) -> Node:
        """The value that one of Ansible's two markers stands for."""
        key = _VAULT_KEY if _VAULT_KEY in value else _UNSAFE_KEY
        text = value[key]
        if len(value) > 1 or not isinstance(text, str):
            raise self._wrong(node.start.index, f"found {key} that is not alone, or not with a text")
        if key == _VAULT_KEY:
            return Node(Encrypted(text), node.start, node.end)
        return Node(text, node.start, node.end, is_text=True)

    def _scalar(self, token: re.Match[str]) -> Node:
        word, start, end = token[0], self._mark(token.start()), self._mark(token.end())
        if word[0] == '"':
            return Node(self._string(token), start, end, is_text=True)
        if word in _WORDS:
            return Node(_WORDS[word], start, end)
        if len(word) > MAX_NUMBER_CHARACTERS:
            message = f"found a number of {len(word)} characters; allowed: {MAX_NUMBER_CHARACTERS}"
            raise self._wrong(token.start(), message)
        return Node(int(word) if word.lstrip("-").isdigit() else float(word), start, end)

    def _string(self, token: re.Match[str]) -> str:
        word = token[0]
        if "\\" not in word:
            return word[1:-1]
        value: str = json.loads(word)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            message = "found a lone surrogate, which is not UTF-8"
            raise self._wrong(token.start(), message) from error
        return value

    def _take_key(self, node: Node) -> None:
        below = self._open[-1][0].below
        first = below.get(node.value) if isinstance(below, dict) else None
        if first is not None and first[0] is not None:
            mark = first[0].start
            found = self._text[node.start.index : node.end.index]
            message = (
                f"found the key {found} again; the first is at line {mark.line + 1}, column {mark.column + 1}"
            )
            raise self._wrong(node.start.index, message)
        self._key = node

    def _add(self, node: Node) -> None:
        parent = self._open[-1][0]
        if isinstance(parent.below, dict) and self._key is not None:
            parent.below[self._key.value] = self._key, node
            parent.value[self._key.value] = node.value
            self._key = None
        elif isinstance(parent.below, list):
            parent.below.append(node)
            parent.value.append(node.value)
