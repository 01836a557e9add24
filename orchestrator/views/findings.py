"""What an audit and a proof of all edges found."""

from collections import Counter
from collections.abc import Sequence

from orchestrator.operations.audit import Audited
from orchestrator.operations.prove import Edge
from orchestrator.rotation.drift import MEANINGS, Drift
from orchestrator.views.screen import Answer, grid
from orchestrator.views.text import count


def audit_answer(audited: Audited) -> Answer:
    """Each difference on each host; hosts without any are counted."""
    findings = audited.findings
    well = [finding for finding in findings if finding.drift is Drift.OK]
    unwell = [finding for finding in findings if finding.drift is not Drift.OK]
    rows = [(one.host, one.drift, one.detail or MEANINGS[one.drift]) for one in unwell]
    kinds = Counter(one.drift for one in unwell)
    counts = [
        count(len(well), "host") + " ok",
        *(f"{number} {kind}" for kind, number in sorted(kinds.items())),
    ]
    return Answer(
        data={
            "clean": not unwell,
            "drifted": audited.drifted,
            "unreachable": audited.unreachable,
            "counts": {Drift.OK: len(well), **kinds},
            "findings": [
                {"host": one.host, "drift": one.drift, "meaning": MEANINGS[one.drift], "detail": one.detail}
                for one in findings
            ],
        },
        body=(*((grid(("host", "finding", "detail"), rows),) if rows else ()), ", ".join(counts)),
    )


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
