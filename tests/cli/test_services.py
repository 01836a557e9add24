"""Services that load their key when they start, on real hosts: what signs has to be what serves."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from tests import signing_service
from tests.cli.meanwhile import again_and_again, socket_of
from tests.cli.terminal import Terminal, keys_in_use

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
PER_SERVER = "playbooks/per-server.yml"
APPLY = ("apply", PER_SERVER, *INVENTORY, "--yes")
NEW_KEY = (*APPLY, "--new-key")
SERVERS = ("server-01", "server-02")
PROGRAM = shlex.join([sys.executable, "-B", str(Path(signing_service.__file__).resolve())])
HOW = f"""\
  hooks:
    activated: >-
      test -e {{{{ keyrelay_base }}}}/stays ||
      {PROGRAM} restart {{{{ keyrelay_base }}}}.socket {{{{ keyrelay_base }}}}/server/current/key.pem
  prove_command: {PROGRAM} ask {{{{ keyrelay_base }}}}.socket
  prove_within: 3s
"""

pytestmark = pytest.mark.usefixtures("inside")


@dataclass(slots=True)
class Ear:
    """An agent's application: it hears what the services really sign, and believes its own bundle alone.

    Attributes:
        heard: how often a service's signature was looked at.
        distrusted: the services that were not believed then.
    """

    lab: Lab
    heard: int = 0
    distrusted: list[str] = field(default_factory=list)

    def hear_all(self) -> None:
        for server in SERVERS:
            self.hear(server)

    def hear(self, server: str) -> None:
        agent = self.lab.host("agent-001").base / "agent"
        with suppress(OSError):
            bundle = (agent / "current").readlink()
            signature = signing_service.asked(socket_of(self.lab, server), b"a message")
            believed = any(self._verifies(key, signature) for key in (agent / bundle / "keys").iterdir())
            if (agent / "current").readlink() == bundle:
                self.heard += 1
                self.distrusted += [] if believed else [server]

    def _verifies(self, key: Path, signature: bytes) -> bool:
        file = self.lab.directory / "heard"
        (file.with_suffix(".text")).write_bytes(b"a message")
        file.write_bytes(signature)
        done = subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", key, "-sigfile", file,
             "-in", file.with_suffix(".text")],
            check=False, capture_output=True,
        )  # fmt: skip
        return done.returncode == 0


@contextmanager
def listening(lab: Lab) -> Iterator[None]:
    """Somebody listens to the services meanwhile, and believes them all the time."""
    ear = Ear(lab)
    with again_and_again(ear.hear_all, every_s=0.02):
        yield
    assert ear.heard > 0
    assert not ear.distrusted


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Iterator[tuple[Terminal, Lab]]:
    """Two servers with a key and a service each, and an agent; server-01 is the canary."""
    keyrelay, lab = make_fleet(servers=2, agents=1)
    path = keyrelay.folder / PER_SERVER
    path.write_text(path.read_text(encoding="utf-8").replace("  service: follows\n", HOW), encoding="utf-8")
    try:
        keyrelay(*APPLY).ended(0)
        yield keyrelay, lab
    finally:
        for server in SERVERS:
            signing_service.end(socket_of(lab, server))


def restart(lab: Lab, server: str, key: Path) -> None:
    subprocess.run([*shlex.split(PROGRAM), "restart", socket_of(lab, server), key], check=True)


def in_use(lab: Lab, server: str) -> Path:
    return (lab.host(server).base / "server" / "current").resolve()


def test_services_that_the_hook_restarts_take_their_new_keys_and_are_believed_all_the_time(
    fleet: tuple[Terminal, Lab],
) -> None:
    keyrelay, lab = fleet
    before = keys_in_use(lab.directory / "hosts")

    with listening(lab):
        keyrelay(*NEW_KEY).ended(0).line("done: ")

    assert not keys_in_use(lab.directory / "hosts") & before
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    assert keyrelay("audit", *INVENTORY).ended(0).out == "3 hosts ok\n"


def test_a_service_that_is_not_restarted_takes_its_server_back_and_nobody_stops_believing_it(
    fleet: tuple[Terminal, Lab],
) -> None:
    keyrelay, lab = fleet
    before = keys_in_use(lab.directory / "hosts")
    old = keyrelay.json("cert", "list")
    stays = lab.host("server-01").base / "stays"
    stays.touch()

    with listening(lab):
        paused = keyrelay(*NEW_KEY).ended(3)

    paused.line("the rollout is paused: in wave 1, 1 of 1 went back: server-01")
    name = next(key["thumbprint"][:10] for key in old["keys"] if "server-01" in str(key))
    keyrelay("rollout", "show").ended(0).line(f"after 3s the service still signs with key {name};")
    assert keys_in_use(lab.directory / "hosts") == before
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")

    stays.unlink()
    with listening(lab):
        keyrelay("rollout", "resume").ended(0).line("done: ")
    assert not keys_in_use(lab.directory / "hosts") & before


def test_a_service_restarted_with_an_old_key_is_named_and_the_old_key_is_kept_for_it(
    fleet: tuple[Terminal, Lab],
) -> None:
    keyrelay, lab = fleet
    path = keyrelay.folder / PER_SERVER
    text = path.read_text(encoding="utf-8")
    text = text.replace("waves: [1, 25%, 100%]", "waves: [100%]").replace("soak: 0s", "soak: 5s")
    path.write_text(text, encoding="utf-8")
    old = in_use(lab, "server-01")
    keyrelay(*NEW_KEY, "--wait", "0s").ended(3)
    assert in_use(lab, "server-01") != old
    restart(lab, "server-01", old / "key.pem")

    keyrelay("prove", *INVENTORY).ended(4).line("server-01", "it still signs with key ", ", not with key ")
    with listening(lab):
        keyrelay(*APPLY).ended(3).line("blocked by")
    keyrelay("rollout", "show").ended(0).line("server-01", "it still signs with key ")
    assert (old / "key.pem").exists()

    restart(lab, "server-01", lab.host("server-01").base / "server" / "current" / "key.pem")
    with listening(lab):
        keyrelay(*APPLY).ended(0)
    assert not old.exists()
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")


def test_an_ear_hears_a_service_that_its_agent_does_not_trust(
    fleet: tuple[Terminal, Lab], tmp_path: Path
) -> None:
    _, lab = fleet
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "key.pem"], check=True)
    restart(lab, "server-01", tmp_path / "key.pem")

    ear = Ear(lab)
    for server in SERVERS:
        ear.hear(server)

    assert (ear.heard, ear.distrusted) == (2, ["server-01"])
