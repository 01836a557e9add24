"""Terminals with a founded fleet, with and without real hosts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.lab import Lab
from tests.cli.terminal import Terminal, shorten

MakeFleet = Callable[..., tuple[Terminal, Lab]]


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A folder with two passphrases and no fleet yet."""
    terminal = Terminal(folder=tmp_path)
    vault = terminal.write("vault.passphrase", "a passphrase for the vault\n")
    terminal.write("root.passphrase", "another one for the root\n")
    terminal.environment["KEYRELAY_PASSPHRASE_FILE"] = str(vault)
    return terminal


@pytest.fixture
def inside(
    terminal: Terminal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    """The terminal, with commands that run in this process."""
    monkeypatch.chdir(terminal.folder)
    for name, value in terminal.environment.items():
        monkeypatch.setenv(name, value)

    def run(arguments: list[str]) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.end_of(arguments)
        return (code, *capsys.readouterr())

    terminal.inside = run
    return terminal


@pytest.fixture
def founded(terminal: Terminal) -> Terminal:
    """A founded fleet, and playbooks that wait for seconds."""
    terminal("init", "--root-passphrase-file", "root.passphrase").ended(0)
    for name in ("shared", "per-group", "per-server"):
        shorten(terminal.folder / "playbooks" / f"{name}.yml")
    return terminal


@pytest.fixture
def make_fleet(founded: Terminal, make_lab: Callable[..., Lab]) -> MakeFleet:
    """A founded fleet and a lab of real hosts, reached as ``lab/`` in the working folder."""

    def make(**arguments: object) -> tuple[Terminal, Lab]:
        lab = make_lab(**arguments)
        (founded.folder / "lab").symlink_to(lab.directory)
        return founded, lab

    return make
