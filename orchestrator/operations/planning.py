"""What plan, apply and watch begin with: ask hosts, plan from what they answer, and begin what is planned."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from orchestrator.errors import RefusedError, StoppedError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import Random
from orchestrator.operations.asking import Answers, news, survey, taken_in
from orchestrator.operations.handover import Result, hand_over
from orchestrator.operations.lease import given_back, require_free, take
from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.ports import Clock, Entropy, Fleet, Ledger, Ports, ProgressSink
from orchestrator.rotation.chronology import (
    is_confirmed,
    is_contradicted,
    refuse_going_back,
    refuse_wrong_clock,
)
from orchestrator.rotation.events import EndpointsChanged, Event
from orchestrator.rotation.home_events import ClockSetRight, ControllerStopped
from orchestrator.rotation.installing import Manifests
from orchestrator.rotation.meeting import meet
from orchestrator.rotation.plan import Plan, make_plans
from orchestrator.rotation.recognition import (
    STOPPED,
    reason_to_stop,
    refuse_moved_hosts,
    refuse_superseded,
)
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.sight import Sight
from orchestrator.rotation.visits import Fence


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A plan and what it was made from.

    Attributes:
        recorded: the ledger as it was read, without the answers.
        answers: what the hosts said.
    """

    plan: Plan
    recorded: Recorded
    answers: Answers

    def events(self) -> Iterator[Event]:
        """What has to be written for the plan to begin."""
        known = self.recorded.endpoints
        desired = self.plan.desired.endpoints
        if self.plan.start is not None:
            yield self.plan.start
        elif any(known.get(host) != endpoint for host, endpoint in desired.items()):
            yield EndpointsChanged(endpoints=desired)


def prepare_together(
    wanted: Sequence[Desired],
    *,
    ledger: Ledger,
    fleet: Fleet,
    clock: Clock,
    entropy: Entropy,
    progress: ProgressSink,
    new_key: bool = False,
) -> tuple[Prepared, ...]:
    """Survey the playbooks' hosts, those that have left them included, and plan; changes nothing.

    The playbooks begin in the same go (``rotation.moving``), and every plan has all answers.

    Raises:
        RefusedError: a plan would not be safe (``rotation.plan.make_plans``).
        LedgerError: the ledger cannot be read.
    """
    recorded = ledger.read()
    endpoints = _endpoints(wanted, recorded).values()
    answers = survey(fleet, endpoints, progress, stores=Manifests.of(_asked_for(wanted, recorded)))
    if reason := why_to_stop(recorded, answers, ledger):
        raise RefusedError(reason, hint=STOPPED)
    refuse_wrong_clock(answers.skews, _allowed_skew(wanted))
    return _planned(wanted, recorded, answers, now=clock.now(), random=entropy, new_key=new_key)


def prepare_to_change(desired: Desired, ports: Ports, *, new_key: bool = False) -> Prepared:
    """The same for a run that is to change hosts: nobody else may, and no earlier visit has its way later.

    Raises:
        RefusedError: the plan would not be safe.
        ConflictError: another controller hands over.
    """
    (prepared,) = prepare_to_change_together((desired,), ports, new_key=new_key)
    return prepared


def prepare_to_change_together(
    wanted: Sequence[Desired], ports: Ports, *, new_key: bool = False
) -> tuple[Prepared, ...]:
    """The same for playbooks that begin in the same go; ``record_together`` takes them."""
    recorded, answers = ask_to_change(ports.ledger.read(), wanted, ports)
    return _planned(
        wanted,
        recorded,
        answers,
        now=ports.clock.now(),
        random=ports.entropy,
        new_key=new_key,
    )


