"""Machines that the host program runs on, under every shell."""

from pathlib import Path

import pytest

from tests.integration.program import SHELLS, Machine, programs


@pytest.fixture(scope="module", params=SHELLS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of programs whose ``sh`` is the shell."""
    return programs(tmp_path_factory.mktemp("programs") / "bin", request.param)


@pytest.fixture
def machine(path: Path, tmp_path: Path) -> Machine:
    """Nothing is on it yet."""
    return Machine(base=tmp_path / "base", path=path)
