"""What the host program refuses, and that it then leaves everything as it was."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.machine import SystemClock
from orchestrator.keys.material import Algorithm
from orchestrator.rotation.reports import Refused, Staged, Unchanged
from orchestrator.rotation.visits import (
    Activate,
    Check,
    Disarm,
    Erase,
    Fence,
    Generate,
    Order,
    Revert,
    Sign,
    Stage,
    Survey,
    Trust,
)
from tests.integration.program import (
    ED25519,
    ONE,
    P256,
    SERVER,
    THREE,
    TWO,
    Machine,
    bundle,
    challenge,
    claim,
    stage,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")


@pytest.fixture
def settled(machine: Machine) -> Machine:
    """A machine on which ONE is in use, TWO is staged, THREE is disarmed, and bundle 1.5 is trusted."""
    machine.report(stage(ONE), activate(ONE))
    machine.report(stage(TWO, P256), stage(THREE), Disarm(credentials=(THREE,), in_use=ONE))
    machine.report(Trust(bundle=bundle(5, ED25519)))
    return machine


def activate(credential: str) -> Activate:
    chosen = {str(one): one for one in (ONE, TWO, THREE)}[credential]
    return Activate(credential=chosen, challenge=challenge(), algorithm=Algorithm.ED25519)


def generate(credential: str) -> Generate:
    chosen = {str(one): one for one in (ONE, TWO, THREE)}[credential]
    return Generate(credential=chosen, algorithm=Algorithm.ED25519, names=(SERVER,))


def keyless(credential: str) -> Stage:
    chosen = {str(one): one for one in (ONE, TWO, THREE)}[credential]
    return replace(stage(chosen), private_key=None)


UNKNOWN = type(ONE)("f" * 32)

REFUSALS: dict[str, tuple[Callable[[], Order], str]] = {
    "a credential that is here with another key": (
        lambda: stage(ONE, P256),
        "another credential is here under the id",
    ),
    "staging what is disarmed": (lambda: stage(THREE), "is disarmed here"),
    "a certificate for a key that was never made": (
        lambda: replace(stage(UNKNOWN), private_key=None),
        "no key was made here for credential",
    ),
    "a certificate for a disarmed key": (lambda: keyless(THREE), "is disarmed here"),
    "making a key where one was brought": (lambda: generate(ONE), "its key was not made here"),
    "making a key that is disarmed": (lambda: generate(THREE), "is disarmed here"),
    "activating what is disarmed": (lambda: activate(THREE), "is disarmed here"),
    "activating what is not staged": (
        lambda: replace(activate(ONE), credential=UNKNOWN),
        "is not staged here",
    ),
    "reverting to what is disarmed": (
        lambda: Revert(credential=THREE, challenge=challenge(), algorithm=Algorithm.ED25519),
        "is disarmed here",
    ),
    "disarming what is in use": (
        lambda: Disarm(credentials=(TWO, ONE), in_use=ONE),
        f"credential {ONE} is in use",
    ),
    "disarming when another credential is in use": (
        lambda: Disarm(credentials=(ONE,), in_use=TWO),
        f"credential {ONE} is in use, expected {TWO}",
    ),
    "erasing what is in use": (lambda: Erase(credentials=(TWO, ONE)), f"credential {ONE} is in use"),
    "an earlier sequence": (lambda: Trust(bundle=bundle(4, ED25519)), "1.4 would be a step back"),
    "an earlier epoch": (lambda: Trust(bundle=bundle(9, ED25519, epoch=0)), "0.9 would be a step back"),
    "another bundle under the same number": (
        lambda: Trust(bundle=bundle(5, P256)),
        "another bundle is installed under the number 1.5",
    ),
}


@pytest.mark.parametrize(("make", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refused_and_nothing_touched(settled: Machine, make: Callable[[], Order], reason: str) -> None:
    before = settled.without_fence()
    outcome = settled.run(make())

    assert isinstance(outcome, Refused), outcome
    assert reason in outcome.reason
    assert settled.without_fence() == before


def test_a_machine_without_anything_has_nothing_to_sign_or_check_with(machine: Machine) -> None:
    machine.base.mkdir()
    signing, checking = machine.run(Sign(challenge=challenge())), machine.run(Check(claims=(claim(ED25519),)))

    assert isinstance(signing, Refused)
    assert signing.reason == "no credential is in use"
    assert isinstance(checking, Refused)
    assert checking.reason == "no bundle is in use"


def test_a_refused_order_keeps_the_reports_of_those_before_it(machine: Machine) -> None:
    outcome = machine.run(stage(ONE), activate(TWO), Survey())

    assert isinstance(outcome, Refused)
    assert [type(report) for report in outcome.reports] == [Staged]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (Fence(generation=1, counter=9), Fence(generation=1, counter=10)),
        (Fence(generation=1, counter=10), Fence(generation=2, counter=0)),
        (Fence(generation=1, counter=2**53 - 2), Fence(generation=1, counter=2**53 - 1)),
    ],
    ids=["counter", "generation", "the largest numbers"],
)
def test_a_lower_fence_is_refused_for_good(machine: Machine, low: Fence, high: Fence) -> None:
    assert machine.run(stage(ONE), fence=high).kind == "changed"
    before = machine.snapshot()
    outcome = machine.run(stage(TWO), fence=low)

    assert isinstance(outcome, Refused)
    assert outcome.reason.startswith(f"fenced: a controller at {high.generation}.{high.counter} was here")
    assert machine.snapshot() == before


def test_reading_needs_no_fence(settled: Machine) -> None:
    visit = replace(settled.visit(Survey(), Sign(challenge=challenge())), fence=None)

    assert settled.send(visit).kind == "unchanged"


def test_a_damaged_fence_lets_nobody_write(settled: Machine) -> None:
    (settled.base / "fence").write_text("many\n")
    outcome = settled.run(stage(TWO, P256))

    assert isinstance(outcome, Refused)
    assert outcome.reason.endswith("/fence is damaged")


def test_a_base_made_for_a_visit_that_is_refused_is_taken_away_again(machine: Machine) -> None:
    assert unsafe(machine.run(activate(ONE))) == f"credential {ONE} is not staged here"
    assert not machine.base.exists()


def unsafe(outcome: object) -> str:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


def test_a_base_that_is_a_symbolic_link_is_refused(machine: Machine) -> None:
    elsewhere = machine.base.parent / "elsewhere"
    elsewhere.mkdir()
    machine.base.symlink_to(elsewhere)

    assert unsafe(machine.run(stage())) == f"{machine.base} is a symbolic link, expected a folder"
    assert not list(elsewhere.iterdir())


def test_a_symbolic_link_above_the_base_is_refused(machine: Machine) -> None:
    real = machine.base.parent / "real"
    real.mkdir()
    link = machine.base.parent / "link"
    link.symlink_to(real)
    visit = machine.visit(stage(), base=link / "base")

    assert unsafe(machine.send(visit)) == f"{link} is a symbolic link, expected a folder"
    assert not list(real.iterdir())


@pytest.mark.parametrize("bits", [0o775, 0o757])
def test_a_folder_above_that_others_may_write_is_refused_unless_sticky(machine: Machine, bits: int) -> None:
    above = machine.base.parent / "above"
    above.mkdir()
    above.chmod(bits)
    visit = machine.visit(stage(), base=above / "base")

    reason = unsafe(machine.send(visit))
    assert reason == f"{above} has mode {bits:o}, expected writable by its owner only, or sticky"
    assert not list(above.iterdir())
    above.chmod(bits | 0o1000)
    assert machine.send(visit).kind == "changed"


def test_a_base_that_others_may_write_is_refused_even_when_sticky(machine: Machine) -> None:
    machine.base.mkdir()
    machine.base.chmod(0o1777)

    assert unsafe(machine.run(stage())) == (
        f"{machine.base} has mode 1777, expected writable by its owner only"
    )


def test_a_base_without_a_folder_above_it_is_refused(machine: Machine) -> None:
    visit = machine.visit(stage(), base=machine.base / "further")

    assert unsafe(machine.send(visit)) == f"{machine.base} does not exist"


def test_a_base_that_is_a_file_is_refused(machine: Machine) -> None:
    machine.base.write_text("")

    assert unsafe(machine.run(stage())) == f"{machine.base} is no folder, expected a folder"


@as_root
def test_a_base_of_somebody_else_is_refused(machine: Machine) -> None:
    machine.base.mkdir()
    os.chown(machine.base, 12345, 12345)

    assert unsafe(machine.run(stage())) == (
        f"{machine.base} has owner 12345, expected the managing user as owner"
    )


def meddle(machine: Machine, folder: Path, program: str, script: str) -> None:
    """Lets somebody else's ``script`` run whenever the machine is about to run ``program``."""
    folder.mkdir()
    for kept in machine.path.iterdir():
        (folder / kept.name).symlink_to(kept.readlink())
    between = folder / program
    between.unlink()
    between.write_text(
        f'#!/bin/sh\n( PATH=/usr/bin:/bin; {script} ) >&2\nexec {machine.path}/{program} "$@"\n'
    )
    between.chmod(0o755)
    machine.path = folder


