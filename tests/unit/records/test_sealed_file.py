import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import VaultError
from orchestrator.keys.secret import Secret
from orchestrator.records import sealed_file
from orchestrator.records.sealed_file import open_file, seal_file
from tests.fakes import SeededEntropy

PASSPHRASE = Secret(b"open sesame")
KEY = Secret(b"the root's private key")


def seal(path: Path, secret: Secret = KEY) -> None:
    seal_file(path, secret, PASSPHRASE, purpose="root key", random=SeededEntropy())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed file that each test leaves as it found it."""
    path = tmp_path_factory.mktemp("kept") / "root.key"
    seal(path)
    return path


def test_the_secret_comes_back(kept: Path) -> None:
    assert open_file(kept, PASSPHRASE, purpose="root key") == KEY


def test_the_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        seal(tmp_path / "root.key")
    finally:
        os.umask(before)

    assert [path.name for path in tmp_path.iterdir()] == ["root.key"]
    assert stat.S_IMODE((tmp_path / "root.key").stat().st_mode) == 0o600


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    path.write_text("something dear")

    with pytest.raises(VaultError, match="already"):
        seal(path)

    assert path.read_text() == "something dear"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match=r"nowhere/root\.key: No such file"):
        seal(tmp_path / "nowhere" / "root.key")
    with pytest.raises(VaultError, match=r"root\.key: No such file"):
        open_file(tmp_path / "root.key", PASSPHRASE, purpose="root key")


def test_what_went_wrong_is_told_apart(kept: Path) -> None:
    with pytest.raises(VaultError, match=r"root\.key: the passphrase is wrong"):
        open_file(kept, Secret(b"open barley"), purpose="root key")
    with pytest.raises(VaultError, match="a secret for 'root key', expected 'backup'"):
        open_file(kept, PASSPHRASE, purpose="backup")


@given(data=st.data())
def test_any_changed_byte_is_found_and_told_from_a_wrong_passphrase(kept: Path, data: st.DataObject) -> None:
    octets = bytearray(kept.read_bytes())
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(VaultError) as caught:
        sealed_file._open(bytes(octets), PASSPHRASE, "root key")

    assert "passphrase is wrong" not in caught.value.message


@settings(max_examples=20)
@given(cut=st.integers(0, 400))
def test_a_file_that_is_cut_is_found(kept: Path, cut: int) -> None:
    with pytest.raises(VaultError, match="damaged"):
        sealed_file._open(kept.read_bytes()[:cut], PASSPHRASE, "root key")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "keyrelay sealed file 2"},
        {"purpose": "issuer key"},
        {"iterations": 4},
        {"more": 1},
        {"lanes": 99},
    ],
    ids=str,
)
def test_a_member_changed_by_hand_is_found(kept: Path, change: dict[str, object]) -> None:
    document = {**json.loads(kept.read_bytes()), **change}
    octets = json.dumps(document, separators=(",", ":")).encode() + b"\n"

    with pytest.raises(VaultError):
        sealed_file._open(octets, PASSPHRASE, "root key")


@pytest.mark.parametrize(
    "octets", [b"", b"{}", b"[" * 30_000, b"\xff", b"null\n", b'"' + b"x" * 40_000 + b'"']
)
def test_what_is_no_sealed_file_is_refused(octets: bytes) -> None:
    with pytest.raises(VaultError, match="no sealed file"):
        sealed_file._open(octets, PASSPHRASE, "root key")


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    seal(tmp_path / "root.key")
    (tmp_path / "root.key").chmod(0o644)

    with pytest.raises(VaultError, match="0644"):
        open_file(tmp_path / "root.key", PASSPHRASE, purpose="root key")


def test_a_secret_too_large_to_read_again_is_refused(tmp_path: Path) -> None:
    largest = Secret(b"x" * sealed_file.MAX_SECRET_BYTES)
    seal(tmp_path / "root.key", largest)
    assert open_file(tmp_path / "root.key", PASSPHRASE, purpose="root key") == largest

    with pytest.raises(VaultError, match="larger"):
        seal(tmp_path / "other.key", Secret(b"x" * (sealed_file.MAX_SECRET_BYTES + 1)))
