import base64
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import paramiko
import pytest

from orchestrator.inventory.endpoints import Endpoint
from orchestrator.inventory.names import HostName
from orchestrator.keys.secret import Secret
from orchestrator.remote.known_hosts import fingerprint
from orchestrator.remote.login_keys import LoginKeyError, LoginKeys
from orchestrator.remote.routes import Hop, Router

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def make_key(path: Path, *options: str, passphrase: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-N", passphrase, *(options or ("-t", "ed25519")), "-f", path], check=True
    )
    return path


def certify(key: Path, authority: Path, *options: str) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "test", "-n", "root", *options, f"{key}.pub"], check=True
    )
    return Path(f"{key}-cert.pub")


def hop(*files: Path) -> Hop:
    (found,) = Router().route(Endpoint(host=HostName("host"), address="192.0.2.1"))
    return replace(found, identities=tuple(map(str, files)))


MADE: list[LoginKeys] = []


def login_keys() -> LoginKeys:
    MADE.append(LoginKeys(now=lambda: NOW))
    return MADE[-1]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Every conversation with an agent ends with its test."""
    yield
    while MADE:
        MADE.pop().close()


def only(*files: Path) -> paramiko.PKey:
    (key,) = login_keys().choose(hop(*files)).ready
    return key.key


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An agent of this test, without keys."""
    path = str(tmp_path / "agent")
    started = subprocess.run(
        ["ssh-agent", "-s", "-a", path], check=True, capture_output=True, text=True
    ).stdout
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    yield path
    os.kill(int(started.split("SSH_AGENT_PID=")[1].split(";")[0]), signal.SIGTERM)


def add(*arguments: str | Path) -> None:
    subprocess.run(["ssh-add", "-q", *arguments], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("-t", "ed25519"), "ssh-ed25519"),
        (("-t", "ecdsa"), "ecdsa-sha2-nistp256"),
        (("-t", "rsa", "-b", "2048"), "ssh-rsa"),
        (("-t", "rsa", "-b", "2048", "-m", "PEM"), "ssh-rsa"),
        (("-t", "rsa", "-b", "2048", "-m", "PKCS8"), "ssh-rsa"),
        (("-t", "ecdsa", "-m", "PKCS8"), "ecdsa-sha2-nistp256"),
    ],
)
def test_keys_that_openssh_makes_are_read(tmp_path: Path, options: tuple[str, ...], name: str) -> None:
    key = only(make_key(tmp_path / "key", *options))

    assert key.get_name() == name
    assert key.can_sign()


def test_a_file_is_read_once(tmp_path: Path) -> None:
    keys = login_keys()
    file = make_key(tmp_path / "key")

    first = keys.choose(hop(file)).ready[0]
    file.unlink()

    assert keys.choose(hop(file)).ready[0].key is first.key


def test_without_a_named_file_openssh_s_own_are_tried_in_its_order(home: Path) -> None:
    make_key(home / ".ssh" / "id_rsa", "-t", "rsa", "-b", "2048")
    make_key(home / ".ssh" / "id_ed25519")

    ready = login_keys().choose(hop()).ready

    assert [key.key.get_name() for key in ready] == ["ssh-ed25519", "ssh-rsa"]
    assert [key.name for key in ready] == [
        f"login key {home}/.ssh/{name}" for name in ("id_ed25519", "id_rsa")
    ]


def test_without_any_key_the_error_says_where_it_looked_and_what_to_do() -> None:
    with pytest.raises(LoginKeyError) as caught:
        login_keys().choose(hop())

    assert str(caught.value) == (
        "there is no key to log in with: none of ~/.ssh/id_ed25519, ~/.ssh/id_ecdsa, ~/.ssh/id_rsa can be "
        "used, and there is no ssh-agent (SSH_AUTH_SOCK is not set); name one with "
        "ansible_ssh_private_key_file"
    )


def test_a_missing_key_is_named_each_time_it_is_asked_for(tmp_path: Path) -> None:
    keys = login_keys()
    for _ in range(2):
        with pytest.raises(LoginKeyError, match="none does not exist"):
            keys.choose(hop(tmp_path / "none"))


@pytest.mark.parametrize(
    "options", [("-t", "ed25519"), ("-t", "rsa", "-m", "PEM", "-b", "2048"), ("-t", "ecdsa", "-m", "PKCS8")]
)
def test_an_encrypted_key_opens_with_its_passphrase_alone(tmp_path: Path, options: tuple[str, ...]) -> None:
    file = make_key(tmp_path / "key", *options, passphrase="a passphrase")
    keys = login_keys()

    choice = keys.choose(hop(file))
    assert (choice.ready, choice.locked) == ((), (str(file),))
    with pytest.raises(LoginKeyError, match="is encrypted, and there is nobody to ask for its pass"):
        keys.unlock(hop(file), str(file), None)
    opened = keys.unlock(hop(file), str(file), Secret(b"a passphrase"))

    assert opened.ready[0].key.can_sign()
    assert keys.choose(hop(file)).ready[0].key is opened.ready[0].key


