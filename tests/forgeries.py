"""Certificates that an agent must not believe, and some that it must, each made by the real ``openssl``.

An issuer, a server's key, and certificates for it as an attacker or a careless authority might have them.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.keys.material import Algorithm, KeyPair, load_private
from orchestrator.keys.secret import Secret
from orchestrator.rotation.reports import Verdict

SERVER = "web.example"
GRACE = timedelta(days=2)
_EXTENSIONS = {
    "basicConstraints": "critical,CA:FALSE",
    "keyUsage": "critical,digitalSignature",
    "extendedKeyUsage": "serverAuth,clientAuth",
    "subjectAltName": f"DNS:{SERVER}",
}
_CA = {"basicConstraints": "critical,CA:TRUE", "keyUsage": "critical,keyCertSign,cRLSign,digitalSignature"}
_GENPKEY = {
    Algorithm.ED25519: ["ed25519"],
    Algorithm.ECDSA_P256: [
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-pkeyopt",
        "ec_param_enc:named_curve",
    ],
    Algorithm.RSA_3072: ["RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
}
_CONFIG = """\
[ca]
default_ca = here
[here]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = optional
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgery:
    """A certificate, and what an agent with ``GRACE`` is to say of it; one with none says ``strict``."""

    name: str
    certificate_pem: str
    verdict: Verdict
    strict: Verdict


