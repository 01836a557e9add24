"""Files that are encrypted as a whole: what is refused before anything of it is read."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import BackupError, WrongPassphraseError
from orchestrator.keys.secret import Secret
from orchestrator.records.sealed_stream import CHUNK_BYTES, read_sealed, write_sealed
from tests.fakes import SeededEntropy

PASSPHRASE = Secret(b"a passphrase for the backup")
HEAD = 18 + 16 + 16 + 12 + 55 + 32 + 60 + 60


def sealed(folder: Path, *content: bytes) -> Path:
    path = folder / "backup"
    path.unlink(missing_ok=True)
    write_sealed(path, content, PASSPHRASE, random=SeededEntropy("stream"))
    return path


def test_what_was_written_is_read_whatever_its_size(tmp_path: Path) -> None:
    for size in (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES):
        content = bytes(n % 251 for n in range(size))
        path = sealed(tmp_path, content[: size // 3], content[size // 3 :])
        assert b"".join(read_sealed(path, PASSPHRASE)) == content
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [entry.name for entry in tmp_path.iterdir()] == ["backup"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("sealed"), b"x" * (2 * CHUNK_BYTES), b"y" * 100)


@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_bit_is_found_before_anything_is_handed_out(whole: Path, place: int, bit: int) -> None:
    data = bytearray(whole.read_bytes())
    data[place % len(data)] ^= 1 << bit
    refused(whole, bytes(data))


@given(left=st.integers(min_value=0), more=st.binary(max_size=40))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_was_cut_or_grew_is_found(whole: Path, left: int, more: bytes) -> None:
    data = whole.read_bytes()
    changed = data[: left % len(data)] + more
    if changed != data:
        refused(whole, changed)
    refused(whole, data + more + b"!")


def test_chunks_cannot_change_places_nor_be_left_out(whole: Path) -> None:
    data, size = whole.read_bytes(), CHUNK_BYTES + 16
    head, one, two, rest = (
        data[:HEAD],
        data[HEAD : HEAD + size],
        data[HEAD + size : HEAD + 2 * size],
        data[HEAD + 2 * size :],
    )
    for changed in (
        head + two + one + rest,
        head + two + rest,
        head + one + rest,
        head + one + two,
        head + rest,
        head,
    ):
        refused(whole, changed)


def refused(beside: Path, data: bytes) -> None:
    path = beside.with_name("changed")
    path.write_bytes(data)
    with pytest.raises(BackupError):
        next(read_sealed(path, PASSPHRASE))


def test_the_first_and_the_last_bytes_count_too(whole: Path) -> None:
    data = whole.read_bytes()
    for place in (0, 17, 18, 50, 60, 120, 150, HEAD - 1, HEAD, len(data) - 1):
        refused(whole, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"keyrelay backup 2\n" + data[18:], "format '2', this program reads 1"),
        (lambda data: b"SQLite format 3\x00" + data, "no backup of keyrelay's"),
        (lambda data: data[:100], "cut short"),
        (lambda data: data[:-1], "damaged, or has been cut short"),
    ],
)
def test_it_says_what_is_wrong(whole: Path, change: Callable[[bytes], bytes], words: str) -> None:
    path = whole.with_name("changed")
    path.write_bytes(change(whole.read_bytes()))
    with pytest.raises(BackupError, match=words):
        next(read_sealed(path, PASSPHRASE))


def test_a_wrong_passphrase_is_told_from_damage(whole: Path) -> None:
    with pytest.raises(WrongPassphraseError, match="the passphrase is wrong"):
        next(read_sealed(whole, Secret(b"another")))
    with pytest.raises(BackupError, match="No such file"):
        next(read_sealed(whole.with_name("none"), PASSPHRASE))


def test_a_file_that_is_there_is_left_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = sealed(tmp_path, b"first")
    random = SeededEntropy("again")
    with pytest.raises(BackupError, match="there is a file already"):
        write_sealed(path, [b"second"], PASSPHRASE, random=random)
    assert b"".join(read_sealed(path, PASSPHRASE)) == b"first"
    digest, size = write_sealed(path, [b"second"], PASSPHRASE, random=random, replace=True)
    assert b"".join(read_sealed(path, PASSPHRASE)) == b"second"
    assert (len(digest), size) == (64, path.stat().st_size)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = sealed(tmp_path, b"first")

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(BackupError, match="No space left") as refused:
        write_sealed(path, broken(), PASSPHRASE, random=SeededEntropy("again"), replace=True)
    assert refused.value.hint.startswith(f"see that {tmp_path} is there, has room, and may be written into")
    assert b"".join(read_sealed(path, PASSPHRASE)) == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["backup"]
