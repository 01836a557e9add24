r"""Hooks: the operator's own commands, with a host's variables put in, quoted for ``sh``.

A hook is the only text that a host is ever asked to run. Its template is a small part of Jinja2:
``{{ … }}`` with variables, text, ``~``, a few filters and comparisons, and ``{% if %}``. There are no calls,
loops, assignments or imports, so a template can neither reach into this program nor grow without bound.

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

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError, nodes
from jinja2.sandbox import SandboxedEnvironment

from orchestrator.errors import InputError, Place
from orchestrator.inventory.model import HostName, Inventory
from orchestrator.inventory.names import shown

MAX_CHARACTERS = 4000
"""Of a template, of each value put into it, and of the command that results."""

FILTERS = ("default", "lower", "trim", "upper")

_MOVE_IT = "put a longer command into a script on the host and hand it the values as arguments"
_ALLOWED_NODES = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.If,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Filter,
    nodes.Keyword,
    nodes.CondExpr,
    nodes.Concat,
    nodes.Compare,
    nodes.Operand,
    nodes.Test,
    nodes.And,
    nodes.Or,
    nodes.Not,
)
_TESTS = ("defined", "undefined")
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


class _Refused(Exception):  # noqa: N818 - never leaves this module; InputError is what callers see
    """Why a template or a value cannot be used."""


class _Shell(Enum):
    """What the shell makes of the next character of a command."""

    PLAIN = ""
    SINGLE = "inside '…'"
    DOUBLE = 'inside "…"'
    ESCAPED = "after a \\"
    ESCAPED_IN_DOUBLE = 'after a \\ inside "…"'
    DOLLAR = "after a $"


def check_hook(template: str, *, place: Place) -> None:
    """Refuse a template that could not be rendered safely for any host.

    Raises:
        InputError: what is wrong with it, and where it stands.
    """
    _prepare(template, place)


def render_hook(template: str, variables: Mapping[str, Any], *, place: Place) -> str:
    """The command that ``template`` becomes for one host.

    Args:
        template: from the playbook.
        variables: the host's, as ``hook_variables`` gives them.
        place: of the template in the playbook.

    Raises:
        InputError: the template is refused; a variable is not set for this host, or its value is not text
            or a whole number, not printable, itself a template, or too long; the command is empty or longer
            than ``MAX_CHARACTERS``. Names the host and, where it is one's fault, the variables.
    """
    prepared, names = _prepare(template, place)
    host = variables.get("inventory_hostname", "")
    try:
        command = prepared.render(variables).strip()
    except UndefinedError as error:
        missing = ", ".join(name for name in names if name not in variables)
        hint = f"set {missing} for this host, or give it a value with | default('…')" if missing else ""
        raise InputError(
            f"the hook for host {host} cannot be made: {error.message}", place=place, hint=hint
        ) from error
    except _Refused as error:
        message = f"the hook for host {host} cannot be made from {', '.join(names)}: {error}"
        raise InputError(message, place=place, hint="change the host's variables or the hook") from error
    except (TemplateError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"the hook for host {host} cannot be made: {error}", place=place) from error
    if not command or len(command) > MAX_CHARACTERS:
        found = f"{len(command)} characters long" if command else "empty"
        message = f"the hook for host {host} is {found}; allowed: 1 to {MAX_CHARACTERS} characters"
        raise InputError(message, place=place, hint=_MOVE_IT if command else "")
    return command


_PASSWORD = re.compile(r"ansible_\w*pass(word|phrase)?")


def hook_variables(inventory: Inventory, host: HostName) -> dict[str, Any]:
    """What a hook may name: the host's inventory variables, ``inventory_hostname`` and ``keyrelay_base``.

    Ansible's passwords are left out: the rendered command is recorded, and seen by whoever lists processes.

    Raises:
        UsageError: there is no such host.
        InputError: the host's ``keyrelay_base`` is wrong.
    """
    known = inventory.host(host).variables
    return {
        **{name: value for name, value in known.items() if not _PASSWORD.fullmatch(name)},
        "inventory_hostname": host,
        "keyrelay_base": inventory.endpoint(host).base,
    }


def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(undefined=StrictUndefined, finalize=_word, cache_size=0)
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    environment.tests = {name: environment.tests[name] for name in _TESTS}
    return environment


def _word(value: Any) -> str:
    """One word of sh; Jinja2 calls this on everything that ``{{ … }}`` prints."""
    if isinstance(value, StrictUndefined):
        return str(value)  # raises UndefinedError with its name
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise _Refused(f"found {shown(value)}; allowed: text or a whole number")
    # str() drops Markup and every other subclass, whose methods are not ours.
    text = str.__str__(value) if isinstance(value, str) else str(value)
    if len(text) > MAX_CHARACTERS:
        raise _Refused(f"found {len(text)} characters; allowed: {MAX_CHARACTERS}")
    if not text.isprintable():
        raise _Refused(f"found {shown(text)}; allowed: printable characters on one line")
    if "{{" in text or "{%" in text:
        raise _Refused(f"found the template {shown(text)}; variables are not rendered")
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _prepare(template: str, place: Place) -> tuple[Template, tuple[str, ...]]:
    try:
        return _prepared(template)
    except TemplateSyntaxError as error:
        raise InputError(f"the hook is no template: {error.message}", place=place) from error
    except RecursionError as error:
        raise InputError("the hook is nested too deeply", place=place, hint=_MOVE_IT) from error
    except _Refused as error:
        raise InputError(f"the hook is refused: {error}", place=place, hint=_MOVE_IT) from error


@lru_cache(maxsize=16)
def _prepared(template: str) -> tuple[Template, tuple[str, ...]]:
    """The compiled template and the variables it names; one playbook has one hook for all its servers."""
    if not 0 < len(template.strip()) <= len(template) <= MAX_CHARACTERS:
        raise _Refused(
            f"it is {len(template)} characters long; allowed: 1 to {MAX_CHARACTERS}, not all blank"
        )
    if not template.replace("\n", "").replace("\t", "").isprintable():
        raise _Refused("it has characters that cannot be printed")
    environment = _environment()
    tree = environment.parse(template)
    for node in tree.find_all(nodes.Node):
        _check_node(node)
    _check_places(tree)
    names = tuple(sorted({name.name for name in tree.find_all(nodes.Name)}))
    return environment.from_string(tree), names


def _check_node(node: nodes.Node) -> None:
    if not isinstance(node, _ALLOWED_NODES):
        kind = type(node).__name__.lower()
        raise _Refused(f"found a template's {kind}; allowed: variables, text, ~, filters, comparisons, if")
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        raise _Refused(f"unknown filter {shown(node.name)}; allowed: {', '.join(FILTERS)}")
    if isinstance(node, nodes.Test) and node.name not in _TESTS:
        raise _Refused(f"unknown test {shown(node.name)}; allowed: {', '.join(_TESTS)}")


def _check_places(tree: nodes.Template) -> None:
    """Refuse values that stand where a quoted word is none."""
    parts = list(_parts(tree.body))
    if all(isinstance(part, nodes.TemplateData) for part in parts):
        return
    text = "".join(map(_text_of, parts))
    for meaning, form in _AMBIGUOUS.items():
        # The shell joins lines at a \, but not after another \ or inside quotes: both readings count.
        if form.search(text) or form.search(text.replace("\\\n", "")):
            raise _Refused(f"it puts values into a command with {meaning}")
    shell = _Shell.PLAIN
    for part in parts:
        if isinstance(part, nodes.TemplateData):
            shell = _after(part.data, shell)
        elif shell is not _Shell.PLAIN:
            raise _Refused(f"a value or a condition stands {shell.value}, where its quotes would not hold")
    if shell is not _Shell.PLAIN:
        raise _Refused(f"it ends {shell.value}")


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
