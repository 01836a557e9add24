"""The real program, killed before and after every step that lasts, on real hosts; the next run ends it all.

A process of its own watches the hosts' files meanwhile (``orchestrator/lab/watcher.py``).
"""

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import pytest

from orchestrator.rotation import events, visits
from tests.faults.crashing import ORDERED, RECORDED, STEPS, Moment, Point
from tests.faults.ground import PER_SERVER, SHARED, Ground
from tests.faults.lanes import LONG, MakeLab, in_each, lanes

LANES = 4
RESUMED = "record hosts-surveyed"
"""Passed only by a run that goes on after a kill: the hosts' answers tell it something."""
OTHERS = {SHARED: PER_SERVER, PER_SERVER: SHARED}

ELSEWHERE = {
    "fleet-founded",
    "rollout-paused",
    "rollout-resumed",
    "agents-waived",
    "hosts-awaited",
    "endpoints-changed",
    "key-ended",
    "host-given-up",
    "host-set-up-anew",
    "controller-stopped",
    "home-restored",
    "hosts-met",
    "backup-intended",
    "backup-written",
    "backup-removed",
    "backups-kept",
    "credential-prepared",
    "credential-dropped",
    "key-exported",
    "export-destroyed",
    "crl-signed",
    "issuer-renewed",
    "root-renewed",
    "issuer-key-intended",
    "issuer-added",
    "issuer-key-destroyed",
    "clock-set-right",
    "key-prolonged",
}
"""Entries of other commands, of decisions, of wrong clocks and long waits: no steps of each handover."""


@dataclass(slots=True, kw_only=True)
class Deaths:
    """The points at which nobody has died yet, for several lanes to choose from.

    Attributes:
        renewal: whether keys are made anew under one policy, rather than the policy changed.
        passed: the steps that a run which nobody kills passes, by the playbook it is about.
        in_pairs: whether the run that goes on after a death before a step dies after that step.
    """

    renewal: bool
    passed: dict[str, set[str]]
    in_pairs: bool
    left: set[tuple[str, Moment]] = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.left = {(step, moment) for step in STEPS for moment in Moment}

    def next_for(self, playbook: str) -> Point | None:
        with self._lock:
            fitting = [one for one in self.left if one[0] == RESUMED or one[0] in self.passed[playbook]]
            if not fitting:
                return None
            # A step's first pass comes before its second.
            step, moment = min(fitting, key=lambda one: (one[1] is Moment.AFTER, STEPS.index(one[0])))
            self.left.remove((step, moment))
            return Point(step=step, moment=moment)

    def takes(self, point: Point) -> bool:
        """Whether nobody has died there yet; then somebody is about to."""
        with self._lock:
            if (point.step, point.moment) not in self.left:
                return False
            self.left.remove((point.step, point.moment))
            return True

    def puts_back(self, point: Point) -> None:
        """Nobody died there after all."""
        with self._lock:
            self.left.add((point.step, point.moment))


def words(*, renewal: bool) -> tuple[str, ...]:
    return ("--new-key",) if renewal else ()


def traced(ground: Ground, *, renewal: bool) -> dict[str, set[str]]:
    """What runs that nobody kills pass, under each playbook; ends with ``shared`` applied."""
    passed = {}
    for playbook in (PER_SERVER, SHARED):
        run = ground.apply(playbook).exited(0)
        if renewal:
            run = ground.apply(playbook, "--new-key").exited(0)
        passed[playbook] = {step for _, step in run.passed}
        assert {moment for moment, _ in run.passed} == set(Moment)
    return passed


def die_at_each(ground: Ground, deaths: Deaths) -> None:
    """Dies at one point after another, until none is left, and ends what was begun each time."""
    here = SHARED
    while deaths.left:
        there = here if deaths.renewal else OTHERS[here]
        point = deaths.next_for(there)
        if point is not None:
            die(ground, there, point, deaths)
        elif deaths.renewal:
            there = OTHERS[here]
        ground.converges(there)
        here = there


def die(ground: Ground, playbook: str, point: Point, deaths: Deaths) -> None:
    """Begins a handover and dies at the point; the run that goes on may die at the same step's other pass."""
    begin = words(renewal=deaths.renewal)
    begun = ground.apply(playbook, *begin, at=before(point))
    assert begun.killed, begun.told()
    if point.step == RESUMED:
        begun = ground.apply(playbook, at=point)
        assert begun.killed, begun.told()
    assert begun.passed[-1] == (point.moment, point.step), begun.passed
    other = replace(point, moment=Moment.AFTER)
    if deaths.in_pairs and deaths.takes(other):
        started = (Moment.AFTER, "record rollout-started") in begun.passed
        again = ground.apply(playbook, *(() if started else begin), at=other)
        if not again.killed:
            # What was done and not told needs not be done again.
            again.exited(0)
            deaths.puts_back(other)


def before(point: Point) -> Point:
    """Where to die first: visits of which nobody knows how they ended bring a survey news."""
    return point if point.step != RESUMED else Point(step="send trust", moment=Moment.AFTER)


def test_every_kind_of_entry_and_of_visit_is_a_step_or_no_part_of_a_handover() -> None:
    entries = {kind.__dataclass_fields__["kind"].default for kind in get_args(events.Event)}
    orders = {kind.__dataclass_fields__["kind"].default for kind in get_args(visits.Order)}
    assert entries == {*RECORDED} | ELSEWHERE
    assert orders == {*ORDERED, "revert", "sign"}


@pytest.mark.parametrize(
    "renewal",
    [pytest.param(False, id="a policy change"), pytest.param(True, id="a renewal", marks=pytest.mark.long)],
)
def test_killed_before_and_after_each_step_the_next_run_ends_it_and_no_agent_is_ever_without_its_server(
    make_lab: MakeLab, tmp_path: Path, *, renewal: bool
) -> None:
    with lanes(make_lab, tmp_path, LANES) as grounds:
        passed = traced(grounds[0], renewal=renewal)
        deaths = Deaths(renewal=renewal, passed=passed, in_pairs=not LONG)
        in_each(grounds, lambda ground: die_at_each(ground, deaths))
        assert not deaths.left