def test_a_wrong_passphrase_is_told_and_not_asked_for_again(tmp_path: Path) -> None:
    file = make_key(tmp_path / "key", passphrase="a passphrase")
    keys = login_keys()
    keys.choose(hop(file))

    for passphrase in (Secret(b"another"), Secret(b"a passphrase")):
        with pytest.raises(
            LoginKeyError, match=f"^the passphrase for login key {file} is wrong; ssh-keygen -yf"
        ):
            keys.unlock(hop(file), str(file), passphrase)


def test_a_key_that_others_can_read_is_refused_as_ssh_refuses_it(tmp_path: Path) -> None:
    file = make_key(tmp_path / "key")
    file.chmod(0o640)

    with pytest.raises(LoginKeyError, match=r"can be read by others \(mode 0640\); expected 0600"):
        login_keys().choose(hop(file))


@pytest.mark.parametrize(
    "content",
    [b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", b"not a key", b"\xff\xfe\x00", b"ssh-ed25519 x"],
)
def test_a_damaged_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)

    with pytest.raises(LoginKeyError, match="is damaged or of a kind that cannot be used") as caught:
        login_keys().choose(hop(file))

    assert caught.value.__cause__ is None


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(LoginKeyError, match="is not a regular file"):
        login_keys().choose(hop(tmp_path))


def test_a_key_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    file = make_key(tmp_path / "key")
    file.chmod(0)

    with pytest.raises(LoginKeyError, match="cannot be read: Permission denied"):
        login_keys().choose(hop(file))


def test_what_the_agent_holds_comes_before_the_usual_files_and_after_named_ones(
    tmp_path: Path, home: Path, agent: str
) -> None:
    make_key(home / ".ssh" / "id_ed25519")
    add(make_key(tmp_path / "held", "-t", "ed25519", "-C", "from the agent"))
    named = make_key(tmp_path / "named")
    public = (tmp_path / "held.pub").read_text().split()[1]
    held = f"ssh-agent's key 'from the agent' ({fingerprint(base64.b64decode(public))})"

    def names(asked: Hop) -> list[str]:
        return [key.name for key in login_keys().choose(replace(asked, agent=agent)).ready]

    assert names(hop()) == [held, f"login key {home}/.ssh/id_ed25519"]
    assert names(hop(named)) == [f"login key {named}", held]
    assert names(replace(hop(named), identities_only=True)) == [f"login key {named}"]
    assert names(replace(hop(), identities_only=True)) == [f"login key {home}/.ssh/id_ed25519"]


def test_an_encrypted_or_public_key_file_means_the_agent_s_key(tmp_path: Path, agent: str) -> None:
    file = make_key(tmp_path / "key")
    add(file)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "a passphrase", "-f", file], check=True)
    for name in (file, Path(f"{file}.pub")):
        choice = login_keys().choose(replace(hop(name), identities_only=True, agent=agent))

        assert [key.name for key in choice.ready] == [f"login key {name} in ssh-agent"]
        assert choice.locked == ()


def test_a_public_key_without_its_private_one_is_told(tmp_path: Path, agent: str) -> None:
    file = make_key(tmp_path / "key")

    with pytest.raises(LoginKeyError, match="a public key, and no ssh-agent holds its private one; give"):
        login_keys().choose(replace(hop(Path(f"{file}.pub")), agent=agent))


def test_an_agent_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(LoginKeyError, match=f"there is no ssh-agent at {tmp_path}/none"):
        login_keys().choose(replace(hop(tmp_path / "no-key"), agent=str(tmp_path / "none")))
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "gone"))
    with pytest.raises(LoginKeyError, match=f"ssh-agent at {tmp_path}/gone does not answer"):
        login_keys().choose(replace(hop(), agent=str(tmp_path / "gone")))


def test_an_agent_without_keys_is_told_where_it_was_asked(tmp_path: Path, agent: str) -> None:
    empty = f"ssh-agent at {agent} holds no keys"

    assert login_keys().choose(replace(hop(make_key(tmp_path / "key")), agent=agent)).notes == (empty,)
    with pytest.raises(LoginKeyError, match=f"can be used, and {empty}; name one with"):
        login_keys().choose(replace(hop(), agent=agent))


