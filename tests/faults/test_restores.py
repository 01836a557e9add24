"""The real program goes on from backups on real hosts, while a process of its own watches every agent.

A backup is taken at one moment of a rollout, the controller is lost at a later one, and the home is restored
beside the old one, which is still alive and has to stop.
"""

from pathlib import Path

import pytest

from tests.faults.crashing import Moment, Point
from tests.faults.ground import PER_SERVER, SHARED, Ground, prepared, watched
from tests.faults.lanes import MakeLab

pytestmark = pytest.mark.long

ITS = ("--backup-passphrase-file", "backup.passphrase")
BEFORE_PUBLISHING = Point(step="send trust", moment=Moment.BEFORE)
AFTER_THE_SWITCH = Point(step="receive activate", moment=Moment.AFTER)
BEFORE_THE_END = Point(step="send erase", moment=Moment.BEFORE)
KILLS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6)


@pytest.mark.parametrize(
    ("playbook", "taken", "lost"),
    [
        (SHARED, None, AFTER_THE_SWITCH),
        (PER_SERVER, BEFORE_PUBLISHING, BEFORE_THE_END),
        (SHARED, AFTER_THE_SWITCH, None),
    ],
    ids=["before all, lost after the switch", "before publishing, lost before the end", "lost long after"],
)
def test_no_agent_loses_its_server_when_a_controller_is_lost_and_a_backup_goes_on(
    make_lab: MakeLab, tmp_path: Path, playbook: str, taken: Point | None, lost: Point | None
) -> None:
    with prepared(make_lab(servers=2, agents=2), tmp_path / "ground") as ground:
        passphrase(ground)
        ground.apply(playbook).exited(0)
        with watched(ground):
            if taken is not None:
                assert ground.apply(playbook, "--new-key", at=taken).killed
            ground.program("backup", "kept.backup", *ITS).exited(0)
            if lost is not None:
                assert ground.apply(playbook, *(() if taken else ("--new-key",)), at=lost).killed
            else:
                ground.apply(playbook).exited(0)
                ground.apply(playbook, "--new-key").exited(0)
            there = ("--home", ground.folder / "elsewhere")
            ground.program(*there, "restore", "kept.backup", *ITS, "--yes").exited(0)
            ground.apply(playbook, "--new-key").exited(1)
            assert "this home has stopped for good" in ground.apply(playbook).exited(1).err
            inventory = ("-i", ground.lab.inventory_file)
            ground.program(*there, "apply", playbook, *inventory, "--yes").exited(0)
            ground.program(*there, "audit", *inventory).exited(0)
            ground.program(*there, "apply", playbook, *inventory, "--yes", "--new-key").exited(0)
            assert ground.program(*there, "prove", *inventory).exited(0).out.startswith("every edge holds")
        assert "this home has stopped for good" in ground.apply(playbook).exited(1).err


def test_a_backup_that_is_killed_is_there_or_not(make_lab: MakeLab, tmp_path: Path) -> None:
    with prepared(make_lab(servers=1, agents=1), tmp_path / "ground") as ground:
        passphrase(ground)
        ground.apply(SHARED).exited(0)
        for number, seconds in enumerate(KILLS):
            ground.program("backup", f"{number}.backup", *ITS, kill_after_s=seconds)
            if (ground.folder / f"{number}.backup").exists():
                ground.program("backup", "--check", f"{number}.backup", *ITS).exited(0)
            ground.program("ledger", "verify").exited(0)
        ground.program("backup", "last.backup", *ITS).exited(0)
        ground.program("backup", "--check", "last.backup", *ITS).exited(0)
        ground.converges(SHARED)


def test_a_restore_that_is_killed_leaves_a_whole_home_or_none(make_lab: MakeLab, tmp_path: Path) -> None:
    with prepared(make_lab(servers=1, agents=1), tmp_path / "ground") as ground:
        passphrase(ground)
        ground.apply(SHARED).exited(0)
        ground.program("backup", "kept.backup", *ITS).exited(0)
        ground.apply(SHARED, "--new-key").exited(0)
        there, words = ("--home", ground.folder / "elsewhere"), ("restore", "kept.backup", *ITS, "--yes")
        with watched(ground):
            for seconds in KILLS:
                ground.program(*there, *words, kill_after_s=seconds)
                if (ground.folder / "elsewhere").exists():
                    break
            else:
                ground.program(*there, *words).exited(0)
            assert not [file for file in ground.folder.iterdir() if file.name.startswith("elsewhere.")]
            inventory = ("-i", ground.lab.inventory_file)
            ground.program(*there, "ledger", "verify").exited(0)
            ground.program(*there, "apply", SHARED, *inventory, "--yes").exited(0)
            ground.program(*there, "audit", *inventory).exited(0)


def passphrase(ground: Ground) -> None:
    file = ground.folder / "backup.passphrase"
    file.write_text("the passphrase of these backups\n", encoding="ascii")
    file.chmod(0o600)
