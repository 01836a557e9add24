"""A real terminal: plans are shown and asked about, passphrases typed unseen, runs show how far they are."""

import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Callable

import pytest

from orchestrator.keys.formats.contents import Format
from orchestrator.keys.formats.writing import write_private
from orchestrator.keys.material import Algorithm
from orchestrator.keys.secret import Secret
from orchestrator.lab import Lab
from tests.cli.terminal import ROOT, Terminal, keys_in_use
from tests.fakes import SeededEntropy
from tests.key_files import certified

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
SHARED = "playbooks/shared.yml"
HOSTS = ("-i", "inventory/example.yml")
EXPORT = ("cert", "export", "--format", "pkcs12", "-o", "key.p12", "--private", "--purpose", "a test")
FIRST, AGAIN = "Passphrase of the exported file: ", "Once more: "
INTERRUPT = "\x03"
TIMEOUT_S = 120
# A session without a terminal gets the first one that it opens.
AT_ITS_TERMINAL = """
import os
os.close(os.open(os.ttyname(0), os.O_RDWR))
from orchestrator.cli.__main__ import run
run()
"""


def type_at(keyrelay: Terminal, *words: str, answers: dict[str, str]) -> tuple[int, str]:
    """Run a command on a terminal of its own and give each answer once its question has appeared.

    Whatever was asked for, and however it ended, the terminal shows again what is typed.
    """
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", AT_ITS_TERMINAL, *words],
        cwd=keyrelay.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **keyrelay.environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    guard = threading.Timer(TIMEOUT_S, program.kill)
    guard.start()
    said, unanswered = b"", dict(answers)
    try:
        while chunk := read(ours):
            said += chunk
            for question in [one for one in unanswered if one.encode() in said]:
                os.write(ours, unanswered.pop(question).encode() + b"\n")
        code = program.wait(TIMEOUT_S)
        assert termios.tcgetattr(ours)[3] & termios.ECHO, "what is typed next would not be seen"
        return code, said.decode()
    finally:
        guard.cancel()
        os.close(ours)


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


def test_apply_shows_the_plan_and_asks_and_no_is_no(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=1, agents=1)
    code, said = type_at(keyrelay, "apply", SHARED, *INVENTORY, answers={"[y/N]": "n"})
    assert code == 1
    assert "gets a new ed25519 key of all" in said
    assert "nothing was changed" in said
    assert keys_in_use(lab.directory / "hosts") == set()

    code, said = type_at(keyrelay, "apply", SHARED, *INVENTORY, answers={"[y/N]": "yes"})
    assert code == 0
    assert "done: 2 hosts changed" in said
    for phase in ("survey", "stage", "publish", "activate"):
        assert phase in said, "the bar names what is done"
    assert len(keys_in_use(lab.directory / "hosts")) == 1


def test_passphrases_are_asked_for_and_not_shown(terminal: Terminal) -> None:
    del terminal.environment["KEYRELAY_PASSPHRASE_FILE"]
    words = ("init", "--root-passphrase-file", "root.passphrase")
    code, said = type_at(
        terminal, *words, answers={"Passphrase of the vault: ": "spoken", "Once more: ": "spoken twice"}
    )
    assert (code, "the two passphrases differ" in said, "spoken" in said) == (2, True, False)
    code, said = type_at(
        terminal, *words, answers={"Passphrase of the vault: ": "spoken", "Once more: ": "spoken"}
    )
    assert (code, "founded fleet" in said, "spoken" in said) == (0, True, False)


@pytest.fixture
def made(inside: Terminal, founded: Terminal) -> tuple[Terminal, str]:
    """A fleet with a key in the vault, and that key."""
    del inside
    key = founded.json("cert", "create", SHARED, *HOSTS, "--for", "all")["id"]
    return founded, str(key)


def test_the_password_of_an_exported_file_is_asked_for_twice_and_not_shown(
    made: tuple[Terminal, str],
) -> None:
    keyrelay, key = made
    code, said = type_at(keyrelay, *EXPORT, key, answers={FIRST: "spoken", AGAIN: "spoken"})
    assert (code, "under its password" in said, "spoken" in said) == (0, True, False)
    keyrelay.write("right", "spoken\n")
    keyrelay("cert", "show", "./key.p12", "--password-file", "right").ended(0).line("under a password")


