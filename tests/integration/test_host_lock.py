"""The lock that a visit takes on a host, and that nothing is removed there but what visits left."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from select import select

import pytest

from orchestrator.cli.machine import SystemClock
from orchestrator.keys.material import Algorithm
from orchestrator.rotation.reports import Refused
from orchestrator.rotation.visits import Activate, Fence, Survey, Trust
from tests.integration.program import (
    ED25519,
    ONE,
    P256,
    TWO,
    Machine,
    bundle,
    challenge,
    hook,
    stage,
)

ENDING_S = 30
"""How long a process that was killed may take to be gone."""


@pytest.fixture
def settled(machine: Machine) -> Machine:
    """A machine on which ONE is in use, TWO is staged, and bundle 1.5 is trusted."""
    machine.report(stage(ONE), Activate(credential=ONE, challenge=challenge(), algorithm=Algorithm.ED25519))
    machine.report(stage(TWO, P256))
    machine.report(Trust(bundle=bundle(5, ED25519)))
    return machine


def refusal(outcome: object) -> str:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


def test_a_held_lock_names_its_visit_and_its_end(settled: Machine) -> None:
    (settled.base / "lock").mkdir(mode=0o700)
    end = SystemClock().now() + timedelta(minutes=55)
    (settled.base / "lock" / "owner").write_text(f"{'a' * 32} {int(end.timestamp())}\n")
    before = settled.snapshot()

    assert refusal(settled.run(stage(TWO, P256))) == (
        f"visit {'a' * 32} holds the lock until {end:%Y-%m-%dT%H:%M:%SZ}"
    )
    assert settled.snapshot() == before
    assert settled.run(Survey()).kind == "unchanged"


@pytest.mark.parametrize(("there", "told"), [("1 3 -", "1.3"), ("1 30 -", "1.30"), (None, "-")])
def test_a_host_that_has_forgotten_since_it_was_asked_is_left_as_it_is(
    settled: Machine, there: str | None, told: str
) -> None:
    """Its base was put back, wiped, or is not mounted: that is no word of another ledger."""
    if there is None:
        shutil.rmtree(settled.base)
    else:
        (settled.base / "fence").write_text(f"{there}\n")
    before = settled.snapshot()
    asked = Fence(generation=2, counter=3)

    outcome = settled.send(
        replace(settled.visit(stage(TWO, P256), fence=Fence(generation=2, counter=7)), remembers=(asked,))
    )

    assert refusal(outcome) == (
        f"{settled.base} is not as it was when it was asked: fence {told}, expected 2.3"
    )
    assert isinstance(outcome, Refused)
    assert not outcome.fenced
    assert settled.snapshot() == before
    assert settled.base.exists() == (there is not None)


def test_a_key_that_was_brought_and_is_not_needed_is_overwritten(settled: Machine, tmp_path: Path) -> None:
    kept, openssl = tmp_path / "kept", settled.path / "openssl"
    real = openssl.resolve()
    openssl.unlink()
    brought = f"{settled.base}/lock/*/1/key.pem"
    openssl.write_text(f'#!/bin/dash\nln {brought} {kept} 2>/dev/null\nexec {real} "$@"\n')
    openssl.chmod(0o755)

    settled.report(stage(TWO, P256))

    assert kept.read_bytes() == bytes(len(P256.private.reveal()))


def test_a_lock_past_its_end_is_taken_over_and_what_it_left_removed(settled: Machine) -> None:
    left = settled.base / "lock" / ("a" * 32) / "1"
    left.mkdir(parents=True)
    (left / "key.pem").write_text("left by a visit that died")
    (settled.base / "lock" / "owner").write_text(f"{'a' * 32} 1000000000\n")
    older = settled.base / f"lock.dead.{'b' * 32}"
    older.mkdir()

    assert settled.run(stage(TWO, P256)).kind == "unchanged"
    assert not left.exists()
    assert not (settled.base / "lock").exists()
    assert not older.exists()


def test_a_lock_without_an_owner_is_taken_over_once_it_is_a_minute_old(settled: Machine) -> None:
    lock = settled.base / "lock"
    lock.mkdir(mode=0o700)
    young = settled.run(stage(TWO, P256))
    os.utime(lock, (1_000_000_000, 1_000_000_000))
    old = settled.run(stage(TWO, P256))

    assert isinstance(young, Refused)
    assert young.reason.startswith("visit unknown holds the lock until ")
    assert old.kind == "unchanged"
    assert not lock.exists()


NO_LOCKS: dict[str, Callable[[Path], object]] = {
    "something else": lambda lock: (lock / "precious").write_text("mine"),
    "something hidden": lambda lock: (lock / ".precious").write_text("mine"),
    "something else beside a visit's name": lambda lock: (
        (lock / "owner").write_text(f"{'a' * 32} 1000000000\n"),
        (lock / "precious").write_text("mine"),
    ),
    "an owner who is no visit": lambda lock: (lock / "owner").write_text("alice 1000000000\n"),
    "an owner with strange words": lambda lock: (lock / "owner").write_text(f"{'a' * 32} 1 $(reboot) * 1\n"),
    "an owner without an end": lambda lock: (lock / "owner").write_text(f"{'a' * 32}\n"),
    "a link for an owner": lambda lock: (lock / "owner").symlink_to("precious"),
    "a folder of another name": lambda lock: (lock / "mine").mkdir(),
    "two folders": lambda lock: list(map(Path.mkdir, (lock / ("a" * 32), lock / ("b" * 32)))),
    "a link for a folder": lambda lock: (lock / ("a" * 32)).symlink_to("/"),
}


@pytest.mark.parametrize("fill", NO_LOCKS.values(), ids=NO_LOCKS.keys())
def test_a_lock_that_is_not_a_visits_is_left_alone(settled: Machine, fill: Callable[[Path], object]) -> None:
    lock = settled.base / "lock"
    lock.mkdir()
    fill(lock)
    os.utime(lock, (1_000_000_000, 1_000_000_000))
    before = settled.snapshot()

    assert refusal(settled.run(stage(TWO, P256))) == f"{lock} is not keyrelay's"
    assert settled.snapshot() == before


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_lock_that_is_no_folder_is_left_alone(settled: Machine, kind: str) -> None:
    lock = settled.base / "lock"
    elsewhere = settled.base.parent / "elsewhere"
    elsewhere.mkdir()
    if kind == "file":
        lock.write_text("mine")
    else:
        lock.symlink_to(elsewhere)
    os.utime(lock, (1_000_000_000, 1_000_000_000))
    before = settled.snapshot()

    assert refusal(settled.run(stage(TWO, P256))) == f"{lock} is not keyrelay's"
    assert settled.snapshot() == before


@pytest.mark.parametrize("owner", ["", None])
def test_a_lock_whose_owner_was_cut_off_at_work_is_taken_over(settled: Machine, owner: str | None) -> None:
    lock = settled.base / "lock"
    (lock / ("a" * 32) / "1").mkdir(parents=True)
    if owner is not None:
        (lock / "owner").write_text(owner)
    os.utime(lock, (1_000_000_000, 1_000_000_000))

    assert settled.run(stage(TWO, P256)).kind == "unchanged"
    assert not lock.exists()


def test_what_lies_beside_keyrelays_own_folders_is_left_alone(settled: Machine) -> None:
    names = ("lock.dead.old/a/b/key.pem", f"lock.dead.{'a' * 31}/x", "agent/bundles/mine/data")
    others = [settled.base / name for name in (*names, "agent/bundles/5/data", "agent/bundles/1.2.3/data")]
    for other in others:
        other.parent.mkdir(parents=True)
        other.write_text("mine")
    (settled.base / "agent" / "bundles" / "1.4").mkdir()
    dead = settled.base / "lock"
    dead.mkdir()
    os.utime(dead, (1_000_000_000, 1_000_000_000))

    assert settled.run(Trust(bundle=bundle(6, ED25519, P256))).kind == "changed"
    assert [other.read_text() for other in others] == ["mine"] * len(others)
    assert not (settled.base / "agent" / "bundles" / "1.4").exists()
    assert not dead.exists()


@pytest.mark.parametrize("until", [4102444800, 9999999999999, 9999999999999999])
def test_a_lock_with_an_end_that_no_lease_reaches_is_over(settled: Machine, until: int) -> None:
    lock = settled.base / "lock"
    lock.mkdir()
    (lock / "owner").write_text(f"{'a' * 32} {until}\n")

    assert settled.run(stage(TWO, P256)).kind == "unchanged"
    assert not lock.exists()


def test_a_lock_without_an_owner_from_a_far_future_is_over(settled: Machine) -> None:
    lock = settled.base / "lock"
    lock.mkdir()
    os.utime(lock, (4_102_444_800, 4_102_444_800))

    assert settled.run(stage(TWO, P256)).kind == "unchanged"
    assert not lock.exists()


def test_a_lease_longer_than_an_hour_is_refused(settled: Machine) -> None:
    def activate_two(timeout_s: int) -> Activate:
        waits = hook("true", timeout=timedelta(seconds=timeout_s))
        return Activate(credential=TWO, challenge=challenge(), algorithm=Algorithm.ECDSA_P256, hook=waits)

    # A visit's lease has room for its hook twice.
    assert refusal(settled.run(activate_two(1751))) == "a lock for 3602s is too long: at most 3600s"
    assert settled.run(activate_two(1750)).kind == "changed"


def test_of_visits_at_the_same_time_one_works_and_the_others_are_told(settled: Machine) -> None:
    others = [replace(settled) for _ in range(6)]
    order = Trust(bundle=bundle(6, ED25519, P256))
    with ThreadPoolExecutor(len(others)) as pool:
        outcomes = list(
            pool.map(lambda other: other.run(order, fence=Fence(generation=2, counter=1)), others)
        )

    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert "changed" in {outcome.kind for outcome in outcomes}
    assert all("lock" in outcome.reason for outcome in refused), refused
    assert {outcome.kind for outcome in outcomes} <= {"changed", "unchanged", "refused"}
    assert not (settled.base / "lock").exists()
    assert settled.run(order, fence=Fence(generation=2, counter=1)).kind == "unchanged"


def held_by(process: str) -> str:
    """What an owner's file says: held for another 50 minutes, by this process."""
    end = SystemClock().now() + timedelta(minutes=50)
    return f"{'a' * 32} {int(end.timestamp())} {process}\n"


