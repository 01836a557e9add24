"""The threads of one run."""

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.remote.crew import Crew
from orchestrator.remote.questions import Answers, nobody
from orchestrator.rotation.reports import Outcome, Unchanged
from orchestrator.rotation.visits import Survey, Visit


class Wish:
    """A run that is to end when somebody says so."""

    def __init__(self) -> None:
        self.asked = False


def visits(count: int) -> list[Visit]:
    hosts = [HostName(f"h{number}") for number in range(count)]
    return [Visit(endpoint=Endpoint(host=host, address="127.0.0.1"), orders=(Survey(),)) for host in hosts]


def test_a_crew_that_is_asked_to_stop_ends_the_visits_in_hand_and_begins_no_other() -> None:
    stop, begun = Wish(), []

    def make(visit: Visit) -> Outcome:
        begun.append(visit.endpoint.host)
        stop.asked = len(begun) == 3
        return Unchanged(host=visit.endpoint.host, reports=())

    with Crew(visits(20), 1, Answers(nobody), stop) as crew:
        ended = [outcome.host for outcome in crew.outcomes(make)]

    assert ended == begun
    assert len(begun) == 3


def test_a_crew_that_is_asked_to_stop_before_it_begins_does_nothing() -> None:
    stop = Wish()
    stop.asked = True
    with Crew(visits(3), 2, Answers(nobody), stop) as crew:
        assert list(crew.outcomes(lambda visit: Unchanged(host=visit.endpoint.host, reports=()))) == []


def test_a_crew_that_nobody_stops_has_an_outcome_for_every_visit() -> None:
    with Crew(visits(7), 2, Answers(nobody), Wish()) as crew:
        hosts = {o.host for o in crew.outcomes(lambda visit: Unchanged(host=visit.endpoint.host, reports=()))}
    assert len(hosts) == 7
