"""Programs of a host that wait, or fail, when a test says so: they stand before the real ones in its PATH."""

import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator.lab import HostOptions
from orchestrator.lab.processes import wait_until

WRITERS = ("ln", "mkdir", "mv", "sync")
"""What a host's visits write with, apart from the shell itself, ``dd`` and openssl."""
_PATIENCE_S = 60.0
_SHIM = """\
#!/bin/sh
shims={folder}
if [ -e "$shims/counting" ]; then
  echo {name} >>"$shims/calls"
  read -r nth <"$shims/counting"
  if [ "$({wc} -l <"$shims/calls")" -eq "$nth" ]; then
    echo "{name}: cannot write: Permission denied" >&2
    exit 1
  fi
fi
if [ -e "$shims/gate.{name}" ]; then
  : >"$shims/reached"
  while [ -e "$shims/gate.{name}" ]; do {sleep} 0.02; done
fi
exec {real} "$@"
"""


@dataclass(frozen=True, slots=True)
class Shims:
    """A folder of programs for one host; made by ``Shims.make``."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        folder.mkdir(mode=0o755)
        for name in WRITERS:
            text = _SHIM.format(
                folder=folder, name=name, real=_real(name), wc=_real("wc"), sleep=_real("sleep")
            )
            (folder / name).write_text(text, encoding="ascii")
            (folder / name).chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
        return cls(folder)

    @property
    def options(self) -> HostOptions:
        """For the host whose programs these are."""
        return HostOptions(environment={"PATH": f"{self.folder}:/usr/local/bin:/usr/bin:/bin"})

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Whoever runs this program waits until the block is left."""
        gate = self.folder / f"gate.{name}"
        (self.folder / "reached").unlink(missing_ok=True)
        gate.touch()
        try:
            yield
        finally:
            gate.unlink()

    def wait_until_reached(self) -> None:
        """Somebody waits at the gate."""
        assert wait_until((self.folder / "reached").exists, timeout_s=_PATIENCE_S)

    @contextmanager
    def failing_at(self, nth: int) -> Iterator[None]:
        """The nth program that writes fails, counted from now on."""
        (self.folder / "calls").unlink(missing_ok=True)
        counting = self.folder / "counting"
        counting.write_text(f"{nth}\n", encoding="ascii")
        try:
            yield
        finally:
            counting.unlink()

    def calls(self) -> int:
        """How many programs have written since counting began."""
        calls = self.folder / "calls"
        return len(calls.read_text(encoding="ascii").splitlines()) if calls.exists() else 0


def _real(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, name
    return found
