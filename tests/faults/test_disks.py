"""Disks that are full, have no inodes left or turn read-only, and writes that are denied, on either side.

Whatever was cut short is named with its host or file, no agent loses a server, and when the disk is well
again a plain apply ends it.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from tests.cli.terminal import snapshot
from tests.faults.crashing import Moment, Point
from tests.faults.disks import Disk, mounted
from tests.faults.ground import SHARED, Ground, prepared, watched
from tests.faults.lanes import LONG
from tests.faults.program import Ended
from tests.faults.shims import Shims

pytestmark = pytest.mark.long

MakeLab = Callable[..., Lab]
HOSTS = {"server": "server-01", "agent": "agent-001"}
FULL, READ_ONLY, DENIED = "No space left on device", "Read-only file system", "Permission denied"
LEFT = range(30) if LONG else (1, 4)


@contextmanager
def ill_fleet(make_lab: MakeLab, folder: Path, *hosts: str) -> Iterator[tuple[Ground, dict[str, Disk]]]:
    """One server and two agents with ``shared`` applied; the bases of ``hosts`` are small disks."""
    lab = make_lab(servers=1, agents=2)
    with ExitStack() as stack:
        disks = {name: stack.enter_context(mounted(lab.host(name).base)) for name in hosts}
        ground = stack.enter_context(prepared(lab, folder))
        ground.apply(SHARED).exited(0)
        stack.enter_context(watched(ground))
        yield ground, disks


def is_told(run: Ended, host: str, reason: str) -> bool:
    """Whether the run told the reason; if it did not come through, it named the host in any case."""
    if run.code == 0:
        return False
    run.exited(3).named(host, " ")
    return reason in run.out


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS.keys())
def test_a_host_that_runs_out_of_room_at_any_write_is_named_and_mended_by_the_next_apply(
    make_lab: MakeLab, tmp_path: Path, host: str
) -> None:
    told = []
    with ill_fleet(make_lab, tmp_path / "fleet", host) as (ground, disks):
        for left in LEFT:
            for limit in (disks[host].leave_inodes, disks[host].leave_blocks):
                limit(left)
                run = ground.apply(SHARED, "--new-key")
                told.append(is_told(run, host, FULL))
                disks[host].heal()
                ground.converges(SHARED)
    assert sum(told) >= len(told) / 2


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS.keys())
def test_a_host_whose_disk_turned_read_only_is_named_and_mended_by_the_next_apply(
    make_lab: MakeLab, tmp_path: Path, host: str
) -> None:
    with ill_fleet(make_lab, tmp_path / "fleet", host) as (ground, disks):
        points = [Point(step="record visits-intended", moment=Moment.AFTER, nth=nth) for nth in (1, 3)]
        for point in points:
            turning = Point(
                step=point.step, moment=point.moment, nth=point.nth, command=disks[host].turn_read_only
            )
            run = ground.apply(SHARED, "--new-key", at=turning)
            assert run.happened
            run.exited(3).named(host, READ_ONLY)
            disks[host].heal()
            ground.converges(SHARED)


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS.keys())
def test_a_host_that_denies_its_nth_write_is_named_and_mended_by_the_next_apply(
    make_lab: MakeLab, lab_folder: Path, tmp_path: Path, host: str
) -> None:
    shims = Shims.make(lab_folder / "shims")
    lab = make_lab(servers=1, agents=2, options={host: shims.options})
    with prepared(lab, tmp_path / "fleet") as ground:
        ground.apply(SHARED).exited(0)
        with watched(ground):
            with shims.failing_at(0):
                ground.apply(SHARED, "--new-key").exited(0)
                calls = shims.calls()
            for nth in range(1, calls + 1, 1 if LONG else 6):
                with shims.failing_at(nth):
                    run = ground.apply(SHARED, "--new-key")
                assert is_told(run, host, DENIED), run.told()
                if "the rollout is paused" in ground.apply(SHARED).out:
                    # A switch that fails on the only server of a wave is more than the playbook allows.
                    ground.program("rollout", "resume").exited(0)
                ground.converges(SHARED)


POINTS = [
    ("record rollout-started", 1),
    ("vault put", 1),
    ("record visits-intended", 1),
    ("record visits-ended", 3),
    ("vault destroy", 1),
]


def test_a_home_that_runs_full_at_any_write_is_named_and_the_next_apply_goes_on(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab(servers=1, agents=2)
    folder = tmp_path / "fleet"
    with mounted(tmp_path / "disk") as disk, prepared(lab, folder, home=disk.folder / "home") as ground:
        ground.apply(SHARED).exited(0)
        with watched(ground):
            for step, nth in POINTS:
                point = Point(step=step, moment=Moment.BEFORE, nth=nth, command=disk.fill)
                run = ground.apply(SHARED, "--new-key", at=point)
                assert run.happened, run.told()
                run.exited(1).named("error: ", str(ground.home / "keyrelay.db"))
                disk.heal()
                ground.converges(SHARED)
                ground.program("ledger", "verify").exited(0)


@pytest.mark.parametrize("ill", ["read-only", "without inodes", "full"])
def test_a_home_that_cannot_be_written_is_named_before_any_host_is_changed(
    make_lab: MakeLab, tmp_path: Path, ill: str
) -> None:
    lab = make_lab(servers=1, agents=2)
    folder = tmp_path / "fleet"
    with mounted(tmp_path / "disk") as disk, prepared(lab, folder, home=disk.folder / "home") as ground:
        ground.apply(SHARED).exited(0)
        before = snapshot(lab.directory / "hosts")
        match ill:
            case "read-only":
                subprocess.run(disk.turn_read_only, check=True)
            case "without inodes":
                disk.leave_inodes(0)
            case _:
                disk.leave_blocks(0)
        ground.apply(SHARED, "--new-key").exited(1).named("error: ", str(ground.home / "keyrelay.db"))
        assert snapshot(lab.directory / "hosts") == before
        disk.heal()
        ground.converges(SHARED)
