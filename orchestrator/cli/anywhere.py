"""Options of ``keyrelay`` itself, taken behind the command too.

They are declared once, on the callback of the program. Every command and every group of commands gets a
hidden copy of each that it does not declare itself; what is given there wins over what stands before it.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

Take = Callable[[Any, Any], Any]
"""From what the commands share, and a value, to what they share with that value."""


def take_anywhere(command: object, takes: Mapping[str, Take]) -> None:
    """Let options of the program stand behind its commands.

    Args:
        command: the program.
        takes: by the name of an option's parameter, what becomes of ``Context.obj`` when it is given.
    """
    if not isinstance(command, TyperGroup):
        raise TypeError("a program with one command alone")
    options = [parameter for parameter in command.params if parameter.name in takes]
    for below in command.commands.values():
        _give(below, options, takes)


def _give(command: Any, options: list[Any], takes: Mapping[str, Take]) -> None:
    known = {word for parameter in command.params for word in parameter.opts}
    for option in options:
        if known.isdisjoint(option.opts):
            command.params.append(_hidden(option, takes[option.name]))
    for below in getattr(command, "commands", {}).values():
        _give(below, options, takes)


def _hidden(option: Any, take: Take) -> Any:
    """A copy that neither reads the environment nor is an argument of the command's function."""
    hidden = copy.copy(option)
    hidden.hidden, hidden.expose_value, hidden.envvar = True, False, None

    def taken(context: typer.Context, _: object, value: Any) -> Any:
        if value:
            context.obj = take(context.obj, value)
        return value

    hidden.callback = taken
    return hidden
