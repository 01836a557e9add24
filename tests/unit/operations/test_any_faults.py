"""Whatever goes wrong, in whatever order: nobody is orphaned, and the end is reached once it stops."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import load_private
from orchestrator.keys.secret import Secret
from orchestrator.policy.desired import Desired, Origin, Policy
from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.recorded import TrustLine
from orchestrator.rotation.standing import View
from tests.eye import ViolationError
from tests.world import AGENTS, SERVERS, World, desired

HOSTS = (*SERVERS[:2], *AGENTS[:2])


def wanted(policy: Policy, *, origin: Origin, servers: int, agents: int) -> Desired:
    narrow = Origin.CONTROLLER if policy in {Policy.SHARED, Policy.PER_GROUP} else origin
    return desired(
        policy,
        servers=SERVERS[:servers],
        agents=AGENTS[:agents],
        origin=narrow,
        prove_commands=dict.fromkeys(SERVERS[:servers], "ask the service"),
        trusted_hooks=dict.fromkeys(AGENTS[:agents], "reload"),
    )


FAULTS = st.one_of(
    st.fixed_dictionaries({"unreachable": st.just("connection refused")}),
    st.fixed_dictionaries({"breaks_after": st.integers(0, 2)}),
    st.fixed_dictionaries({"refuses": st.just("locked")}),
    st.fixed_dictionaries({"hook_fails": st.just("no such unit")}),
    st.fixed_dictionaries({"breaks_at_hook": st.just(True)}),  # noqa: FBT003  # the field's value
    st.fixed_dictionaries({"skew": st.sampled_from([timedelta(hours=1), timedelta(days=-1)])}),
    st.just("heal"),
    st.just("keeps its key"),
    st.just("falls back"),
    st.just("wipe"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What befalls hosts, and what is applied then."""

    faults: list[tuple[HostName, Any]]
    policy: Policy
    origin: Origin
    servers: int
    agents: int
    new_key: bool
    wait: timedelta


RUNS = st.lists(
    st.builds(
        Run,
        faults=st.lists(st.tuples(st.sampled_from(HOSTS), FAULTS), max_size=3),
        policy=st.sampled_from(list(Policy)),
        origin=st.sampled_from(list(Origin)),
        servers=st.integers(1, 2),
        agents=st.integers(0, 2),
        new_key=st.booleans(),
        wait=st.sampled_from([timedelta(0), timedelta(minutes=11), timedelta(hours=1)]),
    ),
    max_size=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(RUNS)
def test_no_order_of_faults_orphans_an_agent_and_the_end_is_reached(runs: list[Run]) -> None:
    world = World()
    for run in runs:
        for host, fault in run.faults:
            _befall(world, host, fault)
        asked = wanted(run.policy, origin=run.origin, servers=run.servers, agents=run.agents)
        # Where most hosts' clocks are wrong it is the controller's that is doubted.
        with suppress(RefusedError):
            world.apply(asked, new_key=run.new_key, wait=run.wait)
    for host in HOSTS:
        world.fleet.heal(host)
    last = wanted(Policy.PER_SERVER, origin=Origin.CONTROLLER, servers=2, agents=2)
    for _ in range(3):
        applied = world.apply(last, wait=timedelta(hours=2))
    assert applied.result is None
    assert applied.complete
    assert world.orphans() == []
    assert not world.recorded.pending
    for agent in AGENTS[:2]:
        for server in SERVERS[:2]:
            assert world.trusted(agent, server) == {world.live_key(server)}
    assert world.ledger.verify() == world.recorded.version


def _befall(world: World, host: HostName, fault: Any) -> None:
    if fault == "heal":
        world.fleet.heal(host)
    elif fault == "wipe":
        world.fleet.trouble(host, serves=None)
        world.wipe(host)
    elif fault == "keeps its key":
        world.fleet.trouble(host, serves=_used_keys(world, host)[-1])
    elif fault == "falls back":
        world.fleet.trouble(host, serves=_used_keys(world, host)[0])
    else:
        world.fleet.heal(host)
        world.fleet.trouble(host, **fault)


def _used_keys(world: World, host: HostName) -> list[Secret | None]:
    """The keys on a server that its service may have loaded, the one in use last; None: it follows."""
    state = world.fleet.hosts[host]
    used = world.eye.used.get(host, set())
    keys = {n: f.private_key for n, f in state.credentials.items() if f.private_key and n != state.current}
    older = [key for key in keys.values() if load_private(key).public.spki_digest in used]
    current = state.credentials.get(state.current or "")
    return [*older, current.private_key if current is not None else None]


def test_activating_without_proof_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The eye of these tests is not blind: an engine that skips the proof is caught."""
    monkeypatch.setattr(View, "unproven", lambda _self, _server: ())
    world = World()
    world.fleet.trouble(AGENTS[0], unreachable="off")
    with pytest.raises(ViolationError, match="S6"):
        world.apply(desired())


def test_dropping_before_the_switch_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that lets agents drop a key that its server still uses."""
    world = World()
    world.apply(desired())

    def target_only(view: View, agent: HostName, _steps: dict[HostName, Step]) -> frozenset[TrustLine]:
        targets = {server: view.target(server) for server in view.listens[agent] if view.staged(server)}
        return frozenset(TrustLine(server=s, credential=c) for s, c in targets.items() if c is not None)

    monkeypatch.setattr("orchestrator.rotation.engine.wanted_lines", target_only)
    with pytest.raises(ViolationError, match="S1"):
        world.apply(desired(), new_key=True)
