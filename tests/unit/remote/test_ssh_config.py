"""The client's configuration as OpenSSH reads it: ``ssh -G`` says what it makes of the same file."""

import subprocess
from pathlib import Path

import pytest

from orchestrator.inventory.ssh_options import SshOptions
from orchestrator.remote.ssh_config import SshConfig, SshConfigError

ME = "operator"

CONFIGS = {
    "the first value counts": "Host web*\n User one\n Port 21\nHost *\n User two\n Port 22\n",
    "what stands before any Host": "User early\nHost web-1\n User late\n",
    "patterns, one with an exclamation mark": "Host db * !web-1\n Port 33\nHost web-? \n Port 44\n",
    "brackets are no pattern": "Host web-[1]\n Port 33\nHost web-1\n Port 44\n",
    "equals signs, quotes and comments": (
        '# a comment\nHost web-1 # another\n  User=quoted\n  IdentityFile = "/keys/a b"\n\n  Port    2222\n'
    ),
    "keywords in any case": "HOST web-1\n uSER x\n pORT 9\n",
    "files of keys add up": "Host web-1\n IdentityFile /a\n IdentityFile /b\nHost *\n IdentityFile /c\n",
    "HostName with a token": "Host web-*\n HostName %h.example.net\n",
    "an address in HostName": "Host web-1\n HostName 192.0.2.7\n Port 22\n",
    "aliases and files of host keys": (
        "Host *\n HostKeyAlias the-alias\n UserKnownHostsFile /a /b\n GlobalKnownHostsFile none\n"
    ),
    "a jump host": "Host web-1\n ProxyJump user@jump:2222\nHost *\n ProxyCommand nc %h %p\n",
    "a command first": "Host web-1\n ProxyCommand nc %h %p\nHost *\n ProxyJump jump\n",
    "no jump host": "Host web-1\n ProxyJump none\nHost *\n ProxyJump jump\n",
    "Match all": "Match all\n User everybody\n",
    "Match host after HostName": "Host web-1\n HostName real.example\nMatch host real.*\n User matched\n",
    "Match originalhost": "Host web-1\n HostName real\nMatch originalhost web-1,db\n Port 5\n",
    "Match with two criteria": "Match host web-* user nobody\n Port 5\nMatch host web-*\n Port 6\n",
    "Match user as set before": "Host web-1\n User root\nMatch user root\n Port 5\n",
    "a negated criterion": "Match !host db,web-2\n Port 5\n",
    "Match final": "Match final host real\n Port 7\nHost web-1\n HostName real\n",
    "Match final, and Host by the name that was found": (
        "Host web-1\n HostName real\nMatch final\n User f\nHost real\n Port 7\n"
        "Match originalhost web-1\n Port 8\n"
    ),
    "Match canonical without final": "Match canonical\n Port 7\n",
    "Match canonical with final": "Match final host no\n Port 7\nMatch canonical\n Port 8\n",
    "not final": "Match !final\n Port 7\nMatch final\n Port 8\n",
    "a HostName found in the first pass": (
        "Host web-1\n HostName %h.example\nMatch final\n HostName other\nHost other\n Port 9\n"
    ),
    "Match exec that is not reached": "Match host mail exec false\n Port 5\nHost *\n Port 6\n",
    "IdentitiesOnly and an agent": "Host *\n IdentitiesOnly yes\n IdentityAgent /run/agent\n",
    "strictness": "Host web-1\n StrictHostKeyChecking accept-new\n",
    "options that are not followed": "Host *\n SendEnv LANG LC_*\n Ciphers aes256-ctr\n",
    "nothing": "",
}


