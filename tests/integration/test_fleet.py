"""Real hosts that go wrong: each is named with its reason, and the others finish."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TypeVar

import pytest

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.bundle import Position, TrustBundle
from orchestrator.keys.material import Algorithm, KeyPair, generate
from orchestrator.lab import HostOptions, Lab
from orchestrator.remote.dial import Patience
from orchestrator.remote.fleet import SshFleet
from orchestrator.rotation import visits
from orchestrator.rotation.visits import (
    Activate,
    Challenge,
    Changed,
    CredentialId,
    Failed,
    Fence,
    Generate,
    Hook,
    Order,
    Outcome,
    Refused,
    Stage,
    Survey,
    Trust,
    Unchanged,
    Unreachable,
    Visit,
)
from tests.fake_fleet import counting_random

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
random = counting_random("fleet")


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the clock

    def wait_until(self, instant: datetime) -> None:
        raise NotImplementedError


def entropy(size_bytes: int) -> bytes:
    return os.urandom(size_bytes)  # noqa: TID251 - this is the source


@pytest.fixture
def make_fleet() -> Iterator[MakeFleet]:
    fleets: list[SshFleet] = []

    def make(*, deadline_s: float = LONG_S, concurrency: int = 16, open_connections: int = 8) -> SshFleet:
        fleets.append(
            SshFleet(
                clock=SystemClock(),
                entropy=entropy,
                concurrency=concurrency,
                deadline=timedelta(seconds=deadline_s),
                patience=Patience(connect_s=deadline_s, log_in_s=deadline_s),
                open_connections=open_connections,
            )
        )
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> SshFleet:
    return make_fleet()


def endpoint(lab: Lab, name: str) -> Endpoint:
    host = lab.host(name)
    return Endpoint(
        host=HostName(name),
        address=host.address,
        port=host.port,
        user=lab.user,
        key_file=str(lab.key_file),
        known_hosts=str(lab.known_hosts),
        base=str(host.base),
    )


def survey(where: Endpoint) -> Visit:
    return Visit(endpoint=where, orders=(Survey(),))


def change(where: Endpoint, *orders: Order, counter: int = 1) -> Visit:
    return Visit(endpoint=where, orders=orders, fence=Fence(generation=1, counter=counter))


def trust(where: Endpoint, sequence: int = 1) -> Visit:
    return change(where, Trust(bundle=TrustBundle(fleet="f", position=Position(epoch=1, sequence=sequence))))


def key() -> KeyPair:
    return generate(Algorithm.ED25519, random=random)


def challenge() -> Challenge:
    return Challenge(fleet="f", server=HostName(SERVER), nonce=random(32).hex())


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
    return [endpoint(lab, host.name) for host in lab.hosts]


def others_finished(outcomes: dict[str, Outcome]) -> bool:
    return all(isinstance(outcome, Unchanged) for host, outcome in outcomes.items() if host != SERVER)


def test_a_changed_host_key_makes_its_host_unreachable(lab: Lab, fleet: SshFleet) -> None:
    lab.replace_host_key(SERVER)

    outcomes = run(fleet, [survey(where) for where in all_of(lab)])

    assert f"host key of '{SERVER}' changed" in the(Unreachable, outcomes[SERVER]).reason
    assert others_finished(outcomes)
    lab.accept_host_keys()
    with SshFleet(clock=SystemClock(), entropy=entropy) as later:
        assert isinstance(run(later, [survey(endpoint(lab, SERVER))])[SERVER], Unchanged)


def test_an_unknown_user_makes_its_host_unreachable(lab: Lab, fleet: SshFleet) -> None:
    asked = [replace(where, user="no-such-user") if where.host == SERVER else where for where in all_of(lab)]

    outcomes = run(fleet, [survey(where) for where in asked])

    expected = "no such user or key not accepted for 'no-such-user'"
    assert the(Unreachable, outcomes[SERVER]).reason == expected
    assert others_finished(outcomes)


def test_a_closed_port_makes_its_host_unreachable(lab: Lab, fleet: SshFleet) -> None:
    lab.stop(SERVER)
    where = endpoint(lab, SERVER)

    outcomes = run(fleet, [survey(where) for where in all_of(lab)])

    expected = f"connection refused on {where.address}:{where.port}"
    assert the(Unreachable, outcomes[SERVER]).reason == expected
    assert others_finished(outcomes)
    lab.start(SERVER)
    assert isinstance(run(fleet, [survey(where)])[SERVER], Unchanged)


def test_a_stopped_sshd_makes_its_host_unreachable_at_the_deadline(lab: Lab, make_fleet: MakeFleet) -> None:
    lab.freeze(SERVER)
    fleet = make_fleet(deadline_s=3)

    outcomes = run(fleet, [survey(where) for where in all_of(lab)])

    assert "said nothing instead of an SSH greeting" in the(Unreachable, outcomes[SERVER]).reason
    assert others_finished(outcomes)
    lab.thaw(SERVER)
    assert isinstance(run(fleet, [survey(endpoint(lab, SERVER))])[SERVER], Unchanged)


def test_one_slow_host_does_not_hold_up_a_fleet_that_visits_one_at_a_time(
    lab: Lab, make_fleet: MakeFleet
) -> None:
    lab.freeze(SERVER)
    fleet = make_fleet(deadline_s=6, concurrency=1)

    hosts = [outcome.host for outcome in fleet.run([survey(where) for where in all_of(lab)])]

    assert hosts[-1] == SERVER


def test_an_sshd_that_is_killed_in_the_middle_fails_its_visit_and_a_later_one_completes_it(
    lab: Lab, fleet: SshFleet, tmp_path: Path
) -> None:
    hooked = tmp_path / "hooked"
    os.mkfifo(hooked)
    where = endpoint(lab, SERVER)

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
    where = replace(endpoint(lab, SERVER), base=str(small / "keyrelay"))
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
    assert isinstance(report, visits.Surveyed)
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
    where = replace(endpoint(lab, SERVER), base=str(closed / "keyrelay"))

    outcomes = run(fleet, [change(where, generated("d")), survey(endpoint(lab, AGENT))])

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

    asked = [change(endpoint(lab, SERVER), generated("d")), survey(endpoint(lab, AGENT))]
    outcomes = run(fleet, asked)

    assert "openssl is not installed" in the(Refused, outcomes[SERVER]).reason
    assert others_finished(outcomes)
    (programs / "openssl").symlink_to(shutil.which("openssl") or "/missing")
    assert isinstance(run(fleet, asked)[SERVER], Changed)


def test_a_host_whose_shell_runs_nothing_is_told_with_its_last_words(
    make_lab: MakeLab, fleet: SshFleet
) -> None:
    lab = make_lab(servers=1, agents=0, options={SERVER: HostOptions(force_command="echo gone >&2; exit 9")})

    said = the(Failed, run(fleet, [survey(endpoint(lab, SERVER))])[SERVER]).reason

    assert said == "the host did not begin to answer (status 9: gone)"


def test_a_hook_that_outlasts_the_deadline_fails_its_visit(lab: Lab, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(deadline_s=3)
    where = endpoint(lab, SERVER)
    started = monotonic()

    outcome = run(fleet, [change(where, stage(key()), activate("exec sleep 30"))])[SERVER]

    failed = the(Failed, outcome)
    assert failed.reason == "the visit's time ran out"
    assert [report.kind for report in failed.reports] == ["stage"]
    assert monotonic() - started < LONG_S / 3


def logins(lab: Lab, name: str) -> int:
    return lab.host(name).log.read_text(errors="replace").count("Accepted publickey")


def test_a_connection_is_kept_from_one_run_to_the_next(lab: Lab, fleet: SshFleet) -> None:
    asked = [survey(where) for where in all_of(lab)]

    for _ in range(3):
        run(fleet, asked)

    assert [logins(lab, host.name) for host in lab.hosts] == [1, 1, 1]


def test_no_more_connections_are_kept_than_there_is_room_for(lab: Lab, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(open_connections=1)
    for _ in range(2):
        for where in all_of(lab):
            run(fleet, [survey(where)])

    assert [logins(lab, host.name) for host in lab.hosts] == [2, 2, 2]


def test_a_kept_connection_that_died_is_made_anew(lab: Lab, fleet: SshFleet) -> None:
    where = endpoint(lab, SERVER)
    run(fleet, [survey(where)])
    lab.stop(SERVER)
    lab.start(SERVER)

    assert isinstance(run(fleet, [survey(where)])[SERVER], Unchanged)


def test_a_kept_connection_to_a_host_that_froze_fails_at_the_deadline(
    lab: Lab, make_fleet: MakeFleet
) -> None:
    fleet = make_fleet(deadline_s=2)
    where = endpoint(lab, SERVER)
    run(fleet, [survey(where)])
    lab.freeze(SERVER)

    assert the(Unreachable, run(fleet, [survey(where)])[SERVER]).reason == "the visit's time ran out"


def test_leaving_a_run_early_ends_its_visits_at_once(lab: Lab, fleet: SshFleet) -> None:
    lab.freeze(SERVER)
    before = threading.active_count()
    started = monotonic()

    with closing(fleet.run([survey(where) for where in all_of(lab)])) as outcomes:  # type: ignore[type-var]
        assert next(outcomes).host != SERVER

    fleet.close()
    assert monotonic() - started < LONG_S / 2
    assert not [thread for thread in threading.enumerate() if thread.name == "keyrelay-visits"]
    assert threading.active_count() <= before + 3


def test_an_interrupt_in_the_middle_of_a_run_leaves_no_visits_behind(lab: Lab, fleet: SshFleet) -> None:
    lab.freeze(SERVER)

    def interrupted() -> None:
        for _ in fleet.run([survey(where) for where in all_of(lab)]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert not [thread for thread in threading.enumerate() if thread.name == "keyrelay-visits"]


def test_a_login_key_that_cannot_be_used_makes_its_host_unreachable(
    lab: Lab, fleet: SshFleet, tmp_path: Path
) -> None:
    asked = [replace(where, key_file=str(tmp_path / "none")) for where in all_of(lab)]

    outcomes = run(fleet, [survey(where) for where in asked])

    for outcome in outcomes.values():
        assert the(Unreachable, outcome).reason == f"login key {tmp_path}/none does not exist"


def test_nothing_is_printed_whatever_happens(
    lab: Lab, make_fleet: MakeFleet, capfd: pytest.CaptureFixture[str]
) -> None:
    lab.replace_host_key(SERVER)
    lab.stop(AGENT)
    lab.freeze("agent-002")

    outcomes = run(make_fleet(deadline_s=2), [survey(where) for where in all_of(lab)])

    assert {outcome.kind for outcome in outcomes.values()} == {"unreachable"}
    assert capfd.readouterr() == ("", "")
