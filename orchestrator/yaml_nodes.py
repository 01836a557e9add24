"""The nodes of one YAML document: values with the marks of where they begin and end.

Built from the parser's events one by one, without recursion, so that the limits of ``documents`` hold before
memory is spent. PyYAML's own resolver and constructor say what a scalar means, so YAML 1.1 is read as Ansible
reads it; merge keys (``<<``) as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from orchestrator.errors import InputError, Place

MAX_DEPTH = 40
MAX_VALUES = 2_000_000
MAX_NUMBER_CHARACTERS = 200
"""A longer scalar that has the form of a number is refused: reading it takes the square of its length."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_TEXT, _MERGE = f"{_TAG}str", f"{_TAG}merge"
_READ_AS_TEXT = {_TEXT, f"{_TAG}value"}
_READ_BY_CONSTRUCTOR = {f"{_TAG}{name}" for name in ("bool", "float", "int", "null", "timestamp")}
_MERGE_KEY = object()
_UNSAFE = "!unsafe"
_VAULT_TAGS = ("!vault", "!vault-encrypted")
_TAG_HINTS = {
    "!vault": "keyrelay opens no Ansible vault; keep this value out of the files that keyrelay reads",
    _UNSAFE: "keyrelay renders nothing that it reads here, so the value is safe without the tag",
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Encrypted:
    """A value that ansible-vault has encrypted, and that keyrelay never opens.

    Nothing can be known of it: to take it for text, to ask whether it is true, or equal to a value of another
    kind, is an error. Only ``repr`` shows that it is there.

    Attributes:
        ciphertext: what stands in the file, ``$ANSIBLE_VAULT;…``.
    """

    ciphertext: str

    def __repr__(self) -> str:
        return "<encrypted by ansible-vault>"

    def __str__(self) -> str:
        raise ValueError("a value is encrypted by ansible-vault; what it says cannot be known")

    def __bool__(self) -> bool:
        raise ValueError("a value is encrypted by ansible-vault; whether it is true cannot be known")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Encrypted):
            return self.ciphertext == other.ciphertext
        raise ValueError("a value is encrypted by ansible-vault; what it equals cannot be known")

    def __hash__(self) -> int:
        return hash(self.ciphertext)


class Node:
    """A value and where it is written.

    Attributes:
        value: plain Python data.
        start, end: PyYAML's marks (``index``, ``line`` and ``column``, from 0).
        is_text: a scalar that YAML read as text.
        below: of a mapping the nodes of key and value, by key; of a list its items; of a scalar None.
        size: how many nodes it and what is below it are, aliases unfolded; 0 while it is not complete.
        height: how many levels of mappings and lists it has.
    """

    __slots__ = ("below", "end", "height", "is_text", "size", "start", "value")

    def __init__(self, value: Any, start: Any, end: Any, *, is_text: bool = False, size: int = 1) -> None:
        self.value = value
        self.start = start
        self.end = end
        self.is_text = is_text
        self.size = size
        self.height = 0
        self.below: dict[Any, tuple[Node, Node]] | list[Node] | None = None


def parse(text: str, *, file: str, ansible_tags: bool = False) -> Node | None:
    """The root of the one document in ``text``; None if there is nothing in it.

    Args:
        text: the document.
        file: the name that places bear.
        ansible_tags: whether ``!unsafe`` and ``!vault`` are allowed. ``!unsafe`` makes a quoted scalar mean
            what it means without its quotes, and else nothing; a ``!vault`` scalar becomes ``Encrypted``.

    Raises:
        InputError: not YAML, beyond a limit, or with a tag, key or alias that is refused.
    """
    return _Reader(text, file, ansible_tags=ansible_tags).read()


class _Open:
    """A mapping or a list whose end has not been read; ``key`` waits for its value."""

    __slots__ = ("entries", "items", "key", "node")

    def __init__(self, node: Node, *, mapping: bool) -> None:
        self.node = node
        self.entries: dict[Any, tuple[Node, Node]] | None = {} if mapping else None
        self.items: list[Node] = []
        self.key: Node | None = None

    @property
    def wants_key(self) -> bool:
        return self.entries is not None and self.key is None


