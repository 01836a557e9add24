"""What every test may rely on: an environment of its own, and labs of real sshds that end with the test."""

import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from orchestrator.lab import Lab, machine
from tests.softhsm import SoftHsm

ORDINARY_USER = "keyrelay-test"
SUDOER = "keyrelay-ops"
ASKED_SUDOER = "keyrelay-ops-asked"
SUDO_PASSWORD = "opensesame #1 'and' \\ more"
DOAS_USER = "keyrelay-doas"
DOAS_RULES = Path("/etc/doas.conf")
OURS = "# Made by keyrelay's tests, which remove it again.\n"
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


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """Tokens for all tests of a process, which reads their place only once."""
    hsm = SoftHsm.make(tmp_path_factory.mktemp("hsm"), "fleet", "twin", "twin", "guessed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(hsm.settings))
        yield hsm


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
    _make_user(ORDINARY_USER, "!")
    return ORDINARY_USER


@pytest.fixture
def sudoer() -> Iterator[str]:
    """The name of a user who is not root and becomes root by sudo, unasked."""
    _make_user(SUDOER, "*")
    with _sudo_rule(SUDOER, "NOPASSWD: ALL"):
        yield SUDOER


@pytest.fixture
def asked_sudoer() -> Iterator[str]:
    """The name of a user who becomes root by sudo, with the password ``SUDO_PASSWORD`` each time."""
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=SUDO_PASSWORD, capture_output=True, text=True, check=True
    )
    _make_user(ASKED_SUDOER, hashed.stdout.strip())
    with _sudo_rule(ASKED_SUDOER, "PASSWD: ALL"):
        yield ASKED_SUDOER


@pytest.fixture
def doas_user() -> Iterator[str]:
    """The name of a user who is not root and becomes root by doas, unasked; nobody else does meanwhile."""
    _make_user(DOAS_USER, "*")
    if shutil.which("doas") is None:
        pytest.skip("doas is not installed: make setup installs it")
    with (Path(tempfile.gettempdir()) / "keyrelay-doas.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if DOAS_RULES.exists() and not DOAS_RULES.read_text(encoding="utf-8").startswith(OURS):
            pytest.skip(f"{DOAS_RULES} has rules of its own")
        DOAS_RULES.write_text(f"{OURS}permit nopass {DOAS_USER} as root\n", encoding="utf-8")
        DOAS_RULES.chmod(0o600)
        yield DOAS_USER
        DOAS_RULES.unlink()


@pytest.fixture
def networks() -> None:
    """Hosts can be put behind jump hosts."""
    if reason := machine.lacks_networks():
        pytest.skip(reason)


@pytest.fixture
def ipv6() -> None:
    """A host can listen on ``::1``."""
    if reason := machine.lacks_ipv6():
        pytest.skip(reason)


def _make_user(name: str, hashed_password: str) -> None:
    """Makes a user with a shell, who stays. ``!`` locks the account, ``*`` only lets no password in."""
    if os.geteuid() != 0:
        pytest.skip("only root can start hosts as another user")
    try:
        pwd.getpwnam(name)
    except KeyError:
        if shutil.which("useradd") is None:
            pytest.skip("useradd is not installed")
        # Another test process may be quicker; what counts is that the user exists afterwards.
        subprocess.run(
            ["useradd", "--system", "--create-home", "--shell", "/bin/sh", "-p", hashed_password, name],
            check=False,
        )
        pwd.getpwnam(name)


@contextmanager
def _sudo_rule(user: str, rule: str) -> Iterator[None]:
    """Lets a user run all as root; the password, if it is asked for, is asked for each time."""
    if shutil.which("sudo") is None:
        pytest.skip("sudo is not installed: make setup installs it")
    # sudo reads no file with a dot in its name.
    rules = Path("/etc/sudoers.d") / f"keyrelay-test-{os.getpid()}-{user}"
    fresh = rules.with_suffix(".new")
    fresh.write_text(
        f"{OURS}Defaults:{user} timestamp_timeout=0\n{user} ALL=(ALL) {rule}\n", encoding="utf-8"
    )
    fresh.chmod(0o440)
    try:
        subprocess.run(["visudo", "-cqf", fresh], check=True)
        fresh.rename(rules)
        yield
    finally:
        fresh.unlink(missing_ok=True)
        rules.unlink(missing_ok=True)
