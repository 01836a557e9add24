"""A person at a terminal who types ``keyrelay …`` in a folder and reads what it says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 180

SHORT_WAITS = "messages: {validity: 1s, clock_skew: 1s}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended, and what it said."""

    command: str
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it said to a program."""
        return json.loads(self.out)

    def ended(self, code: int) -> "Done":
        """Insist on an exit code."""
        assert self.code == code, f"$ {self.command}\nexit {self.code}, not {code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.out + self.err, self.err
        return self

    def line(self, *parts: str) -> str:
        """The first line that has all of these parts."""
        for line in (self.out + self.err).splitlines():
            if all(part in line for part in parts):
                return line
        raise AssertionError(f"no line with {parts} in:\n{self.out}\n{self.err}")


@dataclass(slots=True, kw_only=True)
class Terminal:
    """A working folder, and what every command typed in it has in common.

    Attributes:
        said: everything that was ever said.
        inside: runs a command in this process, which is quicker; None: each command is a process.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    inside: Callable[[list[str]], tuple[int, str, str]] | None = None

    def __call__(self, *words: str | Path) -> Done:
        """Run ``keyrelay`` with these words, nothing on stdin."""
        arguments = [str(word) for word in words]
        code, out, err = (self.inside or self._outside)(arguments)
        self.said += [out, err]
        return Done(command=" ".join(("keyrelay", *arguments)), code=code, out=out, err=err)

    def json(self, *words: str | Path) -> Any:
        """What a command that succeeds says to a program."""
        return self("--json", *words).ended(0).json

    def write(self, name: str, text: str, *, mode: int = 0o600) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def _outside(self, arguments: list[str]) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


def shorten(playbook: Path, *, lifetime: str = "365d", renew_at: str = "2/3") -> None:
    """Make a shipped playbook wait for seconds where it waits for minutes."""
    text = playbook.read_text(encoding="utf-8")
    for pattern, short in (
        (r"lifetime: \d+d", f"lifetime: {lifetime}"),
        (r"renew_at: \d+/\d+", f"renew_at: {renew_at}"),
        (r"messages: \{.*\}", SHORT_WAITS),
        (r"soak: \d+m", "soak: 0s"),
    ):
        text, changed = re.subn(pattern, short, text)
        assert changed == 1, (playbook, pattern)
    playbook.write_text(text, encoding="utf-8")


def keys_in_use(hosts: Path) -> set[str]:
    """The public keys that the servers of a lab have in use, asked of openssl and the hosts' own files."""
    keys = set()
    for file in sorted(hosts.glob("server-*/keyrelay/server/current/key.pem")):
        done = subprocess.run(
            ["openssl", "pkey", "-in", file, "-pubout"], check=True, capture_output=True, text=True
        )
        keys.add(done.stdout)
    return keys


def snapshot(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Every file below a folder, with what tells whether anybody touched it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        found[str(path.relative_to(folder))] = (status.st_ino, status.st_mtime_ns, status.st_mode, content)
    return found
