"""The regular expressions in patterns, held to those that cannot run away.

They come from the operator's own command line, playbooks and inventory, and are tried on the names of hosts
and groups alone, which have at most 253 characters. What takes exponential time even there is a repetition
inside a repetition, ``(a+)+``, or a choice inside one, ``(a|aa)*`` or ``(a?a?)*``; both are refused,
whether or not they would do harm. So are references to what was matched before. The rest takes, at worst, a
power of a name's length.
"""

import re

from orchestrator.errors import UsageError
from orchestrator.inventory.names import shown

MAX_CHARACTERS = 200
MAX_REPETITIONS = 6

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?<?[=!]|\(\?P?<?|\{[0-9,]+\}|.", re.DOTALL)
_UNUSUAL = re.compile(r"\(\?(?!:|=|!|<=|<!|P<|i\))|\\[1-9]")
_REPEATS = ("*", "+", "{")


def compile_regex(text: str) -> re.Pattern[str]:
    """The expression, to be matched at the beginning of a name.

    Raises:
        UsageError: it is no regular expression of Python's, or one that could take too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"the regular expression {shown(text)} has {len(text)} characters; allowed: {MAX_CHARACTERS}"
        )
    try:
        form = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        hint = (
            "a pattern is cut at each : and each , even inside an expression; if it has another , only there"
            if "(?" in text or "{" in text
            else ""
        )
        raise UsageError(f"{shown(text)} is no regular expression: {error}", hint=hint) from error
    _refuse_explosive(text)
    return form


def _refuse_explosive(text: str) -> None:
    """Refuse a repeated group that itself repeats or chooses, and what would hide one."""
    unusual = _UNUSUAL.search(text)
    if unusual:
        message = f"the regular expression {shown(text)} has {shown(unusual[0])}"
        raise UsageError(f"{message}; allowed: groups, (?:…), (?P<name>…), (?i), looking ahead and behind")
    parts = _TOKEN.findall(text)
    repetitions = sum(part.startswith(_REPEATS) for part in parts)
    if repetitions > MAX_REPETITIONS:
        message = f"the regular expression {shown(text)} has {repetitions} repetitions"
        raise UsageError(f"{message}; allowed: {MAX_REPETITIONS}")
    varies = [False]  # whether an open group repeats or chooses, the innermost last
    ended_varying = False
    for part in parts:
        after, ended_varying = ended_varying, False
        if part.startswith("("):
            varies.append(False)
        elif part == ")":
            ended_varying = varies.pop()
            varies[-1] = varies[-1] or ended_varying
        elif part.startswith(_REPEATS) and after:
            message = f"the regular expression {shown(text)} repeats what repeats or chooses itself"
            raise UsageError(message, hint="give each alternative as a pattern of its own, joined by :")
        elif part.startswith((*_REPEATS, "?", "|")):
            varies[-1] = True