def ask_to_change(recorded: Recorded, wanted: Sequence[Desired], ports: Ports) -> tuple[Recorded, Answers]:
    """Survey the hosts of playbooks for a run that is to change them; the answers are not written yet.

    Hosts with a visit whose end is not known are asked once more behind a new fence, which takes the lease.

    Raises:
        ConflictError: another controller hands over.
        StoppedError: not all hosts were asked, for the run is to end.
        RefusedError: a host follows another ledger, and from now on this home writes nothing any more; or the
            clock here is wrong; or agents would be given an issuer again that may have leaked.
    """
    require_free(recorded, ports)
    refuse_superseded(recorded)
    endpoints = _endpoints(wanted, recorded)
    unmet = recorded.unmet.keys() & endpoints.keys()
    answers = _asked(recorded, endpoints, {}, wanted, ports, whole=bool(unmet))
    recorded = _timed(recorded, wanted, answers, ports)
    uncertain = recorded.pending.keys() & answers.surveys.keys()
    if uncertain:
        # Nothing may be written, a lease neither, before hosts have confirmed what time it is.
        recorded = take(recorded, ports)
        fence = Fence(generation=recorded.generation, counter=recorded.version, head=recorded.head)
        again = {host: endpoints[host] for host in sorted(uncertain)}
        fences = dict.fromkeys(again, fence)
        answers = answers.but(_asked(recorded, again, fences, wanted, ports, whole=bool(unmet)))
    recorded = _met(recorded, answers, unmet & answers.surveys.keys(), ports)
    refuse_superseded(recorded)
    return recorded, answers


def _asked(
    recorded: Recorded,
    endpoints: Mapping[HostName, Endpoint],
    fences: Mapping[HostName, Fence],
    wanted: Sequence[Desired],
    ports: Ports,
    *,
    whole: bool,
) -> Answers:
    """What hosts tell, as long as they follow this ledger."""
    stores = Manifests.of(_asked_for(wanted, recorded))
    answers = survey(ports.fleet, endpoints.values(), ports.progress, fences, whole=whole, stores=stores)
    if ports.stop.asked:
        raise StoppedError("stopped while hosts were asked what they hold; nothing was changed")
    if reason := why_to_stop(recorded, answers, ports.ledger):
        stop(recorded, reason, ports)
    return answers


def _timed(recorded: Recorded, wanted: Sequence[Desired], answers: Answers, ports: Ports) -> Recorded:
    """Refuse to go on by a wrong clock; where the ledger is the one that was wrong, write so.

    Raises:
        RefusedError: most hosts contradict the clock, or the ledger does and no host confirms it.
    """
    allowed, now = _allowed_skew(wanted), ports.clock.now()
    refuse_wrong_clock(answers.skews, allowed)
    if recorded.written is None or not is_contradicted(recorded, now):
        return recorded
    if not is_confirmed(answers.skews, allowed):
        refuse_going_back(recorded, now)
    return ports.ledger.append([ClockSetRight(ahead=recorded.written)], onto=recorded, at=now)


def _met(recorded: Recorded, answers: Answers, hosts: AbstractSet[HostName], ports: Ports) -> Recorded:
    """Take over what hosts tell that nobody waited for when the home was restored (S9)."""
    if not hosts:
        return recorded
    told = answers.of(hosts)
    sight = Sight(
        surveys=told.surveys,
        wholes=told.wholes,
        endpoints=recorded.endpoints,
        failures={},
        ended={},
    )
    events: list[Event] = [meet(recorded, sight, random=ports.entropy), told.event()]
    return ports.ledger.append(events, onto=recorded, at=ports.clock.now())


def why_to_stop(recorded: Recorded, answers: Answers, ledger: Ledger) -> str:
    """Why hosts do not follow this ledger; empty: they do."""
    for host, words in answers.fenced.items():
        return f"{host} follows another ledger: {words}"
    numbers = {one.fence[1] for one in answers.surveys.values() if one.fence is not None}
    return reason_to_stop(recorded, answers.surveys, ledger.heads(numbers))


def stop(recorded: Recorded, reason: str, ports: Ports) -> NoReturn:
    """Write that this home stops for good, and say so.

    Raises:
        RefusedError: always.
    """
    ports.ledger.append([ControllerStopped(reason=reason)], onto=recorded, at=ports.clock.now())
    raise RefusedError(f"{reason}; this home has stopped for good", hint=STOPPED)