@pytest.mark.parametrize(
    ("answers", "ends"),
    [
        ({FIRST: "spoken", AGAIN: "broken"}, 2),
        ({FIRST: ""}, 2),
        ({FIRST: INTERRUPT}, 3),
        ({FIRST: "spoken", AGAIN: INTERRUPT}, 3),
    ],
    ids=["two passwords", "an empty one", "Ctrl-C", "Ctrl-C the second time"],
)
def test_without_a_password_typed_twice_nothing_is_written_and_nothing_recorded(
    made: tuple[Terminal, str], answers: dict[str, str], ends: int
) -> None:
    keyrelay, key = made
    code, said = type_at(keyrelay, *EXPORT, key, answers={**answers, AGAIN: answers.get(AGAIN, "")})
    assert (code, "oken" in said, "Traceback" in said) == (ends, False, False)
    assert not (keyrelay.folder / "key.p12").exists()
    assert keyrelay.json("cert", "list")["keys"][0]["copies"] == []


def test_the_password_of_an_imported_file_is_asked_for_and_not_shown(
    inside: Terminal, founded: Terminal
) -> None:
    del inside
    pair = certified(Algorithm.ED25519).pair
    written = write_private(
        Format.PKCS12, pair, (), Secret(b"spoken"), name="old", random=SeededEntropy("imported")
    )
    (founded.folder / "old.p12").write_bytes(written.reveal())
    question = "Passphrase of old.p12: "
    words = ("cert", "import", SHARED, "old.p12", *HOSTS, "--for", "all")
    for answer, ends in (("another", 1), ("", 2), (INTERRUPT, 3)):
        code, said = type_at(founded, *words, answers={question: answer})
        assert (code, "another" in said, "Traceback" in said) == (ends, False, False)
        assert founded.json("cert", "list")["keys"] == []
    code, said = type_at(founded, *words, answers={question: "spoken"})
    assert (code, "imported key" in said, "spoken" in said) == (0, True, False)


def test_without_a_terminal_nobody_is_asked(made: tuple[Terminal, str]) -> None:
    keyrelay, key = made
    keyrelay(*EXPORT, key).ended(2).line("the passphrase of the exported file is needed", "no terminal")
    piped = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *EXPORT, key],
        cwd=keyrelay.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **keyrelay.environment},
        input="spoken\nspoken\n",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        start_new_session=True,
        check=False,
    )
    assert (piped.returncode, "no terminal to ask on" in piped.stderr) == (2, True)
    assert keyrelay.json("cert", "list")["keys"][0]["copies"] == []


def test_a_narrow_terminal_folds_tables_and_cuts_no_name(make_fleet: MakeFleet) -> None:
    keyrelay, _ = make_fleet(servers=1, agents=1)
    keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0)
    key = keyrelay.json("cert", "list")["keys"][0]["thumbprint"]
    keyrelay.environment["COLUMNS"] = "60"

    code, said = type_at(keyrelay, "cert", "list", answers={})

    assert (code, "…" in said) == (0, False)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert "".join(line.split(" ")[0] for line in plain.splitlines()) == f"key{key}"


def test_a_leak_and_a_removal_are_told_beforehand_and_no_is_no(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=1, agents=1)
    keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0)
    before = keys_in_use(lab.directory / "hosts")
    key = keyrelay.json("cert", "list")["keys"][0]["thumbprint"]
    leaked = ("compromise", "--reason", "on a train", "--", key)

    code, said = type_at(keyrelay, *leaked, answers={"[y/N]": "n"})
    assert (code, "nothing was changed" in said) == (1, True)
    assert "it leaked: server-01 will leave it for another key without waiting for any agent" in said
    code, said = type_at(keyrelay, "remove", "agent-001", answers={"[y/N]": ""})
    assert (code, "nothing was changed" in said) == (1, True)
    assert "all of it will be erased on the host" in said
    assert keys_in_use(lab.directory / "hosts") == before

    code, said = type_at(keyrelay, *leaked, answers={"[y/N]": "y"})
    assert (code, "is removed" in said) == (0, True)
    assert not keys_in_use(lab.directory / "hosts") & before
