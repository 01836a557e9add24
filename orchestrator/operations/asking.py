"""How operations ask hosts what they hold, without changing them."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TypeVar, assert_never

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.ports import Fleet, ProgressSink
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.events import HostsSurveyed
from orchestrator.rotation.evolve import supposing
from orchestrator.rotation.installing import Manifests
from orchestrator.rotation.observed import HostSurvey, Whole
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.surveys import essential

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What each host holds, or why it could not be asked; every host asked is in exactly one of the two.

    Attributes:
        fences: what each host remembers now, for the visits that follow (``visits.Visit.remembers``).
        fenced: hosts that follow another ledger, and said so instead of answering, with their words.
        wholes: what hosts told beyond their survey, where all of it was asked for.
        skews: how far the clock of each host that answered is ahead.
    """

    surveys: Mapping[HostName, HostSurvey]
    failures: Mapping[HostName, str]
    fences: Mapping[HostName, tuple[vs.Fence, ...]] = field(default_factory=dict)
    fenced: Mapping[HostName, str] = field(default_factory=dict)
    wholes: Mapping[HostName, Whole] = field(default_factory=dict)
    skews: Mapping[HostName, timedelta] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.surveys or self.failures)

    def of(self, hosts: AbstractSet[HostName]) -> "Answers":
        """The answers of some of the hosts."""
        return Answers(
            surveys={host: told for host, told in self.surveys.items() if host in hosts},
            failures={host: why for host, why in self.failures.items() if host in hosts},
            fences={host: fences for host, fences in self.fences.items() if host in hosts},
            wholes={host: whole for host, whole in self.wholes.items() if host in hosts},
            skews={host: skew for host, skew in self.skews.items() if host in hosts},
        )

    def but(self, newer: "Answers") -> "Answers":
        """These answers, with newer ones of some of the hosts."""
        asked = {*newer.surveys, *newer.failures}
        return Answers(
            surveys={**_others(self.surveys, asked), **newer.surveys},
            failures={**_others(self.failures, asked), **newer.failures},
            skews={**_others(self.skews, asked), **newer.skews},
            fences={**_others(self.fences, asked), **newer.fences},
            fenced={**_others(self.fenced, asked), **newer.fenced},
            wholes={**_others(self.wholes, asked), **newer.wholes},
        )

    def usable(self, recorded: Recorded) -> "Answers":
        """What of the answers the ledger can use."""
        return replace(self, surveys={host: essential(recorded, told) for host, told in self.surveys.items()})

    def event(self) -> HostsSurveyed:
        """The answers as the ledger keeps them."""
        return HostsSurveyed(surveys=self.surveys, failures=self.failures)


def _others(told: Mapping[HostName, T], asked: set[HostName]) -> dict[HostName, T]:
    return {host: one for host, one in told.items() if host not in asked}


def survey(
    fleet: Fleet,
    endpoints: Iterable[Endpoint],
    progress: ProgressSink,
    fences: Mapping[HostName, vs.Fence] = MappingProxyType({}),
    *,
    whole: bool = False,
    stores: Manifests | None = None,
) -> Answers:
    """Visit every endpoint and see what it holds.

    Args:
        fleet: the hosts.
        endpoints: whom to ask.
        progress: who watches.
        fences: for hosts with a visit whose end is not known, so that it cannot have its way afterwards.
        whole: whether public keys, certificates and chains are asked for as well.
        stores: what hosts are to have in their stores, to be told what would keep them from it.
    """
    visits = [
        vs.Visit(
            endpoint=endpoint,
            orders=(_order(stores, endpoint.host, whole=whole),),
            fence=fences.get(endpoint.host),
        )
        for endpoint in endpoints
    ]
    surveys: dict[HostName, HostSurvey] = {}
    failures: dict[HostName, str] = {}
    fenced: dict[HostName, str] = {}
    wholes: dict[HostName, Whole] = {}
    skews: dict[HostName, timedelta] = {}
    progress.visiting("survey", [visit.endpoint.host for visit in visits])
    for outcome in fleet.run(visits):
        progress.visited(outcome)
        match outcome:
            case rp.Changed() | rp.Unchanged():
                told = [report for report in outcome.reports if isinstance(report, rp.Surveyed)]
                if told:
                    surveys[outcome.host] = told[0].survey
                    skews[outcome.host] = outcome.skew
                else:
                    failures[outcome.host] = "it did not answer the survey"
                if told and told[0].whole is not None:
                    wholes[outcome.host] = told[0].whole
            case rp.Refused() | rp.Unreachable() | rp.Failed():
                failures[outcome.host] = outcome.reason
                if isinstance(outcome, rp.Refused) and outcome.fenced:
                    fenced[outcome.host] = outcome.reason
            case _:
                assert_never(outcome)
    return Answers(
        surveys=dict(sorted(surveys.items())),
        failures=dict(sorted(failures.items())),
        fences={host: _remembered(told, fences.get(host)) for host, told in surveys.items()},
        fenced=dict(sorted(fenced.items())),
        wholes=wholes,
        skews=dict(sorted(skews.items())),
    )


def _order(stores: Manifests | None, host: HostName, *, whole: bool) -> vs.Survey:
    as_server, as_agent = stores.asked(host) if stores is not None else ("", "")
    return vs.Survey(whole=whole, server_stores=as_server, agent_stores=as_agent)


def _remembered(survey: HostSurvey, shown: vs.Fence | None) -> tuple[vs.Fence, ...]:
    """What the host remembers after its survey: the fence that this one showed, or the one it told of."""
    if shown is not None:
        return (shown,)
    if survey.fence is None:
        return ()
    return (vs.Fence(generation=survey.fence[0], counter=survey.fence[1], head=survey.head),)


def taken_in(recorded: Recorded, answers: Answers, *, at: datetime) -> Recorded:
    """The record as it would be with these answers, without writing them."""
    return supposing(recorded, [answers.usable(recorded).event()], at=at)


def news(recorded: Recorded, answers: Answers, *, at: datetime) -> Answers:
    """The answers that change anything in the record but the time a host was last seen."""
    answers = answers.usable(recorded)
    after = supposing(recorded, [answers.event()], at=at)

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
    stores = (recorded.server_stores.get(host), recorded.agent_stores.get(host))
    return (
        recorded.servers.get(host),
        recorded.agents.get(host),
        stores,
        recorded.obstacles.get(host),
        recorded.pending.get(host),
        failing,
    )
