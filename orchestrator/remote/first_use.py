"""Host keys that were believed on first use, or on a person's word: a file of their own, as known_hosts.

A key is believed on first use only when the operator says so for a run, only for a host of which nothing is
known, and it is written down before anybody logs in. The file is read in every run, so that the host is
held to that key from then on, unless other files come to know the host, which then count alone; whoever lists
it sees which hosts nobody has looked at. Each line's comment says when it was written and for which host.

A key that a person has vouched for takes the place of those that the host had: they are marked ``@revoked``,
for whoever has the old machine's disk has its key. Both count whatever other files say.
"""

import base64
import fcntl
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.errors import Place
from orchestrator.remote.answer_lines import plain
from orchestrator.remote.known_hosts import HostRecord, KnownHosts, Standing, fingerprint

_ON_WORD = "keyrelay-on-word"
_COMMENT = re.compile(r"keyrelay-first-use (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (.*)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedKey:
    """One key that was believed on first use.

    Attributes:
        host: the inventory's name of the host, or how a jump host was called.
        name: what known_hosts calls it.
        fingerprint: ``SHA256:…``.
        at: when; None: the line does not say.
    """

    host: str
    name: str
    kind: str
    fingerprint: str
    at: datetime | None


class FirstUse:
    """The keys believed on first use, and whether more may be. Safe to use from many threads.

    Args:
        file: where they are written; need not exist.
        accept: whether keys of unknown hosts are believed now.
        now: tells the time of a line.
    """

    def __init__(self, file: Path, *, accept: bool, now: Callable[[], datetime]) -> None:
        self._file = file
        self._accepts = accept
        self._now = now
        self._lock = threading.Lock()
        self._known: KnownHosts | None = None
        self._accepted: list[AcceptedKey] = []

    @property
    def accepts(self) -> bool:
        """Whether keys of unknown hosts are believed."""
        return self._accepts

    @property
    def accepted(self) -> tuple[AcceptedKey, ...]:
        """The keys that were believed in this run, in their order."""
        with self._lock:
            return tuple(self._accepted)

    def about(self, host: str, port: int) -> HostRecord:
        """What the file holds of a host.

        Raises:
            InputError: the file is damaged.
            OSError: it cannot be read.
        """
        with self._lock:
            return self._read().about(host, port)

    def accept(self, label: str, host: str, port: int, *, kind: str, blob: bytes) -> bool:
        """Writes a key down, durably, unless the host has become known meanwhile.

        Args:
            label: the host's name for people.
            host: what it is called in known_hosts, as for ``about``.
            port: likewise.
            kind: the key's type.
            blob: the key as it travels.

        Returns:
            Whether the key may be believed; not if the host has become known by another one.

        Raises:
            OSError: it cannot be written; the key must not be believed then.
        """
        with self._lock:
            record = self._read().about(host, port)
            if record.keys or record.revoked:
                return record.standing(blob) is Standing.KNOWN
            name, at = record.name, self._time()
            comment = f"keyrelay-first-use {at.isoformat()}Z {plain(label)}"
            self._write([f"{name} {kind} {_encoded(blob)} {comment}"])
            self._accepted.append(
                AcceptedKey(
                    host=label, name=name, kind=kind, fingerprint=fingerprint(blob), at=at.replace(tzinfo=UTC)
                )
            )
            return True

    def replace(self, label: str, record: HostRecord, *, kind: str, blob: bytes) -> None:
        """Writes down, durably, that a person has vouched for a key, and that it takes the place of others.

        Args:
            label: the host's name for people.
            record: what was known of the host; its keys are believed no longer.
            kind: the key's type.
            blob: the key as it travels.

        Raises:
            OSError: it cannot be written; the key must not be believed then.
        """
        with self._lock:
            comment = f"{_ON_WORD} {self._time().isoformat()}Z {plain(label)}"
            old = [key for key in record.keys if key.blob != blob]
            self._write(
                [
                    *(f"@revoked {record.name} {key.kind} {_encoded(key.blob)} {comment}" for key in old),
                    f"{record.name} {kind} {_encoded(blob)} {comment}",
                ]
            )

    def _time(self) -> datetime:
        return self._now().astimezone(UTC).replace(microsecond=0, tzinfo=None)

    def _write(self, lines: Sequence[str]) -> None:
        """Adds lines to the file, and to what is known (the lock is held)."""
        known = self._read()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._file, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, "".join(f"{line}\n" for line in lines).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        for line in lines:
            known.add_line(line, Place(file=str(self._file)))

    def _read(self) -> KnownHosts:
        if self._known is None:
            self._known = KnownHosts.read([self._file] if self._file.exists() else [], strict=True)
        return self._known


def _key(row: str) -> tuple[str, ...]:
    """Of whom, and which key: the fields of a line behind its mark and before its comment."""
    return tuple(row.removeprefix("@revoked ").split(None, 3)[:3])


def _encoded(blob: bytes) -> str:
    return base64.b64encode(blob).decode("ascii")


def accepted_keys(file: Path) -> tuple[AcceptedKey, ...]:
    """The keys of a file that nobody has vouched for, oldest first; none if it does not exist.

    Raises:
        InputError: a line is damaged.
        OSError: the file cannot be read.
    """
    if not file.exists():
        return ()
    KnownHosts.read([file], strict=True)
    rows = file.read_text(encoding="utf-8", errors="replace").splitlines()
    settled = {_key(row) for row in rows if row.partition(_ON_WORD)[1]}
    found = []
    for row in rows:
        if not row.strip() or row.startswith(("#", "@")) or _key(row) in settled:
            continue
        name, kind, encoded, *rest = row.split(None, 3)
        said = _COMMENT.fullmatch(rest[0].strip() if rest else "")
        found.append(
            AcceptedKey(
                host=said[2] if said else name,
                name=name,
                kind=kind,
                fingerprint=fingerprint(base64.b64decode(encoded)),
                at=datetime.fromisoformat(said[1]) if said else None,
            )
        )
    return tuple(found)
