"""Which host keys are believed: OpenSSH's known_hosts files (``sshd(8)``, SSH_KNOWN_HOSTS FILE FORMAT).

A key is believed only when a line for that very host holds it. A line for a port other than 22 is named
``[host]:port``, as ``ssh`` writes it; where no such line holds a key, one for the host without a port may let
the key be believed, but never makes it a changed one, as with ``ssh``. Lines marked ``@revoked`` make their
key unacceptable whatever other lines say. Lines marked ``@cert-authority`` are set apart: they say whose
certificates are believed.

A line that cannot be read is passed over, as ``ssh`` does, unless it has a mark: to pass over what revokes a
key would believe it.

Plain names are found by one look-up, so that 10,000 lines cost each host nothing; hashed names have to be
hashed anew for each host, one HMAC a line.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from pathlib import Path

from orchestrator.errors import InputError, Place
from orchestrator.remote import user_files

_DEFAULT_PORT = 22
_HASH_MAGIC = "|1|"
_SHA1_BYTES = 20
_PATTERN_SIGNS = frozenset("*?!")


class Standing(StrEnum):
    """What the files say of a key that a host showed."""

    KNOWN = "known"
    CHANGED = "changed"
    """Lines for the host hold other keys of this type, and none holds this one."""
    OTHER_TYPE = "other type"
    """Lines for the host hold keys, all of other types."""
    UNKNOWN = "unknown"
    """No line for the host holds a key."""
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """One line's key.

    Attributes:
        kind: its type by its name in RFC 4253 section 6.6, e.g. ``ssh-ed25519``.
        blob: the public key as it travels (RFC 4253 section 6.6).
        place: the line.
    """

    kind: str
    blob: bytes
    place: Place

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` as ``ssh-keygen -l`` prints it."""
        return fingerprint(self.blob)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """All lines about one host.

    Attributes:
        name: what was looked up: the host, or ``[host]:port``.
        keys: the keys it may show, in the files' order.
        revoked: the keys it must not show.
        authorities: keys that sign host certificates.
        without_port: the keys of the host on the usual port, where what was looked up has another one.
        passed_over: keys that were believed on first use, which do not count beside the others.
    """

    name: str
    keys: tuple[KnownKey, ...] = ()
    revoked: tuple[KnownKey, ...] = ()
    authorities: tuple[KnownKey, ...] = ()
    without_port: tuple[KnownKey, ...] = ()
    passed_over: tuple[KnownKey, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the keys it may show, each once."""
        return tuple(dict.fromkeys(key.kind for key in self.keys or self.without_port))

    def over_first_use(self, other: "HostRecord") -> "HostRecord":
        """These lines and those of ``other``, whose keys were believed on first use, or on a person's word.

        The former were believed because nothing else was known; they do not count where something is. With a
        person's word ``other`` revokes what was known before, so that nothing else is.
        """
        gone = {key.blob for key in other.revoked}
        keys = tuple(key for key in self.keys if key.blob not in gone)
        known = bool(keys or self.authorities)
        return replace(
            self,
            keys=keys if known else other.keys,
            revoked=self.revoked + other.revoked,
            passed_over=other.keys if known else (),
        )

    def standing(self, blob: bytes) -> Standing:
        """What these lines say of a key."""
        if any(key.blob == blob for key in self.revoked):
            return Standing.REVOKED
        if any(key.blob == blob for key in self.keys or self.without_port):
            return Standing.KNOWN
        if not self.keys:
            return Standing.UNKNOWN
        return Standing.CHANGED if any(_kind(blob) == key.kind for key in self.keys) else Standing.OTHER_TYPE


class _Mark(StrEnum):
    NONE = ""
    REVOKED = "@revoked"
    AUTHORITY = "@cert-authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    mark: _Mark
    key: KnownKey


@dataclass(slots=True)
class KnownHosts:
    """The lines of some files, indexed; made by ``read``.

    Attributes:
        skipped: what cannot be read in lines that were passed over, with the place of each.
    """

    skipped: list[InputError] = field(default_factory=list)
    _plain: dict[str, list[_Line]] = field(default_factory=dict)
    _hashed: list[tuple[bytes, bytes, _Line]] = field(default_factory=list)
    _patterns: list[tuple[tuple[re.Pattern[str], ...], tuple[re.Pattern[str], ...], _Line]] = field(
        default_factory=list
    )

    @classmethod
    def read(cls, files: Iterable[Path], *, missing_ok: bool = False, strict: bool = False) -> "KnownHosts":
        """Reads the files, each once, a ``~`` expanded.

        Args:
            files: their paths.
            missing_ok: whether one of them may be missing.
            strict: whether every line must be one that can be read.

        Raises:
            FileNotFoundError: one of them does not exist.
            OSError: one of them cannot be read.
            InputError: a line with a mark cannot be read, or with ``strict`` any other; names it.
        """
        hosts = cls()
        for file in files:
            path = user_files.expanded(str(file))
            try:
                text = user_files.read(path).decode(errors="surrogateescape")
            except (FileNotFoundError, NotADirectoryError):
                if not missing_ok:
                    raise
                continue
            hosts._add(text, str(path), strict=strict)
        return hosts

    @classmethod
    def parse(cls, text: str, *, file: str = "known_hosts", strict: bool = False) -> "KnownHosts":
        """Takes the text of one file; raises ``InputError`` as ``read`` does."""
        hosts = cls()
        hosts._add(text, file, strict=strict)
        return hosts

    def about(self, host: str, port: int = _DEFAULT_PORT) -> HostRecord:
        """Everything about one host, whose name or address is compared without regard to case."""
        host = host.lower()
        if port == _DEFAULT_PORT:
            return self._named(host)
        own, usual = self._named(f"[{host}]:{port}"), self._named(host)
        return replace(
            own,
            revoked=_together(own.revoked, usual.revoked),
            authorities=_together(own.authorities, usual.authorities),
            without_port=usual.keys,
        )

    def _named(self, name: str) -> HostRecord:
        lines = list(self._lines(name))

        def marked(mark: _Mark) -> tuple[KnownKey, ...]:
            return tuple(line.key for line in lines if line.mark is mark)

        return HostRecord(
            name=name,
            keys=marked(_Mark.NONE),
            revoked=marked(_Mark.REVOKED),
            authorities=marked(_Mark.AUTHORITY),
        )

    def _lines(self, name: str) -> Iterator[_Line]:
        message = name.encode(errors="surrogateescape")
        hashed = (
            line
            for salt, digest, line in self._hashed
            if hmac.compare_digest(hmac.digest(salt, message, "sha1"), digest)
        )
        matching = (
            line
            for wanted, unwanted, line in self._patterns
            if any(pattern.fullmatch(name) for pattern in wanted)
            and not any(pattern.fullmatch(name) for pattern in unwanted)
        )
        return chain(self._plain.get(name, ()), hashed, matching)

    def _add(self, text: str, file: str, *, strict: bool) -> None:
        for number, row in enumerate(text.split("\n"), start=1):
            row = row.strip()  # noqa: PLW2901 - the rest of the loop means the stripped line
            if not row or row.startswith("#"):
                continue
            try:
                self.add_line(row, Place(file=file, line=number))
            except InputError as error:
                if strict or row.startswith("@"):
                    raise
                self.skipped.append(error)

    def add_line(self, row: str, place: Place) -> None:
        """Takes one more line, neither blank nor a comment; raises ``InputError`` if it cannot be read."""
        if not row.startswith("@"):
            self._add_marked(_Mark.NONE, row, place)
            return
        word, *rest = row.split(None, 1)
        if word not in set(_Mark):
            raise InputError(f"unknown marker {word!r}; expected @revoked or @cert-authority", place=place)
        self._add_marked(_Mark(word), "".join(rest), place)

    def _add_marked(self, mark: _Mark, row: str, place: Place) -> None:
        names, kind, encoded = _fields(row, place)
        line = _Line(mark=mark, key=KnownKey(kind=kind, blob=_blob(kind, encoded, place), place=place))
        if names.startswith("|"):
            self._hashed.append((*_hashed(names, place), line))
            return
        parts = names.lower().split(",")
        if _PATTERN_SIGNS.isdisjoint(names):
            for part in parts:
                self._plain.setdefault(part, []).append(line)
            return
        unwanted = tuple(_pattern(part[1:]) for part in parts if part.startswith("!"))
        wanted = tuple(_pattern(part) for part in parts if not part.startswith("!"))
        self._patterns.append((wanted, unwanted, line))


def fingerprint(blob: bytes) -> str:
    """``SHA256:…`` of a public key as it travels, as ``ssh-keygen -l`` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def _together(first: tuple[KnownKey, ...], second: tuple[KnownKey, ...]) -> tuple[KnownKey, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _kind(blob: bytes) -> str:
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode(errors="replace")


def _fields(row: str, place: Place) -> tuple[str, str, str]:
    match row.split(None, 3):
        case [names, kind, encoded, *_]:
            return names, kind, encoded
        case _:
            raise InputError(
                "not a line of known_hosts; expected host names, a key type and a key in base64", place=place
            )


def _blob(kind: str, encoded: str, place: Place) -> bytes:
    """The key's bytes, which begin with its type as an SSH string (RFC 4253 section 6.6)."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("the key is not valid base64", place=place) from error
    name = kind.encode(errors="surrogateescape")
    if not blob.startswith(len(name).to_bytes(4, "big") + name):
        raise InputError(f"the key is not of the type {kind!r} that the line names", place=place)
    return blob


def _hashed(name: str, place: Place) -> tuple[bytes, bytes]:
    """Salt and HMAC-SHA1 of a name written as ``|1|salt|hash``."""
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in name[len(_HASH_MAGIC) :].split("|"))
    except (binascii.Error, ValueError):
        salt = digest = b""
    if not name.startswith(_HASH_MAGIC) or len(salt) != _SHA1_BYTES or len(digest) != _SHA1_BYTES:
        raise InputError("a hashed host name is damaged; expected |1|SALT|HASH", place=place)
    return salt, digest


def _pattern(text: str) -> re.Pattern[str]:
    """A pattern of ``ssh_config(5)``: ``*`` is any text, ``?`` any character, nothing else is special."""
    return re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
