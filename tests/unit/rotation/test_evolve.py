"""What entries add up to, and which cannot follow."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.keys.bundle import Position
from orchestrator.rotation import events as ev
from orchestrator.rotation import home_events as he
from orchestrator.rotation.evolve import evolve, fold
from orchestrator.rotation.recorded import Recorded, RolloutId
from orchestrator.rotation.visits import CredentialId
from tests.fakes import NOON
from tests.world import AGENTS, SERVERS, World, desired, endpoint

FOUNDED = he.FleetFounded(fleet="f1", root="root", issuer="issuer")
NOBODY = CredentialId("00" * 16)


def entry(event: ev.Event, *, number: int = 1, previous: str = "") -> ev.Entry:
    return ev.Entry(number=number, at=NOON, event=event, previous=previous, digest="d")


def test_the_first_entry_founds_the_fleet() -> None:
    recorded = evolve(Recorded(), entry(FOUNDED))
    assert (recorded.fleet, recorded.generation, recorded.version) == ("f1", 1, 1)
    assert recorded.position == Position(epoch=1, sequence=0)


def test_an_entry_out_of_turn_is_refused() -> None:
    with pytest.raises(ValueError, match="entry 2 does not follow entry 0"):
        evolve(Recorded(), entry(FOUNDED, number=2))


def test_an_entry_of_another_history_is_refused() -> None:
    with pytest.raises(ValueError, match="entry 1 does not follow"):
        evolve(Recorded(), entry(FOUNDED, previous="elsewhere"))


@pytest.mark.parametrize(
    "event",
    [
        ev.KeyMakingIntended(credential=NOBODY),
        ev.KeyDestroyed(credential=NOBODY),
        ev.Certified(credential=NOBODY, server=SERVERS[0], certificate_pem="", chain_pem=""),
        ev.RolloutEnded(rollout=RolloutId("0" * 16)),
    ],
    ids=lambda event: event.kind,
)
def test_an_entry_of_something_unknown_is_refused(event: ev.Event) -> None:
    with pytest.raises(ValueError, match=r"entry 1 tells of .* which is not known"):
        evolve(Recorded(), entry(event))


def test_folding_all_entries_gives_the_same_record_as_writing_them() -> None:
    world = World()
    world.apply(desired())
    world.apply(desired(), new_key=True)
    assert fold(Recorded(), world.ledger.entries()) == world.recorded


def test_hosts_may_be_reached_another_way() -> None:
    world = World()
    world.apply(desired())
    moved = endpoint(SERVERS[0])
    changed = ev.EndpointsChanged(endpoints={SERVERS[0]: moved})
    after = world.ledger.append([changed], onto=world.recorded, at=NOON)
    assert after.endpoints[SERVERS[0]] == moved
    assert after.endpoints.keys() == world.recorded.endpoints.keys()


def test_a_rollout_that_starts_replaces_the_unfinished_one() -> None:
    world = World()
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.apply(desired())
    world.apply(desired(), new_key=True)
    first, second = sorted(world.recorded.rollouts.values(), key=lambda r: r.ended is None)
    assert (first.replaced_by, second.ended) == (second.id, None)


def test_a_longer_validity_is_kept_for_keys_in_use() -> None:
    world = World()
    world.apply(desired())
    (before, *_) = world.recorded.credentials.values()
    longer = replace(desired().messages, validity=timedelta(hours=1))
    start = ev.RolloutStarted(
        rollout=RolloutId("1" * 16),
        desired=replace(desired(), messages=longer),
        new=(),
        targets={},
        reasons=(),
    )
    after = world.ledger.append([start], onto=world.recorded, at=NOON)
    assert before.in_flight == timedelta(minutes=6)
    assert after.credentials[before.id].in_flight == timedelta(minutes=61)
