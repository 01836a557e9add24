"""Which policy fits a fleet best, by rules that can be read here, and why.

The rule is: as few edges as possible fall to one leaked key, as long as the upkeep stays within the bounds
named below. Upkeep is judged at its most, with every key handed over on a day of its own. Of two policies
under which a leak costs the same, the one comes first that gives no edge to whoever takes the issuer's key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from orchestrator.inventory.names import GroupName
from orchestrator.policy.desired import Origin, Policy
from orchestrator.policy.upkeep import Inapplicable, Row

MAX_KEYS_AN_AGENT = 50
"""In a handover an agent holds twice as many, and a host proves at most 100 in a visit."""

MAX_VISITS_A_HOST_A_YEAR = 365
"""One a day, on average."""

MAX_HANDOVER_HOURS_A_YEAR = 365 * 24 // 2
"""Half of the year; beyond that one handover is hardly over when the next begins."""

MAX_GROUP_SHARE = Fraction(1, 2)
"""The part of all edges that the worst leak of a group's key may cost; above it, groups gain too little."""


_IN_HOURS_FROM = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A policy, and the reasons for it in sentences."""

    policy: Policy
    reasons: tuple[str, ...]


def recommend(
    rows: Sequence[Row | Inapplicable],
    *,
    servers: int,
    edges: int,
    origin: Origin,
    group_by: Sequence[GroupName],
) -> Recommendation:
    """The policy that the rules of this module choose.

    Args:
        rows: one for each policy.
        servers: of the playbook.
        edges: pairs of a server and an agent that listens to it.
        origin: where keys are to be made.
        group_by: the groups that ``per-group`` was judged by.
    """
    judged = {row.policy: row for row in rows}
    if servers == 1:
        reason = "with one server every policy makes one key, and shared is the plainest"
        return Recommendation(policy=Policy.SHARED, reasons=(reason,))
    hosts = max(row.rotation_of_all.hosts for row in rows if isinstance(row, Row))
    against: list[str] = []
    candidates = [Policy.PER_SERVER, Policy.DELEGATED, Policy.PER_GROUP]
    if origin is Origin.SERVER:
        against.append("the playbook has keys made on their servers, and such a key cannot be shared")
        candidates = [Policy.PER_SERVER, Policy.DELEGATED]
    for policy in candidates:
        row = judged[policy]
        if isinstance(row, Inapplicable):
            against.append(f"{policy} does not apply: {row.reason}")
            continue
        found = tuple(_against(row, edges=edges, hosts=hosts))
        if not found:
            return Recommendation(
                policy=policy,
                reasons=(*against, *_in_favour(row, edges=edges, servers=servers, group_by=group_by)),
            )
        against.extend(found)
    if origin is Origin.SERVER:
        least = "per-server all the same: of the policies with a key for each server it trusts no issuer"
        return Recommendation(policy=Policy.PER_SERVER, reasons=(*against, least))
    return Recommendation(
        policy=Policy.SHARED, reasons=(*against, "shared stays within these bounds at any size")
    )


def _against(row: Row, *, edges: int, hosts: int) -> Iterator[str]:
    """Why a policy is not to be recommended."""
    if row.held_at_rest.most > MAX_KEYS_AN_AGENT:
        yield f"{row.policy}: an agent would hold {row.held_at_rest.most} keys, above {MAX_KEYS_AN_AGENT}"
    visits = row.apart.visits / hosts
    if visits > MAX_VISITS_A_HOST_A_YEAR:
        yield f"{row.policy}: up to {visits:,.0f} visits a host a year, above {MAX_VISITS_A_HOST_A_YEAR}"
    if row.apart.hours > MAX_HANDOVER_HOURS_A_YEAR:
        yield (
            f"{row.policy}: a handover under way for up to {row.apart.hours:,.0f} hours a year, above "
            f"{MAX_HANDOVER_HOURS_A_YEAR:,}"
        )
    if row.policy is Policy.PER_GROUP and Fraction(row.leak.edges, edges) > MAX_GROUP_SHARE:
        opened = f"{row.leak.edges:,} of {edges:,} edges"
        yield f"{row.policy}: one leaked key would still open {opened}, more than half"


def _in_favour(row: Row, *, edges: int, servers: int, group_by: Sequence[GroupName]) -> Iterator[str]:
    """Why a policy is recommended."""
    if row.policy is Policy.PER_GROUP:
        yield f"the servers can be cut by group_by: [{', '.join(group_by)}]"
    yield (
        f"one leaked key costs at most {row.leak.servers:,} of {servers:,} servers and opens "
        f"{row.leak.edges:,} of {edges:,} edges; with shared it is all of them"
    )
    if row.leak.issuer_edges:
        yield (
            "agents hold the issuer's key and no server's, so that keys are renewed without a visit to any; "
            f"whoever takes the issuer's key can speak on {row.leak.issuer_edges:,} edges, so guard it well"
        )
    yield (
        f"its upkeep is bearable even if each key comes due on its own: up to {row.held_at_rest.most:,} keys "
        f"an agent, {row.apart.visits:,.0f} visits and {_words(row.apart.work_hours)} of work a year"
    )


def _words(hours: float) -> str:
    if hours >= _IN_HOURS_FROM:
        return f"{hours:,.0f} hours"
    minutes = round(hours * 60)
    return f"{minutes} minutes" if minutes > 1 else "a minute"
