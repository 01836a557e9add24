"""A home that was overtaken by a copy of itself, and a person who says which of the two goes on."""

import shutil

from tests.cli.conftest import MakeFleet

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
