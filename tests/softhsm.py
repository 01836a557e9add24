"""Tokens of SoftHSM: a hardware security module in software, spoken with as with any other."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "a pin of 17 chars"


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftHsm:
    """A folder with tokens; a process reads its settings once, when it first loads the module.

    Attributes:
        settings: the file that ``$SOFTHSM2_CONF`` names.
    """

    settings: Path

    @classmethod
    def make(cls, folder: Path, *labels: str) -> "SoftHsm":
        """Tokens of these labels, in a new folder."""
        (folder / "tokens").mkdir(parents=True, mode=0o700)
        settings = folder / "softhsm2.conf"
        settings.write_text(
            f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n", encoding="utf-8"
        )
        made = cls(settings=settings)
        for label in labels:
            made.run("--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN)
        return made

    def run(self, *words: str) -> str:
        """What the module's own tool says."""
        done = subprocess.run(
            ["softhsm2-util", *words],
            env={"SOFTHSM2_CONF": str(self.settings), "PATH": "/usr/bin:/bin"},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def objects(self) -> int:
        """How many keys, public and private ones, all its tokens hold."""
        return len(list(self.settings.parent.rglob("*.object"))) - len(
            list(self.settings.parent.rglob("token.object"))
        )
