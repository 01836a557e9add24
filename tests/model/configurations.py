"""The fleets that are explored, and what may happen to each."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Desired, MessageSpec, Policy, RolloutSpec
from tests.model.canonical import Symmetry
from tests.model.state import TICK, Left
from tests.model.world import Configuration
from tests.world import AGENTS, SERVERS, desired


def playbook(
    variant: str,
    policy: Policy,
    servers: Sequence[HostName],
    agents: Sequence[HostName],
    *,
    name: str = "main",
    rollout: RolloutSpec | None = None,
) -> Desired:
    """A playbook; its digest tells its variants apart."""
    wanted = desired(
        policy, servers=servers, agents=agents, rollout=rollout or RolloutSpec(soak=TICK), name=name
    )
    messages = MessageSpec(validity=TICK - timedelta(minutes=1), clock_skew=timedelta(seconds=30))
    return replace(wanted, digest=variant, messages=messages)


def small(
    agents: int = 1, servers: int = 1, policy: Policy = Policy.PER_SERVER, **left: int
) -> Configuration:
    names = SERVERS[:servers]
    listening = AGENTS[:agents]
    first = playbook("a", policy, names, listening)
    return Configuration(
        name=f"{agents} agents, {servers} servers, {policy}",
        first=(first,),
        left=Left(**left),
        symmetry=Symmetry.of(names, [listening], alike=True),
    )
