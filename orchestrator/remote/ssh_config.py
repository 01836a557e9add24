"""The client's configuration, ``~/.ssh/config`` and ``/etc/ssh/ssh_config``, read as ``ssh_config(5)`` says.

``Host``, ``Match`` and ``Include`` are followed, and of each option the first value counts. Nothing is ever
executed: ``Match exec`` ends the look-up with a reason where its command would decide, that is, where all
other criteria hold. Host names are not canonicalised; ``Match canonical`` and ``Match final`` hold when the
files are gone through once more, which one ``Match final`` anywhere asks for, as in ``ssh``.
"""

import glob
import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

from orchestrator.errors import Place
from orchestrator.inventory.ssh_options import OptionError, SshOptions, with_option
from orchestrator.remote import user_files

_DECIDABLE = frozenset(("all", "canonical", "final", "host", "originalhost", "user", "localuser"))
_INSTEAD = "write Host or Match host, or name another file with -F in ansible_ssh_common_args"
USER_FILE = Path("~/.ssh/config")
SYSTEM_FILE = Path("/etc/ssh/ssh_config")
_INCLUDES_DEPTH = 16
_SETTING = re.compile(r"([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)", re.DOTALL)


class SshConfigError(Exception):
    """The configuration cannot be followed; the message names the line and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hosts:
    """A ``Host`` line: patterns of names as they are given to ``ssh``."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """A ``Match`` line: criteria in their order, each with its argument."""

    criteria: tuple[tuple[str, str], ...]
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """One option, and the lines that must all hold for it to count."""

    conditions: tuple[_Hosts | _Match, ...]
    keyword: str
    words: tuple[str, ...]
    place: Place


class SshConfig:
    """The settings of some files, in their order; made by ``read``."""

    def __init__(self, settings: Sequence[_Setting]) -> None:
        self._blocks = [
            (conditions, tuple(below)) for conditions, below in groupby(settings, lambda one: one.conditions)
        ]
        self._final = any(
            word.removeprefix("!") == "final"
            for conditions, _ in self._blocks
            for condition in conditions
            if isinstance(condition, _Match)
            for word, _ in condition.criteria
        )

    @classmethod
    def read(cls, file: str | None) -> "SshConfig":
        """Reads what ``ssh`` would.

        Args:
            file: the one to read (``-F``), or ``none``; None: the user's file and then the system's, where
                they exist.

        Raises:
            SshConfigError: a file cannot be read or understood, or others may write to the user's.
        """
        if file == "none":
            return cls(())
        if file is not None:
            return cls(tuple(_settings(_expanded(file), _expanded("~/.ssh"))))
        settings: list[_Setting] = []
        user = _expanded(str(USER_FILE))
        if user_files.exists(user):
            _check_owner(user)
            settings += _settings(user, user.parent)
        if SYSTEM_FILE.exists():
            settings += _settings(SYSTEM_FILE, SYSTEM_FILE.parent)
        return cls(settings)

    def about(self, host: str, given: SshOptions, *, local_user: str) -> SshOptions:
        """The options for one host; those ``given`` on the command line come first.

        Args:
            host: as one would give it to ``ssh``.
            given: what the command line says.
            local_user: who runs this.

        Raises:
            SshConfigError: the answer depends on a command, or an option has a wrong value.
        """
        asked = _Asked(host=host.lower(), original=host.lower(), local_user=local_user)
        options = self._pass(asked, given, final=False)
        if not self._final:
            return options
        # What was found is called by its new name then, and by no other.
        again, pinned = replace(asked, host=asked.address(options)), options.over(SshOptions(hostname=host))
        return self._pass(again, pinned, final=True)

    def _pass(self, asked: "_Asked", options: SshOptions, *, final: bool) -> SshOptions:
        for conditions, settings in self._blocks:
            # Lines are judged where they stand, with the options before them.
            if not all(asked.fits(condition, options, final=final) for condition in conditions):
                continue
            for setting in settings:
                try:
                    options = with_option(options, setting.keyword, setting.words) or options
                except OptionError as error:
                    raise SshConfigError(f"{setting.place}: {error}") from error
        return options


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Who is looked for.

    Attributes:
        host: the name that ``Host`` lines are held against.
        original: as it was given.
        local_user: who runs this.
    """

    host: str
    original: str
    local_user: str

    def address(self, options: SshOptions) -> str:
        """The name that options lead to."""
        return (options.hostname or self.host).replace("%h", self.host).replace("%%", "%").lower()

    def fits(self, condition: _Hosts | _Match, options: SshOptions, *, final: bool) -> bool:
        if isinstance(condition, _Hosts):
            return matches(self.host, condition.patterns)
        # One that cannot be decided decides nothing where another one does not hold.
        criteria = sorted(condition.criteria, key=lambda one: one[0].removeprefix("!") not in _DECIDABLE)
        return all(
            self._holds(word, argument, options, place=condition.place, final=final)
            for word, argument in criteria
        )

    def _holds(self, word: str, argument: str, options: SshOptions, *, place: Place, final: bool) -> bool:
        wanted = not word.startswith("!")
        patterns = tuple(argument.lower().split(","))
        match word.removeprefix("!"):
            case "all":
                found = True
            case "final" | "canonical":
                found = final
            case "host":
                found = matches(self.address(options), patterns)
            case "originalhost":
                found = matches(self.original, patterns)
            case "user":
                found = matches(options.user or self.local_user, tuple(argument.split(",")))
            case "localuser":
                found = matches(self.local_user, tuple(argument.split(",")))
            case "exec":
                raise SshConfigError(
                    f"{place}: Match exec would run a command to decide how {self.original} is reached, and "
                    f"keyrelay runs none; {_INSTEAD}"
                )
            case other:
                raise SshConfigError(
                    f"{place}: keyrelay does not know how to decide Match {other}; {_INSTEAD}"
                )
        return found == wanted


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns takes a name and none with ``!`` does (PATTERNS); names in lower case."""
    found = False
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        if plain == name or (("*" in plain or "?" in plain) and _pattern(plain).fullmatch(name)):
            if pattern.startswith("!"):
                return False
            found = True
    return found


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _settings(
    path: Path, folder: Path, above: tuple[_Hosts | _Match, ...] = (), depth: int = 0
) -> Iterator[_Setting]:
    """The settings of a file and of those that it includes.

    Args:
        path: the file.
        folder: where relative names in ``Include`` start.
        above: the lines under which the file is included.
        depth: how many files include it.
    """
    conditions = above
    for keyword, rest, place in _lines(path):
        words = _words(rest, place)
        match keyword:
            case "host":
                conditions = (*above, _Hosts(patterns=tuple(word.lower() for word in words)))
            case "match":
                conditions = (*above, _Match(criteria=tuple(_criteria(words, place)), place=place))
            case "include" if depth >= _INCLUDES_DEPTH:
                raise SshConfigError(f"{place}: files include each other without end")
            case "include":
                for pattern in words:
                    for name in sorted(glob.glob(str(folder / _expanded(pattern)))):  # noqa: PTH207 - any path
                        yield from _settings(Path(name), folder, conditions, depth + 1)
            case "proxycommand":
                yield _Setting(conditions=conditions, keyword=keyword, words=(rest,), place=place)
            case _:
                yield _Setting(conditions=conditions, keyword=keyword, words=words, place=place)


def _expanded(name: str) -> Path:
    try:
        return user_files.expanded(name)
    except OSError as error:
        raise SshConfigError(f"the ssh configuration {name} cannot be read: {error.strerror}") from error


def _lines(path: Path) -> Iterator[tuple[str, str, Place]]:
    try:
        text = user_files.read(path).decode(errors="surrogateescape")
    except FileNotFoundError as error:
        raise SshConfigError(f"the ssh configuration {path} does not exist") from error
    except OSError as error:
        raise SshConfigError(f"the ssh configuration {path} cannot be read: {error.strerror}") from error
    for number, row in enumerate(text.split("\n"), start=1):
        line = row.strip()
        if not line or line.startswith("#"):
            continue
        place = Place(file=str(path), line=number)
        found = _SETTING.fullmatch(line)
        if found is None:
            raise SshConfigError(f"{place}: not a line of ssh_config; expected a keyword and its value")
        yield found[1].lower(), found[2], place


def _words(rest: str, place: Place) -> tuple[str, ...]:
    """The words of a value; a word that begins with ``#`` begins a comment."""
    try:
        words = shlex.split(rest)
    except ValueError:
        # OpenSSH takes a lone apostrophe in options that keyrelay does not follow.
        words = rest.split()
    for position, word in enumerate(words):
        if word.startswith("#"):
            words = words[:position]
            break
    if not words:
        raise SshConfigError(f"{place}: the keyword has no value")
    return tuple(words)


def _criteria(words: Sequence[str], place: Place) -> Iterator[tuple[str, str]]:
    waiting = list(words)
    while waiting:
        word, equals, argument = waiting.pop(0).partition("=")
        word = word.lower()
        if word.removeprefix("!") in ("all", "canonical", "final"):
            yield word, ""
        elif equals:
            yield word, argument
        elif waiting:
            yield word, waiting.pop(0)
        else:
            raise SshConfigError(f"{place}: Match {word} has no argument")


def _check_owner(path: Path) -> None:
    """Refuses a file by which another user could say where we connect, as ``ssh`` does."""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SshConfigError(f"others may write to {path}, which says where to connect; chmod 600 {path}")
