"""Keys that agents alone speak of when a home is restored: who trusts one keeps it, no other learns it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.errors import UsageError
from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import TrustedKey, Use
from orchestrator.keys.material import Algorithm, PublicKey, SpkiDigest, generate
from orchestrator.operations.audit import audit
from orchestrator.operations.restore import Effects, Request, restore
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import Desired, Policy
from orchestrator.rotation.drift import Drift
from orchestrator.rotation.observed import LATEST
from tests.endings import assert_settled
from tests.fakes import SeededEntropy
from tests.homes import copied, go_on_with
from tests.world import AGENTS, SERVERS, Silent, World, desired

SMALL = desired(servers=SERVERS[:2], agents=AGENTS[:2])
DELEGATED = desired(Policy.DELEGATED, servers=SERVERS[:2], agents=AGENTS[:2])
KINDS = pytest.mark.parametrize("wanted", [SMALL, DELEGATED], ids=["known", "vouched for"])
HONEST, LIAR = AGENTS[:2]
SERVER, OTHER = SERVERS[:2]
MADE_UP = generate(Algorithm.ED25519, random=SeededEntropy("made up")).public
NEXT_YEAR = datetime(2031, 1, 1, tzinfo=UTC)


def claimed(
    wanted: Desired, key: PublicKey = MADE_UP, server: HostName = SERVER, end: datetime = NEXT_YEAR
) -> World:
    """A fleet that is to be restored, and an agent that has written a key into its own bundle."""
    world = World()
    world.apply(wanted)
    world.eye.takes_in_surveys()
    claims(world, key, server, end)
    return world


def claims(world: World, key: PublicKey, server: HostName, end: datetime) -> None:
    state = world.fleet.hosts[LIAR]
    assert state.bundle is not None
    line = TrustedKey(public=key, uses=(Use.SIGN,), servers=(server,), expires=end)
    others = tuple(one for one in state.bundle.keys if one.public != key)
    both = [one for one in state.bundle.keys if one.public == key]
    if both:
        line = replace(both[0], servers=tuple(sorted({*both[0].servers, server})))
    world.fleet.hosts[LIAR] = replace(state, bundle=replace(state.bundle, keys=(*others, line)))
    go_on_with(world, copied(world), watched=False)


def go_on(world: World, request: Request) -> Effects:
    effects = restore(world.ports, request, agree=lambda _: True)
    assert effects is not None
    return effects


def public_of(world: World, server: HostName) -> PublicKey:
    live = world.live_key(server)
    (public,) = (
        c.public for c in world.recorded.credentials.values() if c.public and c.public.spki_digest == live
    )
    return public


def out_of_sight_since_the_copy() -> tuple[World, PublicKey]:
    """A copy that does not know the key in use, of which only agents can tell, and that key."""
    world = World()
    world.apply(SMALL)
    copy = copied(world)
    world.apply(SMALL, new_key=True)
    newer = public_of(world, SERVER)
    world.eye.takes_in_surveys()
    world.base_goes(SERVER)
    go_on_with(world, copy, watched=False)
    return world, newer


def runs(world: World, wanted: Desired) -> None:
    """A watch, where nobody says of a key that is out of sight that it is lost."""
    watch_once(world.ports, wanted)
    world.clock.wait_until(world.clock.now() + timedelta(hours=1))
    watch_once(world.ports, wanted)


def trusting(world: World, key: PublicKey, server: HostName = SERVER) -> set[HostName]:
    return {agent for agent in AGENTS[:2] if key.spki_digest in world.trusted(agent, server)}


def findings(world: World) -> list[str]:
    found = audit({}, ledger=world.ledger, fleet=world.fleet, clock=world.clock, progress=Silent())
    return [f"{one.host}: {one.detail}" for one in found.findings if one.drift is Drift.UNKNOWN_KEY]


@KINDS
def test_a_key_that_one_agent_speaks_of_is_named_and_given_to_nobody_else(wanted: Desired) -> None:
    world = claimed(wanted)
    effects = go_on(world, Request())
    (told,) = effects.claimed
    assert (told.server, told.agents, told.thumbprint) == (SERVER, (LIAR,), MADE_UP.thumbprint)
    for _ in range(2):
        runs(world, wanted)
        assert trusting(world, MADE_UP) == {LIAR}
    (finding,) = findings(world)
    assert finding.startswith("agent-2: it trusts server-1 with key ")
    assert "which only agents tell of" in finding
    assert world.orphans() == []


@KINDS
def test_a_person_who_does_not_believe_the_agent_takes_it_away_from_there(wanted: Desired) -> None:
    world = claimed(wanted)
    go_on(world, Request(disbelieve=[LIAR]))
    assert_settled(world, wanted)
    assert trusting(world, MADE_UP) == set()


def test_a_key_that_others_speak_of_too_stays_where_one_of_them_is_not_believed() -> None:
    world, newer = out_of_sight_since_the_copy()
    go_on(world, Request(disbelieve=[LIAR]))
    runs(world, SMALL)
    assert trusting(world, newer) == {HONEST, LIAR}
    world.base_comes_back(SERVER)
    assert world.orphans() == []


@KINDS
def test_another_servers_key_is_not_given_to_agents_at_the_word_of_one(wanted: Desired) -> None:
    world = World()
    world.apply(wanted)
    key = public_of(world, OTHER)
    world.eye.takes_in_surveys()
    claims(world, key, SERVER, NEXT_YEAR)
    (told,) = go_on(world, Request()).claimed
    assert (told.server, told.key, told.agents) == (SERVER, key.spki_digest, (LIAR,))
    runs(world, wanted)
    assert trusting(world, key, SERVER) <= {LIAR}
    assert world.orphans() == []


def test_a_key_that_only_agents_tell_of_is_known_once_its_server_is_seen_with_it() -> None:
    world, newer = out_of_sight_since_the_copy()
    go_on(world, Request())
    assert world.recorded.servers[SERVER].hearsay
    runs(world, SMALL)
    assert trusting(world, newer) == {HONEST, LIAR}
    assert "which only agents tell of" in str(findings(world))
    world.base_comes_back(SERVER)
    assert world.orphans() == []
    runs(world, SMALL)
    assert not world.recorded.servers[SERVER].hearsay
    assert world.orphans() == []


def test_nobody_who_claims_nothing_is_to_be_disbelieved_and_no_claim_is_to_be_believed() -> None:
    world = claimed(SMALL)
    with pytest.raises(UsageError, match="agent-1 says nothing that a person has to believe"):
        go_on(world, Request(disbelieve=[HONEST]))
    with pytest.raises(UsageError, match="agent-2 says nothing that a person has to believe"):
        go_on(world, Request(believe=[LIAR]))


def test_an_end_at_the_edge_of_the_calendar_leaves_the_home_in_order() -> None:
    world = claimed(SMALL, end=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    go_on(world, Request())
    assert all(c.expires < datetime.max.replace(tzinfo=UTC) for c in world.recorded.credentials.values())
    runs(world, SMALL)
    assert trusting(world, MADE_UP) == {LIAR}
    assert all(c.not_after <= LATEST for c in world.recorded.credentials.values())


def test_a_host_that_claims_anothers_new_key_does_not_end_it() -> None:
    world = World()
    world.apply(SMALL)
    copy = copied(world)
    world.apply(SMALL, new_key=True)
    world.eye.takes_in_surveys()
    thief, state = world.fleet.hosts[OTHER], world.fleet.hosts[SERVER]
    assert state.current is not None
    stolen = replace(state.credentials[state.current], certificate_pem=None, chain_pem=None)
    name = "a" * 32
    world.fleet.hosts[OTHER] = replace(thief, credentials={**thief.credentials, name: stolen}, current=name)
    key = SpkiDigest(str(world.live_key(SERVER)))
    go_on_with(world, copy, watched=False)
    go_on(world, Request())
    ended = {c.public.spki_digest for c in world.recorded.credentials.values() if c.compromised and c.public}
    assert key not in ended