def test_certificates_that_are_missing_or_fit_no_key_are_told(tmp_path: Path) -> None:
    key, other, authority = (make_key(tmp_path / name) for name in ("key", "other", "authority"))
    strange = certify(other, authority)
    choice = login_keys().choose(replace(hop(key), certificates=(str(tmp_path / "none"), str(strange))))

    assert choice.notes == (
        f"certificate {tmp_path}/none does not exist",
        f"certificate {strange} is for none of these keys",
    )


def test_what_a_certificate_says_goes_with_its_key(tmp_path: Path) -> None:
    key, authority = make_key(tmp_path / "key"), make_key(tmp_path / "authority")
    certificate = certify(key, authority, "-n", "ops,root", "-O", "force-command=uptime -p")
    public = base64.b64decode((tmp_path / "authority.pub").read_text().split()[1])
    certified, bare = login_keys().choose(hop(key)).ready

    assert certified.certificate == (
        f"certificate {certificate} is for ops, root, signed by {fingerprint(public)}"
    )
    assert (certified.forced, bare.forced, bare.certificate) == ("uptime -p", "", "")


def test_a_hosts_certificate_logs_nobody_in(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    certificate = certify(key, make_key(tmp_path / "authority"), "-h")
    choice = login_keys().choose(hop(key))

    assert [one.name for one in choice.ready] == [f"login key {key}"]
    assert choice.notes == (
        f"certificate {certificate} is one for hosts, not for users: have it signed anew, without -h",
    )


def test_a_certificate_that_is_named_goes_with_a_key_in_the_agent(tmp_path: Path, agent: str) -> None:
    key, authority = make_key(tmp_path / "key"), make_key(tmp_path / "authority")
    add(key)
    certificate = certify(key, authority)
    choice = login_keys().choose(replace(hop(), agent=agent, certificates=(str(certificate),)))

    assert choice.ready[0].name == f"certificate {certificate}"
    assert choice.notes == ()


def test_a_certificate_is_tried_before_its_bare_key(tmp_path: Path) -> None:
    file, authority = make_key(tmp_path / "key"), make_key(tmp_path / "authority")
    certificate = certify(file, authority)

    ready = login_keys().choose(hop(file)).ready

    assert [key.name for key in ready] == [f"certificate {certificate}", f"login key {file}"]
    assert ready[0].key.public_blob is not None
    assert ready[1].key.public_blob is None


def test_a_certificate_file_that_is_named_belongs_to_the_key_that_it_certifies(tmp_path: Path) -> None:
    file, other, authority = (make_key(tmp_path / name) for name in ("key", "other", "authority"))
    certificate = certify(file, authority).rename(tmp_path / "certificate.pub")

    ready = login_keys().choose(replace(hop(other, file), certificates=(str(certificate),))).ready

    assert [key.name for key in ready] == [
        f"login key {other}",
        f"certificate {certificate}",
        f"login key {file}",
    ]


def test_a_certificate_for_a_key_in_the_agent_signs_there(tmp_path: Path, agent: str) -> None:
    file, authority = make_key(tmp_path / "key"), make_key(tmp_path / "authority")
    add(file)
    certificate = certify(file, authority)
    file.unlink()

    ready = login_keys().choose(replace(hop(Path(f"{file}.pub")), agent=agent, identities_only=True)).ready

    assert [key.name for key in ready] == [f"certificate {certificate}", f"login key {file}.pub in ssh-agent"]


@pytest.mark.parametrize(
    ("validity", "words"),
    [
        ("20200101Z:20210101Z", "expired at 2021-01-01 00:00:00Z: have it signed anew"),
        ("20400101Z:20500101Z", "is not valid before 2040-01-01 00:00:00Z"),
    ],
)
def test_a_certificate_out_of_its_time_is_passed_over_and_told(
    tmp_path: Path, validity: str, words: str
) -> None:
    file, authority = make_key(tmp_path / "key"), make_key(tmp_path / "authority")
    certificate = certify(file, authority, "-V", validity)

    choice = login_keys().choose(hop(file))

    assert [key.name for key in choice.ready] == [f"login key {file}"]
    assert f"certificate {certificate} {words}" in choice.notes[0]


def test_a_damaged_certificate_or_that_of_another_key_is_told(tmp_path: Path) -> None:
    file, other, authority = (make_key(tmp_path / name) for name in ("key", "other", "authority"))
    certify(other, authority).rename(f"{file}-cert.pub")
    assert "is not for the key beside it" in login_keys().choose(hop(file)).notes[0]

    Path(f"{file}-cert.pub").write_text("rubbish\n")
    assert "is damaged or cannot be read" in login_keys().choose(hop(file)).notes[0]
