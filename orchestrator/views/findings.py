"""What an audit and a proof of all edges found."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from orchestrator.operations.audit import Audited
from orchestrator.operations.prove import Edge
from orchestrator.rotation.drift import MEANINGS, Drift, Finding
from orchestrator.views.screen import Answer, grid
from orchestrator.views.text import count, instant, stamp

_MOST_A_HOST = 20
_LONGEST_DETAIL = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """A host key that was believed on first use, and that nobody may have looked at since.

    Attributes:
        at: None: not written down.
    """

    host: str
    name: str
    key: str
    at: datetime | None


def audit_answer(audited: Audited, believed: Sequence[Believed] = ()) -> Answer:
    """The differences on each host; hosts without any are counted. Also host keys believed on first use.

    People are shown the first of a host's, JSON has all.
    """
    findings = audited.findings
    well = [finding for finding in findings if finding.drift is Drift.OK]
    unwell = [finding for finding in findings if finding.drift is not Drift.OK]
    rows = [row for _, those in groupby(unwell, lambda one: one.host) for row in _rows(list(those))]
    trusted = [(one.host, one.name, one.key, instant(one.at)) for one in believed]
    kinds = Counter(one.drift for one in unwell)
    summary = count(len(well), "host") + " ok"
    if unwell:
        hosts = len({finding.host for finding in findings})
        told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        summary = f"{len(well)} of {count(hosts, 'host')} ok; findings: {told}"
    return Answer(
        data={
            "clean": not unwell,
            "drifted": audited.drifted,
            "unreachable": audited.unreachable,
            "counts": {Drift.OK: len(well), **kinds},
            "first_use": [
                {"host": one.host, "name": one.name, "key": one.key, "at": stamp(one.at)} for one in believed
            ],
            "findings": [
                {"host": one.host, "drift": one.drift, "meaning": MEANINGS[one.drift], "detail": one.detail}
                for one in findings
            ],
        },
        body=(
            *((grid(("host", "finding", "detail"), rows),) if rows else ()),
            *((grid(("host key believed on first use", "of", "key", "since"), trusted),) if trusted else ()),
            summary,
        ),
    )


def _rows(findings: Sequence[Finding]) -> Iterator[tuple[str, str, str]]:
    """One host's differences, as many as one can read."""
    for one in findings[:_MOST_A_HOST]:
        detail = one.detail or MEANINGS[one.drift]
        yield one.host, one.drift, detail[:_LONGEST_DETAIL] + "..." * (len(detail) > _LONGEST_DETAIL)
    if (left := len(findings) - _MOST_A_HOST) > 0:
        yield findings[0].host, "", f"and {left} more; --json tells all"


def edges_answer(edges: Sequence[Edge]) -> Answer:
    """Whether every edge holds, and which do not."""
    broken = [edge for edge in edges if not edge.holds]
    rows = [
        (edge.server, edge.agent, "broken" if edge.asked else "not asked", edge.detail) for edge in broken
    ]
    proven = len(edges) - len(broken)
    summary = f"every edge holds: {proven} proven" if not broken else f"{proven} of {len(edges)} edges hold"
    return Answer(
        data={
            "holds": not broken,
            "proven": proven,
            "edges": [
                {
                    "server": edge.server,
                    "agent": edge.agent,
                    "holds": edge.holds,
                    "asked": edge.asked,
                    "detail": edge.detail,
                }
                for edge in edges
            ],
        },
        body=(*((grid(("server", "agent", "edge", "detail"), rows),) if rows else ()), summary),
    )
