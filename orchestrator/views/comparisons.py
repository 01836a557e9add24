"""The policies side by side: policies as columns, numbers as rows."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from orchestrator.policy.comparison import Comparison
from orchestrator.policy.upkeep import Handover, Inapplicable, Leak, Row, Spread, Yearly
from orchestrator.views.screen import Answer, grid
from orchestrator.views.text import count, span

_NUMBERS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("keys in use", lambda row: f"{row.keys}"),
    ("keys an agent holds, at most", lambda row: f"{row.held_at_rest.most}"),
    ("… during a handover", lambda row: f"{row.held_in_handover.most}"),
    ("one key's handover: hosts touched", lambda row: f"{row.rotation.hosts}"),
    ("… SSH visits", lambda row: f"{row.rotation.visits}"),
    ("… duration", lambda row: _duration(row.rotation)),
    ("all keys' handover: hosts touched", lambda row: f"{row.rotation_of_all.hosts}"),
    ("… SSH visits", lambda row: f"{row.rotation_of_all.visits}"),
    ("… duration", lambda row: _duration(row.rotation_of_all)),
    ("a year: handovers", lambda row: _range(row, lambda year: year.handovers)),
    ("… hosts touched", lambda row: _range(row, lambda year: year.hosts)),
    ("… SSH visits", lambda row: _range(row, lambda year: year.visits)),
    ("… hours under way", lambda row: _range(row, lambda year: year.hours)),
    ("one leaked key: servers to rekey", lambda row: f"{row.leak.servers}"),
    ("… agents to visit", lambda row: f"{row.leak.agents}"),
    ("… edges an attacker can speak on", lambda row: f"{row.leak.edges}"),
    ("the issuer's key leaked: edges", lambda row: f"{row.leak.issuer_edges}"),
    ("needs", lambda row: row.note or "-"),
)


def comparison_answer(name: str, comparison: Comparison) -> Answer:
    """The comparison of one play, with the recommendation and its reasons."""
    rows = [
        (label, *(_cell(row, number, first=index == 0) for row in comparison.rows))
        for index, (label, number) in enumerate(_NUMBERS)
        if label != "needs" or any(isinstance(row, Row) and row.note for row in comparison.rows)
    ]
    columns = ("", *(_column(row, comparison) for row in comparison.rows))
    size = f"{count(comparison.servers, 'server')}, {count(comparison.agents, 'agent')}"
    recommended = comparison.recommendation
    return Answer(
        data=_data(name, comparison),
        body=(
            f"{name}: {size}, {count(comparison.edges, 'edge')}",
            grid(columns, rows),
            *(f"{row.policy} does not apply: {row.reason}" for row in _inapplicable(comparison)),
            *_basis(comparison),
            f"recommended: {recommended.policy}",
            *(f"  because {reason}" for reason in recommended.reasons),
        ),
    )


def _basis(comparison: Comparison) -> list[str]:
    told = "measured in this fleet" if comparison.measured else "assumed: nothing was measured yet"
    visit = f"{comparison.seconds_a_visit:.2g} s a visit ({told}), {comparison.concurrency} at once"
    lines = [
        "numbers of a year: from all keys coming due together to each on a day of its own",
        f"durations: {visit}, and the waits that the playbook asks",
    ]
    if comparison.group_by:
        told = "proposed from the inventory" if comparison.proposed else "from the playbook"
        lines.append(f"per-group: by {', '.join(comparison.group_by)} ({told})")
    return lines


def _column(row: Row | Inapplicable, comparison: Comparison) -> str:
    return f"{row.policy} (now)" if row.policy is comparison.current else str(row.policy)


def _cell(row: Row | Inapplicable, number: Callable[[Row], str], *, first: bool) -> str:
    if isinstance(row, Inapplicable):
        return "does not apply" if first else ""
    return number(row)


def _inapplicable(comparison: Comparison) -> list[Inapplicable]:
    return [row for row in comparison.rows if isinstance(row, Inapplicable)]


def _duration(handover: Handover) -> str:
    return span(handover.duration)


def _range(row: Row, of: Callable[[Yearly], float]) -> str:
    least, most = _short(of(row.together)), _short(of(row.apart))
    return least if least == most else f"{least} to {most}"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0") if number < 100 else f"{number:.0f}"  # noqa: PLR2004 - digits shown


def _data(name: str, comparison: Comparison) -> dict[str, Any]:
    return {
        "playbook": name,
        "current": comparison.current,
        "servers": comparison.servers,
        "agents": comparison.agents,
        "edges": comparison.edges,
        "group_by": list(comparison.group_by),
        "group_by_proposed": comparison.proposed,
        "seconds_a_visit": comparison.seconds_a_visit,
        "measured": comparison.measured,
        "concurrency": comparison.concurrency,
        "policies": [_row(row) for row in comparison.rows],
        "recommendation": {
            "policy": comparison.recommendation.policy,
            "reasons": list(comparison.recommendation.reasons),
        },
    }


def _row(row: Row | Inapplicable) -> dict[str, Any]:
    if isinstance(row, Inapplicable):
        return {"policy": row.policy, "applies": False, "reason": row.reason}
    return {
        "policy": row.policy,
        "applies": True,
        "keys": row.keys,
        "held_at_rest": _plain(row.held_at_rest),
        "held_in_handover": _plain(row.held_in_handover),
        "rotation": _plain(row.rotation),
        "rotation_of_all": _plain(row.rotation_of_all),
        "year_together": _plain(row.together),
        "year_apart": _plain(row.apart),
        "leak": _plain(row.leak),
        "note": row.note,
    }


def _plain(value: Handover | Leak | Spread | Yearly) -> dict[str, Any]:
    """Durations become seconds and say so in their names."""
    found = asdict(value)
    return {
        (f"{name}_s" if isinstance(one, timedelta) else name): (
            one.total_seconds() if isinstance(one, timedelta) else one
        )
        for name, one in found.items()
    }
