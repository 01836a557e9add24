"""What every test may rely on: an environment of its own, and labs of real sshds that end with the test."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from orchestrator.lab import Lab

ORDINARY_USER = "keyrelay-test"
MakeLab = Callable[..., Lab]

# A run in CI must find the same examples each time; machines under load make any deadline a matter of luck.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HOME; nothing of the user's own settings, agents or keyrelay homes reaches a test."""
    folder = tmp_path_factory.mktemp("home")
    for name in os.environ:
        if name.startswith(("KEYRELAY_", "XDG_", "ANSIBLE_", "SSH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    return folder


@pytest.fixture
def lab_folder() -> Iterator[Path]:
    """An empty folder that every user may enter, unlike ``tmp_path``, and only this one may write to."""
    with tempfile.TemporaryDirectory(prefix="keyrelay-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def make_lab(lab_folder: Path) -> Iterator[MakeLab]:
    """Starts labs, each in a folder of its own, with the arguments of ``Lab.up``; they end with the test."""
    labs: list[Path] = []

    def make(**arguments: object) -> Lab:
        labs.append(lab_folder / f"lab-{len(labs) + 1}")
        return Lab.up(labs[-1], **arguments)  # type: ignore[arg-type]  # the test names Lab.up's own arguments

    yield make
    for folder in labs:
        if (folder / "lab.json").exists():
            Lab(folder).down()


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """One server and two agents, up."""
    return make_lab(servers=1, agents=2)


@pytest.fixture(scope="session")
def ordinary_user() -> str:
    """The name of a user who is not root and has a shell, for labs that root starts as that user."""
    if os.geteuid() != 0:
        pytest.skip("only root can start hosts as another user")
    try:
        pwd.getpwnam(ORDINARY_USER)
    except KeyError:
        if shutil.which("useradd") is None:
            pytest.skip("useradd is not installed")
        # Another test process may be quicker; what counts is that the user exists afterwards.
        subprocess.run(
            ["useradd", "--system", "--create-home", "--shell", "/bin/sh", ORDINARY_USER], check=False
        )
        pwd.getpwnam(ORDINARY_USER)
    return ORDINARY_USER
