"""Hosts and visits that go wrong half-way: every file is wholly old or wholly new afterwards (S5)."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.keys.material import Algorithm
from orchestrator.lab.processes import wait_until
from orchestrator.remote.wire import encode
from orchestrator.rotation.reports import Activated, Changed, Failed, Refused, Signed, Surveyed
from orchestrator.rotation.visits import Activate, Check, Generate, Order, Sign, Survey, Trust, Visit
from tests.faults.disks import mounted
from tests.integration.program import (
    CERTIFICATE,
    ED25519,
    ONE,
    P256,
    SERVER,
    SHELLS,
    THREE,
    TWO,
    Machine,
    bundle,
    challenge,
    claim,
    hook,
    programs,
    stage,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount, or to become another user")
ORDERS: dict[str, Order] = {
    "stage": stage(TWO, P256),
    "generate": Generate(credential=THREE, algorithm=Algorithm.ED25519, names=(SERVER,)),
    "trust": Trust(bundle=bundle(6, ED25519, P256), claims=(claim(ED25519),)),
}


@pytest.fixture
def machine(machine: Machine) -> Machine:
    return settled(machine)


def settled(machine: Machine) -> Machine:
    """On it ONE is in use and bundle 1.5 is trusted."""
    machine.report(stage(ONE), Activate(credential=ONE, challenge=challenge(), algorithm=Algorithm.ED25519))
    machine.report(Trust(bundle=bundle(5, ED25519)))
    return machine


def activate_two(command: str, **arguments: object) -> Activate:
    return Activate(
        credential=TWO,
        challenge=challenge(),
        algorithm=Algorithm.ECDSA_P256,
        hook=hook(command, **arguments),
    )


@contextmanager
def tmpfs(folder: Path, size_kib: int) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    options = f"size={size_kib}k,mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(filler: Path, left_kib: int) -> None:
    """Fills the filler's disk but for a few KiB."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    os.truncate(filler, filler.stat().st_size - left_kib * 1024)


@as_root
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("left_kib", [0, 4, 8])
def test_a_full_disk_is_named_and_leaves_no_trace(
    path: Path, tmp_path: Path, order: Order, left_kib: int
) -> None:
    machine = Machine(base=tmp_path / "disk" / "base", path=path)
    with tmpfs(tmp_path / "disk", 256):
        settled(machine)
        before = machine.snapshot()
        filler = tmp_path / "disk" / "filler"
        fill(filler, left_kib)
        outcome = machine.run(order)
        after = machine.snapshot()
        signed = machine.run(Sign(challenge=challenge()))
        filler.unlink()
        later = machine.run(order)

    assert isinstance(outcome, Refused), outcome
    assert "No space left on device" in outcome.reason
    assert after == before
    assert signed.kind == "unchanged"
    assert later.kind == "changed"


QUESTIONS: dict[str, Order] = {
    "survey": Survey(),
    "sign": Sign(challenge=challenge()),
    "check": Check(claims=(claim(ED25519), claim(P256))),
}


@as_root
@pytest.mark.parametrize("order", QUESTIONS.values(), ids=QUESTIONS.keys())
@pytest.mark.parametrize("limit", ["blocks", "inodes"])
def test_a_visit_without_room_for_temporary_files_says_so_whatever_it_could_not_write(
    path: Path, tmp_path: Path, order: Order, limit: str
) -> None:
    reasons = []
    with mounted(tmp_path / "disk") as disk:
        machine = settled(Machine(base=tmp_path / "base", path=path))
        machine.environment = {"TMPDIR": str(disk.folder)}
        for left in range(12):
            (disk.leave_blocks if limit == "blocks" else disk.leave_inodes)(left)
            outcome = machine.run(order)
            disk.heal()
            if outcome.kind == "unchanged":
                break
            assert isinstance(outcome, Refused)
            reasons.append(outcome.reason)
    assert outcome.kind == "unchanged"
    assert reasons
    assert [reason for reason in reasons if not reason.endswith("No space left on device")] == []
    assert [reason for reason in reasons if str(tmp_path / "base") in reason] == []