def whereabouts() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    space = Path("/proc/self/ns/pid").readlink().name.removeprefix("pid:[").removesuffix("]")
    return f"{boot} {space}"


def born(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Some process that lives."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def test_a_visit_that_was_killed_leaves_a_lock_that_the_next_one_takes_over_at_once(
    settled: Machine, tmp_path: Path
) -> None:
    here, reached = settled.base / "lock" / "owner", tmp_path / "reached"
    kills_its_visit = f"read -r _ _ _ _ pid _ <{here}; cp {here} {reached}; kill -9 $pid; sleep 1"
    order = Activate(
        credential=TWO,
        challenge=challenge(),
        algorithm=Algorithm.ECDSA_P256,
        hook=hook(kills_its_visit),
    )
    assert settled.run(order).kind == "failed"
    assert reached.read_text(encoding="ascii") == here.read_text(encoding="ascii")

    assert settled.run(stage(TWO, P256)).kind == "unchanged"
    assert not (settled.base / "lock").exists()


def test_a_visit_whose_process_lives_keeps_its_lock(
    settled: Machine, process: subprocess.Popen[bytes]
) -> None:
    (settled.base / "lock").mkdir(mode=0o700)
    owner = held_by(f"{whereabouts()} {process.pid} {born(process.pid)}")
    (settled.base / "lock" / "owner").write_text(owner)

    assert refusal(settled.run(stage(TWO, P256))).startswith(
        f"process {process.pid} of visit {'a' * 32} holds the lock until "
    )


