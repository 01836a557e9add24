import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import VaultError
from orchestrator.keys.secret import Secret
from orchestrator.records.database import Database, sqlite_url
from orchestrator.records.vault import SqlVault
from tests.fakes import SeededEntropy

PASSPHRASE = Secret(b"open sesame")
KEY = Secret(b"a private key")
OTHER = Secret(b"another private key")


def raw(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


@pytest.fixture
def vault(database: Database) -> SqlVault:
    made = SqlVault.create(database, PASSPHRASE, random=SeededEntropy("vault"))
    made.put("oak", "server key", KEY)
    made.put("elm", "server key", OTHER)
    return made


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlVault]:
    """A vault with a record that each test leaves as it found it."""
    folder = tmp_path_factory.mktemp("kept")
    folder.chmod(0o700)
    database = Database.create(sqlite_url(folder / "keyrelay.db"))
    made = SqlVault.create(database, PASSPHRASE, random=SeededEntropy("kept"))
    made.put("oak", "server key", KEY)
    yield made
    database.close()


def unlock(vault: SqlVault, passphrase: Secret = PASSPHRASE) -> SqlVault:
    return SqlVault.unlock(vault.database, passphrase, random=SeededEntropy("again"))


def test_a_vault_opens_again_with_its_passphrase(vault: SqlVault) -> None:
    again = unlock(vault)

    assert again.open("oak", "server key") == KEY
    again.put("oak", "server key", KEY)


def test_a_wrong_passphrase_a_damaged_header_and_no_vault_are_told_apart(vault: SqlVault) -> None:
    with pytest.raises(VaultError, match=r"keyrelay\.db: the passphrase is wrong"):
        unlock(vault, Secret(b"open barley"))

    raw(vault.database.path, "UPDATE vault_meta SET iterations = 4")
    with pytest.raises(VaultError, match=r"keyrelay\.db: .*damaged"):
        unlock(vault)
    raw(vault.database.path, "UPDATE vault_meta SET memory_kib = 1")
    with pytest.raises(VaultError, match=r"keyrelay\.db: Argon2id memory"):
        unlock(vault)
    raw(vault.database.path, "UPDATE vault_meta SET memory_kib = 65536, iterations = 3, salt = 'text'")
    with pytest.raises(VaultError, match=r"keyrelay\.db: .*damaged"):
        unlock(vault)

    raw(vault.database.path, "DELETE FROM vault_meta")
    with pytest.raises(VaultError, match="there is none"):
        unlock(vault)


def test_there_is_one_vault_in_a_database(vault: SqlVault) -> None:
    with pytest.raises(VaultError, match="already"):
        SqlVault.create(vault.database, Secret(b"another"), random=SeededEntropy())

    assert unlock(vault).open("oak", "server key") == KEY


@pytest.mark.parametrize("column", ["wrapped_key", "payload", "purpose", "record", "version"])
@given(data=st.data())
def test_any_changed_byte_of_a_record_is_found(kept: SqlVault, column: str, data: st.DataObject) -> None:
    path = kept.database.path
    kind = {"purpose": "TEXT", "record": "TEXT", "version": "INTEGER"}.get(column, "BLOB")
    update = f"UPDATE vault_records SET {column} = CAST(? AS {kind})"  # noqa: S608  # one of the columns above
    [(before,)] = raw(path, f"SELECT CAST({column} AS BLOB) FROM vault_records")  # noqa: S608  # the same
    assert isinstance(before, bytes)
    changed = bytearray(before)
    changed[data.draw(st.integers(0, len(before) - 1))] ^= data.draw(st.integers(1, 255))
    if kind == "INTEGER" and changed.isdigit() and int(changed) == 1:
        return
    raw(path, update, bytes(changed))
    try:
        with pytest.raises(VaultError):
            kept.open("oak", "server key")
    finally:
        raw(path, update, before)
    assert kept.open("oak", "server key") == KEY


@pytest.mark.parametrize(
    "move",
    [
        "UPDATE vault_records SET payload = (SELECT payload FROM vault_records WHERE record = 'elm')",
        "UPDATE vault_records SET wrapped_key = x'00', payload = x''",
        "UPDATE vault_records SET payload = CAST(payload AS TEXT)",
        "UPDATE vault_records SET version = 2",
        "UPDATE vault_records SET version = 'one'",
        "DELETE FROM vault_records WHERE record = 'oak'; --",
    ],
)
def test_a_record_that_was_tampered_with_does_not_open(vault: SqlVault, move: str) -> None:
    raw(vault.database.path, move.partition(";")[0])

    with pytest.raises(VaultError):
        vault.open("oak", "server key")