@as_root
def test_a_base_that_somebody_else_makes_during_the_visit_is_refused(
    machine: Machine, tmp_path: Path
) -> None:
    machine.base.parent.chmod(0o1777)
    meddle(machine, tmp_path / "bin", "mkdir", f"mkdir {machine.base} && chown 12345 {machine.base}")

    assert unsafe(machine.run(stage())) == f"cannot make {machine.base}: File exists"
    assert not list(machine.base.iterdir())


@as_root
def test_a_base_that_is_replaced_once_it_has_been_entered_is_refused(
    machine: Machine, tmp_path: Path
) -> None:
    machine.base.mkdir()
    os.chown(machine.base, 12345, 12345)
    theirs = tmp_path / "theirs"
    swap = f"[ -e {theirs} ] || {{ mv {machine.base} {theirs}; mkdir {machine.base}; }}"
    meddle(machine, tmp_path / "bin", "stat", swap)

    assert unsafe(machine.run(stage())) == f"{machine.base} was replaced during the visit"
    assert not list(theirs.iterdir())


def test_a_server_folder_that_others_may_read_is_refused_for_signing_too(settled: Machine) -> None:
    (settled.base / "server").chmod(0o755)
    wanted = f"{settled.base}/server has mode 755, expected mode 700"

    assert unsafe(settled.run(stage(TWO, P256))) == wanted
    assert unsafe(settled.run(Sign(challenge=challenge()))) == wanted


@as_root
def test_a_server_folder_on_another_filesystem_is_refused(settled: Machine) -> None:
    credentials = settled.base / "server" / "disarmed"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", credentials], check=True)
    try:
        outcome = settled.run(stage(TWO, P256))
    finally:
        subprocess.run(["umount", credentials], check=True)

    assert unsafe(outcome) == f"{credentials} has another filesystem, expected the filesystem of the base"


def test_a_survey_behind_a_fence_has_the_last_word(machine: Machine) -> None:
    machine.run(stage(ONE), fence=Fence(generation=1, counter=5))
    told = machine.run(Survey(), fence=Fence(generation=1, counter=7))
    assert isinstance(told, Unchanged)
    late = machine.run(stage(TWO), fence=Fence(generation=1, counter=6))
    assert isinstance(late, Refused)
    assert "fenced" in late.reason
    (machine.base / "lock").mkdir()
    soon = int(SystemClock().now().timestamp()) + 600
    (machine.base / "lock" / "owner").write_text(f"{'ab' * 16} {soon}\n")
    held = machine.run(Survey(), fence=Fence(generation=1, counter=8))
    assert isinstance(held, Refused)
    assert "holds the lock" in held.reason
    assert isinstance(machine.run(Survey()), Unchanged)
