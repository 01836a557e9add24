"""What signs is what serves: the host program and a running service that loaded its key when it started."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.keys.material import KeyPair
from orchestrator.rotation.reports import (
    Activated,
    Changed,
    Disarmed,
    Failed,
    Outcome,
    Refused,
    Signed,
    Surveyed,
)
from orchestrator.rotation.visits import Activate, CredentialId, Disarm, Hook, Sign, Survey
from tests.integration.program import (
    ED25519,
    ONE,
    P256,
    RSA,
    TWO,
    Machine,
    challenge,
    hook,
    stage,
    verifies,
)
from tests.signing_service import Service, running

SECOND = timedelta(seconds=1)
PAIRS = {"ed25519": ED25519, "ecdsa-p256": P256, "rsa-3072": RSA}


@pytest.fixture
def machine(machine: Machine) -> Machine:
    """On it ONE is in use, and TWO lies beside it."""
    machine.report(stage(ONE), activate(ONE, ED25519), stage(TWO, P256))
    return machine


@pytest.fixture
def services() -> Iterator[ExitStack]:
    with ExitStack() as services:
        yield services


def serving(services: ExitStack, machine: Machine, *, lag: int = 0) -> Service:
    """The machine's service, with the key that is in use there now."""
    key = machine.base / "server" / "current" / "key.pem"
    return services.enter_context(running(machine.base.with_name("socket"), key, lag=lag))


def activate(
    credential: CredentialId, pair: KeyPair, *, prove: str = "", within: timedelta = SECOND, reload: str = ""
) -> Activate:
    return Activate(
        credential=credential,
        challenge=challenge(),
        algorithm=pair.public.algorithm,
        hook=hook(reload) if reload else None,
        prove=Hook(command=prove, timeout=within) if prove else None,
    )


def in_use(machine: Machine) -> str | None:
    report = machine.report(Survey())
    assert isinstance(report, Surveyed)
    return report.survey.current


def hook_due(machine: Machine) -> bool:
    report = machine.report(Survey())
    assert isinstance(report, Surveyed)
    return report.survey.hook_due


def fresh(service: Service) -> Sign:
    return Sign(challenge=challenge(), prove=Hook(command=service.ask, timeout=10 * SECOND))


def failed(outcome: Outcome) -> str:
    assert isinstance(outcome, Failed), outcome
    assert outcome.told
    return outcome.reason


@pytest.mark.parametrize("kind", PAIRS)
def test_a_service_that_the_hook_reloads_signs_with_the_new_key(
    path: Path, tmp_path: Path, services: ExitStack, kind: str
) -> None:
    machine, pair = Machine(base=tmp_path / "base", path=path), PAIRS[kind]
    machine.report(stage(ONE, P256), activate(ONE, P256), stage(TWO, pair))
    service = serving(services, machine)

    order = activate(TWO, pair, prove=service.ask, reload=service.reload, within=10 * SECOND)
    report = machine.report(order)

    assert isinstance(report, Activated)
    assert verifies(pair.public, order.challenge, report.signature)
    assert not hook_due(machine)
    asked = fresh(service)
    proof = machine.report(asked)
    assert isinstance(proof, Signed)
    assert proof.credential == TWO
    assert verifies(pair.public, asked.challenge, proof.signature)


def test_a_service_that_keeps_its_key_is_told_from_one_that_follows_and_the_host_goes_back(
    machine: Machine, services: ExitStack
) -> None:
    service = serving(services, machine)

    reason = failed(machine.run(activate(TWO, P256, prove=service.ask)))

    assert reason == f"after 1s the service still signs with the key of {ONE}; back on {ONE}"
    assert in_use(machine) == ONE
    assert not hook_due(machine)
    proof = machine.report(fresh(service))
    assert isinstance(proof, Signed)
    assert proof.credential == ONE


def test_a_service_that_looks_at_its_key_now_and_then_is_asked_until_it_has(
    machine: Machine, services: ExitStack
) -> None:
    service = serving(services, machine, lag=2)

    outcome = machine.run(activate(TWO, P256, prove=service.ask, within=20 * SECOND))

    assert isinstance(outcome, Changed)
    assert in_use(machine) == TWO


def test_a_service_that_a_hook_breaks_is_reloaded_on_the_way_back(
    machine: Machine, services: ExitStack
) -> None:
    service = serving(services, machine)
    broken = machine.base.with_name("broken")
    reload = (
        f"case $(readlink {machine.base}/server/current) in *{TWO}) : >{broken} ;; *) rm {broken} ;; esac"
    )
    prove = f"if [ -e {broken} ]; then echo no answer >&2; exit 7; fi; {service.ask}"

    reason = failed(machine.run(activate(TWO, P256, prove=prove, reload=reload)))

    assert reason == f"the prove_command exited 7: no answer; back on {ONE}"
    assert not hook_due(machine)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo no such socket >&2; exit 3", "the prove_command exited 3: no such socket"),
        ("sleep 600 & sleep 600", "the prove_command did not end within 1s"),
        ("true", "the prove_command answers nothing"),
        ("cat; exit 1", "the prove_command exited 1"),
        ("kill -KILL $$", "the prove_command exited 137"),
        ("printf '\\033[31mred\\n' >&2; false", "the prove_command exited 1: ?[31mred"),
        ("dd if=/dev/zero bs=1048576 count=10", "the prove_command answers more than the 512 bytes"),
        ("dd if=/dev/zero bs=512 count=1", f"the service does not sign with the key of {TWO}"),
        ("cat", f"the service does not sign with the key of {TWO}"),
        ("echo garbage", f"the service does not sign with the key of {TWO}"),
        ("dd if=/dev/urandom bs=72 count=1", f"the service does not sign with the key of {TWO}"),
    ],
)
def test_whatever_else_the_command_does_takes_the_host_back_and_leaves_the_proof_due(
    machine: Machine, command: str, said: str
) -> None:
    reason = failed(machine.run(activate(TWO, P256, prove=command)))

    assert said in reason
    assert f"back on {ONE}, and there " in reason
    assert in_use(machine) == ONE
    assert hook_due(machine)
    assert len(machine.answer) < 5000


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_a_signature_of_another_kind_than_the_key_is_a_wrong_one_and_no_trouble(
    path: Path, tmp_path: Path, pair: KeyPair
) -> None:
    machine = Machine(base=tmp_path / "base", path=path)
    for size in (1, 64, 71, 384, 512):
        command = f"dd if=/dev/urandom bs={size} count=1"
        outcome = machine.run(stage(ONE, pair), activate(ONE, pair, prove=command))

        wrong = f"after 1s the service does not sign with the key of {ONE}"
        assert failed(outcome) == f"{wrong}; no credential is in use, as before"


