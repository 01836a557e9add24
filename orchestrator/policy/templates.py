"""Templates of files: what a play's ``install:`` writes for each host as text, with its variables put in.

A value stands as it is, without quotes: a template is the operator's own, and so is what reads its file.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from orchestrator.errors import InputError, Place
from orchestrator.policy.sandbox import Prepared, prepare, prepared_or_refused, render, text_of

MAX_CHARACTERS = 16_000
"""Of a template, and of the file that results."""

_HINT = "variables, if, and the filters of hooks are all there is; no loops, calls or assignments"


def check_template(text: str, *, name: str, place: Place) -> None:
    """Refuse a template that could not be rendered safely for any host.

    Raises:
        InputError: what is wrong with it.
    """
    _prepare(text, name, place)


def render_template(text: str, variables: Mapping[str, Any], *, name: str, place: Place) -> str:
    """What ``text`` becomes for one host; ends with a newline.

    Args:
        text: of the template.
        variables: the host's, as ``sandbox.host_variables`` gives them.
        name: of the template's file.
        place: where the playbook names it.

    Raises:
        InputError: the template is refused; a value cannot be put in (``sandbox.render``); what results is
            blank or longer than ``MAX_CHARACTERS``.
    """
    what = f"template {name}"
    made = render(_prepare(text, name, place), variables, what=what, place=place)
    if not made.strip() or len(made) > MAX_CHARACTERS:
        host = variables.get("inventory_hostname", "")
        found = f"{len(made)} characters long" if made.strip() else "blank"
        message = f"{what} for host {host} is {found}; allowed: 1 to {MAX_CHARACTERS} characters"
        raise InputError(message, place=place)
    return made if made.endswith("\n") else f"{made}\n"


def _prepare(text: str, name: str, place: Place) -> Prepared:
    return prepared_or_refused(lambda: _prepared(text), what=f"template {name}", place=place, hint=_HINT)


@lru_cache(maxsize=16)
def _prepared(text: str) -> Prepared:
    return prepare(text, most=MAX_CHARACTERS, printed=text_of)
