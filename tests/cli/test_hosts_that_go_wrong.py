"""Real hosts that go wrong: each is named with its reason, the others finish, and a later apply completes."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from orchestrator.lab import HostOptions, Lab
from tests.cli.terminal import Terminal

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
APPLY = ("apply", "playbooks/shared.yml", *INVENTORY, "--yes")
BAD = "agent-001"
OTHERS = {"agent-002", "server-01", "server-02"}
SMALL = {"servers": 2, "agents": 2}

pytestmark = pytest.mark.usefixtures("inside")


def apply_blocked(keyrelay: Terminal, *reason: str) -> None:
    """Apply while one host goes wrong: exit 3, the host and the reason are named, all others are reached."""
    told = keyrelay("--json", *APPLY).ended(3).json["plays"][0]
    trouble = {one["host"]: one["reason"] for one in (*told["blocks"], *told["unreachable"])}
    assert told["result"] == "blocked"
    assert list(trouble) == [BAD]
    assert all(part in trouble[BAD] for part in reason), trouble
    others_finished(keyrelay)


def others_finished(keyrelay: Terminal) -> None:
    key = keyrelay.json("cert", "list")["keys"][0]["thumbprint"]
    holders = {holding["host"] for holding in keyrelay.json("holders", "--", key)["holders"]}
    assert holders >= OTHERS


def apply_completes(keyrelay: Terminal) -> None:
    """Apply after the repair: all is done, and an audit finds nothing."""
    keyrelay(*APPLY).ended(0).line("done: ")
    assert keyrelay("audit", *INVENTORY).ended(0).out == "4 hosts ok\n"


def test_a_wrong_host_key(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(**SMALL)
    lab.replace_host_key(BAD)
    apply_blocked(keyrelay, "host key", "changed", "expected SHA256:")
    lab.accept_host_keys()
    apply_completes(keyrelay)


def test_a_user_who_does_not_exist(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(**SMALL)
    variables = lab.directory / "host_vars" / f"{BAD}.yml"
    variables.parent.mkdir()
    variables.write_text("ansible_user: nobody-of-this-name\n", encoding="ascii")
    apply_blocked(keyrelay, "nobody-of-this-name")
    variables.unlink()
    apply_completes(keyrelay)


def test_a_refused_port(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(**SMALL)
    lab.stop(BAD)
    blocked = keyrelay(*APPLY).ended(3)
    blocked.line(BAD, "refused")
    blocked.line("not finished: the next apply or watch goes on from here")
    keyrelay("rollout", "show").ended(0).line(BAD, "refused")
    others_finished(keyrelay)
    lab.start(BAD)
    apply_completes(keyrelay)


def test_an_sshd_that_is_stopped_and_says_nothing(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(**SMALL)
    lab.freeze(BAD)
    try:
        blocked = keyrelay(*APPLY).ended(3)
    finally:
        lab.thaw(BAD)
    blocked.line(BAD, "sent no SSH greeting")
    others_finished(keyrelay)
    apply_completes(keyrelay)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of a few KiB; yields a file that fills it."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a small file system")
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        yield filler
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(**SMALL)
    lab.host(BAD).base.mkdir(mode=0o700, exist_ok=True)
    with small_disk(lab.host(BAD).base) as filler:
        apply_blocked(keyrelay, "No space left on device")
        filler.unlink()
        apply_completes(keyrelay)


def test_a_directory_that_an_ordinary_user_may_not_write(make_fleet: MakeFleet, ordinary_user: str) -> None:
    keyrelay, lab = make_fleet(**SMALL, user=ordinary_user)
    base = lab.host(BAD).base
    base.mkdir(mode=0o700, exist_ok=True)
    shutil.chown(base, ordinary_user)
    base.chmod(0o500)
    apply_blocked(keyrelay, "Permission denied")
    base.chmod(0o700)
    apply_completes(keyrelay)


def test_a_host_without_openssl(make_fleet: MakeFleet, lab_folder: Path) -> None:
    programs = lab_folder / "programs"
    programs.mkdir()
    for folder in map(Path, ("/usr/sbin", "/usr/bin", "/sbin", "/bin")):
        for program in folder.iterdir() if folder.is_dir() else ():
            if program.name != "openssl" and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    keyrelay, _ = make_fleet(**SMALL, options={BAD: HostOptions(environment={"PATH": str(programs)})})
    apply_blocked(keyrelay, "openssl is not installed")
    (programs / "openssl").symlink_to(shutil.which("openssl") or "/missing")
    apply_completes(keyrelay)


def test_an_audit_never_counts_a_host_that_cannot_be_asked_as_ok(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(**SMALL)
    keyrelay(*APPLY).ended(0)
    lab.stop(BAD)

    audited = keyrelay("audit", *INVENTORY).ended(3)
    audited.line(BAD, "unreachable", "refused")
    assert audited.out.splitlines()[-1] == "3 of 4 hosts ok; findings: 1 unreachable"
    proven = keyrelay("prove", *INVENTORY).ended(3)
    proven.line("server-01", BAD, "not asked", "refused")
    assert proven.out.splitlines()[-1] == "2 of 4 edges hold"
    planned = keyrelay("plan", "playbooks/shared.yml", *INVENTORY).ended(3)
    planned.line("nothing to do on the 3 hosts that answered")
    planned.line(BAD, "refused")


def test_a_host_that_was_changed_behind_our_back_is_found_broken_and_mended(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(**SMALL)
    keyrelay(*APPLY).ended(0)
    bundle = lab.host(BAD).base / "agent" / "current"
    edges = bundle / "edges"
    edges.write_text(edges.read_text(encoding="ascii").splitlines()[0] + "\n", encoding="ascii")

    audited = keyrelay("audit", *INVENTORY).ended(4)
    audited.line(BAD, "orphaned-agent", "server-02")
    keyrelay("prove", *INVENTORY).ended(4).line("server-02", BAD, "broken", "untrusted")

    keyrelay(*APPLY).ended(0).line("changed", "role")
    assert keyrelay("audit", *INVENTORY).ended(0).out == "4 hosts ok\n"
