"""Keys that hosts remember as removed when a home is restored: they do not come back, and nobody hurries."""

from dataclasses import replace

import pytest

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.operations.restore import Request, restore
from orchestrator.policy.desired import Desired, Policy
from orchestrator.rotation.observed import Tombstone
from orchestrator.rotation.revert import plan_revert
from orchestrator.rotation.visits import Activate, Trust
from tests.endings import assert_settled
from tests.homes import copied, go_on_with
from tests.world import AGENTS, SERVERS, World, desired

SMALL = desired(servers=SERVERS[:2], agents=AGENTS[:2])
DELEGATED = desired(Policy.DELEGATED, servers=SERVERS[:2], agents=AGENTS[:2])
LATER = 2**32


def restored(world: World) -> None:
    world.eye.takes_in_surveys()
    go_on_with(world, copied(world), watched=False)
    assert restore(world.ports, Request(), agree=lambda _: True) is not None
    go_on_with(world, copied(world))
    world.eye.look("after the restore")


def forged(world: World, agent: HostName, server: HostName) -> SpkiDigest:
    """The agent says of the key that a server uses that it was removed; gives the key."""
    live = world.live_key(server)
    assert live is not None
    key = SpkiDigest(live)
    state = world.fleet.hosts[agent]
    stone = Tombstone(key=key, how="removed", until=LATER)
    world.fleet.hosts[agent] = replace(state, ended=(*state.ended, stone))
    return key


def test_a_key_that_a_server_has_just_erased_is_not_denied_after_a_restore() -> None:
    world = World()
    world.apply(DELEGATED)
    copy = copied(world)
    old = world.keys_in_use()
    world.apply(DELEGATED, new_key=True)
    assert old & {stone.key for server in SERVERS[:2] for stone in world.fleet.hosts[server].ended}
    go_on_with(world, copy, watched=False)
    restored(world)
    assert_settled(world, DELEGATED)
    for agent in AGENTS[:2]:
        bundle = world.fleet.hosts[agent].bundle
        assert bundle is not None
        assert not old & {one.key.spki_digest for one in bundle.denied}
    assert not old & world.keys_in_use()
    assert not any(credential.compromised for credential in world.recorded.credentials.values())


@pytest.mark.parametrize("wanted", [SMALL, DELEGATED], ids=["known", "vouched for"])
def test_a_removed_key_never_comes_back_to_where_it_was_dropped(wanted: Desired) -> None:
    world = World()
    world.apply(wanted)
    copy = copied(world)
    old = world.keys_in_use()
    world.apply(wanted, new_key=True)
    go_on_with(world, copy, watched=False)
    restored(world)
    before = len(world.fleet.visits)
    assert_settled(world, wanted)
    world.apply(wanted, new_key=True)
    orders = [order for visit in world.fleet.visits[before:] for order in visit.orders]
    told = {key.public.spki_digest for o in orders if isinstance(o, Trust) for key in o.bundle.keys}
    assert told
    assert not old & (told | world.keys_in_use())


@pytest.mark.parametrize("wanted", [SMALL, DELEGATED], ids=["known", "vouched for"])
def test_one_agents_word_that_a_key_in_use_was_removed_brings_an_ordinary_handover(wanted: Desired) -> None:
    world = World()
    world.apply(wanted)
    key = forged(world, AGENTS[1], SERVERS[0])
    restored(world)
    world.fleet.trouble(AGENTS[0], unreachable="no route to host")
    before = len(world.fleet.visits)
    assert not world.apply(wanted).complete
    switched = [o for v in world.fleet.visits[before:] for o in v.orders if isinstance(o, Activate)]
    if wanted is SMALL:
        assert switched == []
        assert world.live_key(SERVERS[0]) == key
    assert world.orphans() == []
    world.fleet.heal(AGENTS[0])
    assert_settled(world, wanted)
    assert world.live_key(SERVERS[0]) != key


def test_a_rollout_away_from_a_removed_key_cannot_be_taken_back() -> None:
    world = World()
    world.apply(SMALL)
    forged(world, AGENTS[1], SERVERS[0])
    restored(world)
    world.fleet.trouble(AGENTS[0], unreachable="no route to host")
    assert not world.apply(SMALL).complete
    rollout = world.recorded.running(SMALL.playbook)
    assert rollout is not None
    with pytest.raises(RefusedError, match="a key it came from is over"):
        plan_revert(world.recorded, rollout, random=world.entropy)