DEAD = {
    "whose process is another one by now": lambda pid: f"{whereabouts()} {pid} {born(pid) - 1}",
    "of before the machine was started": lambda pid: (
        f"{'0' * 8}-0000-4000-8000-{'0' * 12} {whereabouts().split()[1]} {pid} {born(pid)}"
    ),
    "whose process is gone": lambda _: f"{whereabouts()} 4194305 1",
}


@pytest.mark.parametrize("told", DEAD.values(), ids=DEAD.keys())
def test_a_lock_of_a_visit_that_is_proved_dead_is_taken_over_before_its_end(
    settled: Machine, process: subprocess.Popen[bytes], told: Callable[[int], str]
) -> None:
    (settled.base / "lock").mkdir(mode=0o700)
    (settled.base / "lock" / "owner").write_text(held_by(told(process.pid)))

    assert settled.run(stage(TWO, P256)).kind == "unchanged"
    assert not (settled.base / "lock").exists()


def test_a_process_that_has_ended_and_is_not_yet_taken_note_of_is_dead(settled: Machine) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        owner = held_by(f"{whereabouts()} {process.pid} {born(process.pid)}")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        (settled.base / "lock").mkdir(mode=0o700)
        (settled.base / "lock" / "owner").write_text(owner)
        assert settled.run(stage(TWO, P256)).kind == "unchanged"


