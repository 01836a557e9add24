"""Servers that go from one play of a file to another on real hosts: never without a key that is trusted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from tests.cli.meanwhile import again_and_again
from tests.cli.terminal import SHORT_WAITS, Terminal
from tests.witness import watching

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
SITE = "playbooks/site.yml"
PLAY = """\
- name: {name}
  servers: {servers}
  agents: agents
  policy: {policy}
  key: {{algorithm: ed25519, origin: controller}}
  certificate: {{lifetime: 365d, renew_at: 2/3, grace: 30d}}
  service: follows
  rollout: {{soak: 0s}}
  {messages}
"""

pytestmark = pytest.mark.usefixtures("inside")


def say(keyrelay: Terminal, *, east: str, west: str) -> None:
    """Two plays of one file, with these servers."""
    plays = (("east", east, "shared"), ("west", west, "per-server"))
    keyrelay.write(
        SITE,
        "".join(PLAY.format(name=n, servers=s, policy=p, messages=SHORT_WAITS) for n, s, p in plays),
    )


@contextmanager
def always_with_a_key(lab: Lab, *servers: str) -> Iterator[None]:
    """Fails if one of the servers was seen without a key in use."""
    keys = [lab.host(server).base / "server" / "current" / "key.pem" for server in servers]
    seen: list[Path] = []
    with again_and_again(lambda: seen.extend(key for key in keys if not key.exists()), every_s=0.005):
        yield
    assert seen == []


@pytest.mark.long
def test_two_servers_are_swapped_between_two_plays_and_every_agent_believes_them_all_the_time(
    make_fleet: MakeFleet, tmp_path: Path
) -> None:
    keyrelay, lab = make_fleet(servers=3, agents=2)
    say(keyrelay, east="server-01:server-02", west="server-03")
    keyrelay("apply", SITE, *INVENTORY, "--yes").ended(0)

    say(keyrelay, east="server-01:server-03", west="server-02")
    plan = keyrelay("plan", SITE, *INVENTORY).ended(0)
    plan.line("server-02", "it moves from playbook 'east'")
    plan.line("server-03", "it moves from playbook 'west'")
    with watching(lab.directory, tmp_path / "seen"), always_with_a_key(lab, "server-02", "server-03"):
        keyrelay("apply", SITE, *INVENTORY, "--yes").ended(0)

    assert keyrelay("audit", *INVENTORY).ended(0).out == "5 hosts ok\n"
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    keyrelay("plan", SITE, *INVENTORY).ended(0).line("nothing to do")


def test_a_play_gets_a_server_of_another_only_where_one_command_applies_both(make_fleet: MakeFleet) -> None:
    keyrelay, _ = make_fleet(servers=2, agents=1)
    say(keyrelay, east="server-01:server-02", west="server-02")
    both = keyrelay("apply", SITE, *INVENTORY, "--yes").ended(1)
    both.line("server server-02 is in two plays: 'east' and 'west'")

    def file(name: str, servers: str) -> Path:
        text = PLAY.format(name=name, servers=servers, policy="shared", messages=SHORT_WAITS)
        return keyrelay.write(f"playbooks/{name}.yml", text)

    east, west = file("east", "servers"), file("west", "server-02")
    keyrelay("apply", east, *INVENTORY, "--yes").ended(0)
    refused = keyrelay("apply", west, *INVENTORY, "--yes").ended(1)
    refused.line("server-02 belongs to playbook 'east', so 'west' cannot have it")
    refused.line("apply both plays by one command, of one file or two")
    keyrelay("apply", east, west, *INVENTORY, "--yes").ended(1).line("is in two plays")
    keyrelay("apply", east, east, *INVENTORY, "--yes").ended(2).line("play 'east' is in")

    file("east", "server-01")
    keyrelay("watch", "--once", east, west, *INVENTORY).ended(1).line("asks for something else")
    planned = keyrelay("plan", west, east, *INVENTORY).ended(0)
    planned.line("server-02", "it moves from playbook 'east'")
    agreed = planned.line("to do exactly this: keyrelay apply").partition("keyrelay ")[2].split()
    keyrelay(*agreed, "--wait", "0s").ended(3)
    for _ in range(2):
        keyrelay("watch", "--once", east, west, *INVENTORY)
    keyrelay("apply", east, west, *INVENTORY, "--yes").ended(0)
    assert keyrelay("audit", *INVENTORY).ended(0).out == "3 hosts ok\n"
