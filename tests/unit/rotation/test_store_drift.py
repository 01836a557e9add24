"""What an audit says of stores, whatever a host tells of them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.operations.queries import Half, holdings
from orchestrator.policy.stores import Access, PemFiles, Stores, System
from orchestrator.rotation.drift import Drift
from orchestrator.rotation.filling import found
from orchestrator.rotation.observed import HeldStores, HostSurvey, StoreState
from orchestrator.rotation.standing import View
from orchestrator.rotation.store_drift import store_drift
from tests.fake_state import survey
from tests.world import AGENTS, SERVERS, World, desired

ONE, AGENT = SERVERS[0], AGENTS[0]
FILES = PemFiles(key="/etc/app/key", certificate="/etc/app/crt", access=Access(mode="600"))
STORES = Stores(server=(FILES,), agent=(System(name="ours"),))
Twist = Callable[[HeldStores], HeldStores | None]


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(desired(soak=timedelta(0), stores=STORES))
    return world


def twisted(world: World, twist: Twist) -> HostSurvey:
    """What the first server tells, with something else about its stores."""
    told = survey(world.fleet.hosts[ONE])
    assert told.server_stores is not None
    return replace(told, server_stores=twist(told.server_stores))


def drifts(world: World, told: HostSurvey) -> list[tuple[Drift, str]]:
    by_key = {c.public.spki_digest: c for c in world.recorded.credentials.values() if c.public is not None}
    return list(store_drift(View.of(world.recorded, world.clock.now()), by_key, ONE, told))


def with_place(**changes: object) -> Twist:
    def twist(stores: HeldStores) -> HeldStores:
        first, *others = stores.places
        return replace(stores, places=(replace(first, **changes), *others))  # type: ignore[arg-type]  # by name

    return twist


@pytest.mark.parametrize(
    ("twist", "drift", "detail"),
    [
        (lambda _: None, Drift.MISSING, "nothing was put into /etc/app/crt, /etc/app/key"),
        (lambda s: replace(s, digest=""), Drift.MISMATCH, "its stores were not filled to the end"),
        (
            lambda s: replace(s, digest="f" * 64),
            Drift.PREVIOUS,
            "its stores were filled as the playbook asked before",
        ),
        (with_place(state=StoreState.MISSING), Drift.MISSING, "what was put into /etc/app/crt is gone"),
        (
            with_place(state=StoreState.UNREADABLE),
            Drift.MISMATCH,
            "/etc/app/crt cannot be read: wrong password, or damaged",
        ),
        (
            with_place(state=StoreState.CHANGED, keys=(), certificates=()),
            Drift.MISMATCH,
            "/etc/app/crt holds something else than was put there",
        ),
        (
            with_place(certificates=("e" * 64,)),
            Drift.MISMATCH,
            "/etc/app/crt holds something else than was put there",
        ),
        (
            with_place(keys=("d" * 64,)),
            Drift.UNKNOWN_KEY,
            f"/etc/app/crt holds key {'d' * 12}, which is not in the ledger",
        ),
    ],
)
def test_a_difference_in_a_store_is_named_and_asks_for_a_visit(
    world: World, twist: Twist, drift: Drift, detail: str
) -> None:
    told = twisted(world, twist)
    assert drifts(world, told) == [(drift, detail)]
    after = found(world.recorded, ONE, told)
    assert not View.of(after, world.clock.now()).manifests.is_filled(ONE)


def test_stores_that_are_as_they_should_be_are_no_difference(world: World) -> None:
    assert drifts(world, survey(world.fleet.hosts[ONE])) == []


def test_stores_that_were_filled_with_the_key_of_another_server_are_told_by_its_name(world: World) -> None:
    other = world.recorded.servers[SERVERS[1]].target
    told = twisted(world, lambda stores: replace(stores, credential=other))
    ((drift, detail), *places) = drifts(world, told)
    assert drift is Drift.MISMATCH
    assert detail.startswith("its stores were filled with key ")
    assert detail.endswith(f" of server:{SERVERS[1]}, which was never its own")
    assert len(places) == 2


def test_a_store_that_holds_the_key_of_another_server_holds_no_earlier_key(world: World) -> None:
    other = world.recorded.servers[SERVERS[1]].target
    assert other is not None
    public = world.recorded.credentials[other].public
    assert public is not None
    ((drift, detail),) = drifts(world, twisted(world, with_place(keys=(public.spki_digest,))))
    assert drift is Drift.MISMATCH
    assert detail.startswith("/etc/app/crt holds key ")
    assert detail.endswith(f" of server:{SERVERS[1]}")


def test_what_is_left_of_a_playbook_that_installs_nothing_any_more_is_named(world: World) -> None:
    told = survey(world.fleet.hosts[ONE])
    world.apply(desired(soak=timedelta(0)))
    assert drifts(world, told) == [
        (Drift.PREVIOUS, "what keyrelay put into /etc/app/crt, /etc/app/key should not be there any more")
    ]


def test_holdings_name_the_stores_that_hold_a_private_key(world: World) -> None:
    (private,) = (one for one in holdings(world.recorded, ONE) if one.half is Half.PRIVATE)
    assert private.stores == ("/etc/app/key",)


def test_holdings_name_no_store_whose_content_is_not_known(world: World) -> None:
    told = twisted(world, lambda stores: replace(stores, digest=""))
    (private,) = (one for one in holdings(found(world.recorded, ONE, told), ONE) if one.half is Half.PRIVATE)
    assert private.stores == ()
