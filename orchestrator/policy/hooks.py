r"""Hooks and prove_commands: the operator's own commands, with a host's variables put in, quoted for ``sh``.

They are the only text that a host is ever asked to run. Their templates are rendered in ``sandbox.py``.

Every printed value stands in single quotes, whatever it is and whatever filters it went through, so that the
shell reads it as no number of a redirection, assignment, keyword or glob. That only holds where the shell
would begin or continue a plain word. So a value inside quotes or a glob's brackets, after ``\`` or ``$``, or
in a command with substitutions, comments, here-documents or arithmetic is refused; what a condition could
leave out between two characters counts as left out.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any

from jinja2 import nodes

from orchestrator.errors import InputError, Place
from orchestrator.policy.sandbox import Prepared, Refused, prepare, prepared_or_refused, render, text_of

MAX_CHARACTERS = 4000
"""Of a template, and of the command that results."""

_MOVE_IT = "put a longer command into a script on the host and hand it the values as arguments"
_VALUE = "\0"
_CONDITION = "\1"
"""Marks, in the text of a template, of a value and of a condition's ends; no template has them."""
_AMBIGUOUS = {
    "a substitution": re.compile(r"`|\$\(|\$\{"),
    "a comment": re.compile(r"(?:^|[\s;&|()\0\1])#"),
    "a here-document": re.compile(r"<[<\1]"),
    "arithmetic": re.compile(r"\([(\1]|\$\["),
    "$'": re.compile(r"\$'"),
    '$"': re.compile(r'\$"'),
    "a $ at the end of a line": re.compile(r"\$\\\n"),
    "a value in a glob's brackets": re.compile(
        r"""\[(?:'[^']*'|"[^"]*"|\\.|[^\s;&|<>()'"\\\0\1])*[\0\1]""", re.DOTALL
    ),
}


class _Shell(Enum):
    """What the shell makes of the next character of a command."""

    PLAIN = ""
    SINGLE = "inside '…'"
    DOUBLE = 'inside "…"'
    ESCAPED = "after a \\"
    ESCAPED_IN_DOUBLE = 'after a \\ inside "…"'
    DOLLAR = "after a $"


def check_hook(template: str, *, place: Place, what: str = "hook") -> None:
    """Refuse a template that could not be rendered safely for any host; ``what`` is what errors call it.

    Raises:
        InputError: what is wrong with it, and where it stands.
    """
    _prepare(template, place, what)


def render_hook(template: str, variables: Mapping[str, Any], *, place: Place, what: str = "hook") -> str:
    """The command that ``template`` becomes for one host.

    Args:
        template: from the playbook.
        variables: the host's, as ``sandbox.host_variables`` gives them.
        place: of the template in the playbook.
        what: what errors call it.

    Raises:
        InputError: the template is refused; a value cannot be put in (``sandbox.render``); the command is
            empty or longer than ``MAX_CHARACTERS``.
    """
    command = render(_prepare(template, place, what), variables, what=f"the {what}", place=place).strip()
    if not command or len(command) > MAX_CHARACTERS:
        host = variables.get("inventory_hostname", "")
        found = f"{len(command)} characters long" if command else "empty"
        message = f"the {what} for host {host} is {found}; allowed: 1 to {MAX_CHARACTERS} characters"
        raise InputError(message, place=place, hint=_MOVE_IT if command else "")
    return command


def _word(value: Any) -> str:
    """One word of sh."""
    return "'" + text_of(value).replace("'", "'\"'\"'") + "'"


def _prepare(template: str, place: Place, what: str) -> Prepared:
    return prepared_or_refused(lambda: _prepared(template), what=f"the {what}", place=place, hint=_MOVE_IT)


@lru_cache(maxsize=16)
def _prepared(template: str) -> Prepared:
    """One playbook has one hook for all its servers."""
    prepared = prepare(template, most=MAX_CHARACTERS, printed=_word)
    _check_places(prepared.tree)
    return prepared


def _check_places(tree: nodes.Template) -> None:
    """Refuse values that stand where a quoted word is none."""
    parts = list(_parts(tree.body))
    if all(isinstance(part, nodes.TemplateData) for part in parts):
        return
    text = "".join(map(_text_of, parts))
    for meaning, form in _AMBIGUOUS.items():
        # The shell joins lines at a \, but not after another \ or inside quotes: both readings count.
        if form.search(text) or form.search(text.replace("\\\n", "")):
            raise Refused(f"it puts values into a command with {meaning}")
    shell = _Shell.PLAIN
    for part in parts:
        if isinstance(part, nodes.TemplateData):
            shell = _after(part.data, shell)
        elif shell is not _Shell.PLAIN:
            raise Refused(f"a value or a condition stands {shell.value}, where its quotes would not hold")
    if shell is not _Shell.PLAIN:
        raise Refused(f"it ends {shell.value}")


def _parts(body: list[nodes.Node]) -> Iterator[nodes.Node]:
    """Text and what is between, in order; a condition stands at each of its ends and between its branches."""
    for node in body:
        if isinstance(node, nodes.Output):
            yield from node.nodes
        elif isinstance(node, nodes.If):
            yield node
            for branch in (node.body, *(other.body for other in node.elif_), node.else_):
                yield from _parts(branch)
                yield node


def _text_of(part: nodes.Node) -> str:
    if isinstance(part, nodes.TemplateData):
        return part.data
    return _CONDITION if isinstance(part, nodes.If) else _VALUE


def _after(text: str, shell: _Shell) -> _Shell:
    for character in text:
        shell = _next(character, shell)
    return shell


def _next(character: str, shell: _Shell) -> _Shell:
    match shell:
        case _Shell.SINGLE:
            return _Shell.PLAIN if character == "'" else shell
        case _Shell.DOUBLE:
            return {'"': _Shell.PLAIN, "\\": _Shell.ESCAPED_IN_DOUBLE}.get(character, shell)
        case _Shell.ESCAPED_IN_DOUBLE:
            return _Shell.DOUBLE
        case _Shell.ESCAPED:
            return _Shell.PLAIN
        case _Shell.PLAIN | _Shell.DOLLAR:
            starts = {"'": _Shell.SINGLE, '"': _Shell.DOUBLE, "\\": _Shell.ESCAPED, "$": _Shell.DOLLAR}
            return starts.get(character, _Shell.PLAIN)
