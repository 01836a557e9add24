r"""Text that others wrote, made safe to show; and how instants and spans of time are written.

Names, reasons and details may come from an inventory or from a host that was taken over. A terminal obeys
control characters (ECMA-48), and bidirectional and other format characters (Unicode UAX #9, #31) make
text look like other text. Both are shown as escapes,
``\x1b`` or ``\u202e``; all that is printed comes through here.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

LONGEST_REASON = 400
_GAP = " [...] "


def escaped(value: object, *, lines: bool = False) -> str:
    """``value`` as text in which every character can be seen.

    Args:
        value: what is to be shown.
        lines: whether line breaks stay line breaks; only for text of keyrelay's own that has several.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(sign if _plain(sign, lines=lines) else _escape(sign) for sign in text)


def instant(at: datetime | None) -> str:
    """An instant for people, to the second: ``2031-05-06 07:08:09Z``; ``-`` for none."""
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def stamp(at: datetime | None) -> str | None:
    """An instant for programs (RFC 3339), in UTC with all its digits."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def span(duration: timedelta) -> str:
    """A span of time in its two largest units, rounded down to seconds: ``12d 4h``, ``3m 5s``, ``0s``."""
    left = int(abs(duration).total_seconds())
    parts: list[str] = []
    for unit, size_s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size_s)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if duration < timedelta(0) and parts else "") + (" ".join(parts[:2]) or "0s")


def count(number: int, noun: str) -> str:
    """``1 host``, ``2 hosts``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def named(names: tuple[str, ...], *, most: int = 4) -> str:
    """The first few of ``names``, and how many more there are; ``-`` for none."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "") if names else "-"


def shortened(reason: str, *, most: int = LONGEST_REASON) -> str:
    """A reason as it stands in a table: its beginning and its end, where a host had much to say."""
    if len(reason) <= most:
        return reason
    half = (most - len(_GAP)) // 2
    return f"{reason[:half]}{_GAP}{reason[-half:]}"


def packed(names: Iterable[str], *, columns: int = 36) -> tuple[str, ...]:
    """All of ``names``, in lines of about so many columns."""
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + len(name) < columns:
            lines[-1] += f", {name}"
        else:
            lines.append(name)
    return tuple(lines) or ("-",)


def broken(clauses: Iterable[str], *, columns: int = 160) -> tuple[str, ...]:
    """Clauses as lines; one that lists much goes on in further lines, which are indented."""
    lines: list[str] = []
    for clause in clauses:
        first, *others = packed(clause.split(", "), columns=columns)
        lines += [first, *(f"  {line}" for line in others)]
    return tuple(lines)


def _plain(sign: str, *, lines: bool) -> bool:
    return sign.isprintable() or (lines and sign == "\n")


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