def theirs(file: Path, host: str) -> dict[str, list[str]]:
    """What ``ssh -G`` says, by keyword."""
    said = subprocess.run(
        ["ssh", "-G", "-F", file, host], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    found: dict[str, list[str]] = {}
    for line in said:
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


def whoami() -> str:
    return subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("host", ["web-1", "web-2", "db"])
def test_a_file_means_what_openssh_takes_it_to_mean(tmp_path: Path, text: str, host: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    expected, user = theirs(file, host), whoami()

    found = SshConfig.read(str(file)).about(host, SshOptions(), local_user=user)

    address = (found.hostname or host).replace("%h", host)
    assert [address] == expected["hostname"]
    assert [str(found.port or 22)] == expected["port"]
    assert [found.user or user] == expected["user"]
    assert list(found.identity_files) == [
        name for name in expected.get("identityfile", []) if not name.startswith("~/.ssh/")
    ]
    assert found.host_key_alias == expected.get("hostkeyalias", [None])[0]
    assert found.identity_agent == expected.get("identityagent", [None])[0]
    assert bool(found.identities_only) == (expected["identitiesonly"] == ["yes"])
    assert {None: "ask", True: "accept-new"}[found.trust_new] == expected["stricthostkeychecking"][0].replace(
        "true", "ask"
    )
    assert (found.proxy_jump if found.proxy_jump != "none" else None) == expected.get("proxyjump", [None])[0]
    assert found.proxy_command == expected.get("proxycommand", [None])[0]
    if found.user_known_hosts is not None:
        assert " ".join(found.user_known_hosts) == expected["userknownhostsfile"][0]


def about(text: str, tmp_path: Path, host: str = "web-1", given: SshOptions | None = None) -> SshOptions:
    file = tmp_path / "config"
    file.write_text(text)
    return SshConfig.read(str(file)).about(host, given or SshOptions(), local_user=ME)


def test_what_is_given_comes_before_what_files_say(tmp_path: Path) -> None:
    given = SshOptions(port=1, identity_files=("/mine",), proxy_command="none")
    found = about("Host *\n Port 2\n User u\n IdentityFile /its\n ProxyJump j\n", tmp_path, given=given)

    assert found == SshOptions(port=1, user="u", identity_files=("/mine", "/its"), proxy_command="none")


@pytest.mark.parametrize("criterion", ["exec false", "tagged x", "localnetwork 10.0.0.0/8"])
def test_a_criterion_that_cannot_be_decided_matters_only_where_it_decides(
    tmp_path: Path, criterion: str
) -> None:
    text = f"Match {criterion} host db\n Port 5\nHost *\n Port 6\n"

    assert about(text, tmp_path, "web-1").port == 6
    with pytest.raises(SshConfigError, match="write Host or Match host, or name another file with -F"):
        about(text, tmp_path, "db")


def test_match_exec_is_never_run_and_ends_the_look_up_where_ssh_would_run_it(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    text = f'Match host web-* exec "touch {trace}"\n Port 5\nHost db\n Port 6\n'

    with pytest.raises(SshConfigError) as caught:
        about(text, tmp_path)

    assert str(caught.value).startswith(
        f"{tmp_path}/config:1: Match exec would run a command to decide how web-1 is reached, and keyrelay"
    )
    assert about(text, tmp_path, "db").port == 6
    assert not trace.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Match tagged x\n Port 5\n", "config:1: keyrelay does not know how to decide Match tagged"),
        ("Match host\n Port 5\n", "config:1: Match host has no argument"),
        ("Host\n", "config:1: not a line of ssh_config"),
        ("Host web-1\n Port many\n", "config:2: port has the port 'many'; allowed: 1 to 65535"),
        ("RevokedHostKeys /x\n", "config:1: RevokedHostKeys is not supported"),
        ("Include config\n", "files include each other without end"),
    ],
)
def test_what_cannot_be_followed_names_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SshConfigError) as caught:
        about(text.replace("Include config", f"Include {tmp_path}/config"), tmp_path)
    assert words in str(caught.value)


def test_a_file_that_is_named_and_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SshConfigError, match="none does not exist"):
        SshConfig.read(str(tmp_path / "none"))
    assert SshConfig.read("none").about("x", SshOptions(), local_user=ME) == SshOptions()


def test_files_are_included_under_the_lines_above(home: Path) -> None:
    folder = home / ".ssh"
    (folder / "config.d").mkdir(parents=True)
    (folder / "config").write_text("Host web-*\n Include config.d/*\nHost *\n Port 9\n Include missing*\n")
    (folder / "config").chmod(0o600)
    (folder / "config.d" / "1").write_text("User first\nHost web-2 db\n Port 2\n")
    (folder / "config.d" / "2").write_text("Match host web-1\n Port 1\n")

    config = SshConfig.read(None)
    found = {name: config.about(name, SshOptions(), local_user=ME) for name in ("web-1", "web-2", "db")}

    assert {name: (one.user, one.port) for name, one in found.items()} == {
        "web-1": ("first", 1),
        "web-2": ("first", 2),
        "db": (None, 9),
    }


def test_a_file_that_others_may_write_is_refused_as_ssh_refuses_it(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text("Host *\n Port 9\n")
    (home / ".ssh" / "config").chmod(0o666)

    with pytest.raises(SshConfigError, match="others may write to"):
        SshConfig.read(None)
