"""cert list --mismatched: the agents that do not trust the key their server uses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.operations.asking import Answers, survey
from orchestrator.ports import Clock, Fleet, Ledger, ProgressSink
from orchestrator.rotation.edges import broken_edges
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """An agent whose key is not the server's.

    Attributes:
        uses: the keys that the server uses, or may; thumbprints, where the ledger knows the key.
        trusts: the keys that the agent trusts for it; empty: none.
    """

    agent: HostName
    server: HostName
    uses: tuple[str, ...]
    trusts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatches:
    """All of them, by server and agent.

    Attributes:
        unknown: hosts that could not be asked, with the reason; their edges are not judged.
    """

    found: tuple[Mismatch, ...]
    unknown: Mapping[HostName, str]


def recorded_mismatches(ledger: Ledger) -> Mismatches:
    """As far as the ledger can tell: what may be in use on the one side, and may be trusted on the other."""
    recorded = ledger.read()
    found = []
    for server, agent in broken_edges(recorded):
        uses = (recorded.credentials[c].public for c in recorded.may_sign(server))
        trusts = (
            recorded.credentials[line.credential].public
            for bundle in recorded.bundles(agent)
            for line in bundle.lines
            if line.server == server
        )
        found.append(
            Mismatch(
                agent=agent,
                server=server,
                uses=tuple(sorted({key.thumbprint for key in uses if key is not None})),
                trusts=tuple(sorted({key.thumbprint for key in trusts if key is not None})),
            )
        )
    return Mismatches(found=tuple(found), unknown={})


def surveyed_mismatches(
    endpoints: Mapping[HostName, Endpoint],
    *,
    ledger: Ledger,
    fleet: Fleet,
    clock: Clock,
    progress: ProgressSink,
) -> Mismatches:
    """As the hosts themselves say; every server and every agent of every playbook is visited.

    Args:
        endpoints: how the inventory says hosts are reached; the ledger's word for hosts it does not name.
        ledger: is only read.
        fleet: the hosts.
        clock: the present; trust that has ended is none.
        progress: who watches.
    """
    recorded = ledger.read()
    hosts = sorted({host for desired in recorded.playbooks.values() for host in desired.endpoints})
    answers = survey(fleet, [endpoints.get(host, recorded.endpoints[host]) for host in hosts], progress)
    return Mismatches(found=tuple(_compared(recorded, answers, clock.now())), unknown=answers.failures)


def _compared(recorded: Recorded, answers: Answers, now: datetime) -> Iterator[Mismatch]:
    names: dict[SpkiDigest, str] = {
        c.public.spki_digest: c.public.thumbprint
        for c in recorded.credentials.values()
        if c.public is not None
    }
    for server, agents in sorted(recorded.listeners().items()):
        used = _in_use(answers.surveys.get(server))
        if used is None:
            continue
        for agent in agents:
            told = answers.surveys.get(agent)
            if told is None:
                continue
            edges = told.bundle.edges if told.bundle is not None else ()
            trusted = {
                edge.key
                for edge in edges
                if edge.server == server and (edge.expires is None or edge.expires > now.timestamp())
            }
            if used not in trusted:
                yield Mismatch(
                    agent=agent,
                    server=server,
                    uses=(names.get(used, used),),
                    trusts=tuple(sorted(names.get(key, key) for key in trusted)),
                )


def _in_use(survey: HostSurvey | None) -> SpkiDigest | None:
    """The key that the server's link leads to."""
    if survey is None:
        return None
    there = (h.key for h in survey.credentials if h.name == survey.current and not h.disarmed)
    return next((key for key in there if key is not None), None)
