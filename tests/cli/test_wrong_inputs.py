"""What is typed or written wrong: a line that says what, a line that says what to do, and exit code 2."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.terminal import ROOT, Done, Terminal

Typed = Callable[..., Done]

HOSTS = """\
servers: {hosts: {s1: , s2: }}
agents: {hosts: {a1: }}
"""
PLAY = "- {name: n, servers: servers, agents: agents, policy: shared, service: follows}\n"


@pytest.fixture
def typed(inside: Terminal) -> Typed:
    """Types a line in a folder with an inventory and a playbook."""
    inside.write("hosts.yml", HOSTS)
    inside.write("play.yml", PLAY)
    return lambda line: inside(*line.split())


@pytest.fixture
def with_home(typed: Typed) -> Typed:
    """The same, with a founded fleet."""
    typed("init --root-passphrase-file root.passphrase").ended(0)
    return typed


PLAN = "plan play.yml -i hosts.yml"
APPLY = "apply play.yml -i hosts.yml"

WRONG_LINES = {
    "there is no such command": ("rotate", ["No such command 'rotate'"]),
    "a command of later is unknown": ("dashboard", ["No such command 'dashboard'"]),
    "a command of later below a group is unknown": ("ledger export", ["No such command 'export'"]),
    "an option of later is unknown": (f"{APPLY} --via-workers", ["No such option: --via-workers"]),
    "a command group alone": ("cert", ["Missing command"]),
    "an argument is missing": (
        "plan -i hosts.yml",
        ["Missing argument 'PLAYBOOK…'", "see: keyrelay plan --help"],
    ),
    "the inventory is missing": ("plan play.yml", ["Missing option '-i'"]),
    "the inventory file is missing": (
        "inventory check -i nothing.yml",
        ["nothing.yml: there is no such file"],
    ),
    "the playbook file is missing": ("plan nothing.yml -i hosts.yml", ["nothing.yml: there is no such file"]),
    "a duration is none": ("due --within soon", ["--within: 'soon' is no duration", "30d, 12h"]),
    "a wait is none": (f"{APPLY} --yes --wait 10", ["--wait: '10' is no duration"]),
    "there is no home": ("due", ["no home at ", "--home DIR", "keyrelay init"]),
    "there is no terminal to ask on": (APPLY, ["no terminal to ask on", "--plan DIGEST, or --yes"]),
    "a digest is none": (f"{APPLY} --plan yes", ["--plan 'yes' is no digest"]),
    "a digest that would fit any plan": (f"{APPLY} --plan 12", ["--plan '12' is no digest"]),
    "a watch that never looks": (
        "watch play.yml -i hosts.yml --every now",
        ["--every: 'now' is no duration"],
    ),
    "a schema of something else": ("schema vault", ["'vault'"]),
    "a lab that is none": ("lab status nowhere", ["there is no lab here", "keyrelay lab up"]),
}


@pytest.mark.parametrize(("line", "parts"), WRONG_LINES.values(), ids=WRONG_LINES.keys())
def test_a_wrong_line_is_refused_with_a_hint(typed: Typed, line: str, parts: list[str]) -> None:
    said = typed(line).ended(1 if line.startswith("lab") else 2)
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "\nhint: " in said.err or "no such file" in said.err
    assert [part for part in parts if part not in said.err] == [], said.err


WRONG_FILES = {
    "an unknown field": (
        PLAY.replace("service", "servise"),
        HOSTS,
        ["play.yml:1:", "servise", "did you mean service"],
    ),
    "a field of a later version": (PLAY.replace("}", ", workers: []}"), HOSTS, ["unknown field 'workers'"]),
    "a policy of a later version": (
        PLAY.replace("shared", "by-proxy"),
        HOSTS,
        ["by-proxy", "shared, per-group, per-server, delegated"],
    ),
    "a pattern of nobody": (
        PLAY.replace("servers: servers", "servers: server"),
        HOSTS,
        ["play.yml:1:", "server"],
    ),
    "a pattern that is none": (PLAY.replace("agents: agents", 'agents: "a[1"'), HOSTS, ["bracket"]),
    "an unknown variable": (
        PLAY,
        HOSTS.replace("a1: ", "a1: {keyrelay_bse: /x}"),
        ["hosts.yml:2:", "keyrelay_base"],
    ),
    "a template in a variable": (
        PLAY,
        HOSTS.replace("a1: ", 'a1: {ansible_host: "{{ x }}"}'),
        ["hosts.yml:2:"],
    ),
    "no YAML": (PLAY, "servers: [", ["hosts.yml:", "this is not YAML"]),
    "shared keys that are made on servers": (
        PLAY.replace("}", ", key: {origin: server}}"),
        HOSTS,
        ["key.origin is server", "cannot be shared", "hint: use policy per-server, or origin: controller"],
    ),
    "a server in two plays": (PLAY + PLAY.replace("name: n", "name: m"), HOSTS, ["s1 is in two plays"]),
}


@pytest.mark.parametrize(("play", "hosts", "parts"), WRONG_FILES.values(), ids=WRONG_FILES.keys())
def test_a_wrong_file_is_refused_with_its_place(
    terminal: Terminal, with_home: Typed, play: str, hosts: str, parts: list[str]
) -> None:
    terminal.write("play.yml", play)
    terminal.write("hosts.yml", hosts)
    said = with_home(PLAN)
    assert said.code == (1 if "two plays" in parts[0] else 2), said
    assert said.out == ""
    assert [part for part in parts if part not in said.err] == [], said.err


def test_a_check_names_everything_that_is_wrong_at_once(terminal: Terminal, typed: Typed) -> None:
    hosts = HOSTS.replace("s1: ", "s1: {ansible_port: 0}").replace("a1: ", 'a1: {ansible_user: "a b"}')
    terminal.write("hosts.yml", hosts)
    said = typed("inventory check -i hosts.yml").ended(2)
    said.line("hosts.yml:1:", "ansible_port of host s1")
    said.line("hosts.yml:2:", "ansible_user of host a1")
    said.line("3 hosts, 4 groups, 2 problems")


def test_without_a_home_policies_can_be_compared_and_files_checked(typed: Typed) -> None:
    typed("policy compare play.yml -i hosts.yml").ended(0).line("assumed: nothing was measured yet")
    typed("inventory check -i hosts.yml").ended(0).line("3 hosts, 4 groups: sound")
    assert typed("inventory graph -i hosts.yml").ended(0).out.splitlines()[0] == "@all:"
    typed("inventory list -i hosts.yml").ended(0).line("s1", "/etc/keyrelay", "servers")


def test_help_is_there_for_every_command_and_says_nothing_of_completion(typed: Typed) -> None:
    commands = typed("--help").ended(0).out
    for command in ("init", "apply", "lab up", "ledger verify", "cert show", "policy compare"):
        assert f"Usage: keyrelay {command} " in typed(f"{command} --help").ended(0).out
        assert command.split(maxsplit=1)[0] in commands
    assert "completion" not in commands
    assert typed("--version").ended(0).out.startswith("keyrelay ")
    assert "Usage: keyrelay" in typed("").ended(2).err


def test_a_home_is_founded_once_and_files_that_are_there_are_left(terminal: Terminal, typed: Typed) -> None:
    mine = terminal.write("playbooks/shared.yml", "mine\n")
    founded = typed("init --root-passphrase-file root.passphrase").ended(0)
    founded.line("playbooks/shared.yml was there already and is left as it is")
    founded.line("examples: 11 files written")
    assert mine.read_text(encoding="utf-8") == "mine\n"
    before = (terminal.folder / ".keyrelay" / "root.key").read_bytes()

    again = typed("init --root-passphrase-file root.passphrase").ended(2)

    again.line("error: there is a home at", ".keyrelay already")
    assert (terminal.folder / ".keyrelay" / "root.key").read_bytes() == before
    assert typed("init elsewhere --root-passphrase-file root.passphrase").ended(0).line("elsewhere/.keyrelay")
    assert typed("init . --root-passphrase-file root.passphrase").ended(2)


def test_the_home_is_private_whatever_the_umask(terminal: Terminal, typed: Typed) -> None:
    old = os.umask(0)
    try:
        typed("--home far/away init --root-passphrase-file root.passphrase").ended(0)
    finally:
        os.umask(old)
    made = [
        path for name in ("far", "inventory", "playbooks") for path in (terminal.folder / name).rglob("*")
    ]
    folders = [terminal.folder / name for name in ("far", "inventory", "playbooks")]
    assert not [path for path in (*folders, *made) if path.stat().st_mode & 0o022]
    home = terminal.folder / "far" / "away"
    assert home.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}
    assert not (terminal.folder / ".keyrelay").exists()
    typed("--home far/away cert list").ended(0).line("there are no keys yet")


def test_a_founding_that_is_cut_short_leaves_no_home(
    terminal: Terminal, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.records.home_keys.seal_file", cut)
        typed("init --root-passphrase-file root.passphrase").ended(3).line("error: interrupted")
    assert [path.name for path in terminal.folder.glob(".keyrelay*")] == []
    typed("due").ended(2).line("no home")
    typed("init --root-passphrase-file root.passphrase").ended(0)


def test_passphrases_are_never_taken_from_where_others_could_read_them(
    terminal: Terminal, with_home: Typed
) -> None:
    shown = f"{APPLY} --yes --passphrase-file"
    terminal.write("open", "a passphrase for the vault\n", mode=0o640)
    with_home(f"{shown} open").ended(2).line("open: others have access", "0640")
    terminal.write("empty", "\n")
    with_home(f"{shown} empty").ended(2).line("this one is empty")
    with_home(f"{shown} missing").ended(2).line("missing: the passphrase cannot be read")
    terminal.write("wrong", "a passphrase for the vault")
    with_home(f"{shown} wrong").ended(3)
    terminal.write("wrong", "a passphrase for the vault\n\n")
    wrong = with_home(f"{shown} wrong").ended(1)
    wrong.line("error: vault in ", "the passphrase is wrong")
    wrong.line("hint: it was read from wrong: is that the right one?")
    terminal.write("short", "1234\n")
    short = with_home("backup new.backup --backup-passphrase-file short").ended(2)
    short.line("error: short: a new passphrase has at least 5 characters, this one has 4")
    assert "a passphrase for the vault" not in wrong.out + wrong.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_passphrase_in_another_users_file_is_not_taken(terminal: Terminal, with_home: Typed) -> None:
    given = terminal.write("given", "a passphrase for the vault\n", mode=0o600)
    os.chown(given, 12345, -1)
    with_home(f"{APPLY} --yes --passphrase-file given").ended(2).line(
        "given: the passphrase belongs to user 12345"
    )


def test_vault_and_root_need_passphrases_of_their_own(typed: Typed, terminal: Terminal) -> None:
    typed("init --root-passphrase-file vault.passphrase").ended(2).line("the same passphrase")
    typed("init").ended(2).line("the passphrase of the root key is needed", "no terminal")
    assert not (terminal.folder / ".keyrelay").exists()


def test_a_key_or_a_host_or_a_rollout_that_nobody_knows(with_home: Typed) -> None:
    with_home("holders abc").ended(2).line("the ledger knows no key", "'abc'")
    with_home("holders -abc").ended(2).line("the ledger knows no key", "'-abc'")
    with_home("cert show -x").ended(2).line("the ledger knows no key", "'-x'")
    with_home("holdings s9").ended(2).line("the ledger knows no host 's9'")
    with_home("rollout show").ended(2).line("there was no rollout yet")
    assert with_home("rollout show").err.count("keyrelay apply") == 1
    for command in ("audit", "prove"):
        said = with_home(f"{command} -i hosts.yml").ended(2)
        said.line("nothing was applied yet")
        said.line("hint: keyrelay plan PLAYBOOK", "keyrelay apply PLAYBOOK")


def test_a_key_and_a_rollout_are_not_called_by_nothing(inside: Terminal, with_home: Typed) -> None:
    with_home("due").ended(0)
    inside("holders", "").ended(2).line("an empty text names no key")
    inside("rollout", "pause", "").ended(1).line("no rollout is under way")


@pytest.mark.parametrize(
    "line", ["cert list {}", "cert {} list", "{} cert list", "due {}", "holders -x {}", "ledger verify {}"]
)
def test_options_of_keyrelay_itself_stand_before_the_command_and_behind_it(typed: Typed, line: str) -> None:
    typed("init here --root-passphrase-file root.passphrase --home there").ended(0)
    typed("due --home").ended(2).line("'--home' requires an argument")
    for options in ("--home there", "--home=there --debug", "--home there --accept-new-host-keys"):
        said = typed(line.format(options))
        assert "no home" not in said.err, said
    typed(line.format("--home nowhere")).ended(2).line("no home at ", "/nowhere")
    typed("--home nowhere " + line.format("--home there --passphrase-file unread")).line("")


def test_the_passphrases_file_may_be_named_before_the_command_and_behind_it(
    with_home: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in (f"--passphrase-file mine {APPLY} --yes", f"{APPLY} --yes --passphrase-file mine"):
        with_home(line).ended(2).line("mine: the passphrase cannot be read")
    with_home(f"--passphrase-file mine {APPLY} --yes --passphrase-file mien").ended(2).line("mien: ")
    with_home(f"{PLAN} --passphrase-file mine").ended(3)
    monkeypatch.setenv("KEYRELAY_PASSPHRASE_FILE", "theirs")
    with_home(f"{APPLY} --yes").ended(2).line("theirs: ")
    with_home(f"{APPLY} --yes --passphrase-file mine").ended(2).line("mine: ")


def test_a_listing_shows_jump_hosts_where_there_are_any(terminal: Terminal, typed: Typed) -> None:
    assert "through" not in typed("inventory list -i hosts.yml").ended(0).out
    jump = "{ansible_ssh_common_args: '-J ops@near.example,far.example'}"
    terminal.write("hosts.yml", HOSTS.replace("a1: ", f"a1: {jump}"))
    typed("inventory list -i hosts.yml").ended(0).line("a1", "near.example far.example")
    hosts = typed("--json inventory list -i hosts.yml").ended(0).json["hosts"]
    assert {host["name"]: host["jumps"] for host in hosts} == {
        "s1": [],
        "s2": [],
        "a1": ["near.example", "far.example"],
    }
    program = "{ansible_ssh_common_args: -o ProxyCommand=/bin/x}"
    terminal.write("hosts.yml", HOSTS.replace("a1: ", f"a1: {program}"))
    typed("inventory list -i hosts.yml").ended(0).line("a1", "ProxyCommand '/bin/x' would run a program")


def test_a_watch_that_cannot_begin_ends_with_the_reason(terminal: Terminal, with_home: Typed) -> None:
    with_home("watch missing.yml -i hosts.yml").ended(2).line("missing.yml: there is no such file")
    terminal.write("wrong", "another\n")
    with_home("watch play.yml -i hosts.yml --passphrase-file wrong").ended(1).line("the passphrase is wrong")


def test_units_for_systemd_are_printed_with_paths_that_depend_on_no_folder(
    terminal: Terminal, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = terminal.folder
    said = typed("watch play.yml -i hosts.yml --systemd --every 1h --home there").ended(0)
    said.line("ExecStart=", f"watch --once {folder}/play.yml -i {folder}/hosts.yml")
    said.line(f"ReadWritePaths={folder}/there")
    said.line("OnUnitInactiveSec=3600s")
    units = typed("--json watch play.yml -i hosts.yml --systemd").ended(0).json["units"]
    assert set(units) == {"keyrelay-watch.service", "keyrelay-watch.timer"}
    monkeypatch.delenv("KEYRELAY_PASSPHRASE_FILE")
    typed("watch play.yml -i hosts.yml --systemd").ended(2).line("a service has no terminal")


def test_a_fault_of_keyrelay_is_told_without_the_words_of_the_fault(
    with_home: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_(*_: object, **__: object) -> None:
        raise RuntimeError("may quote anything")

    monkeypatch.setattr("orchestrator.cli.keys.due_keys", break_)
    plain = with_home("due").ended(1)
    plain.line("error: this is a fault in keyrelay: RuntimeError at test_wrong_inputs.py:")
    assert "may quote anything" not in plain.err
    debugged = with_home("--debug due")
    assert (debugged.code, "Traceback" in debugged.err) == (1, True)


def test_the_home_is_looked_for_where_the_reference_says(
    terminal: Terminal, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("due").ended(2).line("no home at", "/.local/share/keyrelay")
    monkeypatch.setenv("XDG_DATA_HOME", str(terminal.folder / "data"))
    typed("due").ended(2).line("no home at", "/data/keyrelay")
    typed("--home data/keyrelay init --root-passphrase-file root.passphrase").ended(0)
    typed("due").ended(0)
    (terminal.folder / ".keyrelay").mkdir()
    typed("due").ended(2).line("no home at", "/.keyrelay")
    monkeypatch.setenv("KEYRELAY_HOME", "data/keyrelay")
    typed("due").ended(0)


def test_the_program_itself_ends_with_the_code(terminal: Terminal) -> None:
    for words, code in ((["--version"], 0), (["due"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", "from orchestrator.cli.main import run; run()", *words],
            cwd=terminal.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done


def test_the_program_dumps_no_core(terminal: Terminal) -> None:
    program = (
        "import atexit, resource; from orchestrator.cli.main import run; "
        "atexit.register(lambda: print(resource.getrlimit(resource.RLIMIT_CORE))); run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--version"],
        cwd=terminal.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == b"(0, 0)"


def test_ctrl_c_while_the_program_is_imported_ends_it_without_a_word(terminal: Terminal) -> None:
    told_of_each_import = [sys.executable, "-X", "importtime", "-m", "orchestrator.cli", "--version"]
    program = subprocess.Popen(
        told_of_each_import,
        cwd=terminal.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with program:
        assert program.stderr is not None
        next(line for line in program.stderr if b"orchestrator.errors" in line)
        program.send_signal(signal.SIGINT)
        said, complaint = program.communicate(timeout=60)
    assert (program.returncode, said) == (-signal.SIGINT, b"")
    assert b"Traceback" not in complaint


def test_examples_are_found_in_a_source_tree_and_in_a_wheel(
    tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "orchestrator"
    package.mkdir(parents=True)
    monkeypatch.setattr("orchestrator.__file__", str(package / "__init__.py"))
    typed("init nowhere --root-passphrase-file root.passphrase").ended(2).line("without its example files")
    for name in ("inventory", "playbooks"):
        (package / "examples" / name).mkdir(parents=True)
    (package / "examples" / "playbooks" / "only.yml").write_text("x\n", encoding="ascii")
    typed("init somewhere --root-passphrase-file root.passphrase").ended(0).line(
        "somewhere/playbooks/only.yml"
    )
