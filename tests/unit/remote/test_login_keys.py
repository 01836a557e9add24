import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.remote.login_keys import LoginKeyError, LoginKeys


def make_key(path: Path, *options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-N", "", *options, "-f", path], check=True)
    return path


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("-t", "ed25519"), "ssh-ed25519"),
        (("-t", "ecdsa"), "ecdsa-sha2-nistp256"),
        (("-t", "rsa", "-b", "2048"), "ssh-rsa"),
        (("-t", "rsa", "-b", "2048", "-m", "PEM"), "ssh-rsa"),
    ],
)
def test_keys_that_openssh_makes_are_read(tmp_path: Path, options: tuple[str, ...], name: str) -> None:
    file = make_key(tmp_path / "key", *options)

    (key,) = LoginKeys().of(str(file))

    assert key.get_name() == name


def test_a_file_is_read_once(tmp_path: Path) -> None:
    keys = LoginKeys()
    file = make_key(tmp_path / "key", "-t", "ed25519")

    first = keys.of(str(file))
    file.unlink()

    assert keys.of(str(file))[0] is first[0]


def test_a_tilde_is_the_home_folder(home: Path) -> None:
    make_key(home / "keys" / "key", "-t", "ed25519")

    assert LoginKeys().of("~/keys/key")


def test_without_a_file_openssh_s_own_are_tried_in_its_order(home: Path) -> None:
    make_key(home / ".ssh" / "id_rsa", "-t", "rsa", "-b", "2048")
    make_key(home / ".ssh" / "id_ed25519", "-t", "ed25519")

    assert [key.get_name() for key in LoginKeys().of(None)] == ["ssh-ed25519", "ssh-rsa"]


def test_without_any_key_the_error_says_where_it_looked() -> None:
    with pytest.raises(LoginKeyError, match="none of ~/[.]ssh/id_ed25519, ~/[.]ssh/id_ecdsa"):
        LoginKeys().of(None)


def test_a_missing_key_is_named_each_time_it_is_asked_for(tmp_path: Path) -> None:
    keys = LoginKeys()
    for _ in range(2):
        with pytest.raises(LoginKeyError, match=f"{tmp_path}/none does not exist"):
            keys.of(str(tmp_path / "none"))


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    for options in (("-t", "ed25519"), ("-t", "rsa", "-m", "PEM", "-b", "2048")):
        file = tmp_path / options[1]
        subprocess.run(["ssh-keygen", "-q", *options, "-N", "a passphrase", "-f", file], check=True)

        with pytest.raises(LoginKeyError, match="is encrypted"):
            LoginKeys().of(str(file))


def test_a_key_that_others_can_read_is_refused_as_ssh_refuses_it(tmp_path: Path) -> None:
    file = make_key(tmp_path / "key", "-t", "ed25519")
    file.chmod(0o640)

    with pytest.raises(LoginKeyError, match=r"can be read by others \(mode 0640\); expected 0600"):
        LoginKeys().of(str(file))


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", b"not a key", b"\xff\xfe\x00"]
)
def test_a_damaged_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)

    with pytest.raises(LoginKeyError, match="is damaged or of a kind that cannot be used") as caught:
        LoginKeys().of(str(file))

    assert caught.value.__cause__ is None


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    with pytest.raises(LoginKeyError, match="cannot be read: Is a directory"):
        LoginKeys().of(str(tmp_path))


def test_a_key_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    file = make_key(tmp_path / "key", "-t", "ed25519")
    file.chmod(0)

    with pytest.raises(LoginKeyError, match="cannot be read: Permission denied"):
        LoginKeys().of(str(file))