class Forge:
    """A folder in which ``openssl`` makes keys and certificates."""

    def __init__(self, folder: Path, *, now: datetime, algorithm: Algorithm = Algorithm.ED25519) -> None:
        self.folder = folder
        self.now = now
        (folder / "index").write_text("")
        (folder / "ca.cnf").write_text(_CONFIG.format(folder=folder))
        for name in ("root", "other-root", "issuer", "other", "between"):
            self._key(name, Algorithm.ECDSA_P256)
        for name in ("server", "thief"):
            self._key(name, algorithm)
        for name in ("root", "other-root"):
            self._openssl("req", "-x509", "-new", "-key", self._file(name, "key"), "-subj", f"/CN={name}",
                          "-days", "3000", "-out", self._file(name, "pem"))  # fmt: skip
        self._certify("issuer", by="root", extensions=_CA, subject="/CN=issuer", key="issuer", end=900)
        self._certify("other", by="other-root", extensions=_CA, subject="/CN=issuer", key="other", end=900)
        self._certify("between", by="issuer", extensions=_CA, subject="/CN=between", key="between", end=900)

    def pair(self, name: str = "server") -> KeyPair:
        """A key: the server's, or a thief's."""
        return load_private(Secret(self._file(name, "key").read_bytes()))

    @property
    def real(self) -> str:
        """A good certificate of the server's key, PEM."""
        return self.forgeries[0].certificate_pem

    def certificate(self, name: str) -> Certificate:
        """A certificate that was made here."""
        return parse_certificate(self._file(name, "pem").read_text())

    @property
    def issuer(self) -> Certificate:
        """The one that may vouch for the server."""
        return self.certificate("issuer")

    def limited_issuer(self, domain: str) -> Certificate:
        """Another certificate of the issuer's key and name, by which it may certify hosts of one domain."""
        says = {**_CA, "nameConstraints": f"permitted;DNS:{domain}"}
        self._certify(domain, by="root", extensions=says, subject="/CN=issuer", key="issuer", end=900)
        return self.certificate(domain)

    @cached_property
    def forgeries(self) -> tuple[Forgery, ...]:
        """Everything that is to be judged; all certificates are of the server's key."""
        bad, ok = Verdict.UNCERTIFIED, Verdict.VALID
        names = {
            "for another name": "DNS:other.example",
            "for a longer name": f"DNS:a.{SERVER}",
            "for a shorter name": "DNS:example",
            "for all names of the domain": "DNS:*.example",
            "for all names": "DNS:*",
            "for two names": f"DNS:{SERVER},DNS:other.example",
            "for an address too": f"DNS:{SERVER},IP:192.0.2.1",
            "for the name as a mail address": f"email:a@{SERVER}",
            "with the name in the subject alone": "",
            "for a name that goes on in a second line": _name_with(f"{SERVER}\nX"),
            "for a name with a null": _name_with(f"{SERVER}\0.evil.example"),
            "for two names in one": _name_with(f"a, DNS:{SERVER}"),
        }
        others = {
            "that may certify others": _CA,
            "that says nothing of certifying": {"basicConstraints": ""},
            "for enciphering alone": {"keyUsage": "critical,keyEncipherment"},
            "that says nothing of its use": {"keyUsage": ""},
            "for signing code alone": {"extendedKeyUsage": "codeSigning"},
            "with an extension that nobody knows": {"1.2.3.4": "critical,ASN1:UTF8String:x"},
        }
        return (
            self._made("the real one", ok),
            self._made("of another issuer of the same name", bad, by="other"),
            self._made("of the root above the issuer", bad, by="root"),
            self._made("of an authority below the issuer", bad, by="between"),
            self._made("of its own key", bad, by="the real one", signer="server"),
            self._made("of another server's key", bad, by="of a thief", signer="thief"),
            *(self._made(name, bad, says={"subjectAltName": told}) for name, told in names.items()),
            *(self._made(name, bad, says=says) for name, says in others.items()),
            self._made("that begins tomorrow", bad, begin=1, end=5),
            self._made("that ended yesterday", ok, strict=Verdict.EXPIRED, begin=-5, end=-1),
            self._made("that ended three days ago", Verdict.EXPIRED, begin=-9, end=-3),
            self._made("that ended three days ago, of another", bad, by="other", begin=-9, end=-3),
        )

    def _made(
        self,
        name: str,
        verdict: Verdict,
        *,
        strict: Verdict | None = None,
        by: str = "issuer",
        signer: str | None = None,
        begin: int = -1,
        end: int = 5,
        says: Mapping[str, str] | None = None,
    ) -> Forgery:
        if signer == "thief":
            self._certify(by, by="issuer", extensions=_EXTENSIONS, subject="/CN=thief", key="thief")
        self._certify(
            name,
            by=by,
            signer=signer,
            extensions={**_EXTENSIONS, **(says or {})},
            subject=f"/CN={SERVER}",
            key="server",
            begin=begin,
            end=end,
        )
        pem = self._file(name, "pem").read_text()
        return Forgery(name=name, certificate_pem=pem, verdict=verdict, strict=strict or verdict)

    def _certify(
        self,
        name: str,
        *,
        by: str,
        extensions: Mapping[str, str],
        subject: str,
        key: str,
        signer: str | None = None,
        begin: int = -1,
        end: int = 5,
    ) -> None:
        """Has a certificate made that is valid between these days from now."""
        lines = [f"{one} = {value}" for one, value in extensions.items() if value]
        self._file(name, "ext").write_text("\n".join(lines))
        self._openssl("req", "-new", "-key", self._file(key, "key"), "-subj", subject,
                      "-out", self._file(name, "csr"))  # fmt: skip
        self._openssl("ca", "-batch", "-notext", "-config", self.folder / "ca.cnf",
                      "-cert", self._file(by, "pem"), "-keyfile", self._file(signer or by, "key"),
                      "-in", self._file(name, "csr"), "-out", self._file(name, "pem"),
                      "-extfile", self._file(name, "ext"), "-subj", subject,
                      "-startdate", self._date(begin), "-enddate", self._date(end))  # fmt: skip

    def _date(self, days: int) -> str:
        return (self.now + timedelta(days=days)).astimezone(UTC).strftime("%Y%m%d%H%M%SZ")

    def _key(self, name: str, algorithm: Algorithm) -> None:
        self._openssl("genpkey", "-algorithm", *_GENPKEY[algorithm], "-out", self._file(name, "key"))

    def _file(self, name: str, ending: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}.{ending}"

    def _openssl(self, *arguments: str | Path) -> None:
        done = subprocess.run(["openssl", *arguments], capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr


def _name_with(text: str) -> str:
    """A subjectAltName with one dNSName of exactly these characters."""
    name = text.encode()
    inner = bytes([0x82, len(name)]) + name
    return "DER:" + (bytes([0x30, len(inner)]) + inner).hex(":")
