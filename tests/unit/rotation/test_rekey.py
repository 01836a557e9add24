"""When a scope needs a new key: each reason once, and none when there is none."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.keys.material import Algorithm
from orchestrator.policy.desired import CommandSpec, Desired, Origin, Policy
from orchestrator.rotation.events import KeyDestroyed, RolloutStarted
from orchestrator.rotation.plan import Plan
from orchestrator.rotation.recorded import RolloutId
from tests.world import AGENTS, SERVERS, World, desired

SERVER = SERVERS[0]
ONE = desired(servers=SERVERS[:1], agents=AGENTS[:1])
OURS = CommandSpec(argv=("/our-ca",), root="a root", timeout=timedelta(seconds=30))
SHARED = desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:1])


def planned(world: World, wanted: Desired, *, new_key: bool = False) -> Plan:
    return world.prepare(wanted, new_key=new_key).plan


def reasons(plan: Plan) -> list[str]:
    """Why new keys are to be made, without the names of scopes."""
    return (
        []
        if plan.start is None
        else [r.split(": ", 1)[1] for r in plan.reasons if r.startswith(("server:", "all"))]
    )


def applied(wanted: Desired) -> World:
    world = World()
    world.apply(wanted)
    return world


def folder_changed(world: World, **fields: object) -> None:
    state = world.fleet.hosts[SERVER]
    after = {n: replace(f, **fields) for n, f in state.credentials.items()}  # type: ignore[arg-type]  # named at each call
    world.set_host(SERVER, replace(state, credentials=after))


def test_a_key_that_serves_stays() -> None:
    assert planned(applied(ONE), ONE).start is None


def test_a_scope_without_a_key_gets_one() -> None:
    assert reasons(planned(World(), ONE)) == ["it has no key yet"]


def test_a_new_key_can_be_asked_for() -> None:
    assert reasons(planned(applied(ONE), ONE, new_key=True)) == ["a new key was asked for"]


def test_a_server_that_moves_into_a_scope_brings_no_key_along() -> None:
    assert reasons(planned(applied(ONE), replace(SHARED, scopes=(SHARED.scopes[0],)))) == [
        "server-1 moves into this scope"
    ]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (
            replace(ONE, key=replace(ONE.key, algorithm=Algorithm.ECDSA_P256)),
            "its key is to be ecdsa-p256, made on the controller",
        ),
        (
            replace(ONE, key=replace(ONE.key, origin=Origin.SERVER)),
            "its key is to be ed25519, made on the server",
        ),
        (
            replace(ONE, certificate=replace(ONE.certificate, lifetime=timedelta(days=90))),
            "its lifetime has changed",
        ),
    ],
    ids=["algorithm", "origin", "lifetime"],
)
def test_a_playbook_that_asks_for_another_key_gets_one(wanted: Desired, reason: str) -> None:
    assert reasons(planned(applied(ONE), wanted)) == [reason]


def test_a_key_is_replaced_when_it_is_due_and_not_a_moment_before() -> None:
    world = applied(ONE)
    due = world.clock.now() + timedelta(days=365) * 2 / 3
    world.clock.wait_until(due - timedelta(seconds=1))
    assert planned(world, ONE).start is None
    world.clock.wait_until(due)
    assert reasons(planned(world, ONE)) == ["its key is due"]


def test_a_server_that_left_took_the_key_along() -> None:
    world = applied(SHARED)
    assert reasons(planned(world, desired(Policy.SHARED, servers=SERVERS[:1], agents=AGENTS[:1]))) == [
        "server-2 has left it and was given its key"
    ]


def test_a_server_that_joins_and_leaves_took_the_key_along_too() -> None:
    world = applied(SHARED)
    world.apply(desired(Policy.SHARED, agents=AGENTS[:1]))
    assert reasons(planned(world, SHARED)) == ["server-3 has left it and was given its key"]


def test_a_key_lost_with_its_server_is_replaced_where_nobody_trusts_it() -> None:
    made_there = replace(ONE, key=replace(ONE.key, origin=Origin.SERVER))
    world = applied(made_there)
    for host in (SERVER, *AGENTS):
        world.wipe(host)
    assert reasons(planned(world, made_there)) == ["it was made on server-1 and is gone from there"]


def test_a_key_lost_with_its_server_comes_back_from_the_vault() -> None:
    world = applied(ONE)
    world.wipe(SERVER)
    plan = planned(world, ONE)
    assert reasons(plan) == []
    assert plan.start is not None
    assert plan.start.new == ()


DAMAGES: list[tuple[str, Callable[[World], None]]] = [
    ("server-1 has lost the certificate of it", lambda w: folder_changed(w, certificate_pem=None)),
    ("what server-1 keeps under its name is not its key", lambda w: folder_changed(w, private_key=None)),
    (
        "server-1 keeps another certificate than it was given",
        lambda w: folder_changed(w, certificate_pem="x"),
    ),
    (
        "server-1 keeps it where it puts away old keys",
        lambda w: w.set_host(
            SERVER,
            replace(
                w.fleet.hosts[SERVER],
                current=None,
                credentials={},
                disarmed=w.fleet.hosts[SERVER].credentials,
            ),
        ),
    ),
]


@pytest.mark.parametrize(("reason", "damage"), DAMAGES, ids=[reason for reason, _ in DAMAGES])
def test_a_key_that_cannot_be_kept_is_replaced(reason: str, damage: Callable[[World], None]) -> None:
    world = applied(ONE)
    damage(world)
    assert reasons(planned(world, ONE)) == [reason]


def test_a_key_that_waits_for_its_certificate_is_not_lost() -> None:
    made_there = replace(ONE, key=replace(ONE.key, origin=Origin.SERVER))
    for points in range(60):
        world = World()
        world.apply_and_die(made_there, after=points)
        folders = world.fleet.hosts[SERVER].credentials.values()
        if any(folder.certificate_pem is None for folder in folders):
            assert planned(world, made_there).resumes is not None
            return
    pytest.fail("the key was never seen without its certificate")


def test_a_key_that_nobody_has_any_more_is_replaced_where_nobody_trusts_it() -> None:
    world = applied(ONE)
    for host in (SERVER, *AGENTS):
        world.wipe(host)
    (known,) = world.recorded.credentials
    world.ledger.append([KeyDestroyed(credential=known)], onto=world.recorded, at=world.clock.now())
    assert reasons(planned(world, ONE)) == ["server-1 lacks it and the vault has no copy"]


def test_another_issuer_is_a_reason_and_another_timeout_is_none() -> None:
    why = "its certificate is to come from another issuer"
    ours = replace(ONE, issuer=OURS)
    asked = RolloutStarted(rollout=RolloutId("1"), desired=ours, new=(), targets={}, reasons=())
    world = applied(ONE)
    assert reasons(planned(world, ours)) == [why]
    world.ledger.append([asked], onto=world.recorded, at=world.clock.now())
    assert reasons(planned(world, ours)) == []
    assert reasons(planned(world, replace(ONE, issuer=replace(OURS, timeout=timedelta(minutes=1))))) == []
    assert reasons(planned(world, replace(ONE, issuer=replace(OURS, argv=("/our-ca", "-x"))))) == [why]
    assert reasons(planned(world, replace(ONE, issuer=replace(OURS, root="another root")))) == [why]
    assert reasons(planned(world, ONE)) == [why]
