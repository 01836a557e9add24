"""The pages of ``README.md`` and ``docs/`` say nothing that is not so: links, commands, tables, lists."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestrator.cli.main import app
from orchestrator.policy import recommendation
from orchestrator.rotation.drift import MEANINGS, Drift
from orchestrator.rotation.lifecycle import KEY_MEANINGS, KEY_MOVES, STEPS

ROOT = Path(__file__).parents[2]
HANDOVER = ROOT / "docs/explanation/handover.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GUIDES = [ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted((ROOT / "docs/how-to").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`([^`]+)`")
_COMMAND = re.compile(r"(?:^|[\s/(])keyrelay((?: +[^\s|;&)>]+)+)", re.MULTILINE)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def _commands(page: Path) -> Iterator[list[str]]:
    """The words after ``keyrelay`` wherever code of the page runs it; what a command printed is left out."""
    text = page.read_text(encoding="utf-8")
    code = [body for language, body in _FENCE.findall(text) if language != "console"]
    code += re.findall(r"^\$ (.+)$", text, re.MULTILINE)
    code += [" ".join(inline.split()) for inline in _INLINE.findall(_prose(page))]
    for piece in code:
        for words in _COMMAND.findall(piece):
            yield words.split()


def _fault(words: list[str]) -> str:
    """What of a command line does not exist; empty when all of it does."""
    command: Any = typer.main.get_command(app)
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    for word in words:
        if word.startswith("-"):
            if word.split("=")[0] not in known:
                return f"option {word}"
        elif "commands" in dir(command):
            if word not in command.commands:
                return f"command {word}"
            command = command.commands[word]
            known |= {option for parameter in command.params for option in parameter.opts}
    return ""


def _table(page: Path, first_heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^\| {first_heading} \|.*\n\| --- .*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found is not None, f"{_name(page)} has no table of {first_heading}"
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in found[1].splitlines()]


def _two_columns(page: Path, first_heading: str) -> Mapping[str, str]:
    return {row[0].strip("`"): row[1] for row in _table(page, first_heading)}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for link in _LINK.findall(_prose(page)):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        leads_to = (page.parent / target).resolve() if target else page
        assert leads_to.exists(), f"{_name(page)} links to {link}"
        assert not anchor or anchor in _anchors(leads_to), f"{_name(page)} links to {link}"


# The reference has synopses, and lines of a protocol that begin with the program's name.
@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "reference"], ids=_name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    wrong = [f"keyrelay {' '.join(words)}: {fault}" for words in _commands(page) if (fault := _fault(words))]
    assert not wrong


def test_the_guides_do_run_commands() -> None:
    assert all(list(_commands(page)) for page in GUIDES)


def test_the_check_of_commands_finds_what_does_not_exist() -> None:
    assert _fault(["apply", "x.yml", "--limit", "agent-1"]) == "option --limit"
    assert _fault(["rollout", "forget"]) == "command forget"
    assert not _fault(["--json", "policy", "compare", "x.yml", "-i", "y.yml"])


def test_the_steps_are_told_as_they_are() -> None:
    told = [tuple(row) for row in _table(HANDOVER, "step")]
    assert told == [
        (step, rule.phase, rule.holds_when, rule.visits or "-", ", ".join(rule.invariants) or "-")
        for step, rule in STEPS.items()
    ]


@pytest.mark.parametrize("page", [HANDOVER, ROOT / "docs/glossary.md"], ids=_name)
def test_the_key_states_are_told_as_they_are(page: Path) -> None:
    assert _two_columns(page, "state") == KEY_MEANINGS


def test_the_moves_of_keys_are_told_as_they_are() -> None:
    told = [tuple(row) for row in _table(HANDOVER, "from")]
    assert told == [(a, b, when) for a, after in KEY_MOVES.items() for b, when in after.items()]


def test_every_invariant_that_a_step_protects_is_explained() -> None:
    explained = set(re.findall(r"\*\*(S\d+)\*\*", HANDOVER.read_text(encoding="utf-8")))
    assert {name for rule in STEPS.values() for name in rule.invariants} <= explained


def test_every_invariant_names_tests_that_hold_it() -> None:
    rows = _table(ROOT / "docs/explanation/invariants.md", "invariant")
    explained = re.findall(r"^- \*\*([SL]\d+)\*\*", HANDOVER.read_text(encoding="utf-8"), re.MULTILINE)
    assert [row[0] for row in rows] == [*explained, "L5"]
    for name, _, held_by in rows:
        tests = [one.split("::") for one in _INLINE.findall(held_by)]
        assert tests, name
        for path, test in tests:
            source = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(?:async )?def {test}\(", source, re.MULTILINE), f"{name}: no {path}::{test}"


def test_every_finding_of_an_audit_is_explained() -> None:
    told = _two_columns(ROOT / "docs/how-to/audit-and-mend.md", "finding")
    assert told == {drift: MEANINGS[drift] for drift in Drift}


def test_the_bounds_of_the_recommendation_are_told_as_they_are() -> None:
    text = " ".join((ROOT / "docs/how-to/choose-a-policy.md").read_text(encoding="utf-8").split())
    assert f"more than {recommendation.MAX_KEYS_AN_AGENT} keys" in text
    assert (recommendation.MAX_VISITS_A_HOST_A_YEAR, "more than once a day" in text) == (365, True)
    assert (recommendation.MAX_HANDOVER_HOURS_A_YEAR, "more than half of the year" in text) == (4380, True)


def test_every_decision_is_listed_with_its_title() -> None:
    listed = (ROOT / "docs/adr/0001-record-decisions.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs/adr").glob("*.md"))[1:]:
        number, _, title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").partition(". ")
        assert page.name.startswith(f"{int(number):04}-")
        assert f"- {number}. [{title}]({page.name})" in listed


def test_every_module_has_its_line_in_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### ([\w ]+).*?\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    package = ROOT / "orchestrator"
    for module in package.glob("*/*.py"):
        if module.stem != "__init__":
            assert f"| `{module.stem}` |" in sections[module.parent.name], module
    for module in package.glob("keys/*/*.py"):
        if module.stem != "__init__":
            assert f"| `{module.parent.name}/{module.stem}` |" in sections["keys"], module
    for module in package.glob("*.py"):
        if module.stem != "__init__":
            assert f"| `{module.stem}` |" in sections["beside the packages"], module
    named = {
        (room, name)
        for room, rows in sections.items()
        for name in re.findall(r"^\| `([\w/]+\w)` ", rows, re.MULTILINE)
    }
    for room, name in named:
        place = package if room == "beside the packages" else package / room
        assert (place / f"{name}.py").exists(), f"{room}/{name} is told and does not exist"


def test_the_contracts_of_the_imports_are_told_as_they_are() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]
    assert re.findall(r"^- \*([^*]+)\*: ", text, re.MULTILINE) == contracts
