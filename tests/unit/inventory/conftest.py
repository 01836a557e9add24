import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.inventory.model import Inventory
from orchestrator.inventory.yaml_files import load

COUNTED = "inventories"
"""The property by which a test tells how many inventories it compared, and as what."""

REFERENCE = Path(__file__).parent / "ansible_reference.py"

Write = Callable[[Mapping[str, str]], Path]
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files into a fresh folder and return it."""
    numbers = itertools.count()

    def write_files(files: Mapping[str, str]) -> Path:
        folder = tmp_path / f"files{next(numbers)}"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if text.startswith("#!"):
                path.chmod(0o755)
        return folder

    return write_files


@pytest.fixture
def read(write: Write) -> Callable[..., Inventory]:
    """Load one inventory file with this text, and files beside it."""

    def read_text(text: str, beside: Mapping[str, str] | None = None) -> Inventory:
        return load([write({"hosts.yml": text, **(beside or {})}) / "hosts.yml"])

    return read_text


@pytest.fixture(scope="session")
def ansible_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Ansible with its defaults, whatever the user's own configuration says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    home = tmp_path_factory.mktemp("ansible")
    (home / "ansible.cfg").touch()
    return {**kept, "HOME": str(home), "ANSIBLE_HOME": str(home), "ANSIBLE_CONFIG": str(home / "ansible.cfg")}


@pytest.fixture(scope="session")
def ask_ansible(ansible_environment: dict[str, str]) -> Iterator[Ask]:
    """Ansible's own reading of sources: hosts, groups, listing, graphs and what patterns select."""
    with subprocess.Popen(
        [sys.executable, str(REFERENCE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ansible_environment["HOME"],
        env=ansible_environment,
    ) as process:
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def ask(sources: list[Path], patterns: list[str] | None = None) -> dict[str, Any]:
            case = {"sources": [str(source) for source in sources], "patterns": patterns or []}
            questions.write(json.dumps(case) + "\n")
            questions.flush()
            answer: dict[str, Any] = json.loads(answers.readline())
            return answer

        yield ask
        questions.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many inventories were compared with Ansible's reading."""
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == COUNTED and report.when == "call":
                    counts.update(value)
    for what, count in sorted(counts.items()):
        terminalreporter.write_line(f"compared with Ansible: {what}: {count}")
