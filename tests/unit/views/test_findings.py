from pathlib import Path

from orchestrator.inventory.model import HostName
from orchestrator.operations.asking import Answers
from orchestrator.operations.audit import Audited
from orchestrator.operations.prove import Edge
from orchestrator.rotation.drift import MEANINGS, Drift, Finding
from orchestrator.views.findings import audit_answer, edges_answer
from orchestrator.views.screen import Grid

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "command-line.md"


def finding(host: str, drift: Drift, detail: str = "") -> Finding:
    return Finding(host=HostName(host), drift=drift, detail=detail)


def edge(server: str, agent: str, detail: str, *, holds: bool, asked: bool = True) -> Edge:
    return Edge(server=HostName(server), agent=HostName(agent), holds=holds, asked=asked, detail=detail)


def test_hosts_that_are_ok_are_counted_and_the_others_named() -> None:
    found = (
        finding("a", Drift.OK),
        finding("b", Drift.MISSING, "no bundle"),
        finding("b", Drift.ORPHANED),
        finding("c", Drift.UNREACHABLE, "refused"),
    )
    answer = audit_answer(Audited(findings=found, answers=Answers(surveys={}, failures={})))
    table, summary = answer.body
    assert isinstance(table, Grid)
    assert table.rows == (
        ("b", "missing", "no bundle"),
        ("b", "orphaned-agent", MEANINGS[Drift.ORPHANED]),
        ("c", "unreachable", "refused"),
    )
    assert summary == "1 of 3 hosts ok; findings: 1 missing, 1 orphaned-agent, 1 unreachable"
    assert (answer.data["clean"], answer.data["drifted"], answer.data["unreachable"]) == (False, True, True)


def test_of_a_host_with_many_differences_people_are_shown_some_and_programs_all() -> None:
    found = (
        *(finding("a", Drift.BAD_PERMISSIONS, str(number)) for number in range(20)),
        *(finding("b", Drift.BAD_PERMISSIONS, str(number)) for number in range(22)),
        finding("c", Drift.EXPIRED, "x" * 10_000),
    )
    answer = audit_answer(Audited(findings=found, answers=Answers(surveys={}, failures={})))
    table = answer.body[0]

    assert isinstance(table, Grid)
    assert [row[0] for row in table.rows] == ["a"] * 20 + ["b"] * 21 + ["c"]
    assert table.rows[40] == ("b", "", "and 2 more; --json tells all")
    assert table.rows[41] == ("c", "expired", "x" * 1500 + "...")
    assert [one["detail"] for one in answer.data["findings"]] == [one.detail for one in found]


def test_edges_that_do_not_hold_are_told_apart_from_those_that_were_not_asked() -> None:
    edges = (
        edge("s", "a", "valid", holds=True),
        edge("s", "b", "untrusted", holds=False),
        edge("s", "c", "c: refused", holds=False, asked=False),
    )
    table, summary = edges_answer(edges).body
    assert isinstance(table, Grid)
    assert [row[2] for row in table.rows] == ["broken", "not asked"]
    assert summary == "1 of 3 edges hold"
    assert edges_answer(edges[:1]).body == ("every edge holds: 1 proven",)


def test_the_reference_explains_every_finding_in_the_same_words() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    for drift, meaning in MEANINGS.items():
        assert f"| `{drift}` | {meaning}" in text, drift
