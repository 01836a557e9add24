"""The fleets that are explored, and what may happen to each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Desired, MessageSpec, PlaybookName, Policy, RolloutSpec, Share
from tests.model.canonical import Symmetry
from tests.model.state import MISHAPS, TICK, Left
from tests.model.world import Configuration
from tests.world import AGENTS, SERVERS, desired

MAIN, OTHER = PlaybookName("main"), PlaybookName("other")


def playbook(
    variant: str,
    policy: Policy,
    servers: Sequence[HostName],
    agents: Sequence[HostName],
    *,
    name: str = "main",
    rollout: RolloutSpec | None = None,
    hooks: bool = False,
) -> Desired:
    """A playbook; its digest tells its variants apart."""
    wanted = desired(
        policy,
        servers=servers,
        agents=agents,
        rollout=rollout or RolloutSpec(soak=TICK),
        name=name,
        trusted_hooks=dict.fromkeys(agents, "reload it") if hooks else {},
    )
    messages = MessageSpec(validity=TICK - timedelta(minutes=1), clock_skew=timedelta(seconds=30))
    return replace(wanted, digest=variant, messages=messages)


def fleet(
    agents: int,
    servers: int,
    policy: Policy = Policy.PER_SERVER,
    *,
    joining: bool = False,
    most: int = 0,
    rollout: RolloutSpec | None = None,
    hooks: bool = False,
    **left: int,
) -> Configuration:
    """One playbook, all of whose agents listen to all of its servers.

    Args:
        joining: the last of the agents comes with an edit of the playbook.
        hooks: a hook tells the programs of agents of a new bundle.
        most, left: as in ``Configuration``.
    """
    names, listening = SERVERS[:servers], AGENTS[:agents]
    before = listening[:-1] if joining else listening
    groups = (before, listening[-1:]) if joining else (listening,)
    waves = rollout is not None and len(rollout.waves) > 1
    told = ", ".join([*_counted(left), *["joining"] * joining, *["waves"] * waves, *["hooks"] * hooks])
    return Configuration(
        name=f"{agents} agents, {servers} servers, {policy}: {told}",
        first=(playbook("a", policy, names, before, rollout=rollout, hooks=hooks),),
        edits=(playbook("b", policy, names, listening, rollout=rollout, hooks=hooks),) if joining else (),
        left=Left(edits=int(joining), **left),
        symmetry=Symmetry.of(names, groups, alike=not waves),
        most=most,
    )


def sharing(agents: int, *, joining: bool = False, most: int = 0, **left: int) -> Configuration:
    """Two playbooks that ask for the same, with a server each and the same agents; they may trade places.

    Args:
        joining: the last of the agents comes to the first playbook with an edit.
        most, left: as in ``Configuration``.
    """
    listening = AGENTS[:agents]
    before = listening[:-1] if joining else listening
    groups = (before, listening[-1:]) if joining else (listening,)
    rare = ", ".join([*_counted(left), *["joining"] * joining])
    main, other = SERVERS[:1], SERVERS[1:2]
    whole = playbook("whole", Policy.PER_SERVER, main, listening)
    return Configuration(
        name=f"{agents} agents shared by 2 playbooks: {rare}",
        first=(
            playbook("before", Policy.PER_SERVER, main, before) if joining else whole,
            playbook("whole", Policy.PER_SERVER, other, listening, name="other"),
        ),
        edits=(whole,) if joining else (),
        left=Left(edits=int(joining), **left),
        symmetry=Symmetry.of_playbooks({MAIN: main[0], OTHER: other[0]}, groups),
        most=most,
    )


def one_mishap(configuration: Configuration, kinds: Sequence[str] = MISHAPS) -> Configuration:
    """The same fleet, with one mishap in a history: of any kind there is, or of one of these."""
    left = dict.fromkeys(MISHAPS, 0) | dict.fromkeys(kinds, 1)
    told = "any kind" if kinds == MISHAPS else ", ".join(kinds)
    return replace(
        configuration,
        name=f"{configuration.name}, one mishap: {told}",
        left=replace(configuration.left, **left, mishaps=1),
    )


def whole_runs(configuration: Configuration) -> Configuration:
    """The same fleet, whose runs go on until they can but wait; to kill one between two rounds is a fault."""
    return replace(configuration, name=f"{configuration.name}, whole runs", whole_runs=True)


def _counted(left: Mapping[str, int]) -> list[str]:
    return [f"{name.replace('_', ' ')} {count}" for name, count in left.items()]


CANARY = RolloutSpec(soak=TICK, waves=(Share(number=1),))
"""One server first, then the others."""

TWO_BY_TWO = sharing(2, joining=True, new_keys=1, reverts=1)
"""Two agents, two servers and two playbooks, and all that people do."""

COPIES = ("backups",)
"""The kind of mishap after which most may happen."""

EVERYTHING: tuple[Configuration, ...] = (
    one_mishap(whole_runs(TWO_BY_TWO), COPIES),
    one_mishap(whole_runs(TWO_BY_TWO), [kind for kind in MISHAPS if kind not in COPIES]),
    fleet(3, 2, joining=True, new_keys=1, reverts=1, faults=1),
    fleet(2, 1, Policy.SHARED, new_keys=1, reverts=1, snapshots=1, faults=1, mishaps=1),
    fleet(2, 1, new_keys=1, pauses=1, nearing=1, faults=0),
    fleet(2, 2, rollout=CANARY, new_keys=1, reverts=1, compromises=1, waivers=1, ageing=1, mishaps=1),
    one_mishap(fleet(1, 1, Policy.DELEGATED, new_keys=1, reverts=1)),
    fleet(1, 1, new_keys=1, snapshots=1, restores=1, faults=0),
    fleet(1, 1, Policy.DELEGATED, new_keys=1, snapshots=1, restores=1, faults=0),
    fleet(1, 2, compromises=1, backups=1, faults=0),
    fleet(1, 1, Policy.DELEGATED, compromises=1, backups=1, faults=0),
    fleet(1, 1, Policy.DELEGATED, issuers=1, compromises=1, faults=0),
    fleet(1, 1, Policy.DELEGATED, issuers=1, faults=1),
    fleet(2, 1, hooks=True, new_keys=1, reverts=1, faults=2),
)
"""What ``make model`` explores, each to its end."""

FURTHER: tuple[Configuration, ...] = (
    one_mishap(TWO_BY_TWO),
    one_mishap(fleet(1, 1, new_keys=1, reverts=1, restores=1)),
    one_mishap(fleet(1, 1, hooks=True, new_keys=1, reverts=1)),
    fleet(2, 1, Policy.SHARED, joining=True, new_keys=1, reverts=1, snapshots=1, faults=1, mishaps=1),
    fleet(2, 1, joining=True, new_keys=1, reverts=1, faults=2),
    fleet(3, 2, joining=True, new_keys=1, reverts=1, faults=2),
)
"""What ``make model-long`` explores: all that may happen to two agents and servers; two faults on more."""