@as_root
def test_a_full_disk_for_temporary_files_is_why_a_server_cannot_sign(path: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with tmpfs(disk, 256):
        machine = settled(Machine(base=tmp_path / "base", path=path))
        machine.environment = {"TMPDIR": str(disk)}
        fill(disk / "filler", left_kib=4)
        refused = machine.run(Sign(challenge=challenge()))
        (disk / "filler").unlink()
        signed = machine.run(Sign(challenge=challenge()))

    assert isinstance(refused, Refused)
    assert refused.reason.endswith("No space left on device")
    assert signed.kind == "unchanged"


@as_root
@pytest.mark.parametrize("shell", SHELLS)
def test_a_read_only_folder_is_named(shell: str, lab_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    machine = Machine(base=lab_folder / "base", path=programs(lab_folder / "bin", shell), user=nobody)
    machine.base.mkdir()
    os.chown(machine.base, nobody, -1)
    machine.base.chmod(0o555)
    outcome = machine.run(stage())

    assert isinstance(outcome, Refused), outcome
    assert outcome.reason == f"cannot write in {machine.base}: Permission denied"
    machine.base.chmod(0o755)
    assert machine.run(stage()).kind == "changed"


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_without_openssl_nothing_changes_and_the_reason_says_so(
    machine: Machine, tmp_path: Path, order: Order
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for program in machine.path.iterdir():
        if program.name != "openssl":
            (bare / program.name).symlink_to(program.readlink())
    machine.path = bare
    before = machine.without_fence()
    outcome = machine.run(order)

    assert isinstance(outcome, Refused), outcome
    assert outcome.reason == "openssl is not installed, or not in the PATH of this login"
    assert machine.without_fence() == before
    report = machine.report(Survey())
    assert isinstance(report, Surveyed)
    assert report.survey.openssl == ""
    assert [held.key for held in report.survey.credentials] == [None]
    assert report.survey.current == ONE


@pytest.mark.parametrize("program", ["sha256sum", "sync", "mv", "stat", "date", "mktemp"])
def test_without_another_program_nothing_changes(machine: Machine, tmp_path: Path, program: str) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for kept in machine.path.iterdir():
        if kept.name != program:
            (bare / kept.name).symlink_to(kept.readlink())
    machine.path = bare
    before = machine.without_fence()
    outcome = machine.run(stage(TWO, P256))

    assert outcome.kind == ("changed" if program == "mktemp" else "refused")
    if program != "mktemp":
        assert machine.without_fence() == before


def test_a_hook_that_fails_takes_the_host_back_and_runs_again(machine: Machine, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    machine.report(stage(TWO, P256))
    command = f"readlink {machine.base}/server/current >>{seen}; echo no such unit; echo see the log; exit 3"
    outcome = machine.run(activate_two(command))

    assert isinstance(outcome, Failed)
    assert outcome.reason == (
        f"the hook exited 3: no such unit / see the log; back on {ONE},"
        " and there the hook exited 3: no such unit / see the log"
    )
    assert seen.read_text() == f"credentials/{TWO}\ncredentials/{ONE}\n"
    signed = machine.report(Sign(challenge=challenge()))
    assert isinstance(signed, Signed)
    assert signed.credential == ONE


def test_a_hook_that_fails_for_the_new_credential_only_leaves_the_old_one_served(
    machine: Machine, tmp_path: Path
) -> None:
    machine.report(stage(TWO, P256))
    outcome = machine.run(
        activate_two(f"case $(readlink {machine.base}/server/current) in *{TWO}) false; esac")
    )

    assert isinstance(outcome, Failed)
    assert outcome.reason == f"the hook exited 1; back on {ONE}"
    assert not (machine.base / "server" / "hook-pending").exists()
    del tmp_path


def test_the_first_activation_that_fails_leaves_no_credential_in_use(path: Path, tmp_path: Path) -> None:
    machine = Machine(base=tmp_path / "base", path=path)
    machine.report(stage(TWO, P256))
    outcome = machine.run(activate_two("false"))

    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith("the hook exited 1; no credential is in use, as before")
    assert not (machine.base / "server" / "current").is_symlink()


def test_a_key_that_cannot_sign_takes_the_host_back(machine: Machine) -> None:
    machine.report(stage(TWO, P256))
    (machine.base / "server" / "credentials" / TWO / "key.pem").write_text("not a key\n")
    outcome = machine.run(Activate(credential=TWO, challenge=challenge(), algorithm=Algorithm.ECDSA_P256))

    assert isinstance(outcome, Failed)
    assert f"openssl cannot sign with the key of {TWO}" in outcome.reason
    assert outcome.reason.endswith(f"back on {ONE}")


def test_a_hook_that_hangs_is_ended_together_with_its_children(machine: Machine, tmp_path: Path) -> None:
    machine.report(stage(TWO, P256))
    pids = tmp_path / "pids"
    command = f"sleep 600 & echo $! >>{pids}; sleep 600"
    outcome = machine.run(activate_two(command, timeout=timedelta(seconds=1)))

    assert isinstance(outcome, Failed)
    assert outcome.reason == (
        f"the hook did not end within 1s; back on {ONE}, and there the hook did not end within 1s"
    )
    children = [int(pid) for pid in pids.read_text().split()]
    assert len(children) == 2
    assert not [pid for pid in children if _runs(pid)]


def test_a_hook_may_leave_a_service_behind(machine: Machine, tmp_path: Path) -> None:
    machine.report(stage(TWO, P256))
    pids = tmp_path / "pids"
    outcome = machine.run(activate_two(f"sleep 600 & echo $! >{pids}"))

    service = int(pids.read_text())
    try:
        assert isinstance(outcome, Changed)
        assert _runs(service)
    finally:
        os.kill(service, 9)


def test_a_visit_that_broke_off_before_its_hook_runs_it_the_next_time(
    machine: Machine, tmp_path: Path
) -> None:
    machine.report(stage(TWO, P256), activate_two("true"))
    (machine.base / "server" / "hook-pending").write_text(f"{TWO}\n")
    seen = tmp_path / "seen"
    report = machine.report(activate_two(f"echo ran >>{seen}"))

    assert isinstance(report, Activated)
    assert report.changed
    assert seen.read_text() == "ran\n"
    assert not machine.report(activate_two(f"echo ran >>{seen}")).changed


def test_what_is_due_is_told_by_a_survey_and_goes_back_to_where_it_came_from(machine: Machine) -> None:
    machine.report(stage(TWO, P256))
    kills_its_visit = f"read -r _ _ _ _ pid _ <{machine.base}/lock/owner; kill -9 $pid; sleep 1"
    assert isinstance(machine.run(activate_two(kills_its_visit)), Failed)
    survey = machine.report(Survey())
    assert isinstance(survey, Surveyed)
    assert (survey.survey.current, survey.survey.hook_due) == (TWO, True)

    failed = machine.run(activate_two("false"))

    assert isinstance(failed, Failed)
    assert "back on" in failed.reason
    after = machine.report(Survey())
    assert isinstance(after, Surveyed)
    assert after.survey.current == ONE


def test_a_certificate_brought_to_a_switch_that_broke_off_leaves_it_its_way_back(machine: Machine) -> None:
    machine.report(stage(TWO, P256))
    kills_its_visit = f"read -r _ _ _ _ pid _ <{machine.base}/lock/owner; kill -9 $pid; sleep 1"
    assert isinstance(machine.run(activate_two(kills_its_visit)), Failed)
    machine.report(stage(TWO, P256, certificate=CERTIFICATE * 2))

    failed = machine.run(
        activate_two(f"case $(readlink {machine.base}/server/current) in *{TWO}) false; esac")
    )

    assert isinstance(failed, Failed)
    assert failed.reason == f"the hook exited 1; back on {ONE}"


def test_a_visit_that_is_ended_ends_its_hook_and_gives_the_lock_back(
    machine: Machine, tmp_path: Path
) -> None:
    machine.report(stage(TWO, P256))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    order = activate_two(f"echo $$ >{fifo}; sleep 600")
    process = machine.start(machine.visit(order))
    hook_pid = int(fifo.read_text())
    process.terminate()
    process.wait(timeout=30)

    assert not (machine.base / "lock").exists()
    assert wait_until(lambda: not _runs(hook_pid), timeout_s=30)
    report = machine.report(activate_two("true"))
    assert report.changed


def test_what_a_hook_prints_is_bounded(machine: Machine) -> None:
    machine.report(stage(TWO, P256))
    outcome = machine.run(
        activate_two('i=0; while [ $i -lt 9000 ]; do echo "line $i \x1b[31m"; i=$((i+1)); done; false')
    )

    assert isinstance(outcome, Failed)
    assert len(outcome.reason) < 2300
    assert outcome.reason.isprintable()


def test_neither_arguments_nor_environment_nor_answers_hold_key_bytes(
    machine: Machine, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    command = f"for p in /proc/[0-9]*; do cat $p/cmdline $p/environ; done >{seen} 2>/dev/null; true"
    outcome = machine.run(stage(TWO, P256), activate_two(command))

    assert isinstance(outcome, Changed)
    everything = seen.read_bytes() + machine.answer + machine.noise
    assert seen.stat().st_size
    for row in P256.private.reveal().splitlines()[1:-1]:
        assert row not in everything


def test_a_hook_finds_a_quiet_and_ordinary_place(machine: Machine, tmp_path: Path) -> None:
    machine.report(stage(TWO, P256))
    seen = tmp_path / "seen"
    command = f"{{ pwd; umask; cat; ls /proc/self/fd; }} >{seen} 2>&1"
    assert machine.run(activate_two(command)).kind == "changed"

    folder, mask, *open_files = seen.read_text().split()
    assert (folder, mask) == ("/", "0022")
    assert set(open_files) <= {"0", "1", "2", "3"}


def _cuts(visit: Visit) -> tuple[int, list[int]]:
    """Where the frames begin, and every place where a line or a counted frame ends."""
    message = encode(visit, marker="0" * 32).reveal()
    start = message.index(b"keyrelay 1 0")
    return start, [place + 1 for place in range(start, len(message)) if message[place : place + 1] == b"\n"]


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_a_visit_cut_at_any_frame_changes_nothing(machine: Machine, order: Order) -> None:
    visit = machine.visit(order)
    start, ends = _cuts(visit)
    before = machine.without_fence()
    # Without its last line a visit is cut, but its order has arrived whole.
    for place in [start, *ends[:-2]]:
        assert machine.send(visit, cut_at=place).kind in ("refused", "failed")
        assert machine.without_fence() == before, f"cut after {place - start} bytes"
    outcome = machine.send(visit, cut_at=ends[-2])
    assert isinstance(outcome, Refused)
    assert outcome.reason == "the visit was cut off"
    assert [report.kind for report in outcome.reports] == [order.kind]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.sampled_from(list(ORDERS.values())), in_frames=st.booleans(), far=st.floats(0, 1))
def test_a_visit_cut_at_any_byte_changes_nothing(
    machine: Machine, order: Order, *, in_frames: bool, far: float
) -> None:
    visit = machine.visit(order)
    start, ends = _cuts(visit)
    place = start + int(far * (ends[-2] - 1 - start)) if in_frames else int(far * start)
    before = machine.without_fence()
    outcome = machine.send(visit, cut_at=place)

    assert outcome.kind in ("refused", "failed")
    assert machine.without_fence() == before


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
