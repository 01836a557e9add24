"""The policies side by side for one playbook and inventory: upkeep, and what a leaked key costs.

The numbers follow from how a handover goes, and are exact for the inventory as it is; only durations are
estimates. Where keys come due matters: keys made in one rollout come due together and share visits; a server
that joins later, or a key replaced early, drifts away from the others. So a year's upkeep is given twice,
``together`` (the least) and ``apart`` (the most: every key is handed over on a day of its own).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from itertools import repeat

from orchestrator.errors import InputError
from orchestrator.inventory.model import HostName, Inventory
from orchestrator.inventory.names import GroupName
from orchestrator.policy.desired import (
    LONGEST_DELEGATED,
    Origin,
    Policy,
    Prove,
    RolloutSpec,
    Scope,
    ScopeName,
    TrustSet,
)
from orchestrator.policy.durations import format_duration
from orchestrator.policy.expiry import part_of
from orchestrator.policy.partitions import propose_groups
from orchestrator.policy.playbook import Playbook
from orchestrator.policy.recommendation import Recommendation, recommend
from orchestrator.policy.scopes import cut_scopes, find_trust_sets, select_servers
from orchestrator.policy.upkeep import (
    Inapplicable,
    Leak,
    Pace,
    Reach,
    Row,
    Spread,
    handover,
    without_agents,
    yearly,
)

YEAR = timedelta(days=365)

DEFAULT_SECONDS_A_VISIT = 1.0
"""Assumed where nothing has been measured yet."""

DEFAULT_CONCURRENCY = 16

DELEGATED_LIFETIME = timedelta(days=7)
"""Of certificates that agents believe for what they say, where the playbook's live too long for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One playbook over one inventory, under each policy.

    Attributes:
        current: the policy that the playbook has.
        edges: pairs of a server and an agent that listens to it.
        rows: one a policy, from the least upkeep to the most security.
        group_by: the groups that ``per-group`` is judged by; empty if there are none.
        proposed: whether ``group_by`` was found in the inventory, since the playbook names none.
        measured: whether ``seconds_a_visit`` comes from this fleet's history.
    """

    current: Policy
    servers: int
    agents: int
    edges: int
    rows: tuple[Row | Inapplicable, ...]
    group_by: tuple[GroupName, ...]
    proposed: bool
    seconds_a_visit: float
    measured: bool
    concurrency: int
    recommendation: Recommendation


def compare(
    playbook: Playbook,
    inventory: Inventory,
    *,
    seconds_a_visit: float | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
) -> Comparison:
    """Judge each policy for the servers and agents that ``playbook`` selects from ``inventory``.

    Args:
        playbook: its policy is one of those compared; the rest of it holds for all.
        inventory: the hosts and groups.
        seconds_a_visit: the mean of this fleet's own visits; None: nothing measured yet.
        concurrency: visits under way at once.

    Raises:
        InputError: a pattern selects nobody, or an agent listens to no server, as in ``scopes.cut``.
        ValueError: ``seconds_a_visit`` or ``concurrency`` is not above zero.
    """
    seconds = DEFAULT_SECONDS_A_VISIT if seconds_a_visit is None else seconds_a_visit
    if not seconds > 0 or concurrency < 1:
        raise ValueError(f"expected numbers above zero, found {seconds} seconds and {concurrency} at once")
    servers = select_servers(playbook, inventory)
    trust_sets = find_trust_sets(playbook, inventory, servers)
    pace = Pace(
        seconds_a_visit=seconds,
        concurrency=concurrency,
        soak=playbook.rollout.soak,
        in_flight=playbook.messages.spec().in_flight,
        turns_a_year=_turns_a_year(playbook.certificate.lifetime, playbook.certificate.renew_at),
    )
    proposed = not playbook.group_by
    groups = tuple(GroupName(name) for name in playbook.group_by) or propose_groups(inventory, servers)
    grouped = playbook.model_copy(update={"group_by": groups})
    rows = tuple(
        _row(grouped, inventory, servers=servers, trust_sets=trust_sets, policy=policy, pace=pace)
        for policy in Policy
    )
    edges = sum(len(found.servers) * len(found.agents) for found in trust_sets)
    return Comparison(
        current=playbook.policy,
        servers=len(servers),
        agents=sum(len(found.agents) for found in trust_sets),
        edges=edges,
        rows=rows,
        group_by=groups,
        proposed=proposed and bool(groups),
        seconds_a_visit=seconds,
        measured=seconds_a_visit is not None,
        concurrency=concurrency,
        recommendation=recommend(
            rows, servers=len(servers), edges=edges, origin=playbook.key.origin, group_by=groups
        ),
    )


def reaches(
    scopes: Sequence[Scope], trust_sets: Sequence[TrustSet], spec: RolloutSpec
) -> dict[ScopeName, Reach]:
    """How far each scope's key reaches; linear in servers and in what trust sets name.

    An agent listens to a scope when it listens to one of its servers, and then holds its key. An edge of a
    scope is an agent with one of the scope's servers that it listens to. A host that is both a server of the
    scope and an agent that listens to it is one host.
    """
    scope_of = {server: scope.name for scope in scopes for server in scope.servers}
    waves = {scope.name: spec.wave_sizes(len(scope.servers)) for scope in scopes}
    wave_of = {
        server: (scope.name, number)
        for scope in scopes
        for server, number in zip(scope.servers, _numbers(waves[scope.name]), strict=True)
    }
    agents: Counter[ScopeName] = Counter()
    edges: Counter[ScopeName] = Counter()
    both: Counter[ScopeName] = Counter()
    confirming: Counter[tuple[ScopeName, int]] = Counter()
    for trust_set in trust_sets:
        heard = Counter(scope_of[server] for server in trust_set.servers)
        for name, servers in heard.items():
            agents[name] += len(trust_set.agents)
            edges[name] += servers * len(trust_set.agents)
        both.update(scope_of[a] for a in trust_set.agents if a in scope_of and scope_of[a] in heard)
        for name, number in {wave_of[server] for server in trust_set.servers}:
            if number == 0 or spec.prove is Prove.DIRECT:
                confirming[name, number] += len(trust_set.agents)
    return {
        scope.name: Reach(
            servers=len(scope.servers),
            agents=agents[scope.name],
            edges=edges[scope.name],
            hosts=len(scope.servers) + agents[scope.name] - both[scope.name],
            waves=waves[scope.name],
            confirming=tuple(confirming[scope.name, number] for number in range(len(waves[scope.name]))),
        )
        for scope in scopes
    }


def _numbers(sizes: Sequence[int]) -> Iterator[int]:
    """For each server in its order the number of its wave, from 0."""
    for number, size in enumerate(sizes):
        yield from repeat(number, size)


def keys_held(scopes: Sequence[Scope], trust_sets: Sequence[TrustSet]) -> Spread:
    """How many keys an agent holds while no handover is under way: one for each scope it listens to."""
    scope_of = {server: scope.name for scope in scopes for server in scope.servers}
    held = [
        (len({scope_of[server] for server in trust_set.servers}), len(trust_set.agents))
        for trust_set in trust_sets
    ]
    total = sum(keys * agents for keys, agents in held)
    return Spread(most=max(keys for keys, _ in held), mean=total / sum(agents for _, agents in held))


def _turns_a_year(lifetime: timedelta, renew_at: Fraction) -> Fraction:
    """How often a year a key comes due: once every ``lifetime`` x ``renew_at``."""
    turn = part_of(lifetime, renew_at)
    return Fraction(YEAR // timedelta(microseconds=1), turn // timedelta(microseconds=1))


def _row(
    playbook: Playbook,
    inventory: Inventory,
    *,
    servers: Sequence[HostName],
    trust_sets: Sequence[TrustSet],
    policy: Policy,
    pace: Pace,
) -> Row | Inapplicable:
    if policy is Policy.PER_GROUP and not playbook.group_by:
        return Inapplicable(
            policy=policy, reason="no groups of this inventory hold every server exactly once"
        )
    try:
        scopes = cut_scopes(playbook, inventory, servers, policy)
    except InputError as error:
        return Inapplicable(policy=policy, reason=error.message)
    wide = any(len(scope.servers) > 1 for scope in scopes)
    on_server = playbook.key.origin is Origin.SERVER and not wide
    spec = playbook.rollout.spec()
    reach = reaches(scopes, trust_sets, spec)
    # All keys at once reach every host once, and go over the servers in the order of the scopes.
    whole = Scope(name=ScopeName("all"), servers=tuple(s for scope in scopes for s in scope.servers))
    everything = reaches([whole], trust_sets, spec)[whole.name]
    visited, at_rest = list(reach.values()), keys_held(scopes, trust_sets)
    in_handover = Spread(most=2 * at_rest.most, mean=2 * at_rest.mean)
    note = "origin: controller" if playbook.key.origin is Origin.SERVER and wide else ""
    edges = everything.edges if policy is Policy.DELEGATED else 0
    if policy is Policy.DELEGATED:
        at_rest = in_handover = Spread(most=1, mean=1)
        visited, everything = [without_agents(one) for one in visited], without_agents(everything)
        lifetime = playbook.certificate.lifetime
        if lifetime > LONGEST_DELEGATED:
            lifetime = DELEGATED_LIFETIME
            note = f"certificate.lifetime: {format_duration(lifetime)}"
        turns = _turns_a_year(lifetime, playbook.certificate.renew_at)
        pace = replace(pace, turns_a_year=turns)
    each = [handover(one, pace, on_server=on_server) for one in visited]
    together = handover(everything, pace, on_server=on_server)
    return Row(
        policy=policy,
        keys=len(scopes),
        held_at_rest=at_rest,
        held_in_handover=in_handover,
        rotation=max(each, key=lambda one: (one.visits, one.hosts)),
        rotation_of_all=together,
        together=yearly([together], pace),
        apart=yearly(each, pace),
        leak=Leak(
            servers=max(one.servers for one in reach.values()),
            agents=max(one.agents for one in reach.values()),
            edges=max(one.edges for one in reach.values()),
            issuer_edges=edges,
        ),
        note=note,
    )
