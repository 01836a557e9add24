"""Machines that the host program runs on, under every shell."""

from pathlib import Path

import pytest

from tests.integration.program import SHELLS, Machine, programs
from tests.integration.stores import application, with_tools


@pytest.fixture(scope="module", params=SHELLS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of programs whose ``sh`` is the shell."""
    return programs(tmp_path_factory.mktemp("programs") / "bin", request.param)


@pytest.fixture
def machine(path: Path, tmp_path: Path) -> Machine:
    """Nothing is on it yet."""
    return Machine(base=tmp_path / "base", path=path)


@pytest.fixture
def dash(tmp_path: Path) -> Machine:
    """One with the programs that stores need, for what no shell does otherwise."""
    return Machine(base=tmp_path / "base", path=with_tools(tmp_path / "bin", "dash"))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder of an application, with an NSS database that has no password."""
    return application(tmp_path / "app")
