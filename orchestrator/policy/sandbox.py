"""Templates that can do no harm: a small part of Jinja2, in a sandbox, over one host's variables.

``{{ … }}`` with variables, text, ``~``, a few filters and comparisons, and ``{% if %}``. There are no calls,
loops, assignments or imports, so a template can neither reach into this program nor grow without bound.
``hooks.py`` makes commands of them, ``templates.py`` files.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError, nodes
from jinja2.sandbox import SandboxedEnvironment

from orchestrator.errors import InputError, Place
from orchestrator.inventory.model import HostName, Inventory
from orchestrator.inventory.names import shown

FILTERS = ("default", "lower", "trim", "upper")
MOST_OF_A_VALUE = 4000
"""Characters of one value that is put into a template."""

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
_MISSING = re.compile(r"'(\w+)' is undefined")
"""What Jinja2 says of a variable that is not there; of a part of one it says something else."""
_PASSWORD = re.compile(r"ansible_\w*pass(word|phrase)?")


class Refused(Exception):  # noqa: N818 - never leaves this package; InputError is what callers see
    """Why a template or a value cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A template that may be rendered.

    Attributes:
        names: the variables it names, sorted.
        tree: what it was compiled from.
    """

    template: Template
    names: tuple[str, ...]
    tree: nodes.Template


def prepare(template: str, *, most: int, printed: Callable[[Any], str]) -> Prepared:
    """Compile a template, if it has only what is allowed.

    Args:
        template: its text.
        most: characters that it may have.
        printed: what ``{{ … }}`` makes of a value; ``text_of`` or something upon it.

    Raises:
        Refused: it is too long, blank, or has something that is not allowed.
        TemplateSyntaxError, RecursionError: it is no template.
    """
    if not 0 < len(template.strip()) <= len(template) <= most:
        raise Refused(f"it is {len(template)} characters long; allowed: 1 to {most}, not all blank")
    if not template.replace("\n", "").replace("\t", "").isprintable():
        raise Refused("it has characters that cannot be printed")
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, finalize=printed, cache_size=0, keep_trailing_newline=True
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    environment.tests = {name: environment.tests[name] for name in _TESTS}
    tree = environment.parse(template)
    for node in tree.find_all(nodes.Node):
        _check_node(node)
    names = tuple(sorted({name.name for name in tree.find_all(nodes.Name)}))
    return Prepared(template=environment.from_string(tree), names=names, tree=tree)


def prepared_or_refused(make: Callable[[], Prepared], *, what: str, place: Place, hint: str) -> Prepared:
    """What ``make`` prepares.

    Args:
        make: calls ``prepare``.
        what: what the template is, to begin a sentence.
        place: where it stands.
        hint: what to do about one that asks for too much.

    Raises:
        InputError: what is wrong with it.
    """
    try:
        return make()
    except TemplateSyntaxError as error:
        raise InputError(f"{what} is no template: {error.message}", place=place) from error
    except RecursionError as error:
        raise InputError(f"{what} is nested too deeply", place=place, hint=hint) from error
    except Refused as error:
        raise InputError(f"{what} is refused: {error}", place=place, hint=hint) from error


def render(prepared: Prepared, variables: Mapping[str, Any], *, what: str, place: Place) -> str:
    """The text that a template becomes for one host.

    Args:
        prepared: the template.
        variables: the host's, as ``host_variables`` gives them.
        what: what the template is, to begin a sentence.
        place: where it stands.

    Raises:
        InputError: a variable is not set for this host, or its value is not text or a whole number, not
            printable, itself a template, or too long. Names the host and, where it is one's fault, the
            variables.
    """
    host, names = variables.get("inventory_hostname", ""), prepared.names
    failed = f"{what} for host {host} cannot be made"
    try:
        return prepared.template.render(variables)
    except UndefinedError as error:
        missing = _MISSING.fullmatch(error.message or "")
        hint = f"set {missing[1]} for this host, or give it a value with | default('…')" if missing else ""
        raise InputError(f"{failed}: {error.message}", place=place, hint=hint) from error
    except Refused as error:
        hint = f"change the host's variables or {what}"
        raise InputError(f"{failed} from {', '.join(names)}: {error}", place=place, hint=hint) from error
    except (TemplateError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{failed}: {error}", place=place) from error


def text_of(value: Any) -> str:
    """What a value is as text; to be called on everything that ``{{ … }}`` prints.

    Raises:
        Refused: it is not text or a whole number, not printable on one line, a template, or too long.
        UndefinedError: it is a variable that the host does not have.
    """
    if isinstance(value, StrictUndefined):
        return str(value)  # raises UndefinedError with its name
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise Refused(f"found {shown(value)}; allowed: text or a whole number")
    # str() drops Markup and every other subclass, whose methods are not ours.
    text = str.__str__(value) if isinstance(value, str) else str(value)
    if len(text) > MOST_OF_A_VALUE:
        raise Refused(f"found {len(text)} characters; allowed: {MOST_OF_A_VALUE}")
    if not text.isprintable():
        raise Refused(f"found {shown(text)}; allowed: printable characters on one line")
    if "{{" in text or "{%" in text:
        raise Refused(f"found the template {shown(text)}; variables are not rendered")
    return text


def host_variables(inventory: Inventory, host: HostName) -> dict[str, Any]:
    """What a template may name: the host's inventory variables, ``inventory_hostname``, ``keyrelay_base``.

    Ansible's passwords are left out: what templates become is recorded, and seen on hosts.

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


def _check_node(node: nodes.Node) -> None:
    if not isinstance(node, _ALLOWED_NODES):
        kind = type(node).__name__.lower()
        raise Refused(f"found a template's {kind}; allowed: variables, text, ~, filters, comparisons, if")
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        raise Refused(f"unknown filter {shown(node.name)}; allowed: {', '.join(FILTERS)}")
    if isinstance(node, nodes.Test) and node.name not in _TESTS:
        raise Refused(f"unknown test {shown(node.name)}; allowed: {', '.join(_TESTS)}")
