import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.remote.become import SOMETHING_ELSE
from orchestrator.remote.connection import LOST, TOO_LONG, Answer, Connection
from orchestrator.remote.crew import Crew
from orchestrator.remote.dial import Dialer
from orchestrator.remote.fleet import _explained
from orchestrator.remote.handshake import NotReachedError
from orchestrator.remote.questions import Answers, nobody
from orchestrator.rotation.reports import Failed, Outcome, Unreachable
from orchestrator.rotation.visits import Survey, Visit
from tests.fleet_worlds import ssh_fleet

LONG_S = 60.0


def visits(count: int, **how: object) -> Sequence[Visit]:
    return [
        Visit(
            endpoint=Endpoint(host=HostName(f"host-{number}"), address="127.0.0.1", **how),  # type: ignore[arg-type]
            orders=(Survey(),),
        )
        for number in range(count)
    ]


def unreachable(visit: Visit) -> Outcome:
    return Unreachable(host=visit.endpoint.host, reason="a test")


def test_every_one_of_many_hosts_that_refuse_is_told_once(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    (tmp_path / "known_hosts").touch()
    with socket.socket() as taken, ssh_fleet() as fleet:
        taken.bind(("127.0.0.1", 0))  # nothing listens, and nobody else can
        port = taken.getsockname()[1]
        asked = visits(
            100, port=port, key_file=str(tmp_path / "key"), known_hosts=str(tmp_path / "known_hosts")
        )

        outcomes = list(fleet.run(asked))

    assert sorted(outcome.host for outcome in outcomes) == sorted(visit.endpoint.host for visit in asked)
    reasons = {outcome.reason for outcome in outcomes if isinstance(outcome, Unreachable)}
    (reason,) = reasons
    assert reason.startswith(f"connection refused on 127.0.0.1:{port}; check its port (ansible_port, Port in")


def test_what_nobody_foresaw_of_one_host_is_told_of_it_and_the_others_are_visited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def connect(_dialer: Dialer, endpoint: Endpoint, *_: object) -> Connection:
        if endpoint.host == "host-1":
            raise ZeroDivisionError("a secret may be quoted here")
        raise NotReachedError("a test")

    monkeypatch.setattr(Dialer, "connect", connect)
    with ssh_fleet() as fleet:
        outcomes = {outcome.host: outcome for outcome in fleet.run(visits(3))}

    assert {host: type(outcome) for host, outcome in outcomes.items()} == {
        "host-0": Unreachable,
        "host-1": Failed,
        "host-2": Unreachable,
    }
    failed = outcomes[HostName("host-1")]
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("this is a fault in keyrelay: ZeroDivisionError at test_fleet.py:")


def test_a_host_s_words_in_a_reason_are_bounded() -> None:
    assert len(NotReachedError("word " * 1_000_000).reason) < 2100


def test_no_more_visits_are_under_way_at_once_than_asked_for() -> None:
    under_way, most = 0, 0
    lock = threading.Lock()

    def make(visit: Visit) -> Outcome:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        threading.Event().wait(0.005)
        with lock:
            under_way -= 1
        return unreachable(visit)

    with Crew(visits(40), 4, Answers(nobody)) as crew, closing(crew):
        assert len(list(crew.outcomes(make))) == 40

    assert most <= 4


def test_visits_that_wait_for_slow_hosts_give_up_their_places() -> None:
    released = threading.Event()

    def make(visit: Visit) -> Outcome:
        if visit.endpoint.host in ("host-0", "host-1"):
            released.wait(LONG_S)
        return unreachable(visit)

    with Crew(visits(6), 2, Answers(nobody)) as crew, closing(crew):
        outcomes = crew.outcomes(make)
        quick = {next(outcomes).host for _ in range(4)}
        released.set()
        slow = {outcome.host for outcome in outcomes}

    assert quick == {"host-2", "host-3", "host-4", "host-5"}
    assert slow == {"host-0", "host-1"}


def test_a_mistake_in_this_program_is_raised_where_the_run_is_waited_for() -> None:
    def make(visit: Visit) -> Outcome:
        raise ZeroDivisionError(visit.endpoint.host)

    with (
        Crew(visits(1), 2, Answers(nobody)) as crew,
        closing(crew),
        pytest.raises(ZeroDivisionError, match="host-0"),
    ):
        list(crew.outcomes(make))


FORCED = "something else ran than what was asked for: certificate x has force-command 'y'"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            Answer(stdout=b"", broken="the visit's time ran out"),
            f"the visit's time ran out; {SOMETHING_ELSE}",
        ),
        (Answer(stdout=b"y\ny\n", broken=TOO_LONG), f"the answer is too long; {SOMETHING_ELSE}"),
        (Answer(stdout=b"", broken=LOST), LOST),
        (Answer(stdout=b"", exit_status=127), f"it broke off; {SOMETHING_ELSE} (status 127)"),
        (
            Answer(stdout=b"", stderr=b"sh:\n\x1b[2J no such\nthing\n", exit_status=1),
            f"it broke off; {SOMETHING_ELSE} (status 1: sh: ?[2J no such thing)",
        ),
        (Answer(stdout=b"\nkeyrelay 00000000000000000000000000000000 begin\n"), "it broke off"),
        (
            Answer(stdout=b"rsync only", exit_status=1),
            f"it broke off; {SOMETHING_ELSE} (status 1)",
        ),
    ],
)
def test_a_failed_visit_is_explained_by_what_the_connection_saw(answer: Answer, reason: str) -> None:
    failed = Failed(host=HostName("host"), reason="it broke off")

    assert _explained(failed, answer, "0" * 32).reason == reason
    known = _explained(failed, answer, "0" * 32, forced=FORCED).reason
    assert known == reason.replace(SOMETHING_ELSE, FORCED)
