"""Which ended keys hosts are told to remember: not more than they can, and the gravest of them."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import MappingProxyType

from orchestrator.keys.material import Algorithm, generate
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.observed import MOST_TOMBSTONES
from orchestrator.rotation.recorded import Credential, Recorded
from orchestrator.rotation.tombstones import Endings
from orchestrator.rotation.visits import CredentialId
from tests.world import AGENTS, SERVERS, World, desired

LEAKED = 3


def numbered(number: int, size_bytes: int) -> bytes:
    return number.to_bytes(size_bytes, "big")


def with_many_ended(recorded: Recorded) -> Recorded:
    """The same with more ended keys than a host remembers, each good for longer than the one before."""
    (one,) = recorded.credentials.values()
    ended: dict[CredentialId, Credential] = {}
    for n in range(MOST_TOMBSTONES + 2 * LEAKED):
        public = generate(Algorithm.ED25519, random=partial(numbered, n)).public
        name = CredentialId(f"{n:032x}")
        how = KeyState.COMPROMISED if n < LEAKED else None
        until = one.not_after + timedelta(days=n)
        ended[name] = replace(one, id=name, public=public, not_after=until, ended=how)
    return replace(recorded, credentials=MappingProxyType({**recorded.credentials, **ended}))


def test_of_more_than_a_host_remembers_it_is_told_those_that_leaked_and_those_that_last_longest() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    recorded = with_many_ended(world.recorded)
    every = [name for name in recorded.credentials if name not in world.recorded.credentials]

    told = Endings.of(recorded, world.clock.now()).told(every)

    assert len(told) == MOST_TOMBSTONES
    assert sum(stone.how == "compromised" for stone in told) == LEAKED
    left_out = {recorded.credentials[name].public for name in every[LEAKED : 2 * LEAKED + LEAKED]}
    assert not {key.spki_digest for key in left_out if key is not None} & {stone.key for stone in told}


def test_an_agent_that_leaves_is_told_of_no_key_whose_messages_may_still_be_on_their_way() -> None:
    world = World()
    wanted = desired(servers=SERVERS[:1], agents=AGENTS[:2], soak=timedelta(minutes=10))
    world.apply(wanted)
    (old,) = world.trusted(AGENTS[1], SERVERS[0])
    world.apply(wanted, new_key=True, wait=timedelta(minutes=12))

    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]), wait=timedelta(0))

    assert old in world.trusted(AGENTS[0], SERVERS[0])
    assert world.trusted(AGENTS[1], SERVERS[0]) == set()
    assert world.fleet.hosts[AGENTS[1]].ended == ()


def test_an_agent_that_drops_a_key_once_its_messages_have_ended_is_told_so() -> None:
    world = World()
    wanted = desired(servers=SERVERS[:1], agents=AGENTS[:1])
    world.apply(wanted)
    (old,) = world.trusted(AGENTS[0], SERVERS[0])

    world.apply(wanted, new_key=True)

    assert [stone.key for stone in world.fleet.hosts[AGENTS[0]].ended] == [old]
