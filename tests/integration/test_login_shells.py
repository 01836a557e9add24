"""The bootstrap under every usual login shell, with start-up files that print.

sshd hands a command to the user's shell as ``shell -c COMMAND``. Some servers call it with a dash before
its name, which makes it a login shell that reads more start-up files; both must do.
"""

import shutil
from pathlib import Path

import pytest

from orchestrator.keys.material import Algorithm
from orchestrator.rotation.reports import Changed
from orchestrator.rotation.visits import Activate
from tests.integration.program import ONE, Machine, challenge, programs, stage

SHELLS = ("bash", "dash", "ash", "zsh", "ksh", "fish", "tcsh", "csh")
POSIX_FILES = (".profile", ".bash_profile", ".bashrc", ".zshenv", ".zprofile", ".zshrc", ".zlogin", ".kshrc")
CSH_FILES = (".cshrc", ".tcshrc", ".login")
NOISE = "Welcome! 100% \\ 'of' $HOME"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose user's start-up files print, the last line without its end."""
    home = tmp_path / "home"
    (home / ".config" / "fish").mkdir(parents=True)
    quoted = NOISE.replace("'", "'\\''")
    for name in POSIX_FILES:
        (home / name).write_text(f"printf %s '{quoted}'\necho 'to the other side' >&2\n")
    for name in CSH_FILES:
        (home / name).write_text("sh -c 'printf %s Welcome\\!; echo to the other side >&2'\n")
    (home / ".config" / "fish" / "config.fish").write_text("printf Welcome!\necho to the other side >&2\n")
    environment = {
        "HOME": str(home),
        "ENV": str(home / ".kshrc"),
        "ZDOTDIR": str(home),
        "SSH_CLIENT": "127.0.0.1 50000 22",
        "USER": "root",
        "TERM": "dumb",
    }
    return Machine(base=tmp_path / "base", path=programs(tmp_path / "bin", "dash"), environment=environment)


def program(shell: str) -> Path:
    found = shutil.which("busybox" if shell == "ash" else shell)
    assert found is not None, f"{shell} is missing: make setup installs it"
    return Path(found)


@pytest.mark.parametrize("login", [False, True], ids=["plain", "login"])
@pytest.mark.parametrize("shell", SHELLS)
def test_a_visit_through_a_login_shell_that_prints(machine: Machine, shell: str, *, login: bool) -> None:
    machine.login = (f"-{shell}" if login else shell,)
    machine.executable = program(shell)
    outcome = machine.run(
        stage(), Activate(credential=ONE, challenge=challenge(), algorithm=Algorithm.ED25519)
    )

    assert isinstance(outcome, Changed), (outcome, machine.noise)
    if login or shell in ("zsh", "fish", "tcsh", "csh"):
        assert machine.answer.startswith(b"Welcome!")
        assert b"to the other side" in machine.noise
