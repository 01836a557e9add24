"""Units for systemd, as systemd itself reads them."""

import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.views.units import SERVICE, TIMER, Unattended, service, timer, units_answer

PLAIN = Unattended(
    program=("/bin/true",),
    user="root",
    folder=Path("/srv/keyrelay"),
    home=Path("/srv/keyrelay/.keyrelay"),
    passphrase_file=Path("/srv/keyrelay/vault.pass"),
    playbooks=(Path("/srv/keyrelay/one.yml"), Path("/srv/keyrelay/two.yml")),
    inventories=(Path("/srv/keyrelay/fleet.yml"),),
)
ODD = replace(
    PLAIN,
    folder=Path("/srv/my 100% fleet"),
    home=Path("/srv/my 100% fleet/home"),
    backups=(Path("/mnt/my 100% backups"), Path("/mnt/gone")),
    pin_file=Path("/srv/my 100% fleet/pin"),
    playbooks=(Path('/srv/a "play" for $5; 100%.yml'), Path("/srv/ä\\b\n.yml")),
)
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed: make setup installs it"
)


@needs_systemd
@pytest.mark.parametrize("unattended", [PLAIN, ODD], ids=["plain", "odd names"])
def test_systemd_finds_nothing_wrong_in_the_units(tmp_path: Path, unattended: Unattended) -> None:
    files = {SERVICE: service(unattended), TIMER: timer(timedelta(minutes=10))}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_systemd_finds_the_service_hardened(tmp_path: Path) -> None:
    (tmp_path / SERVICE).write_text(service(replace(PLAIN, user="keyrelay")), encoding="utf-8")
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", str(tmp_path / SERVICE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_service_looks_once_at_all_playbooks_and_writes_into_the_home_alone() -> None:
    lines = service(PLAIN).splitlines()
    files = "/srv/keyrelay/one.yml /srv/keyrelay/two.yml -i /srv/keyrelay/fleet.yml"
    assert f"ExecStart=/bin/true watch --once {files}" in lines
    assert "ReadWritePaths=/srv/keyrelay/.keyrelay" in lines
    assert "ProtectSystem=strict" in lines
    believing = service(replace(PLAIN, accept_new=True))
    assert "ExecStart=/bin/true --accept-new-host-keys watch --once" in believing


def test_what_systemd_would_take_for_its_own_is_escaped() -> None:
    lines = service(ODD).splitlines()
    start = next(line for line in lines if line.startswith("ExecStart="))
    assert '"/srv/a \\"play\\" for $$5; 100%%.yml"' in start
    assert '"/srv/ä\\\\b\\x0a.yml"' in start
    assert "WorkingDirectory=/srv/my 100%% fleet" in lines
    assert 'ReadWritePaths="/srv/my 100%% fleet/home" "-/mnt/my 100%% backups" -/mnt/gone' in lines
    assert '"KEYRELAY_PIN_FILE=/srv/my 100%% fleet/pin"' in "".join(lines)


def test_both_units_are_printed_below_their_paths() -> None:
    answer = units_answer(PLAIN, every=timedelta(hours=1))
    assert set(answer.data["units"]) == {SERVICE, TIMER}
    assert "# /etc/systemd/system/keyrelay-watch.timer" in answer.body
    assert "OnUnitInactiveSec=3600s" in answer.body
