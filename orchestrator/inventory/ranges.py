"""Host patterns of an inventory, unfolded: ``web[01:10].example.net:2222``.

As Ansible unfolds them: both bounds belong to the range, a first bound with a leading zero sets the width,
an empty first bound is 0, ``[a:f]`` counts letters (lower case before upper), a third number is the step,
and a pattern may have several ranges. A port follows only what Ansible takes for a host name; in
``web[:3]:22`` it sees none, and the names have a colon. Unlike there, a range that yields no host is an
error, and so are a step below 1, a bound of several letters and a port that no sshd can have.
"""

import re
import string
from collections.abc import Sequence
from itertools import product

from orchestrator.errors import InputError, Place
from orchestrator.inventory.names import shown

MAX_HOSTS = 2**20
"""The most hosts that an inventory may have, and so that one pattern may stand for."""

MAX_PORT = 65535

_STRICT_RANGE = r"\[(?:[a-z]:[a-z]|[0-9]+:[0-9]+)(?::[0-9]+)?\]"
_LABEL = rf"(?:\w|{_STRICT_RANGE})(?:[\w-]|{_STRICT_RANGE})*(?<![_-])"
_WITH_PORT = re.compile(rf"({_LABEL}(?:\.{_LABEL})*):([0-9]+)", re.ASCII | re.IGNORECASE)
_PARTS = re.compile(r"\[([^\[\]]*)\]")
_NUMBER = re.compile(r"[0-9]{1,18}")
_ALLOWED = "[first:last] or [first:last:step] with numbers or single letters, first not after last"


def unfold(pattern: str, *, place: Place) -> tuple[Sequence[str], int | None]:
    """The names that ``pattern`` stands for, in order, and the port if it ends in one.

    Raises:
        InputError: a range is malformed or empty, or there are more than ``MAX_HOSTS`` names.
    """
    with_port = _WITH_PORT.fullmatch(pattern)
    names, port = (with_port[1], _port(with_port[2], pattern, place)) if with_port else (pattern, None)
    if "[" not in names and "]" not in names:
        return (names,), port
    # The odd parts stood in brackets.
    parts = _PARTS.split(names)
    if any("[" in part or "]" in part for part in parts):
        raise _wrong(pattern, "a bracket without its partner", place)
    choices = [_range(part, pattern, place) if n % 2 else (part,) for n, part in enumerate(parts)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MAX_HOSTS:
        raise InputError(
            f"the pattern {shown(pattern)} stands for {count} hosts; allowed: {MAX_HOSTS}", place=place
        )
    return ["".join(chosen) for chosen in product(*choices)], port


def _port(digits: str, pattern: str, place: Place) -> int:
    port = int(digits) if len(digits) <= len(str(MAX_PORT)) else 0
    if not 1 <= port <= MAX_PORT:
        message = f"the host pattern {shown(pattern)} has a port that is not between 1 and {MAX_PORT}"
        raise InputError(message, place=place)
    return port


def _range(inside: str, pattern: str, place: Place) -> Sequence[str]:
    bounds = inside.split(":")
    if len(bounds) not in {2, 3}:
        raise _wrong(pattern, f"[{inside}]", place)
    first, last = bounds[0] or "0", bounds[1]
    step = bounds[2] if len(bounds) > 2 else "1"  # noqa: PLR2004 - the third of three
    if not _NUMBER.fullmatch(step) or not int(step):
        raise _wrong(pattern, f"the step {shown(step)}", place)
    found: Sequence[str] = ()
    if _NUMBER.fullmatch(first) and _NUMBER.fullmatch(last):
        found = _numbers(first, last, int(step), pattern, place)
    elif len(first) == len(last) == 1 and first in string.ascii_letters and last in string.ascii_letters:
        letters = string.ascii_letters
        found = letters[letters.index(first) : letters.index(last) + 1 : int(step)]
    if not found:
        raise _wrong(pattern, f"[{inside}]", place)
    return found


def _numbers(first: str, last: str, step: int, pattern: str, place: Place) -> Sequence[str]:
    padded = len(first) > 1 and first.startswith("0")
    if padded and len(first) != len(last):
        raise _wrong(pattern, f"the bounds {first} and {last}, of which one is padded with zeros", place)
    numbers = range(int(first), int(last) + 1, step)
    if len(numbers) > MAX_HOSTS:
        raise InputError(
            f"the pattern {shown(pattern)} stands for {len(numbers)} hosts; allowed: {MAX_HOSTS}", place=place
        )
    width = len(first) if padded else 0
    return [str(number).zfill(width) for number in numbers]


def _wrong(pattern: str, found: str, place: Place) -> InputError:
    return InputError(f"the host pattern {shown(pattern)} has {found}; allowed: {_ALLOWED}", place=place)
