"""What every ``Fleet`` does with stores: filled by the switch, taken back with it, emptied with the host."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.keys.material import KeyPair
from orchestrator.policy.stores import (
    Access,
    PemAnchors,
    PemFiles,
    Rendered,
    digest_of,
    entry_of,
    make_manifest,
)
from orchestrator.rotation import reports, visits
from orchestrator.rotation.observed import HeldStores, StoreState
from orchestrator.rotation.reports import Changed, Failed, Outcome, Refused, Unchanged
from orchestrator.rotation.visits import CredentialId, Hook
from tests.fleet_worlds import (
    AGENT,
    ONE,
    SERVER,
    TWO,
    World,
    bundle,
    certificate,
    challenge,
    key,
    stage,
    survey,
    visit,
)

Manifest = Callable[[str], str]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """The manifest of a server, or of an agent, whose stores are in a folder of this test."""
    at, access = tmp_path, Access(mode="600")
    server = (
        PemFiles(key=f"{at}/key", certificate=f"{at}/crt", access=access),
        Rendered(file=f"{at}/conf", access=access),
    )
    agent = (PemAnchors(anchors=f"{at}/ca", access=access),)
    texts = {f"{at}/conf": "listen\n"}

    def make(role: str) -> str:
        stores = server if role == "server" else agent
        return make_manifest(entry_of(one, anchors=certificate(ROOT), texts=texts) for one in stores)

    return make


ROOT = key()


def switched(
    world: World, pair: KeyPair, manifest: str, credential: CredentialId = ONE, hook: Hook | None = None
) -> Outcome:
    order = visits.Activate(
        credential=credential,
        challenge=challenge(),
        algorithm=pair.public.algorithm,
        hook=hook,
        stores=manifest,
    )
    return visit(world, SERVER, stage(pair, credential), order)


def told(outcome: Outcome) -> str:
    assert isinstance(outcome, Changed | Unchanged), outcome
    last = outcome.reports[-1]
    assert isinstance(last, reports.Activated | reports.Trusted)
    return last.stores


def held(stores: HeldStores | None) -> tuple[object, ...]:
    """What a survey tells of stores that are as they were left."""
    assert stores is not None
    assert {store.state for store in stores.places} == {StoreState.INTACT}
    keys = {one for store in stores.places for one in store.keys}
    names = [(store.kind, Path(store.place).name) for store in stores.places]
    return (stores.digest, stores.credential, keys, sorted(names))


SERVERS_STORES = [("pem", "crt"), ("pem", "key"), ("template", "conf")]


def test_a_switch_fills_the_stores_and_tells_by_which_manifest(world: World, manifest: Manifest) -> None:
    pair, asked = key(), manifest("server")
    assert told(switched(world, pair, asked)) == digest_of(asked)
    found = held(survey(world, SERVER).server_stores)
    assert found == (digest_of(asked), ONE, {pair.public.spki_digest}, SERVERS_STORES)
    again = switched(world, pair, asked)
    assert isinstance(again, Unchanged)
    assert told(again) == digest_of(asked)


def test_the_next_key_takes_the_place_of_the_one_before(world: World, manifest: Manifest) -> None:
    asked, pair = manifest("server"), key()
    switched(world, key(), asked)
    switched(world, pair, asked, TWO)
    found = held(survey(world, SERVER).server_stores)
    assert found == (digest_of(asked), TWO, {pair.public.spki_digest}, SERVERS_STORES)


def test_a_hook_that_fails_takes_the_stores_back_too(world: World, manifest: Manifest) -> None:
    asked, before = manifest("server"), key()
    switched(world, before, asked)
    assert isinstance(switched(world, key(), asked, TWO, world.failing_hook(SERVER)), Failed)
    found = survey(world, SERVER)
    assert found.current == ONE
    assert held(found.server_stores)[1:3] == (ONE, {before.public.spki_digest})


def test_without_a_manifest_what_is_there_is_taken_away(world: World, manifest: Manifest) -> None:
    pair = key()
    switched(world, pair, manifest("server"))
    assert told(switched(world, pair, "")) == ""
    assert survey(world, SERVER).server_stores is None


def test_a_server_that_leaves_empties_its_stores(world: World, manifest: Manifest) -> None:
    switched(world, key(), manifest("server"))
    outcome = visit(world, SERVER, visits.Disarm(credentials=(ONE,), in_use=None))
    assert isinstance(outcome, Changed)
    assert outcome.reports == (reports.Disarmed(credentials=(ONE,), changed=True, emptied=True),)
    assert survey(world, SERVER).server_stores is None


def test_an_agents_stores_are_filled_with_its_bundle_and_emptied_with_the_next(
    world: World, manifest: Manifest
) -> None:
    asked, known = manifest("agent"), bundle(1, key())
    assert told(visit(world, AGENT, visits.Trust(bundle=known, stores=asked))) == digest_of(asked)
    found = survey(world, AGENT)
    assert held(found.agent_stores) == (digest_of(asked), None, set(), [("pem", "ca")])
    assert found.server_stores is None
    assert told(visit(world, AGENT, visits.Trust(bundle=bundle(2, key())))) == ""
    assert survey(world, AGENT).agent_stores is None


def test_a_survey_tells_what_a_switch_would_be_refused_with(
    world: World, manifest: Manifest, tmp_path: Path
) -> None:
    asked, before = manifest("server"), key()
    assert survey(world, SERVER, stores=asked).obstacles == ()
    switched(world, before, asked)
    assert survey(world, SERVER, stores=asked).obstacles == ()

    world.obstruct(SERVER, tmp_path)
    found = survey(world, SERVER, stores=asked).obstacles
    refused = switched(world, key(), asked, TWO)
    assert isinstance(refused, Refused)
    assert {(one.role, Path(one.place).name) for one in found} == {
        ("server", name) for _, name in SERVERS_STORES
    }
    assert {one.reason for one in found} == {refused.reason}
    assert survey(world, SERVER).obstacles == ()
    assert survey(world, SERVER).current == ONE
