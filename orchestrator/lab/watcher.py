"""An independent witness: does every agent, at every moment, trust the key that its server uses?

It reads the files of a lab's hosts over and over, with ``openssl`` and the names of the lab's layout and
nothing else of keyrelay, and counts the moments in which an agent that has a bundle does not list, or no
longer accepts, the key that a server has in use, nor believes its certificate::

    python -m orchestrator.lab.watcher DIR --report FILE      ends on SIGTERM or SIGINT, then writes FILE

Its own reading must not make moments that never were. ``current`` is resolved once for each look. A look at
an agent counts only if the agent had the same bundle before and after the look at the servers; since bundles
never come back, it had that bundle throughout.
"""

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.lab.fleet import Lab

_PAUSE_S = 0.01
_EXAMPLES = 5


@dataclass(slots=True, kw_only=True)
class Witness:
    """What was seen so far.

    Attributes:
        servers, agents: ``keyrelay_base`` by host name; every agent listens to every server.
        looks: how often an agent's trust was compared with a server's key in use.
        moments: how often it did not fit; the first few are described in ``examples``.
    """

    servers: Mapping[str, Path]
    agents: Mapping[str, Path]
    looks: int = 0
    moments: int = 0
    examples: list[str] = field(default_factory=list)
    _digests: dict[tuple[int, int, int], str] = field(default_factory=dict)
    _verified: dict[tuple[Path, Path, int, int], bool] = field(default_factory=dict)

    def look(self) -> None:
        """Compare every agent with every server once."""
        before = {name: _target(base / "agent" / "current") for name, base in self.agents.items()}
        folders = {name: _target(base / "server" / "current") for name, base in self.servers.items()}
        in_use = {name: self._key_in_use(folder) for name, folder in folders.items()}
        now = time.time()  # noqa: TID251 - a witness of real files reads the real time
        for name, bundle in before.items():
            if bundle is None:
                continue
            accepted = set(_accepted(bundle, now))
            for server, folder in folders.items():
                key = in_use[server]
                if (
                    folder is not None
                    and key is not None
                    and self._is_vouched_for(server, key, folder, bundle)
                ):
                    accepted.add((server, key))
            if _target(self.agents[name] / "agent" / "current") != bundle:
                continue
            for server, key in in_use.items():
                if key is not None:
                    self._compare(name, server, key, bundle, trusted=(server, key) in accepted)

    def _compare(self, agent: str, server: str, key: str, bundle: Path, *, trusted: bool) -> None:
        self.looks += 1
        if not trusted:
            self.moments += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(f"{agent} with bundle {bundle.name} does not trust {key} of {server}")

    def _is_vouched_for(self, server: str, key: str, folder: Path, bundle: Path) -> bool:
        """Whether the bundle lets an issuer vouch for the server, and that has certified the key in use."""
        if key in {line.split(" ")[0] for line in _lines(bundle / "denied")}:
            return False
        issuers = [
            line.split(" ")[1] for line in _lines(bundle / "delegations") if line.startswith(f"{server} ")
        ]
        return any(
            self._verifies(bundle / "issuers" / f"{issuer}.pem", folder / "cert.pem", server, key)
            for issuer in issuers
        )

    def _verifies(self, issuer: Path, certificate: Path, server: str, key: str) -> bool:
        """Whether the certificate is the issuer's, of this key and for this name.

        One that is gone by now tells nothing, and is taken for good.
        """
        try:
            identity = (issuer, certificate, certificate.stat().st_ino, certificate.stat().st_mtime_ns)
        except FileNotFoundError:
            return True
        if identity not in self._verified:
            names = ["-verify_hostname", server, "-trusted", str(issuer)]
            verified = _openssl("verify", "-partial_chain", *names, str(certificate)) is not None
            pem = _openssl("x509", "-in", str(certificate), "-noout", "-pubkey")
            der = _openssl("pkey", "-pubin", "-outform", "DER", given=pem) if pem is not None else None
            good = verified and der is not None and hashlib.sha256(der).hexdigest() == key
            if not good and not (issuer.exists() and certificate.exists()):
                return True
            self._verified[identity] = good
        return self._verified[identity]

    def _key_in_use(self, folder: Path | None) -> str | None:
        """SHA-256 of the SPKI of the key in a folder; None: none, or it is being replaced."""
        if folder is None:
            return None
        file = folder / "key.pem"
        try:
            status = file.stat()
        except FileNotFoundError:
            return None
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if identity not in self._digests:
            der = _openssl("pkey", "-in", str(file), "-pubout", "-outform", "DER")
            if der is None:
                return None
            self._digests[identity] = hashlib.sha256(der).hexdigest()
        return self._digests[identity]


def _target(link: Path) -> Path | None:
    """The folder that a ``current`` link leads to."""
    try:
        return link.parent / link.readlink()
    except FileNotFoundError:
        return None


def _openssl(*arguments: str, given: bytes | None = None) -> bytes | None:
    """What ``openssl`` prints; None where it fails."""
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=False)  # noqa: S603, S607 - the lab's own files, by whatever openssl is here
    return done.stdout if done.returncode == 0 else None


def _lines(file: Path) -> list[str]:
    """The lines of a file; none where there is none, or where it is gone meanwhile."""
    try:
        return file.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []


def _accepted(bundle: Path, now: float) -> Iterator[tuple[str, str]]:
    """Each server with a key that the bundle accepts from it; none where the bundle is gone meanwhile."""
    for line in _lines(bundle / "edges"):
        server, key, expires = line.split(" ")
        if expires == "-" or float(expires) > now:
            yield server, key


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch until a signal comes; 1 if there was a moment without trust."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.lab.watcher")
    parser.add_argument("directory", type=Path, metavar="DIR", help="the lab's folder")
    parser.add_argument(
        "--report", type=Path, required=True, metavar="FILE", help="where to write what was seen"
    )
    given = parser.parse_args(arguments)
    hosts = Lab(given.directory).hosts
    witness = Witness(
        servers={host.name: host.base for host in hosts if "servers" in host.groups},
        agents={host.name: host.base for host in hosts if "agents" in host.groups},
    )
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _: stopped.append(signum))
    while not stopped:
        witness.look()
        time.sleep(_PAUSE_S)  # noqa: TID251 - real files are watched in real time
    told = {"looks": witness.looks, "moments": witness.moments, "examples": witness.examples}
    given.report.write_text(json.dumps(told) + "\n", encoding="ascii")
    return 1 if witness.moments else 0


if __name__ == "__main__":
    sys.exit(main())
