"""Authorities that tests make up: keys for keyrelay's own, and the programs of the guide to one's own CA."""

import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from orchestrator.keys.authority import AUTHORITY_ALGORITHM, Authority, certify, make_request
from orchestrator.keys.certificate import Certificate
from orchestrator.keys.kinds import Signer
from orchestrator.keys.material import KeyPair, Random, generate, open_signer

GUIDE = Path(__file__).parents[1] / "docs/how-to/use-your-own-ca.md"
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-noenc", "-keyout", "issuer-key.pem")
_SUBJECT = ("-subj", "/O=ours/CN=issuer", "-days", "4000", "-addext", "keyUsage=critical,keyCertSign,cRLSign")


def new_signer(random: Random) -> Signer:
    """A private key for a root or an issuer."""
    return open_signer(generate(AUTHORITY_ALGORITHM, random=random).private)


def certified_by(issuer: Authority, pair: KeyPair, now: datetime, random: Random, *names: str) -> Certificate:
    """A server's certificate for thirty days."""
    return certify(
        issuer,
        request_pem=make_request(pair, names=names),
        names=names,
        now=now,
        not_after=now + timedelta(days=30),
        backdate=timedelta(minutes=10),
        random=random,
    )


def self_signed(
    signer: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *extras: x509.UnrecognizedExtension
) -> str:
    """A root by itself that is valid on the first day of 2030, with further critical extensions; PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alone")])
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder(name, name, signer.public_key(), 7)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    for extra in extras:
        builder = builder.add_extension(extra, critical=True)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


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