class _Reader:
    """Builds nodes from events."""

    def __init__(self, text: str, file: str, *, ansible_tags: bool) -> None:
        self._ansible_tags = ansible_tags
        self._text = text
        self._file = file
        self._open: list[_Open] = []
        self._root: Node | None = None
        self._anchors: dict[str, Node] = {}
        self._size = 0
        self._tags: dict[str, str] = {}
        self._resolver: Any = yaml.resolver.Resolver()
        self._constructor = SafeConstructor()

    def read(self) -> Node | None:
        documents = 0
        for event in self._events():
            match event:
                case yaml.ScalarEvent():
                    node = self._scalar(event)
                    self._remember(node, event)
                    self._add(node, event.start_mark, new=1)
                case yaml.AliasEvent():
                    node = self._anchored(event)
                    self._add(node, event.start_mark, new=node.size)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._begin(event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._complete(event)
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        raise self._wrong(event.start_mark, "found a second document; allowed: one in a file")
        return self._root

    def _events(self) -> Iterator[Any]:
        try:
            yield from yaml.parse(self._text, Loader=LOADER)
        except yaml.MarkedYAMLError as error:
            raise self._not_yaml(error) from error
        except yaml.reader.ReaderError as error:
            found = error.character if isinstance(error.character, int) else ord(error.character)
            index = self._text.index(chr(found))  # the error's own position counts bytes or characters
            line_start = self._text.rfind("\n", 0, index) + 1
            line = self._text.count("\n", 0, index) + 1
            raise InputError(
                f"found the character U+{found:04X}, which YAML does not allow",
                place=Place(file=self._file, line=line, column=index - line_start + 1),
            ) from error

    def _not_yaml(self, error: yaml.MarkedYAMLError) -> InputError:
        mark = error.problem_mark or error.context_mark
        if "nesting depth" in (error.problem or ""):  # newer libyaml reads ahead, and has a limit of its own
            return self._too_deep(mark)
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        at = self._text[mark.index : mark.index + 1] if mark else ""
        hint = ""
        if at == "\t":
            hint = "indent with blanks, not with tabs"
        elif at and at in "%@`":
            hint = f"a value that begins with {at} must be quoted"
        return self._wrong(mark, f"this is not YAML: {problem or 'it has no form'}", hint=hint)

    def _wrong(self, mark: Any, message: str, *, hint: str = "") -> InputError:
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return InputError(message, place=Place(file=self._file, line=line, column=column), hint=hint)

    def _scalar(self, event: Any) -> Node:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._plain_tag(event.value) if event.implicit[0] else _TEXT
        elif self._ansible_tags and tag in _VAULT_TAGS:
            return Node(Encrypted(event.value), event.start_mark, event.end_mark)
        elif self._ansible_tags and tag == _UNSAFE:
            tag = self._plain_tag(event.value)  # quoted or not, as Ansible does
        if tag == _MERGE and event.anchor is None and self._open and self._open[-1].wants_key:
            return Node(_MERGE_KEY, event.start_mark, event.end_mark)
        if tag in _READ_AS_TEXT or tag == _MERGE:
            return Node(event.value, event.start_mark, event.end_mark, is_text=True)
        if tag not in _READ_BY_CONSTRUCTOR:
            raise self._wrong_tag(event)
        return Node(self._constructed(event, tag), event.start_mark, event.end_mark)

    def _plain_tag(self, value: str) -> str:
        tag = self._tags.get(value)
        if tag is None:
            tag = self._tags[value] = self._resolver.resolve(yaml.ScalarNode, value, (True, False))
        return tag

    def _constructed(self, event: Any, tag: str) -> Any:
        if len(event.value) > MAX_NUMBER_CHARACTERS:
            message = f"found a number of {len(event.value)} characters; allowed: {MAX_NUMBER_CHARACTERS}"
            raise self._wrong(event.start_mark, message, hint="quote it if it is text")
        try:
            node = yaml.ScalarNode(tag, event.value)
            return SafeConstructor.yaml_constructors[tag](self._constructor, node)
        except (ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            message = f"found {event.value!r}, which is no YAML {tag.removeprefix(_TAG)}"
            raise self._wrong(event.start_mark, message, hint="quote it if it is text") from error

    def _wrong_tag(self, event: Any) -> InputError:
        tag = event.tag.replace(_TAG, "!!")
        message = f"found the tag {tag}; allowed: no tag, or !!str !!int !!float !!bool !!null !!map !!seq"
        hint = _TAG_HINTS.get("!vault" if tag in _VAULT_TAGS else tag, "")
        return self._wrong(event.start_mark, message, hint=hint)

    def _remember(self, node: Node, event: Any) -> None:
        if event.anchor is None:
            return
        first = self._anchors.setdefault(event.anchor, node)
        if first is not node:
            message = f"found the anchor &{event.anchor} again; the first is at {self._position(first)}"
            raise self._wrong(event.start_mark, message)

    def _anchored(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise self._wrong(event.start_mark, f"found *{event.anchor} with no &{event.anchor} before it")
        if not node.size:
            raise self._wrong(event.start_mark, f"found *{event.anchor} inside the value that it stands for")
        return node

    def _begin(self, event: Any) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        allowed = {None, "!", f"{_TAG}map" if mapping else f"{_TAG}seq"}
        if event.tag not in allowed and not (self._ansible_tags and event.tag == _UNSAFE):
            raise self._wrong_tag(event)
        if self._open and self._open[-1].wants_key:
            raise self._wrong_key(event.start_mark, mapping=mapping)
        self._check_depth(1, event.start_mark)
        node = Node(None, event.start_mark, event.end_mark, size=0)
        self._remember(node, event)
        self._open.append(_Open(node, mapping=mapping))

    def _wrong_key(self, mark: Any, *, mapping: bool) -> InputError:
        template = mapping and self._text.startswith("{{", mark.index - 1)
        hint = "a value that begins with {{ must be quoted" if template else ""
        return self._wrong(
            mark, f"found a {'mapping' if mapping else 'list'} as a key; allowed: text", hint=hint
        )

    def _complete(self, event: Any) -> None:
        top = self._open.pop()
        node = top.node
        node.end = event.end_mark
        if top.entries is None:
            node.below = top.items
            node.value = [item.value for item in top.items]
            parts = top.items
        else:
            node.below = entries = self._merged(top.entries)
            node.value = {key: value.value for key, (_, value) in entries.items()}
            parts = [value for _, value in entries.values()]
        node.size = 1 + sum(part.size for part in parts)
        node.height = 1 + max((part.height for part in parts), default=0)
        self._add(node, node.start, new=1)

    def _merged(self, entries: dict[Any, tuple[Node, Node]]) -> dict[Any, tuple[Node, Node]]:
        """``entries`` with those of the merge key beneath them; of several merged mappings the first wins."""
        if _MERGE_KEY not in entries:
            return entries
        _, merge = entries.pop(_MERGE_KEY)
        sources = merge.below if isinstance(merge.below, list) else [merge]
        merged: dict[Any, tuple[Node, Node]] = {}
        for source in reversed(sources):
            if not isinstance(source.below, dict):
                raise self._wrong(source.start, "<< takes a mapping or a list of mappings")
            merged |= source.below
        self._count(sum(value.size for _, value in merged.values()), merge.start)
        return merged | entries

    def _add(self, node: Node, mark: Any, *, new: int) -> None:
        """Put a complete node, with ``new`` nodes not counted yet, where the innermost open one wants it."""
        self._check_depth(node.height, mark)
        self._count(new, mark)
        if not self._open:
            self._root = node
            return
        top = self._open[-1]
        if top.entries is None:
            top.items.append(node)
        elif top.key is not None:
            top.entries[top.key.value] = top.key, node
            top.key = None
        else:
            self._take_key(top, node, mark)

    def _take_key(self, top: _Open, node: Node, mark: Any) -> None:
        if node.below is not None:
            raise self._wrong_key(mark, mapping=isinstance(node.below, dict))
        if isinstance(node.value, Encrypted):
            raise self._wrong(mark, "found an encrypted value as a key; allowed: text")
        first = (top.entries or {}).get(node.value)
        if first is not None:
            found, alike = self._written(node), type(node.value) is type(first[0].value)
            same = (
                f"the key {found} again"
                if alike
                else f"the key {found}, which equals {self._written(first[0])}"
            )
            raise self._wrong(mark, f"found {same}; the first is at {self._position(first[0])}")
        top.key = node

    def _written(self, node: Node) -> str:
        return self._text[node.start.index : node.end.index]

    def _position(self, node: Node) -> str:
        return f"line {node.start.line + 1}, column {node.start.column + 1}"

    def _check_depth(self, levels: int, mark: Any) -> None:
        if len(self._open) + levels > MAX_DEPTH:
            raise self._too_deep(mark)

    def _too_deep(self, mark: Any) -> InputError:
        return self._wrong(mark, f"found more than {MAX_DEPTH} levels of mappings and lists")

    def _count(self, size: int, mark: Any) -> None:
        self._size += size
        if self._size > MAX_VALUES:
            raise self._wrong(mark, f"found more than {MAX_VALUES} values, aliases unfolded")
