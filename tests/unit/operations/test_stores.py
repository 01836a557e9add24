"""Stores on hosts in memory: filled with the key in use, mended, emptied, and never behind the handover."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import Applied
from orchestrator.operations.audit import audit
from orchestrator.operations.compromise import end_key
from orchestrator.operations.planning import prepare_to_change, record
from orchestrator.operations.remove import remove
from orchestrator.operations.rollouts import resume, revert
from orchestrator.policy.desired import (
    CommandSpec,
    Desired,
    Origin,
    PlaybookName,
    Policy,
    RolloutSpec,
    Share,
)
from orchestrator.policy.stores import (
    Access,
    Holds,
    Nss,
    PemAnchors,
    PemFiles,
    Pkcs12,
    Rendered,
    Store,
    Stores,
    System,
    covers,
)
from orchestrator.rotation.drift import Drift
from orchestrator.rotation.installing import Manifests
from orchestrator.rotation.observed import HeldStore, Problem
from orchestrator.rotation.visits import Activate, Trust
from tests.endings import assert_settled
from tests.fake_state import Filled
from tests.world import AGENTS, SERVERS, Silent, World, desired, with_agents

ACCESS = Access(mode="600")
FILES = PemFiles(key="/etc/app/key", certificate="/etc/app/crt", access=ACCESS)
P12 = Pkcs12(file="/etc/app/p12", password_file="/etc/app/pass", alias="keyrelay", access=ACCESS)
ROOTS = PemAnchors(anchors="/etc/app/ca", access=ACCESS)
CONFIG = Rendered(file="/etc/app/conf", access=ACCESS)
TEXTS = {host: {"/etc/app/conf": f"name {host}\n"} for host in (*SERVERS, *AGENTS)}
STORES = Stores(server=(FILES, P12, CONFIG), agent=(ROOTS, CONFIG), texts=TEXTS)
ONE, AGENT = SERVERS[0], AGENTS[0]
HOUR = timedelta(hours=1)


def with_stores(*server: Store, agent: tuple[Store, ...] = (), policy: Policy = Policy.PER_SERVER) -> Desired:
    return desired(policy, soak=timedelta(0), stores=replace(STORES, server=server, agent=agent))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def stocked(world: World) -> World:
    """A fleet whose stores are filled."""
    assert world.apply(desired(stores=STORES)).complete
    return world


def told_changes(applied: Applied) -> dict[HostName, tuple[str, ...]]:
    """What the plan said of each host."""
    return {change.host: change.what for change in applied.prepared.plan.changes}


def on_server(world: World, server: HostName = ONE) -> Filled:
    filled = world.fleet.hosts[server].server_stores
    assert filled is not None
    return filled


def keys_in(world: World, server: HostName = ONE) -> set[str]:
    return {key for store in on_server(world, server).places.values() for key in store.keys}


def drifts(world: World, host: HostName) -> list[tuple[Drift, str]]:
    found = audit({}, ledger=world.ledger, fleet=world.fleet, clock=world.clock, progress=Silent())
    return [(one.drift, one.detail) for one in found.findings if one.host == host]


def tamper(world: World, host: HostName, place: str, held: HeldStore | None, *, role: str = "server") -> None:
    state = world.fleet.hosts[host]
    filled = state.server_stores if role == "server" else state.agent_stores
    assert filled is not None
    others = {name: store for name, store in filled.places.items() if name != place}
    filled = replace(filled, places=others if held is None else {**others, place: held})
    changed = (
        replace(state, server_stores=filled) if role == "server" else replace(state, agent_stores=filled)
    )
    world.set_host(host, changed)


def mended(world: World) -> None:
    """A person has mended the first server, and resumes what was paused on its account."""
    world.fleet.heal(ONE)
    running = world.recorded.running(PlaybookName("main"))
    assert running is not None
    resume(world.ports, running.id, wait=HOUR)


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("origin", Origin)
def test_a_first_apply_fills_the_stores_of_servers_and_agents(
    world: World, policy: Policy, origin: Origin
) -> None:
    if origin is Origin.SERVER and policy in {Policy.SHARED, Policy.PER_GROUP}:
        return
    wanted = desired(policy, stores=STORES, origin=origin, lifetime=timedelta(days=60))
    world.apply(wanted)
    assert_settled(world, wanted)
    assert keys_in(world) == {world.live_key(ONE)}
    assert on_server(world).places.keys() == {"/etc/app/key", "/etc/app/crt", "/etc/app/p12", "/etc/app/conf"}


def test_a_new_key_is_in_the_stores_before_the_old_one_is_erased(stocked: World) -> None:
    before = keys_in(stocked)
    wanted = desired(stores=STORES)
    stocked.apply(wanted, new_key=True)
    assert_settled(stocked, wanted)
    assert keys_in(stocked) == {stocked.live_key(ONE)} != before


def test_stores_are_filled_in_the_visit_that_switches(world: World) -> None:
    world.apply(desired(soak=timedelta(0), stores=STORES))
    orders = [order for visit in world.fleet.visits for order in visit.orders]
    assert len([order for order in orders if isinstance(order, Activate)]) == len(SERVERS)
    assert all(order.stores for order in orders if isinstance(order, Activate | Trust))


def test_to_install_more_without_a_new_key_is_a_rollout_that_ends_at_once(world: World) -> None:
    world.apply(desired(soak=timedelta(0)))
    key = world.live_key(ONE)
    applied = world.apply(desired(soak=timedelta(0), stores=STORES))
    assert applied.complete
    told = told_changes(applied)
    assert told[ONE] == ("fills /etc/app/conf, /etc/app/crt, /etc/app/key, /etc/app/p12",)
    assert told[AGENT] == ("fills /etc/app/ca, /etc/app/conf",)
    assert keys_in(world) == {world.live_key(ONE)} == {key}
    assert_settled(world, desired(soak=timedelta(0), stores=STORES))


def test_what_is_taken_out_of_a_playbook_is_taken_out_of_hosts(stocked: World) -> None:
    wanted = desired(stores=Stores())
    applied = stocked.apply(wanted)
    told = told_changes(applied)
    assert told[ONE] == ("empties /etc/app/conf, /etc/app/crt, /etc/app/key, /etc/app/p12",)
    assert told[AGENT] == ("empties /etc/app/ca, /etc/app/conf",)
    assert stocked.fleet.hosts[ONE].server_stores is None
    assert stocked.fleet.hosts[AGENT].agent_stores is None
    assert_settled(stocked, wanted)


def test_an_entry_less_leaves_the_others_and_the_plan_names_what_goes(stocked: World) -> None:
    wanted = with_stores(FILES)
    told = told_changes(stocked.apply(wanted))
    assert told[ONE] == ("empties /etc/app/conf, /etc/app/p12",)
    assert told[AGENT] == ("empties /etc/app/ca, /etc/app/conf",)
    assert on_server(stocked).places.keys() == {"/etc/app/key", "/etc/app/crt"}
    assert_settled(stocked, wanted)


def test_a_plan_names_what_is_filled_and_what_is_emptied_and_its_digest_covers_both(stocked: World) -> None:
    moved = replace(FILES, certificate="/etc/app/new.crt")
    one, other = (
        prepare_to_change(with_stores(*stores, agent=(ROOTS,)), stocked.ports).plan
        for stores in ((moved, P12), (moved, P12, replace(CONFIG, access=Access(mode="644"))))
    )
    told = {change.host: (change.what, change.why) for change in one.changes}
    assert told[ONE] == (
        ("fills /etc/app/key, /etc/app/new.crt", "empties /etc/app/conf, /etc/app/crt"),
        "its stores are not as they should be",
    )
    assert told[AGENT] == (("empties /etc/app/conf",), "its stores are not as they should be")
    assert one.digest != other.digest


def test_a_new_key_fills_no_store_that_holds_none(stocked: World) -> None:
    told = told_changes(stocked.apply(desired(stores=STORES), new_key=True))
    assert "fills /etc/app/crt, /etc/app/key, /etc/app/p12" in told[ONE]
    assert not [what for what in told[AGENT] if "fills" in what or "empties" in what]


def test_what_a_host_that_cannot_be_asked_would_lose_is_known_from_the_ledger(stocked: World) -> None:
    stocked.fleet.trouble(ONE, unreachable="no route")
    told = told_changes(stocked.apply(with_stores(FILES)))
    assert told[ONE] == ("empties /etc/app/conf, /etc/app/p12",)
    again = told_changes(stocked.apply(with_stores(FILES)))
    assert again[ONE] == ("empties /etc/app/conf, /etc/app/p12",)


def test_roots_and_chains_in_a_database_have_places_of_their_own() -> None:
    roots = Nss(database="/etc/app/db", name="ours", holds=Holds.ANCHORS)
    system = System(name="ours")
    digest = "0123456789abcdef"
    assert covers(roots, f"/etc/app/db ours-{digest}")
    assert not covers(roots, f"/etc/app/db ours-too-{digest}")
    assert covers(replace(roots, holds=Holds.CREDENTIAL), f"/etc/app/db ours-{digest}")
    assert covers(system, f"/usr/local/share/ca-certificates/ours-{digest}.crt")
    assert not covers(system, f"/usr/local/share/ca-certificates/ours-too-{digest}.crt")


@pytest.mark.parametrize("first", [(FILES,), ()])
def test_a_revert_tells_what_it_does_to_stores_as_a_plan_does(world: World, first: tuple[Store, ...]) -> None:
    waves = RolloutSpec(waves=(Share(number=1), Share(number=3)), soak=HOUR)
    before = desired(rollout=waves, stores=replace(STORES, server=first, agent=()))
    assert world.apply(before).complete
    moved = replace(FILES, certificate="/etc/app/new.crt")
    after = desired(rollout=waves, stores=replace(STORES, server=(moved,), agent=(ROOTS,)))
    world.apply(after, new_key=True, wait=timedelta(0))
    (rollout,) = (one for one in world.recorded.rollouts.values() if one.ended is None)
    undone = revert(world.ports, rollout.id, wait=4 * HOUR)
    told = {change.host: change.what for change in undone.changes}
    assert undone.result.complete
    if first:
        assert told[ONE][1:3] == ("fills /etc/app/crt, /etc/app/key", "empties /etc/app/new.crt")
    else:
        assert "empties /etc/app/key, /etc/app/new.crt" in told[ONE]
    assert "empties /etc/app/ca" in told[AGENT]
    assert {change.why for change in undone.changes if change.host in SERVERS} == {
        f"it takes back rollout {rollout.id}"
    }
    assert_settled(world, before)


@pytest.mark.parametrize(
    ("held", "drift", "detail"),
    [
        (None, Drift.MISSING, "what was put into /etc/app/p12 is gone"),
        (
            HeldStore(kind="pkcs12", place="/etc/app/p12", state="intact", keys=("f" * 64,)),  # type: ignore[arg-type]  # what is there by now
            Drift.UNKNOWN_KEY,
            f"/etc/app/p12 holds key {'f' * 12}, which is not in the ledger",
        ),
        (
            HeldStore(kind="pkcs12", place="/etc/app/p12", state="intact"),  # type: ignore[arg-type]  # as above
            Drift.MISMATCH,
            "/etc/app/p12 holds something else than was put there",
        ),
    ],
)
def test_a_store_that_was_tampered_with_is_named_and_mended(
    stocked: World, held: HeldStore | None, drift: Drift, detail: str
) -> None:
    tamper(stocked, ONE, "/etc/app/p12", held)
    assert drifts(stocked, ONE) == [(drift, detail)]
    wanted = desired(stores=STORES)
    assert stocked.apply(wanted).complete
    assert_settled(stocked, wanted)


def test_a_store_with_the_key_of_before_is_called_previous(stocked: World) -> None:
    earlier = on_server(stocked).places["/etc/app/p12"]
    stocked.apply(desired(stores=STORES), new_key=True)
    stocked.apply(desired(stores=STORES))
    tamper(stocked, ONE, "/etc/app/p12", earlier)
    ((drift, detail),) = drifts(stocked, ONE)
    assert (drift, detail.split()[:3]) == (Drift.PREVIOUS, ["/etc/app/p12", "holds", "key"])
    assert_settled(stocked, desired(stores=STORES))


def test_a_wrong_owner_of_a_store_is_named_and_mended(stocked: World) -> None:
    state = stocked.fleet.hosts[ONE]
    problem = Problem(path="/etc/app/key", found="mode 644", wanted="mode 600")
    stocked.set_host(ONE, replace(state, problems=(problem,)))
    assert drifts(stocked, ONE) == [(Drift.BAD_PERMISSIONS, "/etc/app/key: found mode 644, wanted mode 600")]
    applied = stocked.apply(desired(stores=STORES))
    assert told_changes(applied) == {ONE: ("fills /etc/app/key",)}


def test_an_agents_store_that_was_emptied_is_named_and_mended(stocked: World) -> None:
    tamper(stocked, AGENT, "/etc/app/ca", None, role="agent")
    assert drifts(stocked, AGENT) == [(Drift.MISSING, "what was put into /etc/app/ca is gone")]
    assert_settled(stocked, desired(stores=STORES))


def test_a_wiped_host_gets_its_stores_again(stocked: World) -> None:
    stocked.wipe(AGENT)
    assert (Drift.MISSING, "nothing was put into /etc/app/ca, /etc/app/conf") in drifts(stocked, AGENT)
    stocked.wipe(ONE)
    assert_settled(stocked, desired(stores=STORES))


def test_a_server_whose_store_cannot_be_filled_goes_back_with_key_and_stores(stocked: World) -> None:
    key = stocked.live_key(ONE)
    stocked.fleet.trouble(ONE, store_fails="no space left")
    applied = stocked.apply(desired(stores=STORES), new_key=True)
    assert not applied.complete
    assert stocked.live_key(ONE) == key
    assert keys_in(stocked) == {key}
    mended(stocked)
    assert_settled(stocked, desired(stores=STORES))


def test_a_hook_that_fails_takes_the_stores_back_as_well(stocked: World) -> None:
    key = stocked.live_key(ONE)
    wanted = desired(stores=STORES, hooks=dict.fromkeys(SERVERS, "reload"))
    stocked.fleet.trouble(ONE, hook_fails="not today")
    stocked.apply(wanted, new_key=True)
    assert keys_in(stocked) == {key}
    mended(stocked)
    assert_settled(stocked, wanted)


def test_a_visit_that_dies_while_it_fills_stores_is_made_up_for(stocked: World) -> None:
    for host in (ONE, AGENT):
        stocked.fleet.trouble(host, breaks_at_store=True)
    stocked.apply(with_stores(FILES, agent=(System(name="ours"),)))
    assert drifts(stocked, ONE)[0] == (Drift.MISMATCH, "its stores were not filled to the end")
    for host in (ONE, AGENT):
        stocked.fleet.heal(host)
    assert_settled(stocked, with_stores(FILES, agent=(System(name="ours"),)))


def test_an_agent_whose_store_cannot_be_filled_keeps_its_bundle_and_is_named(world: World) -> None:
    world.fleet.trouble(AGENT, store_fails="no space left")
    applied = world.apply(desired(stores=STORES))
    assert not applied.complete
    assert applied.result is not None
    assert [(block.host, block.reason) for block in applied.result.blocks] == [
        (AGENT, "bundle 1.1 is in use, but a store cannot be filled: no space left")
    ]
    assert world.fleet.hosts[AGENT].bundle is not None
    world.fleet.heal(AGENT)
    assert_settled(world, desired(stores=STORES))


@pytest.mark.parametrize("fault", ["store_fails", "obstructs"])
def test_a_leaked_key_goes_though_a_store_cannot_be_filled_with_the_next_one(
    stocked: World, fault: str
) -> None:
    leaked = stocked.live_key(ONE)
    assert leaked is not None
    stocked.eye.leaked.add(leaked)
    (thumbprint,) = (
        c.public.thumbprint
        for c in stocked.recorded.credentials.values()
        if c.public is not None and c.public.spki_digest == leaked
    )
    stocked.fleet.trouble(ONE, **{fault: "no space left"})
    end_key(stocked.ports, thumbprint, lost=False, reason="a person says so", wait=HOUR)
    stocked.apply(desired(stores=STORES))
    assert on_server(stocked).places.keys() == {"/etc/app/conf"}
    known = stocked.recorded.server_stores[ONE]
    assert (known.manifest, known.intact) == ("", False)
    assert (Drift.MISMATCH, "its stores were not filled to the end") in drifts(stocked, ONE)
    mended(stocked)
    assert_settled(stocked, desired(stores=STORES))


@pytest.mark.parametrize("host", [ONE, AGENT])
def test_a_removed_host_has_nothing_left_in_its_stores(stocked: World, host: HostName) -> None:
    removed = remove(stocked.ports, host, wait=HOUR, give_up=False)
    assert removed.clean
    state = stocked.fleet.hosts[host]
    assert (state.server_stores, state.agent_stores) == (None, None)


def test_a_server_whose_folders_are_gone_is_still_visited_to_empty_its_stores(stocked: World) -> None:
    state = stocked.fleet.hosts[ONE]
    stocked.set_host(ONE, replace(state, credentials={}, current=None))
    removed = remove(stocked.ports, ONE, wait=HOUR, give_up=False)
    assert removed.clean
    assert stocked.fleet.hosts[ONE].server_stores is None


def test_a_host_that_is_both_has_a_text_for_all_as_a_server(world: World) -> None:
    stores = Stores(server=(CONFIG,), agent=(ROOTS, CONFIG), texts=TEXTS)
    wanted = with_agents(desired(soak=timedelta(0), stores=stores), (ONE, AGENT))
    world.apply(wanted)
    state = world.fleet.hosts[ONE]
    assert state.agent_stores is not None
    assert (set(on_server(world).places), set(state.agent_stores.places)) == (
        {"/etc/app/conf"},
        {"/etc/app/ca"},
    )
    assert_settled(world, wanted)


def test_agents_have_both_roots_while_servers_leave_one_for_another(stocked: World) -> None:
    theirs = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n"
    ours = stocked.recorded.root
    spec = CommandSpec(argv=("/our-ca",), root=theirs, timeout=timedelta(seconds=30))
    prepared = prepare_to_change(replace(desired(stores=STORES), issuer=spec), stocked.ports)
    record(prepared, stocked.ports)
    under_way = Manifests.of(stocked.recorded).agent(AGENT)
    assert theirs in under_way
    assert ours in under_way
    disarmed = {server: replace(r, placements={}) for server, r in stocked.recorded.servers.items()}
    over = Manifests.of(replace(stocked.recorded, servers=disarmed)).agent(AGENT)
    assert theirs in over
    assert ours not in over


def test_an_agent_of_two_plays_has_the_stores_of_both(world: World) -> None:
    both = (System(name="ours"),)
    one = desired(servers=SERVERS[:1], soak=timedelta(0), name="one", stores=Stores(agent=(*both, ROOTS)))
    database = Nss(database="/etc/pki/app", name="ours", holds=Holds.ANCHORS)
    two = desired(servers=SERVERS[1:], soak=timedelta(0), name="two", stores=Stores(agent=(*both, database)))
    world.apply(one)
    world.apply(two)
    assert_settled(world, one, two)
    held = world.fleet.hosts[AGENT].agent_stores
    assert held is not None
    assert held.manifest.count("store system anchors") == 1
    assert held.manifest.count("\nstore ") == 3


def test_two_plays_that_would_undo_each_other_are_refused(world: World) -> None:
    world.apply(desired(servers=SERVERS[:1], soak=timedelta(0), name="one", stores=Stores(agent=(ROOTS,))))
    other = replace(ROOTS, access=Access(mode="644"))
    two = desired(servers=SERVERS[1:], soak=timedelta(0), name="two", stores=Stores(agent=(other,)))
    with pytest.raises(RefusedError, match="'two' and 'one' both write to /etc/app/ca on agent-1"):
        world.apply(two)


def test_plays_may_share_a_store_and_its_file_has_the_roots_of_all(world: World) -> None:
    theirs = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n"
    their_ca = CommandSpec(argv=("/our-ca",), root=theirs, timeout=timedelta(seconds=30))
    stores = Stores(agent=(ROOTS,))
    world.apply(desired(servers=SERVERS[:1], soak=timedelta(0), name="one", stores=stores))
    second = replace(desired(servers=SERVERS[1:2], name="two", stores=stores), issuer=their_ca)
    third = desired(servers=SERVERS[2:], name="three", stores=stores)
    for wanted in (second, third):
        record(prepare_to_change(wanted, world.ports), world.ports)

    manifest = Manifests.of(world.recorded).agent(AGENT)
    assert manifest.count("\nstore pem anchors ") == 1
    assert theirs in manifest
    assert world.recorded.root in manifest


def test_plays_with_two_texts_for_one_file_are_refused(world: World) -> None:
    one, same, other = (
        desired(
            servers=SERVERS[number : number + 1],
            soak=timedelta(0),
            name=f"play-{number}",
            stores=Stores(agent=(CONFIG,), texts={host: {CONFIG.file: text} for host in AGENTS}),
        )
        for number, text in enumerate(("a\n", "a\n", "b\n"))
    )
    world.apply(one)
    record(prepare_to_change(same, world.ports), world.ports)
    with pytest.raises(RefusedError, match=f"both write to {CONFIG.file} on {AGENT}"):
        prepare_to_change(other, world.ports)


def test_more_stores_than_a_host_takes_are_refused(world: World) -> None:
    many = tuple(System(name=f"ours-{number}") for number in range(16))
    world.apply(desired(servers=SERVERS[:1], soak=timedelta(0), name="one", stores=Stores(agent=many)))
    two = desired(servers=SERVERS[1:], soak=timedelta(0), name="two", stores=Stores(agent=(ROOTS,)))
    with pytest.raises(RefusedError, match="agent-1 would have 17 stores"):
        world.apply(two)