UNTOLD = {
    "by nothing": lambda _: "- - 4194305 -",
    "by another view of the processes": lambda _: f"{whereabouts().split()[0]} 1 4194305 1",
    "by no view of the processes": lambda _: f"{whereabouts().split()[0]} - 4194305 1",
    "half": lambda pid: f"{whereabouts()} {pid}",
}


@pytest.mark.parametrize("told", UNTOLD.values(), ids=UNTOLD.keys())
def test_a_lock_whose_owner_is_not_proved_dead_lasts_until_its_end(
    settled: Machine, process: subprocess.Popen[bytes], told: Callable[[int], str]
) -> None:
    (settled.base / "lock").mkdir(mode=0o700)
    (settled.base / "lock" / "owner").write_text(held_by(told(process.pid)))

    assert f" of visit {'a' * 32} holds the lock until " in refusal(settled.run(stage(TWO, P256)))


def test_what_a_killed_visit_still_ran_is_ended_before_the_next_one_does_anything(
    settled: Machine, tmp_path: Path
) -> None:
    here, reached = settled.base / "lock" / "owner", tmp_path / "reached"
    outlives_its_visit = (
        f"sleep 600 & read -r _ _ _ _ pid _ <{here}; echo $$ $! >{reached}; kill -9 $pid; wait; sleep 600"
    )
    order = Activate(
        credential=TWO, challenge=challenge(), algorithm=Algorithm.ECDSA_P256, hook=hook(outlives_its_visit)
    )
    assert settled.run(order).kind == "failed"
    left = [os.pidfd_open(int(pid)) for pid in reached.read_text(encoding="ascii").split()]
    assert not select(left, [], [], 0)[0]

    assert settled.run(stage(TWO, P256)).kind == "unchanged"
    for one in left:
        assert select([one], [], [], ENDING_S)[0]
        os.close(one)


def noted(base: Path, process: str) -> Path:
    """The lock of a visit that is over, which noted that it ran this process."""
    lock = base / "lock"
    (lock / ("a" * 32)).mkdir(parents=True)
    (lock / "owner").write_text(f"{'a' * 32} 1000000000\n")
    (lock / ("a" * 32) / "command").write_text(f"{process}\n")
    return lock


STRANGERS = {
    "another one by now": lambda pid: f"{whereabouts()} {pid} {born(pid) - 1}",
    "one of before the machine was started": lambda pid: (
        f"{'0' * 8}-0000-4000-8000-{'0' * 12} {whereabouts().split()[1]} {pid} {born(pid)}"
    ),
    "one in another view of the processes": lambda pid: f"{whereabouts().split()[0]} 1 {pid} {born(pid)}",
    "of an unknown beginning": lambda pid: f"{whereabouts()} {pid} -",
    "every process": lambda pid: f"{whereabouts()} -1 {born(pid)}",
    "cut off": lambda pid: f"{whereabouts()} {pid}",
}


@pytest.mark.parametrize("told", STRANGERS.values(), ids=STRANGERS.keys())
def test_a_process_that_is_not_the_one_a_dead_visit_ran_is_left_alone(
    settled: Machine, process: subprocess.Popen[bytes], told: Callable[[int], str]
) -> None:
    lock = noted(settled.base, told(process.pid))

    assert settled.run(stage(TWO, P256)).kind == "unchanged"
    assert process.poll() is None
    assert not lock.exists()


def test_the_very_process_that_a_dead_visit_ran_is_ended(
    settled: Machine, process: subprocess.Popen[bytes]
) -> None:
    noted(settled.base, f"{whereabouts()} {process.pid} {born(process.pid)}")

    assert settled.run(stage(TWO, P256)).kind == "unchanged"
    assert process.wait(ENDING_S) == -signal.SIGKILL
