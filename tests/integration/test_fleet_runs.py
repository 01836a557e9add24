"""Runs over real hosts: connections that are kept, hosts that are slow, runs that are left early."""

import threading
from collections.abc import Iterator
from contextlib import closing
from time import monotonic

import pytest

from orchestrator.inventory.model import Endpoint
from orchestrator.lab import Lab
from orchestrator.remote.fleet import SshFleet
from orchestrator.rotation.reports import Unchanged, Unreachable
from orchestrator.rotation.visits import Survey, Visit
from tests.fleet_worlds import lab_endpoint, ssh_fleet

SERVER = "server-01"
LONG_S = 60.0


@pytest.fixture
def fleet() -> Iterator[SshFleet]:
    with ssh_fleet() as fleet:
        yield fleet


def survey(where: Endpoint) -> Visit:
    return Visit(endpoint=where, orders=(Survey(),))


def everywhere(lab: Lab) -> list[Visit]:
    return [survey(lab_endpoint(lab, host.name)) for host in lab.hosts]


def test_one_slow_host_does_not_hold_up_a_fleet_that_visits_one_at_a_time(lab: Lab) -> None:
    lab.freeze(SERVER)

    with ssh_fleet(deadline_s=6, concurrency=1) as fleet:
        hosts = [outcome.host for outcome in fleet.run(everywhere(lab))]

    assert hosts[-1] == SERVER


def logins(lab: Lab, name: str) -> int:
    return lab.host(name).log.read_text(errors="replace").count("Accepted publickey")


def test_a_connection_is_kept_from_one_run_to_the_next(lab: Lab, fleet: SshFleet) -> None:
    for _ in range(3):
        list(fleet.run(everywhere(lab)))

    assert [logins(lab, host.name) for host in lab.hosts] == [1, 1, 1]


def test_no_more_connections_are_kept_than_there_is_room_for(lab: Lab) -> None:
    with ssh_fleet(open_connections=1) as fleet:
        for visit in everywhere(lab) * 2:
            list(fleet.run([visit]))

    assert [logins(lab, host.name) for host in lab.hosts] == [2, 2, 2]


def test_a_kept_connection_that_died_is_made_anew(lab: Lab, fleet: SshFleet) -> None:
    asked = [survey(lab_endpoint(lab, SERVER))]
    list(fleet.run(asked))
    lab.stop(SERVER)
    lab.start(SERVER)

    assert isinstance(next(fleet.run(asked)), Unchanged)


def test_a_kept_connection_to_a_host_that_froze_fails_at_the_deadline(lab: Lab) -> None:
    asked = [survey(lab_endpoint(lab, SERVER))]
    with ssh_fleet(deadline_s=2) as fleet:
        list(fleet.run(asked))
        lab.freeze(SERVER)
        (outcome,) = fleet.run(asked)

    assert isinstance(outcome, Unreachable)
    assert outcome.reason.startswith(
        "the visit's time ran out while a session began; the host had said nothing for 2 s"
    )


def test_leaving_a_run_early_ends_its_visits_at_once(lab: Lab, fleet: SshFleet) -> None:
    lab.freeze(SERVER)
    before = threading.active_count()
    started = monotonic()

    with closing(fleet.run(everywhere(lab))) as outcomes:  # type: ignore[type-var]
        assert next(outcomes).host != SERVER

    fleet.close()
    assert monotonic() - started < LONG_S / 2
    assert not [thread for thread in threading.enumerate() if thread.name == "keyrelay-visits"]
    assert threading.active_count() <= before + 3


def test_an_interrupt_in_the_middle_of_a_run_leaves_no_visits_behind(lab: Lab, fleet: SshFleet) -> None:
    lab.freeze(SERVER)

    def interrupted() -> None:
        for _ in fleet.run(everywhere(lab)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert not [thread for thread in threading.enumerate() if thread.name == "keyrelay-visits"]
