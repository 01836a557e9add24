"""Programs of agents that load their bundle when they start, on real hosts: what is proven has to listen."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.keys.material import sign
from orchestrator.keys.secret import Secret
from orchestrator.lab import Lab
from tests import listening_service
from tests.cli.meanwhile import again_and_again, socket_of
from tests.cli.terminal import Terminal, keys_in_use

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
PER_SERVER = "playbooks/per-server.yml"
APPLY = ("apply", PER_SERVER, *INVENTORY, "--yes")
NEW_KEY = (*APPLY, "--new-key")
SERVERS = ("server-01", "server-02")
AGENT = "agent-001"
PROGRAM = shlex.join([sys.executable, "-B", str(Path(listening_service.__file__).resolve())])
HOW = f"""\
  service: follows
  hooks:
    trusted: >-
      test ! -e {{{{ keyrelay_base }}}}/deaf &&
      {PROGRAM} tell {{{{ keyrelay_base }}}}.socket
"""

pytestmark = pytest.mark.usefixtures("inside")


@dataclass(slots=True)
class Conversation:
    """The servers speak to the agent's program all the time, with the keys that are in use then.

    Attributes:
        said: how many messages were.
        distrusted: the servers of those that the program did not believe.
    """

    lab: Lab
    said: int = 0
    distrusted: list[str] = field(default_factory=list)

    def of_all(self) -> None:
        for server in SERVERS:
            self.speak(server)

    def speak(self, server: str) -> None:
        key = self.lab.host(server).base / "server" / "current" / "key.pem"
        message = f"message {self.said}".encode()
        signature = sign(Secret(key.read_bytes()), message)
        if not listening_service.believes(socket_of(self.lab, AGENT), server, signature, message):
            self.distrusted.append(server)
        self.said += 1


@contextmanager
def talking(lab: Lab) -> Iterator[Conversation]:
    conversation = Conversation(lab)
    with again_and_again(conversation.of_all, every_s=0.01):
        yield conversation
    assert conversation.said > len(SERVERS)


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Iterator[tuple[Terminal, Lab]]:
    """Two servers with a key each, and an agent whose program runs since the agent has its first bundle."""
    keyrelay, lab = make_fleet(servers=2, agents=1)
    keyrelay(*APPLY).ended(0)
    with listening_service.listening(socket_of(lab, AGENT), lab.host(AGENT).base / "agent"):
        yield keyrelay, lab


def with_hook(keyrelay: Terminal) -> None:
    path = keyrelay.folder / PER_SERVER
    path.write_text(path.read_text(encoding="utf-8").replace("  service: follows\n", HOW), encoding="utf-8")


def test_a_program_that_is_told_by_the_hook_believes_its_servers_all_the_time(
    fleet: tuple[Terminal, Lab],
) -> None:
    keyrelay, lab = fleet
    with_hook(keyrelay)
    before = keys_in_use(lab.directory / "hosts")

    with talking(lab) as conversation:
        keyrelay(*NEW_KEY).ended(0).line("done: ")

    assert not conversation.distrusted
    assert not keys_in_use(lab.directory / "hosts") & before
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    assert keyrelay("audit", *INVENTORY).ended(0).out == "3 hosts ok\n"


def test_without_the_hook_such_a_program_is_orphaned_though_every_proof_holds(
    fleet: tuple[Terminal, Lab],
) -> None:
    keyrelay, lab = fleet

    with talking(lab) as conversation:
        keyrelay(*NEW_KEY).ended(0).line("done: ")

    assert set(conversation.distrusted) == set(SERVERS)
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")


def test_while_the_hook_does_not_reach_the_program_no_server_switches_and_the_agent_is_named(
    fleet: tuple[Terminal, Lab],
) -> None:
    keyrelay, lab = fleet
    with_hook(keyrelay)
    before = keys_in_use(lab.directory / "hosts")
    deaf = lab.host(AGENT).base / "deaf"
    deaf.touch()

    with talking(lab) as conversation:
        keyrelay(*NEW_KEY).ended(3).line(AGENT, "is in use, but the hook exited 1")
        keyrelay(*APPLY).ended(3).line(AGENT, "is in use, but the hook exited 1")

    assert not conversation.distrusted
    assert keys_in_use(lab.directory / "hosts") == before
    keyrelay("audit", *INVENTORY).ended(4).line(AGENT, "its hook has yet to run well")
    keyrelay("prove", *INVENTORY).ended(4).line(AGENT, "has yet to run well")

    deaf.unlink()
    with talking(lab) as conversation:
        keyrelay(*APPLY).ended(0).line("done: ")
    assert not conversation.distrusted
    assert not keys_in_use(lab.directory / "hosts") & before
    assert keyrelay("audit", *INVENTORY).ended(0).out == "3 hosts ok\n"
