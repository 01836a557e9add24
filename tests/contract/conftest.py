"""The fleets that the contract of ``ports.Fleet`` is held against."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.keys.material import Algorithm
from orchestrator.lab import Lab
from tests.fleet_worlds import InMemory, OverSsh, World


@pytest.fixture(scope="session")
def shared_lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="keyrelay-", ignore_cleanup_errors=True) as folder:
        lab = Lab.up(Path(folder).resolve() / "lab", servers=1, agents=2)
        yield lab
        lab.down()


@pytest.fixture(params=["in memory", "over ssh"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "in memory":
        yield InMemory()
        return
    over_ssh = OverSsh(request.getfixturevalue("shared_lab"))
    with over_ssh.ssh:
        yield over_ssh


@pytest.fixture(params=list(Algorithm))
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    return Algorithm(request.param)
