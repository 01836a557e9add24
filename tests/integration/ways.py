"""How tests go to the hosts of a lab in other ways than straight ahead."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.inventory.yaml_files import load
from orchestrator.keys.secret import Secret
from orchestrator.lab import Lab
from orchestrator.remote.dial import Patience
from orchestrator.remote.fleet import SshFleet
from orchestrator.remote.questions import Question
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.reports import Failed, Outcome, Refused, Surveyed, Unchanged, Unreachable
from orchestrator.rotation.visits import Survey, Visit
from tests.fleet_worlds import SystemClock, entropy

DEADLINE_S = 60.0


class Person:
    """Somebody at a terminal, who is asked and remembers what was asked."""

    def __init__(self, answers: Mapping[str, str] | None = None) -> None:
        self.answers = dict(answers or {})
        self.asked: list[str] = []

    def __call__(self, question: Question) -> Secret | None:
        self.asked.append(str(question))
        answer = self.answers.get(str(question))
        return None if answer is None else Secret(answer.encode())


def fleet(
    person: Person | None = None,
    *,
    deadline_s: float = DEADLINE_S,
    first_use: Path | None = None,
    accept_new: bool = False,
    passwords: Mapping[HostName, Secret] | None = None,
) -> SshFleet:
    return SshFleet(
        clock=SystemClock(),
        entropy=entropy,
        deadline=timedelta(seconds=deadline_s),
        patience=Patience(connect_s=deadline_s / 2, log_in_s=deadline_s / 2),
        ask=person or Person(),
        passwords=passwords,
        first_use_file=first_use,
        accept_new=accept_new,
    )


def endpoints(lab: Lab, tmp_path: Path | None = None, **variables: object) -> dict[str, Endpoint]:
    """How the lab's own inventory says its hosts are reached, with more variables for all of them."""
    sources = [lab.inventory_file]
    if variables and tmp_path is not None:
        more = tmp_path / "more.yml"
        lines = "".join(f"    {name}: {value!r}\n" for name, value in variables.items())
        more.write_text(f"all:\n  vars:\n{lines}")
        sources.append(more)
    inventory = load(sources)
    return {name: inventory.endpoint(name) for name in inventory.hosts}


def surveys(fleet: SshFleet, where: Sequence[Endpoint]) -> dict[str, Outcome]:
    visits = [Visit(endpoint=one, orders=(Survey(),)) for one in where]
    return {outcome.host: outcome for outcome in fleet.run(visits)}


def survey(fleet: SshFleet, where: Endpoint) -> Outcome:
    (outcome,) = surveys(fleet, [where]).values()
    return outcome


def found_there(outcome: Outcome) -> HostSurvey:
    """What a survey found."""
    assert isinstance(outcome, Unchanged), outcome
    (report,) = outcome.reports
    assert isinstance(report, Surveyed)
    return report.survey


def user_there(outcome: Outcome) -> str:
    """Who ran the program on the host."""
    return found_there(outcome).user


def reached(outcome: Outcome) -> bool:
    assert isinstance(outcome, Unchanged), outcome
    return True


def why(outcome: Outcome) -> str:
    assert isinstance(outcome, Unreachable | Failed | Refused), outcome
    return outcome.reason


def unreachable(outcome: Outcome) -> str:
    """The reason of an outcome that promises that nothing changed."""
    assert isinstance(outcome, Unreachable), outcome
    return outcome.reason


def make_key(path: Path, *options: str, passphrase: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    subprocess.run(
        ["ssh-keygen", "-q", "-N", passphrase, *(options or ("-t", "ed25519")), "-f", path], check=True
    )
    return path


def certify(key: Path, authority: Path, *options: str) -> Path:
    """A certificate beside a public key."""
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "test", *options, f"{key}.pub"], check=True)
    return Path(f"{key}-cert.pub")


@contextmanager
def ssh_agent(path: Path, *keys: Path) -> Iterator[str]:
    """An agent that holds these keys; its socket."""
    started = subprocess.run(
        ["ssh-agent", "-s", "-a", path], check=True, capture_output=True, text=True
    ).stdout
    try:
        for key in keys:
            environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
            subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True, env=environment)
        yield str(path)
    finally:
        os.kill(int(started.split("SSH_AGENT_PID=")[1].split(";")[0]), signal.SIGTERM)


def without_key(where: Endpoint) -> Endpoint:
    return replace(where, key_file=None)
