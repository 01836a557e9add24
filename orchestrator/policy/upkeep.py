"""What a handover and a year of handovers cost, and what one leaked key does: the values of a comparison.

A handover visits hosts in batches, each of which ends before the next begins: *stage* on the key's servers,
*publish* (with the proofs) on its agents; then, for each wave, *activate* on its servers, *confirm* on the
agents that are to verify what these sign now, and the soak; then *disarm* on the servers, and, after the
wait for messages in flight (S7), *drop* on the agents and *erase* on the servers. That is four visits a
server, two an agent and one more an agent that confirms; a key made on its server takes one more, *generate*.
Where an issuer vouches for the servers no agent is visited.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction

from orchestrator.policy.desired import Policy

_HOUR = timedelta(hours=1)

VISITS_A_SERVER = 4
"""Stage, activate, disarm, erase."""

VISITS_AN_AGENT = 2
"""Publish, drop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What the estimates rest on.

    Attributes:
        seconds_a_visit: mean.
        concurrency: visits under way at once.
        soak: the time after each wave in which nobody is visited.
        in_flight: the same before agents drop the old key: message validity, twice the skew.
        turns_a_year: how often a key comes due.
    """

    seconds_a_visit: float
    concurrency: int
    soak: timedelta
    in_flight: timedelta
    turns_a_year: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far one key reaches.

    Attributes:
        servers: that share it.
        agents: that trust it.
        edges: pairs of one of its servers and an agent that listens to that server.
        hosts: servers and agents; a host that is both counts once.
        waves: how many of the servers switch in each.
        confirming: how many agents verify after each wave what its servers sign.
    """

    servers: int
    agents: int
    edges: int
    hosts: int
    waves: tuple[int, ...]
    confirming: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """One handover.

    Attributes:
        hosts: visited at least once.
        visits: SSH visits.
        work: estimated time in which hosts are visited.
        wait: time in which the handover waits.
    """

    hosts: int
    visits: int
    work: timedelta
    wait: timedelta

    @property
    def duration(self) -> timedelta:
        """From the first visit to the last."""
        return self.work + self.wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Yearly:
    """A year of 365 days, on average over many.

    Attributes:
        handovers: how many.
        hosts: hosts touched, each counted once for every handover that touches it.
        visits: SSH visits.
        hours: in which a handover is under way, if they come one after another; waits included.
        work_hours: of these, in which hosts are visited.
    """

    handovers: float
    hosts: float
    visits: float
    hours: float
    work_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """The most that one leaked key costs; each number is the largest over all keys.

    Attributes:
        servers: to be given another key.
        agents: to be visited, so that they trust it no longer.
        edges: on which an attacker can speak to an agent as one of its servers.
        issuer_edges: the same for one who has taken the issuer's key instead, and certifies with it.
    """

    servers: int
    agents: int
    edges: int
    issuer_edges: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A number that differs from agent to agent."""

    most: int
    mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One policy.

    Attributes:
        keys: in use at a time; one a scope.
        held_at_rest: public keys an agent holds to believe servers by: theirs, or the issuer's.
        held_in_handover: the same while every key is being handed over: the old ones and the new ones.
        rotation: the handover of one key; of the one that takes the most visits.
        rotation_of_all: the handover of every key in one rollout.
        together: a year in which all keys come due together: the least.
        apart: a year in which each key comes due on its own: the most.
        note: what would have to change in the playbook, or empty.
    """

    policy: Policy
    keys: int
    held_at_rest: Spread
    held_in_handover: Spread
    rotation: Handover
    rotation_of_all: Handover
    together: Yearly
    apart: Yearly
    leak: Leak
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inapplicable:
    """A policy that this inventory does not fit."""

    policy: Policy
    reason: str


def handover(reach: Reach, pace: Pace, *, on_server: bool) -> Handover:
    """What it costs to hand over the keys that reach so far, in one rollout.

    Visits are 4 (5 if keys are made on servers) times the servers plus 2 times the agents plus the agents
    that confirm. A batch of m visits takes ceil(m / concurrency) rounds, and the work is all rounds times
    the seconds a visit.
    """
    of_servers = VISITS_A_SERVER + on_server
    at_once = of_servers - 1
    rounds = at_once * _rounds(reach.servers, pace) + VISITS_AN_AGENT * _rounds(reach.agents, pace)
    rounds += sum(_rounds(batch, pace) for batch in (*reach.waves, *reach.confirming))
    visits = of_servers * reach.servers + VISITS_AN_AGENT * reach.agents + sum(reach.confirming)
    return Handover(
        hosts=reach.hosts,
        visits=visits,
        work=timedelta(seconds=rounds * pace.seconds_a_visit),
        wait=len(reach.waves) * pace.soak + pace.in_flight,
    )


def without_agents(reach: Reach) -> Reach:
    """How far the handover of a key reaches that agents believe by its certificate: to its servers."""
    confirming = (0,) * len(reach.confirming)
    return replace(reach, agents=0, hosts=reach.servers, confirming=confirming)


def yearly(handovers: Sequence[Handover], pace: Pace) -> Yearly:
    """What it costs to make each of ``handovers`` as often a year as a key comes due."""
    work = sum((one.work for one in handovers), timedelta())
    wait = sum((one.wait for one in handovers), timedelta())
    return Yearly(
        handovers=float(pace.turns_a_year * len(handovers)),
        hosts=float(pace.turns_a_year * sum(one.hosts for one in handovers)),
        visits=float(pace.turns_a_year * sum(one.visits for one in handovers)),
        hours=float(pace.turns_a_year) * ((work + wait) / _HOUR),
        work_hours=float(pace.turns_a_year) * (work / _HOUR),
    )


def _rounds(visits: int, pace: Pace) -> int:
    return -(-visits // pace.concurrency)
