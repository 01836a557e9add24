"""Clocks that are wrong, by an hour, a day or more than a year, on a host or the controller."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from orchestrator.cli.machine import SystemClock
from orchestrator.lab import HostOptions, Lab
from tests.faults.crashing import Moment, Point
from tests.faults.ground import SHARED, Ground, prepared, watched
from tests.faults.program import Program

pytestmark = pytest.mark.long

MakeLab = Callable[..., Lab]
HOUR_S, DAY_S, YEAR_S = 3600, 86400, 31536000
OFF_S = (HOUR_S, -HOUR_S, DAY_S, -DAY_S, 400 * DAY_S)
HOSTS = {"server": "server-01", "agent": "agent-001"}


def faketime() -> str:
    """The library that tells programs another time."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed: make setup installs it")
    return str(found[0])


def off_by(seconds: int) -> dict[str, str]:
    """The environment of a program whose clock is off from the start."""
    return {"LD_PRELOAD": faketime(), "FAKETIME": f"{seconds:+d}"}


@contextmanager
def controlled_at(ground: Ground, seconds: int) -> Iterator[Ground]:
    """The same fleet, from a controller whose clock is off."""
    always = {
        "KEYRELAY_PASSPHRASE_FILE": str(ground.folder / "vault.passphrase"),
        "KEYRELAY_HOME": str(ground.home),
    }
    with Program(ground.folder, {**always, **off_by(seconds)}) as program:
        yield Ground(lab=ground.lab, program=program, home=ground.home)


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS.keys())
def test_a_host_whose_clock_is_off_proves_nothing_until_it_is_right_again_and_is_named(
    make_lab: MakeLab, lab_folder: Path, tmp_path: Path, host: str
) -> None:
    # Programs that start read the file, so that the host's clock can be set while it runs.
    clock = lab_folder / "clock"
    clock.write_text("+0\n", encoding="ascii")
    clock.chmod(0o644)
    setting = {"LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": str(clock)}
    lab = make_lab(servers=1, agents=2, options={host: HostOptions(environment=setting)})
    with prepared(lab, tmp_path / "fleet") as ground:
        ground.apply(SHARED).exited(0)
        with watched(ground):
            for seconds in OFF_S:
                in_use = key_in_use(ground)
                clock.write_text(f"{seconds:+d}\n", encoding="ascii")
                told = ground.apply(SHARED, "--new-key").exited(3)
                # To an agent that is more than a year ahead every key has ended, and that is what it says.
                ended = host == HOSTS["agent"] and seconds > YEAR_S
                told.named(host, "expired" if ended else "its clock is")
                assert key_in_use(ground) == in_use
                clock.write_text("+0\n", encoding="ascii")
                ground.converges(SHARED)
                assert key_in_use(ground) != in_use


@pytest.mark.parametrize("seconds", OFF_S)
def test_a_controller_whose_clock_is_off_switches_no_server_and_breaks_no_edge(
    make_lab: MakeLab, tmp_path: Path, seconds: int
) -> None:
    lab = make_lab(servers=1, agents=2)
    with prepared(lab, tmp_path / "fleet") as ground:
        ground.apply(SHARED).exited(0)
        in_use = key_in_use(ground)
        # By a clock that is more than a year ahead the key is long due.
        words = ("--new-key",) if seconds < YEAR_S else ()
        with watched(ground):
            with controlled_at(ground, seconds) as elsewhen:
                way = "behind" if seconds > 0 else "ahead"
                for more in (words, ()):
                    told = elsewhen.apply(SHARED, *more).exited(1)
                    told.named("server-01", f"the clocks of 3 of 3 hosts are {way} of this machine's")
                elsewhen.ask("prove").exited(0)
                assert key_in_use(ground) == in_use
            ground.converges(SHARED)


def test_a_key_that_was_made_while_the_clock_was_ahead_is_replaced_once_it_is_right(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab(servers=1, agents=1)
    with prepared(lab, tmp_path / "fleet") as ground:
        ground.apply(SHARED).exited(0)
        with controlled_at(ground, 400 * DAY_S) as elsewhen:
            elsewhen.apply(SHARED).exited(1)
        ground.converges(SHARED)
        begins = certificate_in_use(ground).not_valid_before_utc
        assert begins <= SystemClock().now()


def test_what_was_put_away_while_the_clock_was_ahead_is_not_waited_for_until_then(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab(servers=1, agents=1)
    with prepared(lab, tmp_path / "fleet") as ground:
        ground.apply(SHARED).exited(0)
        disarming = Point(step="send disarm", moment=Moment.BEFORE)
        assert ground.apply(SHARED, "--new-key", at=disarming).killed
        with controlled_at(ground, 200 * DAY_S) as elsewhen:
            elsewhen.apply(SHARED).exited(1)
        ground.apply(SHARED, "--wait", "30s").exited(0)


def key_in_use(ground: Ground) -> str:
    return (ground.lab.host("server-01").base / "server" / "current").readlink().name


def certificate_in_use(ground: Ground) -> x509.Certificate:
    file = ground.lab.host("server-01").base / "server" / "current" / "cert.pem"
    return x509.load_pem_x509_certificate(file.read_bytes())
