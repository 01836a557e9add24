"""Connections that stall, end, trickle, break and close by half, at many points of a visit to a real host."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from orchestrator.remote.dial import Patience
from orchestrator.remote.fleet import SshFleet
from orchestrator.rotation.reports import Changed, Failed, Unchanged, Unreachable
from orchestrator.rotation.visits import Survey, Visit
from tests.faults.ground import SHARED, prepared, watched
from tests.faults.lanes import LONG
from tests.faults.proxy import Fault, Proxies, Way, Wound
from tests.faults.visiting import CLOCK, ENTROPY, endpoint, stage, timed, visit

pytestmark = pytest.mark.long

MakeLab = Callable[..., Lab]
DEADLINE = timedelta(seconds=8)
SLACK_S = 2.0
"""Nothing outlives its deadline by more."""
PARTS = tuple(n / 20 for n in range(21)) if LONG else (0.0, 0.02, 0.3, 0.6, 0.9, 0.99)
BATCH = 12
CAUSES = ("greet", "closed", "said nothing", "lost", "ran out", "ended", "answer", "cut off", "key exchange")


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    with Proxies() as proxies:
        yield proxies


def impatient(deadline: timedelta = DEADLINE) -> SshFleet:
    """A fleet that gives every visit the same time, whatever that visit waits for."""
    seconds = deadline.total_seconds()
    return SshFleet(
        clock=CLOCK,
        entropy=ENTROPY,
        deadline=deadline,
        patience=Patience(connect_s=seconds, log_in_s=seconds),
    )


@pytest.mark.parametrize("fault", Fault)
def test_a_visit_that_is_hurt_anywhere_names_its_host_in_time_and_the_next_one_completes_it(
    fault: Fault, make_lab: MakeLab, proxies: Proxies
) -> None:
    lab = make_lab(servers=1, agents=1)
    host = lab.hosts[0]
    whole = proxies.before(host.address, host.port)
    with closing(impatient()) as fleet:
        at = endpoint(lab, "unharmed", port=whole.listens_on)
        unharmed = timed(fleet, [visit(at, stage(at.host), fence=1)])[at.host].outcome
        assert isinstance(unharmed, Changed), unharmed
    wounds = [
        Wound(fault=fault, way=way, after_bytes=int(part * whole.most[way])) for way in Way for part in PARTS
    ]
    for start in range(0, len(wounds), BATCH):
        hurt = {f"hurt-{start + n}": wound for n, wound in enumerate(wounds[start : start + BATCH])}
        between = {name: proxies.before(host.address, host.port, wound) for name, wound in hurt.items()}
        visits = {}
        for name, proxy in between.items():
            at = endpoint(lab, name, port=proxy.listens_on)
            visits[name] = visit(at, stage(at.host), fence=1)

        with closing(impatient()) as fleet:
            ended = timed(fleet, list(visits.values()))
        proxies.heal(*between.values())

        assert ended.keys() == visits.keys()
        for name, one in ended.items():
            assert one.after_s < DEADLINE.total_seconds() + SLACK_S, (hurt[name], one)
            if isinstance(one.outcome, Unreachable | Failed):
                assert any(cause in one.outcome.reason for cause in CAUSES), (hurt[name], one)
            else:
                # It came through all the same: the last bytes of a connection say nothing that is missed.
                assert isinstance(one.outcome, Changed), (hurt[name], one)
        with closing(impatient()) as fleet:
            again = timed(fleet, list(visits.values()))
        assert {name: one.outcome for name, one in again.items() if not completed(one.outcome)} == {}


def completed(outcome: object) -> bool:
    return isinstance(outcome, Changed | Unchanged)


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.TRICKLE])
def test_one_host_that_does_not_get_on_holds_up_none_of_nineteen_others(
    fault: Fault, make_lab: MakeLab, proxies: Proxies
) -> None:
    lab = make_lab(servers=1, agents=1)
    dead = proxies.before(
        lab.hosts[0].address,
        lab.hosts[0].port,
        Wound(fault=fault, way=Way.TO_CONTROLLER, after_bytes=100),
    )
    deadline = timedelta(seconds=12)
    endpoints = [endpoint(lab, f"host-{n}") for n in range(19)]
    visits = [
        Visit(endpoint=at, orders=(Survey(),))
        for at in (endpoint(lab, "dead", port=dead.listens_on), *endpoints)
    ]

    with closing(impatient(deadline)) as fleet:
        ended = timed(fleet, visits)

    assert list(ended)[-1] == "dead"
    assert all(isinstance(one.outcome, Unchanged) for name, one in ended.items() if name != "dead")
    assert isinstance(ended["dead"].outcome, Unreachable)
    assert ended["dead"].after_s < deadline.total_seconds() + SLACK_S


def test_a_handover_through_each_fault_names_the_host_and_the_next_one_ends_it(
    make_lab: MakeLab, proxies: Proxies, tmp_path: Path
) -> None:
    lab = make_lab(servers=1, agents=2)
    with prepared(lab, tmp_path / "fleet") as ground:
        between = {
            name: proxies.before(lab.host(name).address, lab.host(name).port)
            for name in ("server-01", "agent-001")
        }
        for name, proxy in between.items():
            ground.route(name, "127.0.0.1", proxy.listens_on)
        ground.apply(SHARED).exited(0)
        for proxy in between.values():
            proxy.most.clear()
        ground.apply(SHARED, "--new-key").exited(0)
        # One connection brings all visits to a host: this is amid the frames of its last one.
        nearly_all = {name: proxy.most[Way.TO_HOST] - 700 for name, proxy in between.items()}
        with watched(ground):
            for number, fault in enumerate(Fault):
                name = ("agent-001", "server-01")[number % 2]
                wound = Wound(fault=fault, way=Way.TO_HOST, after_bytes=nearly_all[name])
                proxies.hurt(between[name], wound)
                hurt = ground.apply(SHARED, "--new-key", deadline_s=5.0)
                hurt.exited(3).named(name)
                proxies.heal(between[name])
                ground.converges(SHARED)
