"""What many hosts tell costs time in proportion to their number; counted, not timed."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import get_origin, get_type_hints

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.rotation.events import Event, HostsSurveyed, VisitsEnded
from orchestrator.rotation.host_by_host import PARTS, host_by_host
from orchestrator.rotation.recorded import AgentRecord, Contact, Installed, Intent, Recorded
from orchestrator.rotation.reports import Changed, Failed, Trusted, Unreachable
from tests.fake_state import HostState, survey
from tests.fakes import NOON
from tests.unit.rotation.chronicle import after

BUNDLE = Installed(position=Position(epoch=1, sequence=9), digest="d" * 64, content="c", lines=())
FEW = 50


class Counted(str):
    """A name that counts how often anything is looked up, or copied, by it."""

    __slots__ = ()
    lookups = 0

    def __hash__(self) -> int:
        Counted.lookups += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


def agents(count: int) -> list[HostName]:
    return [HostName(Counted(f"agent-{number}")) for number in range(count)]


def visited(names: list[HostName]) -> Recorded:
    """A fleet of agents that were visited, and have not answered yet."""
    return Recorded(
        agents=dict.fromkeys(names, AgentRecord()),
        contacts={name: Contact(seen=NOON) for name in names},
        pending={name: Intent(host=name, bundle=BUNDLE) for name in names},
    )


def done(names: list[HostName]) -> Event:
    report = Trusted(changed=True, position=BUNDLE.position, digest=BUNDLE.digest, verdicts=())
    return VisitsEnded(
        outcomes=tuple(Changed(host=name, reports=(report,), skew=timedelta(0)) for name in names)
    )


def off(names: list[HostName]) -> Event:
    return VisitsEnded(outcomes=tuple(Unreachable(host=name, reason="off") for name in names))


def cut_short(names: list[HostName]) -> Event:
    return VisitsEnded(outcomes=tuple(Failed(host=name, reason="cut", skew=timedelta(0)) for name in names))


def asked(names: list[HostName]) -> Event:
    return HostsSurveyed(surveys={name: survey(HostState()) for name in names}, failures={})


def not_answering(names: list[HostName]) -> Event:
    return HostsSurveyed(surveys={}, failures=dict.fromkeys(names, "off"))


@pytest.mark.parametrize("told", [done, off, cut_short, asked, not_answering])
def test_twice_as_many_hosts_cost_twice_as_much(told: Callable[[list[HostName]], Event]) -> None:
    def cost(count: int) -> int:
        names = agents(count)
        recorded, event = visited(names), told(names)
        Counted.lookups = 0
        after(recorded, event)
        return Counted.lookups

    assert cost(2 * FEW) <= 2 * cost(FEW) + FEW


def test_it_comes_to_what_one_after_the_other_comes_to() -> None:
    names = agents(3)
    together = after(visited(names), off(names[:1]), done(names[1:]))
    one_by_one = after(visited(names), off(names[:1]), done(names[1:2]), done(names[2:]))
    for part in PARTS:
        assert list(getattr(together, part).items()) == list(getattr(one_by_one, part).items())
    assert together.contacts[names[0]].failing_since == NOON
    assert together.agents[names[2]].installed is not None
    assert not together.pending


def test_whoever_takes_in_what_a_host_told_sees_no_other_host() -> None:
    first, second = agents(2)
    seen: list[Recorded] = []

    def change(recorded: Recorded) -> Recorded:
        seen.append(recorded)
        return recorded.without_pending(second)

    told = host_by_host(visited([first, second]), [(second, change)])
    assert [list(getattr(seen[0], part)) for part in ("agents", "contacts", "pending")] == [[second]] * 3
    assert list(told.pending) == [first]


def test_every_part_of_a_record_that_is_told_by_host_is_either_copied_once_or_told_by_no_host() -> None:
    told_by_no_host = {"endpoints", "unmet"}
    hints = get_type_hints(Recorded)
    by_host = {
        field.name
        for field in fields(Recorded)
        if get_origin(hints[field.name]) is Mapping and hints[field.name].__args__[0] is HostName
    }
    assert by_host == {*PARTS, *told_by_no_host}
