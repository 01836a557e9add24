"""The regular expressions in patterns, held to those that cannot run away.

They come from the operator's own command line, playbooks and inventory, and are tried on the names of hosts
and groups alone, which have at most 253 characters. Python tries every way in which an expression may match
before it gives up, so the ways are counted, and more than ``MAX_WAYS`` are refused: one that repeats without
end has a way for each length of a name, ``a?`` has two, ``(a|b)`` the sum of its branches', and parts that
follow one another multiply. What repeats or chooses may not be repeated as a whole, ``(a+)+`` or
``(a|aa)*``, for its ways grow exponentially with the name. So are references to what was matched before
refused.
"""

import re
from dataclasses import dataclass

from orchestrator.errors import UsageError
from orchestrator.inventory.names import shown

MAX_CHARACTERS = 200
MAX_WAYS = 2**17
"""Enough for two repetitions without end and a choice between two."""

_LENGTHS = 254
"""How long a part of a name can be: 0 to 253 characters."""

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
    """Refuse what can match in too many ways, and what would hide it."""
    unusual = _UNUSUAL.search(text)
    if unusual:
        message = f"the regular expression {shown(text)} has {shown(unusual[0])}"
        raise UsageError(f"{message}; allowed: groups, (?:…), (?P<name>…), (?i), looking ahead and behind")
    ways = _ways(text)
    if ways > MAX_WAYS:
        message = f"the regular expression {shown(text)} can match in too many ways"
        hint = (
            "repeat without end at most twice, or give each alternative as a pattern of its own, joined by :"
        )
        raise UsageError(message, hint=hint)


@dataclass(slots=True, kw_only=True)
class _Open:
    """A group that has not ended: the ways of its earlier branches, of the present one, of its last part."""

    ended: int = 0
    before: int = 1
    last: int = 1

    def begin_part(self, ways: int = 1) -> None:
        self.before *= self.last
        self.last = ways

    def begin_branch(self) -> None:
        self.ended, self.before, self.last = self.ways, 1, 1

    @property
    def ways(self) -> int:
        return self.ended + self.before * self.last


def _ways(text: str) -> int:
    """In how many ways the expression can match at most; refuses what is repeated though it varies itself."""
    groups = [_Open()]  # the innermost last
    quantified = False  # whether a ? or + only says how the repetition before it is tried
    for part in _TOKEN.findall(text):
        after, quantified = quantified, False
        group = groups[-1]
        if part.startswith("("):
            groups.append(_Open())
        elif part == ")":
            groups.pop()
            groups[-1].begin_part(group.ways)
        elif part == "|":
            group.begin_branch()
        elif part.startswith(_REPEATS) or part == "?":
            if after:
                continue
            quantified = True
            if group.last > 1 and part != "?":
                message = f"the regular expression {shown(text)} repeats what repeats or chooses itself"
                raise UsageError(message, hint="give each alternative as a pattern of its own, joined by :")
            group.last = _repeated(part, group.last)
        else:
            group.begin_part()
    return groups[0].ways


def _repeated(sign: str, ways: int) -> int:
    """The ways of a part that has ``ways`` and is followed by ``sign``."""
    if sign == "?":
        return ways + 1
    least, comma, most = sign.strip("{}").partition(",")
    if least.isdigit() and int(least) >= _LENGTHS:
        return MAX_WAYS + 1  # it takes that long even where it matches nothing each time, (){1000000}
    if sign.startswith("{") and not comma:
        return 2  # one way, but not to be repeated: ((){200}){200}
    return min(_LENGTHS, int(most) - int(least or 0) + 1) if most.isdigit() else _LENGTHS
