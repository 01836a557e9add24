"""Durations and fractions as a playbook writes them: ``365d``, ``1d12h``, ``2/3``.

A duration is one or more whole numbers, each with its unit, the largest unit first. A number without a
unit is refused: YAML 1.1 would read ``5:00`` as 300 and nobody could say whether seconds were meant.
"""

import re
from datetime import timedelta
from fractions import Fraction

UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}

DURATION_FORM = "^(?=[0-9])([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?$"
"""The form as a regular expression that Python and JSON Schema (ECMA 262) read alike."""

FRACTION_FORM = r"^([0-9]{1,9}/[0-9]{1,9}|0?\.[0-9]{1,9})$"

_DURATION = re.compile(DURATION_FORM, re.ASCII)
_FRACTION = re.compile(FRACTION_FORM, re.ASCII)


def parse_duration(text: str) -> timedelta:
    """The duration that ``text`` writes.

    Raises:
        ValueError: it is none, or longer than Python counts (about 2.7 million years).
    """
    found = _DURATION.fullmatch(text)
    if found is None or text.endswith("\n"):
        raise ValueError(f"{text!r} is no duration")
    parts = (timedelta() if part is None else int(part[:-1]) * UNITS[part[-1]] for part in found.groups())
    try:
        return sum(parts, timedelta())
    except OverflowError as error:
        raise ValueError(f"{text!r} is too long") from error


def format_duration(duration: timedelta) -> str:
    """``duration`` in the shortest form that reads back as the same, e.g. ``1d12h``.

    Raises:
        ValueError: negative, or no whole number of seconds.
    """
    if duration < timedelta() or duration.microseconds:
        raise ValueError(f"{duration} cannot be written as a duration")
    rest, text = duration, ""
    for name, unit in UNITS.items():
        count, rest = divmod(rest, unit)
        text += f"{count}{name}" if count else ""
    return text or "0s"


def parse_fraction(text: str) -> Fraction:
    """The part of a whole that ``text`` writes as ``2/3`` or ``0.5``, exactly.

    Raises:
        ValueError: it is no fraction, or not between 0 and 1.
    """
    if not _FRACTION.fullmatch(text) or text.endswith("\n"):
        raise ValueError(f"{text!r} is no fraction")
    try:
        fraction = Fraction(text)
    except ZeroDivisionError as error:
        raise ValueError(f"{text!r} divides by zero") from error
    if not 0 < fraction < 1:
        raise ValueError(f"{text!r} is not between 0 and 1")
    return fraction
