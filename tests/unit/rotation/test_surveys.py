"""What a survey changes: hosts are believed about what they hold, never about what it proves."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.rotation.events import HostsSurveyed, KeyEnded
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.observed import HeldCredential, HeldEdge, HostSurvey, Tombstone
from orchestrator.rotation.recorded import AgentRecord, Evidence, Intent, Proof, Recorded, Standing
from orchestrator.rotation.visits import CredentialId
from tests.fake_state import survey
from tests.fakes import NOON
from tests.unit.rotation.chronicle import after, intended
from tests.world import AGENTS, SERVERS, World, desired

SERVER, AGENT = SERVERS[0], AGENTS[0]
LATER = NOON + timedelta(hours=1)


@pytest.fixture(scope="module")
def world() -> World:
    """A handover that stopped while the old key stands by."""
    world = World()
    wanted = desired(servers=SERVERS[:1], agents=AGENTS[:1])
    world.apply(wanted)
    world.apply(wanted, new_key=True, wait=timedelta(0))
    return world


def keys(world: World) -> tuple[CredentialId, CredentialId]:
    """The new key, in use, and the old one, beside it."""
    new = world.recorded.servers[SERVER].target
    assert new is not None
    (old,) = world.recorded.servers[SERVER].placements.keys() - {new}
    return new, old


def seen(recorded: Recorded, host: HostName, answer: HostSurvey, *, at: datetime = LATER) -> Recorded:
    return after(recorded, HostsSurveyed(surveys={host: answer}, failures={}), at=at)


def held(world: World) -> HostSurvey:
    return survey(world.fleet.hosts[SERVER])


def with_old(world: World, **fields: object) -> HostSurvey:
    _, old = keys(world)
    changed = [replace(h, **fields) if h.name == old else h for h in held(world).credentials]  # type: ignore[arg-type]  # named at each call
    return replace(held(world), credentials=tuple(changed))


def standing(recorded: Recorded, credential: CredentialId) -> Standing | None:
    placement = recorded.servers[SERVER].placements.get(credential)
    return placement.standing if placement is not None else None


def test_a_survey_that_tells_nothing_new_changes_nothing_but_the_contact(world: World) -> None:
    told = seen(world.recorded, SERVER, held(world))
    assert told.servers == world.recorded.servers
    assert told.contacts[SERVER].seen == LATER


def test_a_key_that_is_not_to_be_seen_may_be_signed_with_all_the_same(world: World) -> None:
    new, old = keys(world)
    empty = replace(held(world), credentials=(), current=None)
    told = seen(world.recorded, SERVER, empty)
    assert told.servers[SERVER].placements == {}
    assert (told.servers[SERVER].missing, told.servers[SERVER].cleared) == ({new: LATER, old: LATER}, {})
    assert told.may_sign(SERVER) == told.may_hold(SERVER) == {new, old}
    again = seen(told, SERVER, empty, at=LATER + timedelta(hours=1))
    assert again.servers[SERVER] == told.servers[SERVER]


def test_a_key_that_is_seen_again_is_what_it_was(world: World) -> None:
    empty = replace(held(world), credentials=(), current=None)
    again = seen(seen(world.recorded, SERVER, empty), SERVER, held(world))
    assert again.servers[SERVER].missing == {}
    assert again.may_sign(SERVER) == world.recorded.may_sign(SERVER)


def test_a_missing_key_that_a_person_ends_is_remembered_for_its_messages_under_way(world: World) -> None:
    _, old = keys(world)
    empty = replace(held(world), credentials=(), current=None)
    told = seen(world.recorded, SERVER, empty)
    ended = KeyEnded(credential=old, how=KeyState.LOST, reason="it was wiped")
    after_it = after(told, ended, at=LATER + timedelta(hours=1))
    assert after_it.servers[SERVER].cleared == {old: LATER + timedelta(hours=1)}
    assert old not in after_it.servers[SERVER].missing


def test_a_key_that_its_server_remembers_as_removed_is_gone_and_remembered_for_its_messages_under_way(
    world: World,
) -> None:
    _, old = keys(world)
    public = world.recorded.credentials[old].public
    assert public is not None
    stone = Tombstone(key=public.spki_digest, how="removed", until=2**32)
    left = tuple(h for h in held(world).credentials if h.name != old)
    told = seen(world.recorded, SERVER, replace(held(world), credentials=left, ended=(stone,)))
    assert (told.servers[SERVER].missing, told.servers[SERVER].cleared) == ({}, {old: LATER})


def test_a_key_that_was_put_away_is_remembered_too(world: World) -> None:
    _, old = keys(world)
    told = seen(world.recorded, SERVER, with_old(world, disarmed=True))
    assert standing(told, old) is Standing.DISARMED
    assert told.servers[SERVER].cleared == {old: LATER}


def test_a_key_in_both_places_counts_where_it_can_be_used(world: World) -> None:
    _, old = keys(world)
    armed = held(world)
    twice = [
        *armed.credentials,
        *(replace(h, disarmed=True) for h in armed.credentials if h.name == old),
    ]
    told = seen(world.recorded, SERVER, replace(armed, credentials=tuple(twice), current=old))
    assert standing(told, old) is Standing.ACTIVE
    assert old in told.may_sign(SERVER)


def test_a_host_that_went_back_uses_the_old_key_and_the_new_one_stands_by(world: World) -> None:
    new, old = keys(world)
    told = seen(world.recorded, SERVER, replace(held(world), current=old))
    assert (standing(told, old), standing(told, new)) == (Standing.ACTIVE, Standing.STANDBY)
    assert told.servers[SERVER].placements[old].evidence is Evidence.SURVEYED
    assert told.servers[SERVER].placements[old].claim is not None


def test_a_switch_that_may_have_been_made_counts_until_a_survey_tells(world: World) -> None:
    _, old = keys(world)
    disarmed = seen(world.recorded, SERVER, with_old(world, disarmed=True))
    unsure = intended(disarmed, Intent(host=SERVER, activates=old))
    assert old in unsure.may_sign(SERVER)
    told = seen(unsure, SERVER, with_old(world, disarmed=True), at=LATER + timedelta(hours=1))
    assert told.servers[SERVER].cleared == {old: LATER + timedelta(hours=1)}
    assert not told.pending


@pytest.mark.parametrize("key", [None, SpkiDigest("00" * 32)], ids=["unreadable", "another"])
def test_a_key_that_does_not_fit_proves_nothing_and_is_not_forgotten(
    world: World, key: SpkiDigest | None
) -> None:
    _, old = keys(world)
    told = seen(world.recorded, SERVER, with_old(world, key=key))
    assert standing(told, old) is Standing.STANDBY
    assert told.servers[SERVER].placements[old].claim is None
    assert seen(told, SERVER, with_old(world, key=key)).servers == told.servers


def test_a_key_without_a_certificate_waits_for_one(world: World) -> None:
    _, old = keys(world)
    without = with_old(world, certificate_key=None, certificate_digest=None)
    told = seen(seen(world.recorded, SERVER, with_old(world, disarmed=True)), SERVER, without)
    assert standing(told, old) is Standing.MADE


def test_a_folder_that_nobody_knows_is_not_recorded(world: World) -> None:
    stranger = HeldCredential(
        name="backup",
        disarmed=False,
        key=SpkiDigest("00" * 32),
        certificate_key=None,
        certificate_digest=None,
        not_after=None,
    )
    answer = replace(held(world), credentials=(*held(world).credentials, stranger))
    assert seen(world.recorded, SERVER, answer).servers == world.recorded.servers


def test_an_agent_without_a_bundle_has_proven_nothing(world: World) -> None:
    answer = replace(survey(world.fleet.hosts[AGENT]), bundle=None)
    told = seen(world.recorded, AGENT, answer)
    assert told.agents[AGENT] == AgentRecord()
    assert seen(told, AGENT, answer).agents == told.agents


def test_a_bundle_that_was_under_way_and_came_is_installed_unproven(world: World) -> None:
    record = world.recorded.agents[AGENT]
    assert record.installed is not None
    came = replace(record.installed, digest="came", lines=record.installed.lines[:1])
    unsure = intended(
        world.recorded,
        Intent(host=AGENT, bundle=came, proves=tuple(Proof(line=line, nonce="aa") for line in came.lines)),
    )
    bundle = survey(world.fleet.hosts[AGENT]).bundle
    assert bundle is not None
    answer = replace(survey(world.fleet.hosts[AGENT]), bundle=replace(bundle, digest="came"))
    told = seen(unsure, AGENT, answer)
    installed = told.agents[AGENT].installed
    assert installed is not None
    assert (installed.digest, told.agents[AGENT].proven) == ("came", {})
    assert installed.lines[0].since == record.installed.lines[0].since


def test_programs_that_were_not_told_of_a_bundle_may_use_any_of_those_before_it(world: World) -> None:
    record = world.recorded.agents[AGENT]
    assert record.installed is not None
    first = record.installed
    second = replace(first, digest="second", lines=first.lines[:1])
    third = replace(second, position=replace(first.position, sequence=99), digest="third")
    bundle = survey(world.fleet.hosts[AGENT]).bundle
    assert bundle is not None
    answer = replace(survey(world.fleet.hosts[AGENT]), untold=True)

    told = world.recorded
    for came in (second, third):
        there = replace(bundle, position=came.position, digest=came.digest)
        told = seen(intended(told, Intent(host=AGENT, bundle=came)), AGENT, replace(answer, bundle=there))
        assert told.settled_bundle(AGENT) is None
        assert [one.digest for one in told.bundles(AGENT)] == [first.digest, came.digest]
        assert seen(told, AGENT, replace(answer, bundle=there)).agents == told.agents

    done = seen(told, AGENT, replace(answer, bundle=there, untold=False))
    assert [one.digest for one in done.bundles(AGENT)] == ["third"]
    assert done.settled_bundle(AGENT) == done.agents[AGENT].installed


def test_an_unfamiliar_bundle_is_told_by_its_own_edges(world: World) -> None:
    new, _ = keys(world)
    public = world.recorded.credentials[new].public
    bundle = survey(world.fleet.hosts[AGENT]).bundle
    assert public is not None
    assert bundle is not None
    edges = (
        HeldEdge(server=SERVER, key=public.spki_digest, expires=None),
        HeldEdge(server=SERVER, key=SpkiDigest("00" * 32), expires=None),
        HeldEdge(server=HostName("elsewhere"), key=public.spki_digest, expires=None),
    )
    answer = replace(survey(world.fleet.hosts[AGENT]), bundle=replace(bundle, digest="foreign", edges=edges))
    told = seen(world.recorded, AGENT, answer)
    installed = told.agents[AGENT].installed
    assert installed is not None
    assert [(line.server, line.credential) for line in installed.lines] == [
        ("elsewhere", new),
        (SERVER, new),
    ]
    assert (installed.content, installed.evidence) == ("", Evidence.SURVEYED)
    assert not told.agents[AGENT].proven
    assert seen(told, AGENT, answer).agents == told.agents


def test_a_host_of_no_playbook_leaves_no_record(world: World) -> None:
    told = seen(world.recorded, HostName("passer-by"), held(world))
    assert (told.servers, told.agents) == (world.recorded.servers, world.recorded.agents)


def test_a_host_that_could_not_be_asked_keeps_its_record(world: World) -> None:
    told = after(world.recorded, HostsSurveyed(surveys={}, failures={SERVER: "off"}), at=LATER)
    assert told.servers == world.recorded.servers
    assert told.contacts[SERVER].reason == "off"
