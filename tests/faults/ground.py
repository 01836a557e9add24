"""A lab of real hosts, a founded fleet over it, and a process of its own that never stops looking."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.lab import Lab
from tests.faults.crashing import Point
from tests.faults.program import Ended, Program
from tests.witness import watching

LOG = logging.getLogger(__name__)
LOG.setLevel(logging.INFO)
SHARED, PER_SERVER = "shared.yml", "per-server.yml"
_PLAYBOOK = """\
- name: fleet
  servers: servers
  agents: agents
  policy: {policy}
  key: {{algorithm: ed25519, origin: {origin}}}
  certificate: {{lifetime: 365d, renew_at: 2/3, grace: 30d}}
  messages: {{validity: 1s, clock_skew: {skew}}}
  service: follows
  rollout: {{soak: 0s}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A fleet to do harm to."""

    lab: Lab
    program: Program
    home: Path

    @property
    def folder(self) -> Path:
        return self.program.folder

    def apply(
        self,
        playbook: str,
        *more: str,
        at: Point | None = None,
        kill_after_s: float | None = None,
        deadline_s: float | None = None,
    ) -> Ended:
        inventory = self.lab.inventory_file
        return self.program(
            "apply", playbook, "-i", inventory, "--yes", *more,
            at=at, kill_after_s=kill_after_s, deadline_s=deadline_s,
        )  # fmt: skip

    def ask(self, *words: str) -> Ended:
        return self.program(*words, "-i", self.lab.inventory_file)

    def converges(self, playbook: str) -> None:
        """A plain apply ends what was begun; then nothing has drifted and every edge holds."""
        self.apply(playbook).exited(0)
        self.ask("audit").exited(0)
        assert self.ask("prove").exited(0).out.startswith("every edge holds")

    def route(self, host: str, address: str, port: int) -> None:
        """From now on the host is reached at another address and port, with the same host key."""
        entry = self.lab.host(host)
        known = self.lab.known_hosts.read_text(encoding="ascii").splitlines()
        here = f"[{entry.address}]:{entry.port}"
        own = next(line.split(" ", 1)[1] for line in known if line.split(" ", 1)[0] == here)
        with self.lab.known_hosts.open("a", encoding="ascii") as file:
            file.write(f"[{address}]:{port} {own}\n")
        variables = self.lab.directory / "host_vars" / f"{host}.yml"
        variables.parent.mkdir(exist_ok=True)
        variables.write_text(f"ansible_host: {address}\nansible_port: {port}\n", encoding="ascii")


@contextmanager
def prepared(
    lab: Lab,
    folder: Path,
    *,
    home: Path | None = None,
    skew: str = "1s",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Ground]:
    """A founded fleet in ``folder``, its home there or elsewhere, with nothing applied yet."""
    folder.mkdir(mode=0o700)
    home = folder / ".keyrelay" if home is None else home
    for name in ("vault.passphrase", "root.passphrase"):
        (folder / name).write_text(f"the {name} of these tests\n", encoding="ascii")
        (folder / name).chmod(0o600)
    for name, origin in ((SHARED, "controller"), (PER_SERVER, "server")):
        policy = name.removesuffix(".yml")
        text = _PLAYBOOK.format(policy=policy, origin=origin, skew=skew)
        (folder / name).write_text(text, encoding="ascii")
    always = {
        "KEYRELAY_PASSPHRASE_FILE": str(folder / "vault.passphrase"),
        "KEYRELAY_HOME": str(home),
    }
    with Program(folder, {**always, **(environment or {})}) as program:
        program("init", home, "--root-passphrase-file", "root.passphrase").exited(0)
        yield Ground(lab=lab, program=program, home=home)


def watched(ground: Ground) -> AbstractContextManager[None]:
    """Has a process of its own read the hosts' files meanwhile; fails if an agent ever lost a server."""
    return watching(ground.lab.directory, ground.folder / "seen.json")
