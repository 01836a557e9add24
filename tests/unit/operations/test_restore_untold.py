"""A home that is restored while an agent's programs were not told of the bundles that have come since."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator.operations.compromise import end_key
from orchestrator.policy.desired import Desired, Policy
from tests.endings import assert_settled
from tests.unit.operations.test_restore import lived, restored, what_only_the_ledger_knows
from tests.world import AGENTS, SERVERS, World, desired

AGENT, SERVER = AGENTS[0], SERVERS[0]
LONG = timedelta(hours=2)
MOMENT = timedelta(minutes=10)
HOOKS = dict.fromkeys(AGENTS[:1], "reload it")
OWN_KEYS = desired(servers=SERVERS[:1], agents=AGENTS[:2], trusted_hooks=HOOKS)
DELEGATED = desired(Policy.DELEGATED, servers=SERVERS[:1], agents=AGENTS[:2], trusted_hooks=HOOKS)


def fails(world: World) -> None:
    world.fleet.trouble(AGENT, hook_fails="no such unit")


def hears_of_no_successor(world: World, wanted: Desired) -> None:
    world.apply(wanted)
    fails(world)
    world.apply(wanted, new_key=True)
    world.fleet.heal(AGENT)
    world.apply(wanted, wait=LONG)


def is_not_told_to_drop_a_key(world: World, wanted: Desired) -> None:
    world.apply(wanted)
    world.apply(wanted, new_key=True, wait=MOMENT)
    fails(world)
    world.apply(wanted, wait=LONG)
    world.apply(wanted, wait=LONG)


def hears_of_neither_of_two_keys(world: World, wanted: Desired) -> None:
    world.apply(wanted)
    fails(world)
    world.apply(wanted, new_key=True)
    leaks(world)


def hears_of_no_leak(world: World, wanted: Desired) -> None:
    world.apply(wanted)
    fails(world)
    leaks(world)
    world.fleet.heal(AGENT)
    world.apply(wanted, new_key=True, wait=LONG)


def leaks(world: World) -> None:
    """The key that the server uses leaked."""
    key = world.live_key(SERVER)
    (public,) = (
        credential.public
        for credential in world.recorded.credentials.values()
        if credential.public is not None and credential.public.spki_digest == key
    )
    world.eye.leaked.add(public.spki_digest)
    world.eye.begins()
    end_key(world.ports, public.thumbprint, lost=False, reason="it leaked", wait=LONG)


ENOUGH = 7
"""A story has more rounds of visits than this."""

STORIES = (hears_of_no_successor, is_not_told_to_drop_a_key, hears_of_neither_of_two_keys, hears_of_no_leak)


@pytest.mark.parametrize(
    ("story", "wanted"),
    [
        *(pytest.param(story, OWN_KEYS, marks=pytest.mark.long) for story in STORIES[1:]),
        (STORIES[0], OWN_KEYS),
        (is_not_told_to_drop_a_key, DELEGATED),
    ],
)
def test_whenever_the_backup_was_taken_the_ledger_knows_what_programs_may_believe(
    story: Callable[[World, Desired], None], wanted: Desired
) -> None:
    def told(world: World) -> None:
        story(world, wanted)

    _, whole = lived(told, copies_at=-1, dies_at=-1)
    assert whole.rounds > ENOUGH
    for lost in range(1, whole.rounds):
        for taken in range(lost + 1):
            world, chapters = lived(told, copies_at=taken, dies_at=lost)
            assert chapters.copy is not None
            restored(world, chapters.copy, what_only_the_ledger_knows(world), believing=True)
            world.fleet.heal(AGENT)
            assert_settled(world, wanted)
            believed = {key for agent in AGENTS[:2] for key in world.trusted(agent, SERVER)}
            assert not world.eye.leaked & believed
