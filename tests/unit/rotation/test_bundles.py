"""What agents are given, and that equal lines are the very same bundle."""

from datetime import timedelta

import pytest

from orchestrator.keys.bundle import Position, Use
from orchestrator.rotation.bundles import Press, wanted_lines
from orchestrator.rotation.events import NewCredential, RolloutStarted
from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.recorded import RolloutId, TrustLine
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId
from tests.unit.rotation.chronicle import after
from tests.world import AGENTS, SERVERS, World, desired

WANTED = desired(servers=SERVERS[:2], agents=AGENTS[:2], soak=timedelta(0))


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(WANTED)
    return world


def lines(world: World, **steps: Step) -> frozenset[TrustLine]:
    told = {server: steps.get(server.replace("-", "_"), Step.DONE) for server in SERVERS[:2]}
    return wanted_lines(View.of(world.recorded, world.clock.now()), AGENTS[0], told)


def test_a_settled_agent_trusts_each_server_with_its_one_key(world: World) -> None:
    targets = {
        TrustLine(server=s, credential=r.target) for s, r in world.recorded.servers.items() if r.target
    }
    assert lines(world) == targets


def test_agents_with_equal_lines_get_the_very_same_bundle(world: World) -> None:
    press = Press(world.recorded)
    assert press.bundle(lines(world))[0] is press.bundle(lines(world))[0]
    assert press.position == Position(epoch=1, sequence=world.recorded.position.sequence + 1)


def test_a_bundle_carries_the_authorities_for_what_they_may_do(world: World) -> None:
    bundle, installed = Press(world.recorded).bundle(lines(world))
    uses = sorted(key.uses for key in bundle.keys)
    assert uses == [(Use.CERTIFY,), (Use.CERTIFY, Use.LOG), (Use.SIGN,), (Use.SIGN,)]
    assert (installed.digest, installed.content) == (bundle.digest, bundle.content_digest)


def test_keys_end_with_their_certificate_and_the_grace(world: World) -> None:
    bundle, _ = Press(world.recorded).bundle(lines(world))
    ends = {key.expires for key in bundle.keys if key.signs}
    (credential, *_) = world.recorded.credentials.values()
    assert ends == {credential.not_after + timedelta(days=30)}


def test_while_one_server_waits_nothing_is_dropped_for_another(world: World) -> None:
    world.apply(WANTED, new_key=True, wait=timedelta(0))
    assert len(lines(world)) == 4
    world.clock.wait_until(world.clock.now() + timedelta(minutes=6))
    assert len(lines(world, server_1=Step.WAIT)) == 4
    assert len(lines(world)) == 2


def test_a_key_that_is_not_made_cannot_be_trusted(world: World) -> None:
    made = CredentialId("ab" * 16)
    (known, *_) = world.recorded.credentials.values()
    new = NewCredential(
        id=made,
        scope=known.scope,
        key=known.key,
        servers=known.servers,
        not_before=known.not_before,
        not_after=known.not_after,
    )
    start = RolloutStarted(
        rollout=RolloutId("0" * 16), desired=WANTED, new=(new,), targets={SERVERS[0]: made}, reasons=()
    )
    recorded = after(world.recorded, start)
    with pytest.raises(ValueError, match="is to be trusted before it is made"):
        Press(recorded).bundle(frozenset({TrustLine(server=SERVERS[0], credential=made)}))
