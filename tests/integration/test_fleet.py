"""Real hosts that go wrong: each is named with its reason, and the others finish."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TypeVar

import pytest

from orchestrator.inventory.model import Endpoint
from orchestrator.keys.material import Algorithm, KeyPair
from orchestrator.lab import HostOptions, Lab
from orchestrator.remote.become import SOMETHING_ELSE
from orchestrator.remote.fleet import SshFleet
from orchestrator.rotation import reports
from orchestrator.rotation.reports import Changed, Failed, Outcome, Refused, Unchanged, Unreachable
from orchestrator.rotation.visits import (
    Activate,
    CredentialId,
    Fence,
    Generate,
    Hook,
    Order,
    Stage,
    Survey,
    Visit,
)
from tests.fleet_worlds import challenge, key, lab_endpoint, ssh_fleet

MakeLab = Callable[..., Lab]
MakeFleet = Callable[..., SshFleet]
T = TypeVar("T")
SERVER = "server-01"
AGENT = "agent-001"
CREDENTIAL = CredentialId("c" * 32)
LONG_S = 60.0
NEEDED = (
    *("sh", "dash", "bash", "cat", "chmod", "date", "dd", "id", "kill", "ln", "mkdir", "mktemp", "mv", "od"),
    *("readlink", "rm", "rmdir", "setsid", "sha256sum", "stat", "sync", "timeout"),
)


@pytest.fixture
def fleet() -> Iterator[SshFleet]:
    with ssh_fleet() as fleet:
        yield fleet


def survey(where: Endpoint) -> Visit:
    return Visit(endpoint=where, orders=(Survey(),))


def change(where: Endpoint, *orders: Order, counter: int = 1) -> Visit:
    return Visit(endpoint=where, orders=orders, fence=Fence(generation=1, counter=counter))


def stage(pair: KeyPair) -> Stage:
    return Stage(
        credential=CREDENTIAL,
        certificate_pem="a certificate\n",
        chain_pem="a chain\n",
        challenge=challenge(),
        algorithm=Algorithm.ED25519,
        private_key=pair.private,
    )


def activate(hook: str | None = None) -> Activate:
    return Activate(
        credential=CREDENTIAL,
        challenge=challenge(),
        algorithm=Algorithm.ED25519,
        hook=Hook(command=hook) if hook else None,
    )


def run(fleet: SshFleet, asked: Sequence[Visit]) -> dict[str, Outcome]:
    outcomes = list(fleet.run(asked))
    assert len(outcomes) == len(asked)
    return {outcome.host: outcome for outcome in outcomes}


def the(kind: type[T], outcome: Outcome) -> T:
    assert isinstance(outcome, kind), outcome
    return outcome


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Unreachable | Refused | Failed), outcome
    return outcome.reason


def all_of(lab: Lab) -> list[Endpoint]:
    return [lab_endpoint(lab, host.name) for host in lab.hosts]


def others_finished(outcomes: dict[str, Outcome]) -> bool:
    return all(isinstance(outcome, Unchanged) for host, outcome in outcomes.items() if host != SERVER)


def test_a_changed_host_key_makes_its_host_unreachable(lab: Lab, fleet: SshFleet) -> None:
    lab.replace_host_key(SERVER)

    outcomes = run(fleet, [survey(where) for where in all_of(lab)])

    assert f"host key of '{SERVER}' changed" in the(Unreachable, outcomes[SERVER]).reason
    assert others_finished(outcomes)
    lab.accept_host_keys()
    with ssh_fleet() as later:
        assert isinstance(run(later, [survey(lab_endpoint(lab, SERVER))])[SERVER], Unchanged)


def test_an_unknown_user_makes_its_host_unreachable(lab: Lab, fleet: SshFleet) -> None:
    asked = [replace(where, user="no-such-user") if where.host == SERVER else where for where in all_of(lab)]

    outcomes = run(fleet, [survey(where) for where in asked])

    expected = "no such user or key not accepted for 'no-such-user'"
    assert the(Unreachable, outcomes[SERVER]).reason.startswith(expected)
    assert others_finished(outcomes)


def test_a_closed_port_makes_its_host_unreachable(lab: Lab, fleet: SshFleet) -> None:
    lab.stop(SERVER)
    where = lab_endpoint(lab, SERVER)

    outcomes = run(fleet, [survey(where) for where in all_of(lab)])

    expected = f"connection refused on {where.address}:{where.port}; check its port"
    assert the(Unreachable, outcomes[SERVER]).reason.startswith(expected)
    assert others_finished(outcomes)
    lab.start(SERVER)
    assert isinstance(run(fleet, [survey(where)])[SERVER], Unchanged)


def test_a_stopped_sshd_makes_its_host_unreachable_at_the_deadline(lab: Lab) -> None:
    lab.freeze(SERVER)
    with ssh_fleet(deadline_s=3) as fleet:
        outcomes = run(fleet, [survey(where) for where in all_of(lab)])

        assert "sent no SSH greeting within" in the(Unreachable, outcomes[SERVER]).reason
        assert others_finished(outcomes)
        lab.thaw(SERVER)
        assert isinstance(run(fleet, [survey(lab_endpoint(lab, SERVER))])[SERVER], Unchanged)


def test_an_sshd_that_is_killed_in_the_middle_fails_its_visit_and_a_later_one_completes_it(
    lab: Lab, fleet: SshFleet, tmp_path: Path
) -> None:
    hooked = tmp_path / "hooked"
    os.mkfifo(hooked)
    where = lab_endpoint(lab, SERVER)

    def kill_when_hooked() -> None:
        hooked.read_text()
        lab.stop(SERVER)

    killer = threading.Thread(target=kill_when_hooked)
    killer.start()
    pair = key()
    asked = [survey(other) for other in all_of(lab) if other.host != SERVER]
    asked.append(change(where, stage(pair), activate(f"echo now >{hooked}; exec sleep 300")))

    outcomes = run(fleet, asked)

    killer.join(LONG_S)
    assert reason(the(Failed, outcomes[SERVER]))
    assert others_finished(outcomes)
    lab.start(SERVER)
    again = the(Changed, run(fleet, [change(where, stage(pair), activate("true"))])[SERVER])
    assert [report.kind for report in again.reports] == ["stage", "activate"]


def fill(file: Path) -> None:
    """Writes until the disk is full."""
    with suppress(OSError), file.open("wb", buffering=0) as rest:
        while rest.write(bytes(1024)):
            pass


def test_a_full_disk_is_named_and_leaves_what_was_there(lab: Lab, fleet: SshFleet) -> None:
    small = lab.host(SERVER).base.parent / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a small file system")
    where = replace(lab_endpoint(lab, SERVER), base=str(small / "keyrelay"))
    try:
        first = run(fleet, [change(where, stage(key()), activate())])[SERVER]
        fill(small / "rest")
        asked = [survey(other) for other in all_of(lab) if other.host != SERVER]
        outcomes = run(fleet, [*asked, change(where, generated("d"), counter=2)])
        (small / "rest").unlink()
        held = run(fleet, [survey(where)])[SERVER]
        later = run(fleet, [change(where, generated("d"), counter=3)])[SERVER]
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)

    assert isinstance(first, Changed)
    assert "No space left on device" in reason(outcomes[SERVER])
    assert others_finished(outcomes)
    report = the(Unchanged, held).reports[0]
    assert isinstance(report, reports.Surveyed)
    assert report.survey.current == CREDENTIAL
    assert [credential.name for credential in report.survey.credentials] == [CREDENTIAL]
    assert report.survey.problems == ()
    assert isinstance(later, Changed)


def generated(digit: str) -> Generate:
    return Generate(credential=CredentialId(digit * 32), algorithm=Algorithm.ED25519, names=(SERVER,))


def test_a_folder_that_may_not_be_written_is_named(
    make_lab: MakeLab, fleet: SshFleet, ordinary_user: str, lab_folder: Path
) -> None:
    lab = make_lab(servers=1, agents=1, user=ordinary_user)
    closed = lab_folder / "closed"
    closed.mkdir(mode=0o755)
    where = replace(lab_endpoint(lab, SERVER), base=str(closed / "keyrelay"))

    outcomes = run(fleet, [change(where, generated("d")), survey(lab_endpoint(lab, AGENT))])

    assert "Permission denied" in the(Refused, outcomes[SERVER]).reason
    assert str(closed) in the(Refused, outcomes[SERVER]).reason
    assert others_finished(outcomes)
    shutil.chown(closed, ordinary_user)
    assert isinstance(run(fleet, [change(where, generated("d"))])[SERVER], Changed)


def test_a_host_without_openssl_is_named(make_lab: MakeLab, fleet: SshFleet, lab_folder: Path) -> None:
    programs = lab_folder / "programs"
    programs.mkdir()
    for name in NEEDED:
        (programs / name).symlink_to(shutil.which(name) or "/missing")
    lab = make_lab(servers=1, agents=1, options={SERVER: HostOptions(environment={"PATH": str(programs)})})

    asked = [change(lab_endpoint(lab, SERVER), generated("d")), survey(lab_endpoint(lab, AGENT))]
    outcomes = run(fleet, asked)

    assert "openssl is not installed" in the(Refused, outcomes[SERVER]).reason
    assert others_finished(outcomes)
    (programs / "openssl").symlink_to(shutil.which("openssl") or "/missing")
    assert isinstance(run(fleet, asked)[SERVER], Changed)


def test_a_host_whose_shell_runs_nothing_is_told_with_its_last_words(
    make_lab: MakeLab, fleet: SshFleet
) -> None:
    lab = make_lab(servers=1, agents=0, options={SERVER: HostOptions(force_command="echo gone >&2; exit 9")})

    said = the(Failed, run(fleet, [survey(lab_endpoint(lab, SERVER))])[SERVER]).reason

    assert said == f"the host did not begin to answer; {SOMETHING_ELSE} (status 9: gone)"


def test_a_hook_that_outlasts_the_deadline_fails_its_visit(lab: Lab) -> None:
    where = lab_endpoint(lab, SERVER)
    started = monotonic()

    with ssh_fleet(deadline_s=3) as fleet:
        outcome = run(fleet, [change(where, stage(key()), activate("exec sleep 30"))])[SERVER]

    failed = the(Failed, outcome)
    assert failed.reason.startswith("the visit's time ran out while its answer was waited for; the host had")
    assert [report.kind for report in failed.reports] == ["stage"]
    assert monotonic() - started < LONG_S / 3


def test_a_login_key_that_cannot_be_used_makes_its_host_unreachable(
    lab: Lab, fleet: SshFleet, tmp_path: Path
) -> None:
    asked = [replace(where, key_file=str(tmp_path / "none")) for where in all_of(lab)]

    outcomes = run(fleet, [survey(where) for where in asked])

    for outcome in outcomes.values():
        assert the(Unreachable, outcome).reason.startswith(
            f"login key {tmp_path}/none does not exist; name one"
        )


def test_nothing_is_printed_whatever_happens(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    lab.replace_host_key(SERVER)
    lab.stop(AGENT)
    lab.freeze("agent-002")

    with ssh_fleet(deadline_s=2) as fleet:
        outcomes = run(fleet, [survey(where) for where in all_of(lab)])

    assert {outcome.kind for outcome in outcomes.values()} == {"unreachable"}
    assert capfd.readouterr() == ("", "")
