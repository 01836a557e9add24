"""An independent witness: does every agent, at every moment, trust the key that its server uses?

It reads the files of a lab's hosts over and over, with ``openssl`` and the names of the lab's layout and
nothing else of keyrelay, and counts the moments in which an agent that has a bundle does not list, or no
longer accepts, the key that a server has in use::

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

    def look(self) -> None:
        """Compare every agent with every server once."""
        before = {name: _target(base / "agent" / "current") for name, base in self.agents.items()}
        in_use = {name: self._key_in_use(base) for name, base in self.servers.items()}
        now = time.time()  # noqa: TID251 - a witness of real files reads the real time
        for name, bundle in before.items():
            if bundle is None:
                continue
            accepted = set(_accepted(bundle, now))
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

    def _key_in_use(self, base: Path) -> str | None:
        """SHA-256 of the SPKI of the key that ``current`` leads to; None: none, or it is being replaced."""
        folder = _target(base / "server" / "current")
        if folder is None:
            return None
        file = folder / "key.pem"
        try:
            status = file.stat()
        except FileNotFoundError:
            return None
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if identity not in self._digests:
            command = ["openssl", "pkey", "-in", str(file), "-pubout", "-outform", "DER"]
            done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - the lab's own files
            if done.returncode:
                return None
            self._digests[identity] = hashlib.sha256(done.stdout).hexdigest()
        return self._digests[identity]


def _target(link: Path) -> Path | None:
    """The folder that a ``current`` link leads to."""
    try:
        return link.parent / link.readlink()
    except FileNotFoundError:
        return None


def _accepted(bundle: Path, now: float) -> Iterator[tuple[str, str]]:
    """Each server with a key that the bundle accepts from it; none where the bundle is gone meanwhile."""
    try:
        lines = (bundle / "edges").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
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
