"""Authorities that tests make up: keys for keyrelay's own, and the programs of the guide to one's own CA."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from orchestrator.keys.authority import AUTHORITY_ALGORITHM
from orchestrator.keys.kinds import Signer
from orchestrator.keys.material import Random, generate, open_signer

GUIDE = Path(__file__).parents[1] / "docs/how-to/use-your-own-ca.md"
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-noenc", "-keyout", "issuer-key.pem")
_SUBJECT = ("-subj", "/O=ours/CN=issuer", "-days", "4000", "-addext", "keyUsage=critical,keyCertSign,cRLSign")


def new_signer(random: Random) -> Signer:
    """A private key for a root or an issuer."""
    return open_signer(generate(AUTHORITY_ALGORITHM, random=random).private)


@dataclass(frozen=True, slots=True, kw_only=True)
class OurCa:
    """The folder that the guide speaks of, with an authority that openssl made.

    Attributes:
        folder: holds ``issuer.pem`` and all that ``openssl ca`` and ``cfssl`` need.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "OurCa":
        (folder / "certificates").mkdir(parents=True)
        (folder / "index.txt").touch()
        subprocess.run(
            ["openssl", "req", "-x509", *_CURVE, *_SUBJECT, "-out", "issuer.pem"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        made = cls(folder=folder)
        (folder / "ca.cnf").write_text(made._of_the_guide("ini", "default_ca"), encoding="utf-8")
        return made

    def program(self, runs: str) -> Path:
        """The guide's program that has ``runs`` in it, with this folder in place of the guide's."""
        path = self.folder / "program"
        path.write_text(self._of_the_guide("sh", runs), encoding="utf-8")
        path.chmod(0o755)
        return path

    def _of_the_guide(self, language: str, part: str) -> str:
        text = GUIDE.read_text(encoding="utf-8")
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        (block,) = [block for block in blocks if part in block]
        return str(block).replace("/etc/our-ca", str(self.folder))