def test_all_that_a_command_started_ends_with_its_time(machine: Machine, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    failed(machine.run(activate(TWO, P256, prove=f"sleep 600 & echo $! $$ >>{pids}; sleep 600")))

    assert not [pid for pid in pids.read_text().split() if Path("/proc", pid).exists() and _alive(pid)]


@pytest.mark.parametrize("apart", ["", "setsid "], ids=["with it", "in a session of its own"])
def test_a_command_that_leaves_its_output_open_is_told_so(
    machine: Machine, services: ExitStack, tmp_path: Path, apart: str
) -> None:
    """The service may well have signed: nobody can tell whether that was all of its answer."""
    service, pids = serving(services, machine), tmp_path / "pids"
    leaves = f"{apart}sh -c 'echo $$ >>{pids}; exec sleep 301' & {service.ask}"
    try:
        reason = failed(machine.run(activate(TWO, P256, prove=leaves, reload=service.reload)))

        said = "the prove_command did not close its output within 1s"
        assert reason == f"{said}; back on {ONE}, and there {said}"
        left = [pid for pid in pids.read_text().split() if Path("/proc", pid).exists() and _alive(pid)]
        assert apart or not left
    finally:
        for pid in pids.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _alive(pid: str) -> bool:
    return Path("/proc", pid, "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"


def test_a_command_is_given_the_very_text_to_sign(machine: Machine, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    order = activate(TWO, P256, prove=f"cat >{seen}")
    failed(machine.run(order))

    assert seen.read_bytes() == order.challenge.text()


def test_a_compromised_key_is_not_gone_back_to_and_the_proof_stays_due(
    machine: Machine, services: ExitStack
) -> None:
    service = serving(services, machine)
    order = activate(TWO, P256, prove=service.ask)
    stays = Activate(
        credential=TWO,
        challenge=order.challenge,
        algorithm=order.algorithm,
        prove=order.prove,
        goes_back=False,
    )

    reason = failed(machine.run(stays))

    assert reason == f"after 1s the service still signs with the key of {ONE}; still on {TWO}"
    assert in_use(machine) == TWO
    assert hook_due(machine)
    os.kill(service.pid, 1)
    assert isinstance(machine.run(activate(TWO, P256, prove=service.ask, within=10 * SECOND)), Changed)
    assert not hook_due(machine)


def test_a_visit_that_broke_off_before_the_proof_leaves_it_due(machine: Machine, services: ExitStack) -> None:
    service = serving(services, machine)
    kills_its_visit = f"read -r _ _ _ _ pid _ <{machine.base}/lock/owner; kill -9 $pid; sleep 1"
    assert isinstance(machine.run(activate(TWO, P256, prove=kills_its_visit)), Failed)
    assert (in_use(machine), hook_due(machine)) == (TWO, True)

    reason = failed(machine.run(activate(TWO, P256, prove=service.ask)))

    assert reason.endswith(f"back on {ONE}")
    assert (in_use(machine), hook_due(machine)) == (ONE, False)


def test_a_service_that_signs_with_an_old_key_keeps_that_key_from_being_put_away(
    machine: Machine, services: ExitStack
) -> None:
    service = serving(services, machine)
    machine.report(activate(TWO, P256))
    asked, disarm = fresh(service), Disarm(credentials=(ONE,), in_use=TWO)

    refused = machine.run(asked, disarm)

    assert isinstance(refused, Refused)
    assert refused.reason == f"the service does not sign with the key of {TWO}, which is in use"
    (report,) = refused.reports
    assert isinstance(report, Signed)
    assert verifies(ED25519.public, asked.challenge, report.signature)
    assert (machine.base / "server" / "credentials" / ONE).is_dir()

    os.kill(service.pid, 1)
    assert isinstance(machine.report(fresh(service), disarm), Disarmed)


def test_a_fresh_proof_that_the_service_does_not_give_is_refused_and_changes_nothing(
    machine: Machine,
) -> None:
    before = machine.snapshot()
    order = Sign(challenge=challenge(), prove=Hook(command="echo down >&2; exit 1", timeout=10 * SECOND))

    refused = machine.run(order)

    assert isinstance(refused, Refused)
    assert refused.reason == "the prove_command exited 1: down"
    assert machine.snapshot() == before


def test_a_credential_that_was_proven_is_asked_for_again_when_the_visit_is_repeated(
    machine: Machine, services: ExitStack
) -> None:
    service = serving(services, machine)
    order = activate(TWO, P256, prove=service.ask, reload=service.reload, within=10 * SECOND)
    machine.report(order)

    again = machine.report(activate(TWO, P256, prove=service.ask, reload="exit 1"))

    assert isinstance(again, Activated)
    assert not again.changed