def test_a_record_moved_to_another_name_or_purpose_does_not_open(vault: SqlVault) -> None:
    raw(vault.database.path, "DELETE FROM vault_records WHERE record = 'elm'")
    raw(vault.database.path, "UPDATE vault_records SET record = 'elm'")
    with pytest.raises(VaultError, match="elm is damaged, or was sealed for another"):
        vault.open("elm", "server key")

    raw(vault.database.path, "UPDATE vault_records SET record = 'oak', purpose = 'issuer key'")
    with pytest.raises(VaultError, match="oak is damaged, or was sealed for another"):
        vault.open("oak", "issuer key")
    with pytest.raises(VaultError, match="kept for 'issuer key'"):
        vault.open("oak", "server key")


def test_a_record_moved_to_another_vault_does_not_open(vault: SqlVault, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    database = Database.create(sqlite_url(tmp_path / "keyrelay.db"))
    other = SqlVault.create(database, PASSPHRASE, random=SeededEntropy("other"))
    [row] = raw(vault.database.path, "SELECT * FROM vault_records WHERE record = 'oak'")
    raw(database.path, "INSERT INTO vault_records VALUES (?, ?, ?, ?, ?)", *row)

    with pytest.raises(VaultError, match="oak is damaged, or was sealed for another"):
        other.open("oak", "server key")
    database.close()


def test_putting_over_a_damaged_record_does_not_replace_it(vault: SqlVault) -> None:
    raw(vault.database.path, "UPDATE vault_records SET payload = x'00' WHERE record = 'oak'")

    with pytest.raises(VaultError):
        vault.put("oak", "server key", KEY)
    assert vault.holds("oak")


def test_no_two_records_share_a_key_or_a_nonce(database: Database) -> None:
    vault = SqlVault.create(database, PASSPHRASE, random=SeededEntropy())
    for number in range(20):
        vault.put(f"host-{number}", "server key", KEY)

    rows = raw(
        database.path,
        "SELECT substr(wrapped_key, 1, 12), substr(wrapped_key, 13), payload FROM vault_records",
    )

    for column in zip(*rows, strict=True):
        assert len(set(column)) == 20


def test_no_secret_stands_in_any_file(vault: SqlVault) -> None:
    octets = _files(vault)

    for secret in (KEY, OTHER, PASSPHRASE, vault.lock.key):
        assert secret.reveal() not in octets


@given(
    sizes=st.lists(st.integers(100, 6000), min_size=2, max_size=25),
    destroyed=st.sets(st.integers(0, 24), min_size=1),
)
def test_what_was_destroyed_is_in_no_file_any_more(
    kept: SqlVault, sizes: list[int], destroyed: set[int]
) -> None:
    names = {f"host-{number}": Secret(bytes(size)) for number, size in enumerate(sizes)}
    for name, secret in names.items():
        kept.put(name, "server key", secret)
    query = "SELECT wrapped_key, payload FROM vault_records WHERE record = ?"
    sealed = {name: raw(kept.database.path, query, name)[0] for name in names}
    gone = {name for number, name in enumerate(names) if number in destroyed}
    before = _files(kept)

    kept.destroy(*gone)

    after = _files(kept)
    for name, parts in sealed.items():
        for part in parts:
            assert isinstance(part, bytes)
            # A long record is split over pages, but its first bytes stand together.
            assert part[:32] in before
            assert (part[:32] in after) == (name not in gone)
            pieces = [part[at : at + 16] for at in range(0, len(part) - 15, 16)]
            assert name not in gone or not any(piece in after for piece in pieces)
    kept.destroy(*names)


def test_no_copy_stays_behind_where_sqlite_moved_a_record_to_another_page(database: Database) -> None:
    """These steps leave one if the record's row alone is deleted, whatever ``secure_delete`` says."""
    vault = SqlVault.create(database, PASSPHRASE, random=SeededEntropy())
    sizes = (119, 241, 300, 900, 1704, 5000)
    steps = SeededEntropy("steps 92")
    query = "SELECT wrapped_key, payload FROM vault_records WHERE record = ?"
    sealed: dict[str, tuple[object, ...]] = {}
    for step in range(60):
        way, which = steps(2)
        if sealed and way < 115:
            name = sorted(sealed)[which % len(sealed)]
            vault.destroy(name)
            octets = _files(vault)
            for part in sealed.pop(name):
                assert isinstance(part, bytes)
                assert not any(part[at : at + 16] in octets for at in range(0, len(part) - 15, 16))
        else:
            name = f"n{step}"
            vault.put(name, "server key", Secret(bytes(sizes[which % len(sizes)])))
            [sealed[name]] = raw(vault.database.path, query, name)


def _files(vault: SqlVault) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(vault.database.path.parent.iterdir()))
