"""A home that was overtaken by a copy of itself, and a person who says which of the two goes on."""

import shutil

from tests.cli.conftest import MakeFleet
from tests.cli.terminal import Terminal

APPLY = ("apply", "playbooks/per-server.yml", "-i", "lab/inventory.yml", "--yes", "--wait", "60s")


def test_a_copy_of_the_home_stops_and_goes_on_once_a_person_says_so(make_fleet: MakeFleet) -> None:
    terminal, _ = make_fleet(servers=1, agents=2)
    terminal(*APPLY).ended(0)
    shutil.copytree(terminal.folder / ".keyrelay", terminal.folder / "copy")
    (terminal.folder / "copy").chmod(0o700)
    terminal(*APPLY, "--new-key").ended(0)

    copy = ("--home", "copy")
    assert "followed a ledger that is newer" in terminal(*copy, *APPLY).ended(1).err
    again = terminal(*copy, *APPLY).ended(1)
    assert "this home has stopped for good" in again.err
    assert "restore --this-home" in again.err
    told = terminal(*copy, "restore", "--this-home", "--yes").ended(0)
    assert "restoring this strands no agent" in told.err
    assert "goes on in generation 2, epoch 2" in told.out
    terminal(*APPLY, "--new-key").ended(1)
    assert "this home has stopped for good" in terminal(*APPLY, "--new-key").ended(1).err
    terminal(*copy, *APPLY).ended(0)
    terminal(*copy, "audit", "-i", "lab/inventory.yml").ended(0)
    terminal(*copy, "prove", "-i", "lab/inventory.yml").ended(0)


def test_a_host_that_says_that_a_key_in_use_leaked_stops_a_restore_until_a_person_judges(
    make_fleet: MakeFleet, inside: Terminal
) -> None:
    del inside
    keyrelay, lab = make_fleet(servers=1, agents=2)
    keyrelay(*APPLY).ended(0)
    (key,) = keyrelay.json("cert", "list")["keys"]
    ended = lab.host("agent-002").base / "ended"
    ended.write_text(f"{key['spki_sha256']} compromised 4000000000\n", encoding="ascii")
    ended.chmod(0o600)

    restore = ("restore", "--this-home", "--yes")
    stopped = keyrelay(*restore).ended(1).err
    assert "of server-01: agent-002 remembers it as compromised" in stopped
    assert "--disbelieve agent-002" in stopped
    keyrelay(*restore, "--believe", "agent-001").ended(2).line("agent-001 says nothing")
    told = keyrelay(*restore, "--disbelieve", "agent-002", "--json").ended(0).json
    assert (told["stranded"], [one["host"] for one in told["accused"]]) == ([], ["agent-002"])
    keyrelay(*APPLY).ended(0)
    states = {one["thumbprint"]: one["state"] for one in keyrelay.json("cert", "list")["keys"]}
    assert sorted(states.values()) == ["active", "removed"]
    assert states[key["thumbprint"]] == "removed"
    keyrelay("prove", "-i", "lab/inventory.yml").ended(0)
