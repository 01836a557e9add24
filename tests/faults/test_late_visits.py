"""Visits that go on, on their host, after their controller has died or given up."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from orchestrator.lab.processes import wait_until
from tests.faults.ground import PER_SERVER, SHARED, Ground, prepared, watched
from tests.faults.lanes import LONG
from tests.faults.program import Ended
from tests.faults.shims import Shims

pytestmark = pytest.mark.long

MakeLab = Callable[..., Lab]
DEADLINE_S = 6.0
SLACK_S = 2.0
SERVER, AGENT = "server-01", "agent-001"
HELD = [(SERVER, "ln"), (AGENT, "mv")]
"""In the middle of a switch to a key, and of a switch to a bundle."""


@contextmanager
def begun(work: Callable[[], Ended]) -> Iterator["Future[Ended]"]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


@contextmanager
def held_fleet(
    make_lab: MakeLab, lab_folder: Path, folder: Path, host: str
) -> Iterator[tuple[Ground, Shims]]:
    """One server and two agents with ``shared`` applied; programs of ``host`` can be held."""
    shims = Shims.make(lab_folder / "shims")
    lab = make_lab(servers=1, agents=2, options={host: shims.options})
    with prepared(lab, folder) as ground:
        ground.apply(SHARED).exited(0)
        with watched(ground):
            yield ground, shims


def lock_owner(ground: Ground, host: str) -> Path:
    """What /proc has of the visit that holds the host's lock, while it lives."""
    owner = (ground.lab.host(host).base / "lock" / "owner").read_text(encoding="ascii")
    return Path("/proc") / owner.split()[4]


def lock_is_free(ground: Ground, host: str) -> bool:
    lock = ground.lab.host(host).base / "lock"
    return wait_until(lambda: not lock.exists(), timeout_s=30)


def test_a_switch_that_outlives_its_controller_finds_its_agents_still_trusting_its_key(
    make_lab: MakeLab, lab_folder: Path, tmp_path: Path
) -> None:
    with held_fleet(make_lab, lab_folder, tmp_path / "fleet", SERVER) as (ground, shims):
        with shims.held("ln"):
            with begun(lambda: ground.apply(SHARED, "--new-key")) as first:
                shims.wait_until_reached()
                ground.program.kill()
                assert first.result().killed
            # The host has yet to switch to a key that this run gives up for another one.
            ground.apply(PER_SERVER, deadline_s=DEADLINE_S)
        assert lock_is_free(ground, SERVER)
        ground.converges(PER_SERVER)


@pytest.mark.parametrize(("host", "program"), HELD)
def test_a_host_that_is_stopped_in_the_middle_of_a_visit_is_named_in_time_and_goes_on_later(
    make_lab: MakeLab, lab_folder: Path, tmp_path: Path, host: str, program: str
) -> None:
    with held_fleet(make_lab, lab_folder, tmp_path / "fleet", host) as (ground, shims):
        usual_s = ground.apply(SHARED).exited(0).seconds
        with (
            shims.held(program),
            begun(lambda: ground.apply(SHARED, "--new-key", deadline_s=DEADLINE_S)) as run,
        ):
            shims.wait_until_reached()
            ground.lab.freeze(host)
            run.result().exited(3).named(host, "time ran out")
        stopped = ground.apply(SHARED, deadline_s=DEADLINE_S)
        stopped.exited(3).named(host, "sent no SSH greeting")
        assert stopped.seconds < usual_s + DEADLINE_S + SLACK_S
        ground.lab.thaw(host)
        assert lock_is_free(ground, host)
        ground.converges(SHARED)


@pytest.mark.parametrize(("host", "program"), HELD if LONG else HELD[:1])
def test_a_host_that_is_killed_in_the_middle_of_a_visit_is_named_and_its_lock_taken_over_at_once(
    make_lab: MakeLab, lab_folder: Path, tmp_path: Path, host: str, program: str
) -> None:
    with held_fleet(make_lab, lab_folder, tmp_path / "fleet", host) as (ground, shims):
        with (
            shims.held(program),
            begun(lambda: ground.apply(SHARED, "--new-key", deadline_s=DEADLINE_S)) as run,
        ):
            shims.wait_until_reached()
            daemons = ground.lab._daemons
            daemons.signal(daemons.alone(host), signal.SIGKILL)
            run.result().exited(3).named(host, "connection was lost")
            visit = lock_owner(ground, host)
        assert wait_until(lambda: not visit.exists(), timeout_s=30)
        ground.lab.start(host)
        ground.converges(SHARED)
