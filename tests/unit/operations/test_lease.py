"""One controller hands over at a time (S8)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from orchestrator.errors import ConflictError, KeyrelayError
from orchestrator.operations import handover
from orchestrator.operations.apply import Applied, apply
from orchestrator.operations.compromise import end_key
from orchestrator.operations.lease import TERM
from orchestrator.operations.planning import carry_out
from orchestrator.operations.rollouts import pause
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import Desired, RolloutSpec, Share
from orchestrator.ports import Clock, Fleet, Ports
from orchestrator.rotation.engine import Decision
from orchestrator.rotation.events import KeyEnded, VisitsIntended
from orchestrator.rotation.home_events import LeaseTaken
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Intent
from orchestrator.rotation.reports import Outcome
from orchestrator.rotation.visits import Visit
from tests.fakes import FakeController
from tests.world import SERVERS, World, desired


@dataclass
class Meanwhile:
    """A fleet during whose visits somebody else does something, once."""

    fleet: Fleet
    happens: object

    def run(self, visits: Sequence[Visit]) -> Iterator[Outcome]:
        yield from self.fleet.run(visits)
        happens, self.happens = self.happens, None
        if callable(happens) and visits[0].fence is not None:
            happens()
        elif happens is not None:
            self.happens = happens


def run(ports: Ports, *, new_key: bool = False) -> Applied:
    return apply(ports, desired(), wait=timedelta(hours=1), agree=lambda _: True, new_key=new_key)


@pytest.fixture
def world() -> World:
    return World()


def leave_a_lease(world: World, holder: str) -> None:
    until = world.clock.now() + TERM
    world.ledger.append([LeaseTaken(holder=holder, until=until)], onto=world.recorded, at=world.clock.now())


def test_nobody_has_the_lease_when_a_run_has_ended(world: World) -> None:
    run(world.ports)
    assert world.recorded.lease is None


def test_a_second_controller_is_told_who_hands_over_and_since_when(world: World) -> None:
    leave_a_lease(world, "controller-2")
    with pytest.raises(ConflictError, match="controller-2 is handing over since 2030-01-01 12:00:00Z"):
        run(world.ports)


def test_a_lease_that_was_not_renewed_is_taken_over(world: World) -> None:
    leave_a_lease(world, "controller-2")
    world.clock.wait_until(world.clock.now() + TERM)
    assert run(world.ports).complete


def test_the_lease_of_a_controller_that_is_gone_is_taken_over_at_once(world: World) -> None:
    leave_a_lease(world, "controller-2")
    controller = FakeController()
    controller.gone.add("controller-2")
    assert run(replace(world.ports, controller=controller)).complete


def test_a_run_that_waits_for_longer_than_the_term_keeps_its_lease(world: World) -> None:
    run(world.ports)
    assert run(world.ports, new_key=True).complete
    taken = [e.event for e in world.ledger.entries() if isinstance(e.event, LeaseTaken)]
    assert len(taken) > 2


def test_a_pause_from_another_terminal_stops_a_run_without_losing_what_it_did(world: World) -> None:
    run(world.ports)

    def pauses() -> None:
        rollout = world.recorded.running(desired().playbook)
        assert rollout is not None
        pause(world.ledger, rollout.id, clock=world.clock, reason="stop")

    applied = run(replace(world.ports, fleet=Meanwhile(world.ports.fleet, pauses)), new_key=True)
    assert applied.result is not None
    assert applied.result.paused == "stop"
    assert not world.recorded.pending


@dataclass
class EventfulClock:
    """A clock during whose first wait somebody does something."""

    clock: Clock
    happens: Callable[[], None] | None

    def now(self) -> datetime:
        return self.clock.now()

    def elapsed(self) -> timedelta:
        return self.clock.elapsed()

    def wait_until(self, instant: datetime) -> None:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        self.clock.wait_until(instant)


def in_waves() -> Desired:
    waves = (Share(number=1), Share(number=100, percent=True))
    return desired(rollout=RolloutSpec(soak=timedelta(minutes=10), waves=waves))


def test_a_pause_during_the_soak_of_the_canary_keeps_the_next_wave_where_it_is(world: World) -> None:
    world.apply(in_waves())
    first = {server: world.live_key(server) for server in SERVERS}

    def pauses() -> None:
        rollout = world.recorded.running(desired().playbook)
        assert rollout is not None
        pause(world.ledger, rollout.id, clock=world.clock, reason="stop")

    ports = replace(world.ports, clock=EventfulClock(world.clock, pauses))
    applied = apply(ports, in_waves(), wait=timedelta(hours=1), agree=lambda _: True, new_key=True)
    assert applied.result is not None
    assert applied.result.paused == "stop"
    assert [server for server in SERVERS if world.live_key(server) != first[server]] == [SERVERS[0]]


def test_a_key_that_leaks_while_it_is_handed_over_is_not_taken_into_use(world: World) -> None:
    world.apply(in_waves())

    def leaks() -> None:
        target = world.recorded.servers[SERVERS[1]].target
        assert target is not None
        event = KeyEnded(credential=target, how=KeyState.COMPROMISED, reason="seen elsewhere")
        world.ledger.append([event], onto=world.recorded, at=world.clock.now())

    before = world.live_key(SERVERS[1])
    ports = replace(world.ports, clock=EventfulClock(world.clock, leaks))
    applied = apply(ports, in_waves(), wait=timedelta(hours=1), agree=lambda _: True, new_key=True)
    assert not applied.complete
    assert applied.result is not None
    assert [block.host for block in applied.result.blocks] == [SERVERS[1]]
    assert "compromised" in applied.result.blocks[0].reason
    assert world.live_key(SERVERS[1]) == before
    assert world.apply(in_waves(), wait=timedelta(hours=3)).complete
    assert world.live_key(SERVERS[1]) != before


def test_a_leak_is_written_though_another_controller_hands_over_and_its_run_heeds_it(world: World) -> None:
    world.apply(in_waves())
    leaked = {c.public for c in world.recorded.credentials.values() if SERVERS[2] in c.servers}.pop()
    assert leaked is not None

    def leaks() -> None:
        world.eye.leaked.add(leaked.spki_digest)
        ports = replace(world.ports, controller=FakeController("controller-2"))
        with pytest.raises(ConflictError, match="the ledger says that the key is compromised"):
            end_key(ports, leaked.thumbprint, lost=False, reason="seen elsewhere", wait=timedelta(0))

    ports, begun = replace(world.ports, clock=EventfulClock(world.clock, leaks)), world.clock.now()
    apply(ports, in_waves(), wait=timedelta(hours=1), agree=lambda _: True, new_key=True)
    server = world.recorded.servers[SERVERS[2]]
    assert server.target is not None
    assert server.placements[server.target].since < begun + in_waves().rollout.soak


@pytest.mark.parametrize(
    "refused",
    [
        lambda ports: watch_once(ports, desired(soak=timedelta(0))),
        lambda ports: apply(ports, desired(), wait=timedelta(0), agree=lambda _: True, digest="0" * 16),
        lambda ports: carry_out(desired(servers=SERVERS[:1], name="other"), ports, wait=timedelta(0)),
    ],
    ids=["watch", "apply", "another playbook's server"],
)
def test_nobody_has_the_lease_when_a_run_was_refused(
    world: World, refused: Callable[[Ports], object]
) -> None:
    """Where an answer was lost, hosts are asked again under the lease before anything is planned."""
    run(world.ports)
    lost = VisitsIntended(intents=(Intent(host=SERVERS[0]),))
    world.ledger.append([lost], onto=world.recorded, at=world.clock.now())
    with pytest.raises(KeyrelayError):
        refused(world.ports)
    assert LeaseTaken in {
        type(entry.event) for entry in world.ledger.entries(after=world.recorded.version - 2)
    }
    assert world.recorded.lease is None


def test_a_run_that_has_lost_its_lease_writes_nothing_more(world: World) -> None:
    run(world.ports)
    fleet = Meanwhile(world.ports.fleet, lambda: leave_a_lease(world, "controller-2"))
    with pytest.raises(ConflictError):
        run(replace(world.ports, fleet=fleet), new_key=True)
    assert world.recorded.lease is not None
    assert world.recorded.lease.holder == "controller-2"


def test_nothing_of_what_was_decided_is_done_after_somebody_has_written_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(world.ports)
    server = SERVERS[0]
    key = world.recorded.servers[server].target
    assert key is not None
    decided: list[Decision] = []

    def decides(*_args: object, **_named: object) -> Decision:
        """The first time, more than one thing; and a person says of the key that it leaked."""
        if not decided:
            world.ledger.append(
                [KeyEnded(credential=key, how=KeyState.COMPROMISED, reason="seen elsewhere")],
                onto=world.recorded,
                at=world.clock.now(),
            )
        decided.append(Decision() if decided else Decision(make=(key,), certify=((key, server),)))
        return decided[-1]

    monkeypatch.setattr(handover, "decide", decides)
    before = world.recorded.credentials[key].certificates
    handover.hand_over(world.ports, world.recorded, desired().playbook, aside={}, wait=timedelta(0))
    assert world.recorded.credentials[key].certificates == before
    assert len(decided) > 1
