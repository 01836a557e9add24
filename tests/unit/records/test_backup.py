"""A home as one sealed file, and the home that is made of it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.errors import BackupError, VaultError
from orchestrator.keys.secret import Secret
from orchestrator.records.backup import MovedOnError, kept_keys, reseal, unpack, write_backup
from orchestrator.records.database import Database
from orchestrator.records.home import Home
from orchestrator.records.ledger import SqlLedger
from orchestrator.records.private_files import make_file
from orchestrator.records.sealed_stream import read_sealed, write_sealed
from orchestrator.records.vault import SqlVault
from orchestrator.rotation.events import EndpointsChanged
from orchestrator.rotation.home_events import FleetFounded
from tests.fakes import NOON, SeededEntropy

VAULT, ITS = Secret(b"the vault's passphrase"), Secret(b"the backup's passphrase")
FOUNDED = FleetFounded(fleet="fleet 1", root="root", issuer="issuer")
SECRET = Secret(b"a private key that nobody else knows")


@dataclass(slots=True)
class Ground:
    home: Home
    database: Database
    ledger: SqlLedger
    vault: SqlVault
    random: SeededEntropy

    def back_up(self, path: Path) -> tuple[str, int]:
        return write_backup(
            self.home, self.database, path, ITS, name="b" * 16, taken=NOON,
            covering=kept_keys(self.database), random=self.random,
        )  # fmt: skip

    def write(self, count: int) -> None:
        for _ in range(count):
            self.ledger.append([EndpointsChanged(endpoints={})], onto=self.ledger.read(), at=NOON)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    home = Home.create(tmp_path / "home")
    random = SeededEntropy("backup")
    with closing(Database.create(home.database_url)) as database:
        ledger = SqlLedger(database)
        ledger.append([FOUNDED], onto=ledger.read(), at=NOON)
        vault = SqlVault.create(database, VAULT, random=random)
        vault.put("one", "credential", SECRET)
        with open(make_file(home.root_key), "wb") as file:  # noqa: PTH123 - of a descriptor
            file.write(b"the root's sealed key")
        yield Ground(home=home, database=database, ledger=ledger, vault=vault, random=random)


def restored(path: Path, folder: Path, random: SeededEntropy) -> tuple[Home, SqlVault]:
    home = Home.create(folder)
    unpack(path, ITS, home)
    return home, SqlVault.unlock(Database.open(home.database_url), VAULT, random=random)


def test_a_home_that_was_unpacked_is_the_one_that_was_backed_up(ground: Ground, tmp_path: Path) -> None:
    ground.write(1200)
    ground.vault.put("two", "credential", Secret(b"x" * 5000))
    digest, size = ground.back_up(tmp_path / "file")
    home, vault = restored(tmp_path / "file", tmp_path / "there", ground.random)

    with closing(Database.open(home.database_url)) as database:
        assert list(SqlLedger(database).entries()) == list(ground.ledger.entries())
        assert SqlLedger(database).read() == ground.ledger.read()
    assert vault.open_all() == {"one", "two"}
    assert vault.open("one", "credential") == SECRET
    assert home.root_key.read_bytes() == b"the root's sealed key"
    assert (len(digest), size) == (64, (tmp_path / "file").stat().st_size)
    assert oct(home.root_key.stat().st_mode & 0o777) == "0o600"


def test_neither_a_secret_nor_the_ledger_lies_open_in_the_file(ground: Ground, tmp_path: Path) -> None:
    ground.back_up(tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    inside = b"".join(read_sealed(tmp_path / "file", ITS))
    for text in (b"fleet 1", SECRET.reveal(), b"root.key"):
        assert text not in data
    assert b"fleet 1" in inside
    assert SECRET.reveal() not in inside


def test_what_is_written_meanwhile_is_in_the_backup_wholly_or_not(ground: Ground, tmp_path: Path) -> None:
    ground.write(700)
    entries = ground.ledger.read().version
    covering = kept_keys(ground.database)
    ground.vault.put("late", "credential", SECRET)
    with pytest.raises(MovedOnError):
        write_backup(
            ground.home, ground.database, tmp_path / "file", ITS, name="b" * 16, taken=NOON,
            covering=covering, random=ground.random,
        )  # fmt: skip
    assert not (tmp_path / "file").exists()
    ground.back_up(tmp_path / "file")
    ground.write(3)
    home = Home.create(tmp_path / "there")
    assert unpack(tmp_path / "file", ITS, home).entries == entries


def test_a_key_that_was_taken_out_is_gone_and_the_rest_is_as_before(ground: Ground, tmp_path: Path) -> None:
    ground.vault.put("two", "credential", SECRET)
    ground.back_up(tmp_path / "file")
    reseal(tmp_path / "file", ITS, without={"one"}, random=ground.random)
    home, vault = restored(tmp_path / "file", tmp_path / "there", ground.random)
    assert vault.open_all() == {"two"}
    with closing(Database.open(home.database_url)) as database:
        assert SqlLedger(database).read() == ground.ledger.read()


def test_a_vault_opens_with_its_own_passphrase_alone(ground: Ground, tmp_path: Path) -> None:
    ground.back_up(tmp_path / "file")
    home = Home.create(tmp_path / "there")
    unpack(tmp_path / "file", ITS, home)
    with closing(Database.open(home.database_url)) as database, pytest.raises(VaultError, match="wrong"):
        SqlVault.unlock(database, ITS, random=ground.random)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[1:], "no beginning"),
        (lambda lines: lines[:-1], "no end"),
        (lambda lines: [*lines[:1], *lines[2:]], "it says"),
        (lambda lines: [*lines[:1], b"{", *lines[1:]], "no JSON"),
        (lambda lines: [*lines[:-1], b'{"kind":"other"}', lines[-1]], "a line of kind 'other'"),
        (lambda lines: [b'{"kind":"backup","format":2}', *lines[1:]], "no beginning"),
        (lambda lines: [*lines, lines[-1]], "no known kind"),
    ],
)
def test_content_that_is_not_whole_is_refused_even_if_it_was_sealed(
    ground: Ground, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], words: str
) -> None:
    ground.back_up(tmp_path / "file")
    lines = b"".join(read_sealed(tmp_path / "file", ITS)).splitlines()
    content = b"".join(line + b"\n" for line in change(lines))
    write_sealed(tmp_path / "other", [content], ITS, random=ground.random)
    with pytest.raises(BackupError, match=words):
        unpack(tmp_path / "other", ITS, Home.create(tmp_path / "there"))
