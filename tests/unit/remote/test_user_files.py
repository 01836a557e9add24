"""Files that an inventory names and that are none."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.inventory.ssh_options import SshOptions
from orchestrator.remote import user_files
from orchestrator.remote.deadlines import Watchdog
from orchestrator.remote.dial import Dialer
from orchestrator.remote.handshake import NotReachedError
from tests.fleet_worlds import SystemClock

pytestmark = pytest.mark.usefixtures("home")


def reason(endpoint: Endpoint) -> str:
    dialer = Dialer(entropy=bytes, clock=SystemClock())
    with Watchdog() as watchdog, pytest.raises(NotReachedError) as caught:
        dialer.connect(endpoint, watchdog.watch(60))
    return caught.value.reason


def known_hosts(name: str) -> Endpoint:
    return Endpoint(host=HostName("host"), address="192.0.2.1", known_hosts=name)


def key_file(name: str) -> Endpoint:
    return Endpoint(host=HostName("host"), address="192.0.2.1", key_file=name)


def config_file(name: str) -> Endpoint:
    return Endpoint(host=HostName("host"), address="192.0.2.1", ssh=SshOptions(config_file=name))


def more_known_hosts(name: str) -> Endpoint:
    return Endpoint(host=HostName("host"), address="192.0.2.1", ssh=SshOptions(user_known_hosts=(name,)))


def name_of(kind: str, folder: Path) -> str:
    match kind:
        case "pipe":
            os.mkfifo(folder / "pipe")
            return str(folder / "pipe")
        case "large":
            with (folder / "large").open("wb") as file:
                file.truncate(user_files.LARGEST_BYTES + 1)
            return str(folder / "large")
        case "long":
            return str(folder / ("x" * 300))
        case _:
            return kind


@pytest.mark.parametrize("endpoint", [known_hosts, key_file, config_file, more_known_hosts])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pipe", "it is not a regular file"),
        ("/dev/zero", "it is not a regular file"),
        ("large", "it is larger than"),
        ("long", "File name too long"),
        ("~nosuchuser/x", "there is no home folder for ~nosuchuser"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_a_file_that_is_none_is_a_reason_for_its_host(
    endpoint: Callable[[str], Endpoint], kind: str, words: str, tmp_path: Path
) -> None:
    assert words in reason(endpoint(name_of(kind, tmp_path)))


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "long"])
def test_a_certificate_that_is_none_is_told(kind: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    certificate = name_of(kind, tmp_path)
    endpoint = Endpoint(
        host=HostName("host"),
        address="127.0.0.1",
        port=1,
        key_file=str(key),
        ssh=SshOptions(certificate_files=(certificate,)),
    )
    dialer = Dialer(entropy=bytes, clock=SystemClock())
    (hop,) = dialer._router.route(endpoint)

    (note,) = dialer._login_keys.choose(hop).notes

    assert note.startswith(f"certificate {certificate} cannot be read: ")


def test_dev_null_holds_nothing() -> None:
    assert user_files.read(Path(os.devnull)) == b""
    assert "there is no key to log in with" in reason(config_file(os.devnull))
    assert "there is no key to log in with" in reason(known_hosts(os.devnull))


def test_a_file_as_large_as_allowed_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)

    assert user_files.read(file, limit_bytes=100) == b"x" * 100
    with pytest.raises(OSError, match="larger than"):
        user_files.read(file, limit_bytes=99)


def test_a_file_that_states_no_size_is_read() -> None:
    assert b"Name:" in user_files.read(Path("/proc/self/status"))
