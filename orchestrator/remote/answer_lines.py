"""The lines of a host's answer, found between its markers and made harmless.

A host may be broken or hostile, and start-up files of its login shell may print: whatever stands before the
first marker is noise, and every word that goes on is bounded and plain.
"""

from dataclasses import dataclass

PLAIN_CHARACTERS = 200
"""How much of a name, a version or a path is kept."""


class GarbledError(ValueError):
    """An answer that does not follow the grammar; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLines:
    """What stands between the markers.

    Attributes:
        lines: without their newlines; bytes that are not UTF-8 replaced.
        begun: whether the first marker came.
        ended: whether the last one did.
    """

    lines: tuple[str, ...]
    begun: bool
    ended: bool


def between_markers(stdout: bytes, marker: str) -> AnswerLines:
    """The lines of the answer that ``marker`` opens and ends; the last one is dropped when it was cut."""
    begin = f"\nkeyrelay {marker} begin\n".encode()
    end = f"\nkeyrelay {marker} end\n".encode()
    start = stdout.find(begin)
    if start < 0:
        return AnswerLines(lines=(), begun=False, ended=False)
    # The newline before the end marker is also the one that ends the last line.
    start += len(begin) - 1
    stop = stdout.find(end, start)
    text = stdout[start + 1 : stop if stop >= 0 else stdout.rfind(b"\n", start)]
    lines = text.decode(errors="replace").split("\n") if text else []
    return AnswerLines(lines=tuple(lines), begun=True, ended=stop >= 0)


def plain(text: str, *, limit: int = PLAIN_CHARACTERS) -> str:
    """``text`` in one line of at most ``limit`` printable ASCII characters; others become ``?``."""
    text = text.strip()
    kept = "".join(
        letter if " " <= letter <= "~" else " " if letter.isspace() else "?" for letter in text[:limit]
    )
    return kept + ("..." if len(text) > limit else "")