def go_on(recorded: Recorded, playbook: PlaybookName, ports: Ports) -> tuple[Recorded, Answers]:
    """Survey the hosts of a playbook as it was last applied, and write what is news, to go on from there."""
    recorded, answers = ask_to_change(recorded, (recorded.playbooks[playbook],), ports)
    now = ports.clock.now()
    if told := news(recorded, answers, at=now):
        recorded = ports.ledger.append([told.event()], onto=recorded, at=now)
    return recorded, answers


def _planned(
    wanted: Sequence[Desired],
    recorded: Recorded,
    answers: Answers,
    *,
    now: datetime,
    random: Random,
    new_key: bool,
) -> tuple[Prepared, ...]:
    for desired in wanted:
        refuse_moved_hosts(desired, recorded, answers.surveys)
    after = taken_in(recorded, answers, at=now)
    plans = make_plans(wanted, after, answers.surveys, now=now, random=random, new_key=new_key)
    return tuple(Prepared(plan=plan, recorded=recorded, answers=answers) for plan in plans)


def record(prepared: Prepared, ports: Ports) -> Recorded:
    """Write what was found and what begins, in one go.

    Raises:
        ConflictError: the ledger has grown since the plan was made, or another controller hands over.
    """
    return record_together((prepared,), ports)


def record_together(prepared: Sequence[Prepared], ports: Ports) -> Recorded:
    """The same for plans that were made together: all of it is in the ledger, or nothing."""
    now, recorded = ports.clock.now(), prepared[0].recorded
    events = [event for one in prepared for event in one.events()]
    if told := news(recorded, prepared[0].answers, at=now):
        events.insert(0, told.event())
    if not events:
        return recorded
    require_free(recorded, ports)
    return ports.ledger.append(events, onto=recorded, at=now)


def carry_out(desired: Desired, ports: Ports, *, wait: timedelta) -> Result:
    """Hand over to what a playbook asks, of which a person has said enough: survey, plan, write, and do it.

    Raises:
        RefusedError: the plan would not be safe.
        ConflictError: another controller writes.
    """
    with given_back(ports):
        prepared = prepare_to_change(desired, ports)
        return begun(prepared, record(prepared, ports), ports, wait=wait)


def begun(prepared: Prepared, recorded: Recorded, ports: Ports, *, wait: timedelta) -> Result:
    """What comes of a plan that is written: its hosts that did not answer are not asked again in this run."""
    return hand_over(
        ports,
        recorded,
        prepared.plan.desired.playbook,
        aside=prepared.answers.failures,
        fences=prepared.answers.fences,
        wait=wait,
    )


def carry_on(ports: Ports, playbook: PlaybookName, *, wait: timedelta) -> Result:
    """Go on with what a playbook has begun, from what its hosts hold now."""
    with given_back(ports):
        recorded, answers = go_on(ports.ledger.read(), playbook, ports)
        return hand_over(ports, recorded, playbook, aside=answers.failures, fences=answers.fences, wait=wait)


def _endpoints(wanted: Sequence[Desired], recorded: Recorded) -> dict[HostName, Endpoint]:
    """Whom to ask: the playbooks' hosts, others that their runs may visit, and those that no playbook has."""
    playbooks, given = {desired.playbook for desired in wanted}, _asked_for(wanted, recorded)
    asked = {host: endpoint for desired in wanted for host, endpoint in desired.endpoints.items()}
    elsewhere = {
        host
        for name, other in recorded.playbooks.items()
        if name not in playbooks
        for host in other.endpoints
    }
    left = {*recorded.servers, *recorded.agents} - elsewhere
    left |= {server for server, one in recorded.servers.items() if one.playbook in playbooks}
    for playbook in playbooks:
        left |= recorded.agents.keys() - given.elsewhere(playbook).keys()
    left = {host for host in left - asked.keys() if not recorded.given_up(host)}
    return {**{host: recorded.endpoints[host] for host in sorted(left)}, **asked}


def _asked_for(wanted: Sequence[Desired], recorded: Recorded) -> Recorded:
    for desired in wanted:
        recorded = recorded.asked_for(desired)
    return recorded


def _allowed_skew(wanted: Sequence[Desired]) -> timedelta:
    return min(desired.messages.clock_skew for desired in wanted)
