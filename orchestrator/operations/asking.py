"""How operations ask hosts what they hold, without changing them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.ports import Fleet, ProgressSink
from orchestrator.rotation import visits as vs
from orchestrator.rotation.events import Entry, HostsSurveyed
from orchestrator.rotation.evolve import evolve
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What each host holds, or why it could not be asked; every host asked is in exactly one of the two."""

    surveys: Mapping[HostName, HostSurvey]
    failures: Mapping[HostName, str]

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.surveys or self.failures)

    def event(self) -> HostsSurveyed:
        """The answers as the ledger keeps them."""
        return HostsSurveyed(surveys=self.surveys, failures=self.failures)


def survey(
    fleet: Fleet,
    endpoints: Iterable[Endpoint],
    progress: ProgressSink,
    fences: Mapping[HostName, vs.Fence] = MappingProxyType({}),
) -> Answers:
    """Visit every endpoint and see what it holds.

    Args:
        fleet: the hosts.
        endpoints: whom to ask.
        progress: who watches.
        fences: for hosts with a visit whose end is not known, so that it cannot have its way afterwards.
    """
    visits = [
        vs.Visit(endpoint=endpoint, orders=(vs.Survey(),), fence=fences.get(endpoint.host))
        for endpoint in endpoints
    ]
    surveys: dict[HostName, HostSurvey] = {}
    failures: dict[HostName, str] = {}
    progress.visiting("survey", len(visits))
    for outcome in fleet.run(visits):
        progress.visited(outcome)
        match outcome:
            case vs.Changed() | vs.Unchanged():
                told = [report.survey for report in outcome.reports if isinstance(report, vs.Surveyed)]
                if told:
                    surveys[outcome.host] = told[0]
                else:
                    failures[outcome.host] = "it did not answer the survey"
            case vs.Refused() | vs.Unreachable() | vs.Failed():
                failures[outcome.host] = outcome.reason
            case _:
                assert_never(outcome)
    return Answers(surveys=dict(sorted(surveys.items())), failures=dict(sorted(failures.items())))


def taken_in(recorded: Recorded, answers: Answers, *, at: datetime) -> Recorded:
    """The record as it would be with these answers, without writing them."""
    entry = Entry(
        number=recorded.version + 1,
        at=at,
        event=answers.event(),
        previous=recorded.head,
        digest="asked",
    )
    return evolve(recorded, entry)


def news(recorded: Recorded, answers: Answers, *, at: datetime) -> Answers:
    """The answers that change anything in the record but the time a host was last seen."""
    after = taken_in(recorded, answers, at=at)

    def changed(host: HostName) -> bool:
        return _facts(after, host) != _facts(recorded, host)

    return Answers(
        surveys={host: told for host, told in answers.surveys.items() if changed(host)},
        failures={host: why for host, why in answers.failures.items() if changed(host)},
    )


def _facts(recorded: Recorded, host: HostName) -> tuple[object, ...]:
    contact = recorded.contacts.get(host)
    failing = (
        (contact.failing_since, contact.reason) if contact is not None and contact.failing_since else None
    )
    return (recorded.servers.get(host), recorded.agents.get(host), recorded.pending.get(host), failing)
