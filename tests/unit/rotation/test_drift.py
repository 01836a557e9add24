"""Each way in which a host can differ from what it should be, done to a host and told by its name."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey
from orchestrator.keys.material import Algorithm, generate
from orchestrator.operations.audit import audit
from orchestrator.policy.desired import Desired, Origin, Policy
from orchestrator.rotation.drift import MEANINGS, Drift, classify
from orchestrator.rotation.observed import HeldBundle, HostSurvey, Problem
from tests.endings import assert_settled
from tests.fake_fleet import counting_random
from tests.fake_state import Folder, survey
from tests.world import AGENTS, SERVERS, Silent, World, desired

SERVER, OTHER_SERVER = SERVERS[:2]
AGENT, OTHER_AGENT = AGENTS[:2]
WANTED = desired(servers=SERVERS[:2], agents=AGENTS[:2])


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(WANTED)
    return world


def drifts(world: World) -> Mapping[HostName, set[Drift]]:
    """The classes found on each host that is not ok."""
    found: dict[HostName, set[Drift]] = {}
    for finding in audit(
        {}, ledger=world.ledger, fleet=world.fleet, clock=world.clock, progress=Silent()
    ).findings:
        assert finding.detail
        if finding.drift is not Drift.OK:
            found.setdefault(finding.host, set()).add(finding.drift)
    return found


def change(world: World, host: HostName, **fields: object) -> None:
    world.set_host(host, replace(world.fleet.hosts[host], **fields))  # type: ignore[arg-type]  # named at each call


def folder_in_use(world: World, server: HostName) -> tuple[str, Folder]:
    state = world.fleet.hosts[server]
    assert state.current is not None
    return state.current, state.credentials[state.current]


def change_folder(world: World, server: HostName, **fields: object) -> None:
    name, folder = folder_in_use(world, server)
    after = replace(folder, **fields)  # type: ignore[arg-type]  # named at each call
    change(world, server, credentials={name: after})


def bundle_of(world: World, agent: HostName) -> TrustBundle:
    bundle = world.fleet.hosts[agent].bundle
    assert bundle is not None
    return bundle


def stranger() -> TrustedKey:
    public = generate(Algorithm.ED25519, random=counting_random("stranger")).public
    return TrustedKey(public=public, servers=(SERVER,))


def test_every_class_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Drift)


def test_a_settled_fleet_is_ok_everywhere(world: World) -> None:
    assert drifts(world) == {}


def damage_wiped_server(world: World) -> None:
    world.wipe(SERVER)


def damage_lost_certificate(world: World) -> None:
    change_folder(world, SERVER, certificate_pem=None)


def damage_lost_key(world: World) -> None:
    change_folder(world, SERVER, private_key=None)


def damage_other_certificate(world: World) -> None:
    _, other = folder_in_use(world, OTHER_SERVER)
    change_folder(world, SERVER, certificate_pem=other.certificate_pem)


def damage_other_key(world: World) -> None:
    change_folder(
        world, SERVER, private_key=generate(Algorithm.ED25519, random=counting_random("thief")).private
    )


def damage_key_of_another_server(world: World) -> None:
    _, other = folder_in_use(world, OTHER_SERVER)
    change_folder(world, SERVER, private_key=other.private_key)


def damage_copied_credential(world: World) -> None:
    ours, theirs = world.fleet.hosts[SERVER].credentials, world.fleet.hosts[OTHER_SERVER].credentials
    change(world, SERVER, credentials={**ours, **theirs})


def damage_nothing_in_use(world: World) -> None:
    change(world, SERVER, current=None)


def damage_put_away(world: World) -> None:
    change(world, SERVER, current=None, credentials={}, disarmed=world.fleet.hosts[SERVER].credentials)


def damage_put_away_twice(world: World) -> None:
    change(world, SERVER, disarmed=world.fleet.hosts[SERVER].credentials)


def damage_restored_server(world: World) -> None:
    before = world.fleet.hosts[SERVER]
    world.apply(WANTED, new_key=True)
    world.set_host(SERVER, before)


def damage_restored_agent(world: World) -> None:
    before = world.fleet.hosts[AGENT]
    world.apply(WANTED, new_key=True)
    world.set_host(AGENT, before)


def damage_wiped_agent(world: World) -> None:
    world.wipe(AGENT)


def damage_unknown_trust(world: World) -> None:
    bundle = bundle_of(world, AGENT)
    change(world, AGENT, bundle=replace(bundle, keys=(*bundle.keys, stranger())))


def damage_extra_trust(world: World) -> None:
    bundle = bundle_of(world, AGENT)
    widened = [replace(k, servers=(*SERVERS[:2],)) if k.servers == (SERVER,) else k for k in bundle.keys]
    change(world, AGENT, bundle=replace(bundle, keys=tuple(widened)))


def damage_lost_trust(world: World) -> None:
    bundle = bundle_of(world, AGENT)
    kept = [key for key in bundle.keys if SERVER not in key.servers]
    change(world, AGENT, bundle=replace(bundle, keys=tuple(kept)))


def damage_ended_trust(world: World) -> None:
    bundle = bundle_of(world, AGENT)
    ended = [replace(k, expires=world.clock.now()) if SERVER in k.servers else k for k in bundle.keys]
    change(world, AGENT, bundle=replace(bundle, keys=tuple(ended)))


def damage_due_keys(world: World) -> None:
    world.clock.wait_until(world.clock.now() + timedelta(days=244))


def damage_ended_keys(world: World) -> None:
    world.clock.wait_until(world.clock.now() + timedelta(days=400))


D = Drift
TOLD: Mapping[Callable[[World], None], Mapping[HostName, set[Drift]]] = {
    damage_wiped_server: {SERVER: {D.MISSING}},
    damage_lost_certificate: {SERVER: {D.MISSING}},
    damage_lost_key: {SERVER: {D.MISSING, D.MISMATCH}},
    damage_other_certificate: {SERVER: {D.MISMATCH}},
    damage_other_key: {SERVER: {D.MISMATCH}, AGENT: {D.ORPHANED}, OTHER_AGENT: {D.ORPHANED}},
    damage_key_of_another_server: {
        SERVER: {D.MISMATCH},
        OTHER_SERVER: {D.WRONG_POLICY},
        AGENT: {D.ORPHANED},
        OTHER_AGENT: {D.ORPHANED},
    },
    damage_copied_credential: {SERVER: {D.PREVIOUS}, OTHER_SERVER: {D.WRONG_POLICY}},
    damage_nothing_in_use: {SERVER: {D.MISSING}},
    damage_put_away: {SERVER: {D.MISSING, D.MISMATCH}},
    damage_put_away_twice: {SERVER: {D.MISMATCH}},
    damage_restored_server: {SERVER: {D.PREVIOUS}, AGENT: {D.ORPHANED}, OTHER_AGENT: {D.ORPHANED}},
    damage_restored_agent: {AGENT: {D.REGRESSED, D.EXTRA_TRUST, D.PREVIOUS, D.ORPHANED}},
    damage_wiped_agent: {AGENT: {D.MISSING, D.ORPHANED}},
    damage_unknown_trust: {AGENT: {D.MISMATCH, D.UNKNOWN_KEY}},
    damage_extra_trust: {AGENT: {D.MISMATCH, D.EXTRA_TRUST}},
    damage_lost_trust: {AGENT: {D.MISMATCH, D.MISSING, D.ORPHANED}},
    damage_ended_trust: {AGENT: {D.MISMATCH, D.EXPIRED, D.ORPHANED}},
    damage_due_keys: {SERVER: {D.EXPIRING}, OTHER_SERVER: {D.EXPIRING}},
    damage_ended_keys: {
        SERVER: {D.EXPIRED},
        OTHER_SERVER: {D.EXPIRED},
        AGENT: {D.EXPIRED, D.ORPHANED},
        OTHER_AGENT: {D.EXPIRED, D.ORPHANED},
    },
}


def named(damage: Callable[[World], None]) -> str:
    return damage.__name__.removeprefix("damage_")


@pytest.mark.parametrize("damage", TOLD, ids=named)
def test_each_damage_is_told_by_its_name(world: World, damage: Callable[[World], None]) -> None:
    damage(world)
    assert drifts(world) == TOLD[damage]


@pytest.mark.parametrize("damage", TOLD, ids=named)
def test_each_damage_is_mended_by_the_next_apply(world: World, damage: Callable[[World], None]) -> None:
    damage(world)
    assert_settled(world, WANTED)


def test_a_folder_that_the_ledger_does_not_know_is_told_and_left_alone(world: World) -> None:
    known = world.fleet.hosts[SERVER].credentials
    private = generate(Algorithm.ED25519, random=counting_random("x")).private
    change(world, SERVER, credentials={**known, "old-backup": Folder(private_key=private), "empty": Folder()})
    assert drifts(world) == {SERVER: {Drift.UNKNOWN_KEY}}
    assert world.apply(WANTED).result is None
    assert "old-backup" in world.fleet.hosts[SERVER].credentials


def test_a_key_of_ours_under_a_strange_name_is_a_mismatch(world: World) -> None:
    _, folder = folder_in_use(world, SERVER)
    change(world, SERVER, credentials={**world.fleet.hosts[SERVER].credentials, "copy": folder})
    assert drifts(world) == {SERVER: {Drift.MISMATCH}}


def test_wrong_owners_and_modes_are_told(world: World) -> None:
    problem = Problem(path="server/current", found="0777", wanted="a link")
    change(world, SERVER, problems=(problem,))
    assert drifts(world) == {SERVER: {Drift.BAD_PERMISSIONS}}


def test_a_host_that_cannot_be_asked_is_never_ok(world: World) -> None:
    world.fleet.trouble(SERVER, unreachable="no route")
    assert drifts(world) == {SERVER: {Drift.UNREACHABLE}}
    assert classify(WANTED, world.recorded, {}, {}, now=world.clock.now())[0].detail == "it was not asked"


def test_an_agent_with_private_keys_breaks_the_policy(world: World) -> None:
    _, folder = folder_in_use(world, SERVER)
    change(world, AGENT, credentials={"x": folder})
    assert drifts(world) == {AGENT: {Drift.WRONG_POLICY}, SERVER: {Drift.WRONG_POLICY}}


def test_a_server_of_one_playbook_may_be_an_agent_of_another() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1], name="one"))
    world.apply(desired(servers=SERVERS[1:2], agents=SERVERS[:1], name="two"))
    assert drifts(world) == {}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:2]), {Drift.WRONG_POLICY}),
        (
            desired(servers=SERVERS[:2], agents=AGENTS[:2], algorithm=Algorithm.ECDSA_P256),
            {Drift.WRONG_POLICY},
        ),
        (desired(servers=SERVERS[:2], agents=AGENTS[:2], origin=Origin.SERVER), {Drift.WRONG_POLICY}),
    ],
    ids=["scope", "algorithm", "origin"],
)
def test_a_key_that_the_playbook_does_not_ask_for_is_told(
    world: World, asked: Desired, found: set[Drift]
) -> None:
    surveys = {host: survey(world.fleet.hosts[host]) for host in asked.endpoints}
    told = classify(asked, world.recorded, surveys, {}, now=world.clock.now())
    assert {f.drift for f in told if f.host == SERVER} == found


def test_key_files_that_do_not_fit_their_edges_are_told(world: World) -> None:
    surveys = {host: survey(world.fleet.hosts[host]) for host in WANTED.endpoints}
    held = surveys[AGENT].bundle
    assert isinstance(held, HeldBundle)
    swapped = {**surveys, AGENT: replace(surveys[AGENT], bundle=replace(held, keys=()))}
    told = classify(WANTED, world.recorded, swapped, {}, now=world.clock.now())
    assert [f.detail for f in told if f.host == AGENT] == ["its key files do not fit its edges"]


def test_a_handover_that_waits_is_told_without_false_alarm(world: World) -> None:
    world.apply(WANTED, new_key=True, wait=timedelta(0))
    assert drifts(world) == {SERVER: {Drift.PREVIOUS}, OTHER_SERVER: {Drift.PREVIOUS}}


def test_an_agent_known_to_nobody_is_told_from_what_the_playbook_asks() -> None:
    world = World()
    asked = desired(servers=SERVERS[:1], agents=AGENTS[:1])
    empty = HostSurvey(
        user="root", openssl="", fence=None, current=None, credentials=(), bundle=None, problems=()
    )
    told = classify(asked, world.recorded, {AGENT: empty, SERVER: empty}, {}, now=world.clock.now())
    assert [(f.host, f.drift) for f in told] == [(AGENT, Drift.MISSING), (SERVER, Drift.MISSING)]


def test_a_bundle_older_than_it_was_is_regressed_even_with_the_right_keys(world: World) -> None:
    bundle = bundle_of(world, AGENT)
    change(world, AGENT, bundle=replace(bundle, position=Position(epoch=1, sequence=0)))
    assert drifts(world) == {AGENT: {Drift.REGRESSED}}
    assert_settled(world, WANTED)
