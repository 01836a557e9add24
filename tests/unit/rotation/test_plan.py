"""What a plan says, and that its digest is the same exactly as long as the same would be done."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Desired, Origin, Policy, Share
from orchestrator.rotation.changes import Role
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.plan import Plan, make_plan
from orchestrator.rotation.recorded import Recorded
from tests.fake_state import survey
from tests.fakes import SeededEntropy
from tests.world import AGENTS, SERVERS, World, desired

WANTED = desired(servers=SERVERS[:2], agents=AGENTS[:2])


def planned(world: World, wanted: Desired, *, new_key: bool = False, seed: str = "plan") -> Plan:
    return world.prepare(wanted, new_key=new_key, entropy=SeededEntropy(seed)).plan


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(WANTED)
    return world


def texts(plan: Plan, host: HostName, role: Role) -> tuple[str, ...]:
    (change,) = [c for c in plan.changes if (c.host, c.role) == (host, role)]
    return (*change.what, change.why)


def short(world: World, server: HostName) -> str:
    target = world.recorded.servers[server].target
    assert target is not None
    return name_of(world.recorded.credentials[target])


def test_the_first_plan_tells_each_host_what_it_gets() -> None:
    plan = planned(World(), WANTED)
    assert texts(plan, SERVERS[0], Role.SERVER) == (
        "gets a new ed25519 key of server:server-1",
        "switches to it once its agents have proven it",
        "it has no key yet",
    )
    assert texts(plan, AGENTS[0], Role.AGENT) == (
        (
            "trusts a new ed25519 key of server:server-1 for server-1; "
            "a new ed25519 key of server:server-2 for server-2, and proves it"
        ),
        "it has no trust bundle",
    )
    assert not plan.renews_only


def test_a_key_made_on_the_server_is_told_so() -> None:
    plan = planned(World(), desired(servers=SERVERS[:1], origin=Origin.SERVER))
    assert texts(plan, SERVERS[0], Role.SERVER)[0] == "makes a new ed25519 key of server:server-1"


def test_a_shared_key_is_told_once_for_all_its_servers() -> None:
    plan = planned(World(), desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:1]))
    assert texts(plan, AGENTS[0], Role.AGENT)[0] == (
        "trusts a new ed25519 key of all for server-1, server-2, and proves it"
    )


def test_a_rekey_tells_what_goes_too(world: World) -> None:
    plan = planned(world, WANTED, new_key=True)
    assert plan.renews_only
    assert texts(plan, SERVERS[0], Role.SERVER)[2] == f"puts away and erases {short(world, SERVERS[0])}"
    dropped = "; ".join(sorted(f"{short(world, server)} for {server}" for server in SERVERS[:2]))
    assert texts(plan, AGENTS[0], Role.AGENT)[1:] == (f"drops {dropped}", "its servers change keys")
    assert plan.start is not None
    assert plan.start.reasons == plan.reasons


def test_a_server_and_an_agent_that_leave_are_told(world: World) -> None:
    plan = planned(world, desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    assert texts(plan, SERVERS[1], Role.SERVER) == (
        f"stops signing and erases {short(world, SERVERS[1])}",
        "it has left the playbook",
    )
    assert texts(plan, AGENTS[1], Role.AGENT)[-1] == "it listens to no server any more"
    assert not plan.renews_only


def test_nothing_to_do_is_an_empty_plan(world: World) -> None:
    plan = planned(world, WANTED)
    assert (plan.changes, plan.start, plan.resumes, plan.reasons) == ((), None, None, ())
    assert plan.renews_only


def test_a_changed_bundle_is_given_again_and_an_unproven_one_proven(world: World) -> None:
    bundle = world.fleet.hosts[AGENTS[0]].bundle
    assert bundle is not None
    ends = [replace(key, expires=None) for key in bundle.keys]
    world.set_host(AGENTS[0], replace(world.fleet.hosts[AGENTS[0]], bundle=replace(bundle, keys=tuple(ends))))
    assert texts(planned(world, WANTED), AGENTS[0], Role.AGENT)[0] == "gets its trust bundle again"
    record = world.recorded.agents[AGENTS[1]]
    unproven = world.recorded.with_agent(AGENTS[1], replace(record, proven={}))
    plan = make_plan(WANTED, unproven, {}, now=world.clock.now(), random=world.entropy)
    assert texts(plan, AGENTS[1], Role.AGENT)[0] == "proves its trust bundle"


def test_a_wiped_server_is_told_to_get_its_key_back(world: World) -> None:
    key = short(world, SERVERS[0])
    world.wipe(SERVERS[0])
    plan = planned(world, WANTED)
    assert texts(plan, SERVERS[0], Role.SERVER) == (
        f"gets {key}",
        "switches to it once its agents have proven it",
        "it is not where it should be yet",
    )
    assert plan.renews_only


def test_an_unfinished_rollout_is_gone_on_with(world: World) -> None:
    world.apply(WANTED, new_key=True, wait=timedelta(0))
    plan = planned(world, WANTED)
    running = world.recorded.running(WANTED.playbook)
    assert running is not None
    assert (plan.start, plan.resumes) == (None, running.id)


def test_the_digest_does_not_depend_on_time_or_randomness() -> None:
    world = World()
    first = planned(world, WANTED, seed="one")
    world.clock.wait_until(world.clock.now() + timedelta(days=3))
    assert planned(world, WANTED, seed="two").digest == first.digest


def test_the_digest_of_a_rekey_does_not_depend_on_time_or_randomness(world: World) -> None:
    first = planned(world, WANTED, new_key=True, seed="one")
    world.clock.wait_until(world.clock.now() + timedelta(days=3))
    assert planned(world, WANTED, new_key=True, seed="two").digest == first.digest


EDITS: dict[str, Callable[[Desired], Desired]] = {
    "policy": lambda _: desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:2]),
    "servers": lambda _: desired(servers=SERVERS[:1], agents=AGENTS[:2]),
    "agents": lambda _: desired(servers=SERVERS[:2], agents=AGENTS[:1]),
    "edges": lambda _: desired(servers=SERVERS[:2], agents=AGENTS[:2], listens={AGENTS[0]: SERVERS[:1]}),
    "origin": lambda d: replace(d, key=replace(d.key, origin=Origin.SERVER)),
    "lifetime": lambda d: replace(d, certificate=replace(d.certificate, lifetime=timedelta(days=1))),
    "grace": lambda d: replace(d, certificate=replace(d.certificate, grace=timedelta(0))),
    "validity": lambda d: replace(d, messages=replace(d.messages, validity=timedelta(seconds=1))),
    "skew": lambda d: replace(d, messages=replace(d.messages, clock_skew=timedelta(seconds=1))),
    "soak": lambda d: replace(d, rollout=replace(d.rollout, soak=timedelta(0))),
    "waves": lambda d: replace(d, rollout=replace(d.rollout, waves=(Share(number=1),))),
    "hook": lambda d: replace(d, hooks={SERVERS[0]: "systemctl reload it"}),
    "agent's hook": lambda d: replace(d, trusted_hooks={AGENTS[0]: "systemctl reload it"}),
    "name": lambda d: replace(d, playbook=desired(name="other").playbook),
    "address": lambda d: replace(
        d, endpoints={h: replace(e, address="10.0.0.1") for h, e in d.endpoints.items()}
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_that_matters_changes_the_digest(edit: str) -> None:
    world = World()
    assert planned(world, EDITS[edit](WANTED)).digest != planned(world, WANTED).digest


def test_a_host_that_changes_changes_the_digest(world: World) -> None:
    before = planned(world, WANTED).digest
    world.wipe(SERVERS[0])
    assert planned(world, WANTED).digest != before


def test_a_host_that_follows_a_newer_ledger_is_refused(world: World) -> None:
    surveys = {SERVERS[0]: survey(world.fleet.hosts[SERVERS[0]])}
    old = replace(world.recorded, version=1)
    with pytest.raises(RefusedError, match=r"server-1 has followed a ledger that is newer .* \(1, "):
        make_plan(WANTED, old, surveys, now=world.clock.now(), random=world.entropy)


def test_an_agent_with_a_bundle_from_the_future_is_refused(world: World) -> None:
    surveys = {AGENTS[0]: replace(survey(world.fleet.hosts[AGENTS[0]]), fence=None)}
    old = replace(world.recorded, position=Recorded().position)
    with pytest.raises(RefusedError, match=r"agent-1 has followed .* it stands at 1\.1"):
        make_plan(WANTED, old, surveys, now=world.clock.now(), random=world.entropy)


def test_hosts_of_other_playbooks_are_not_told_of() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1], name="one"), wait=timedelta(0))
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1], name="one"), new_key=True, wait=timedelta(0))
    plan = planned(world, desired(servers=SERVERS[1:2], agents=AGENTS[1:2], name="two"))
    assert {change.host for change in plan.changes} == {SERVERS[1], AGENTS[1]}
