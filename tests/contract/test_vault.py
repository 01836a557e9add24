"""What every vault does, the tests' own and the real one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import VaultError
from orchestrator.keys.secret import Secret
from orchestrator.ports import Vault
from orchestrator.records.database import Database, sqlite_url
from orchestrator.records.vault import SqlVault
from tests.fakes import FakeVault, SeededEntropy

KEY = Secret(b"a private key")
OTHER = Secret(b"another private key")


@pytest.fixture(params=["fake", "sqlite"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    if request.param == "fake":
        yield FakeVault()
        return
    tmp_path.chmod(0o700)
    database = Database.create(sqlite_url(tmp_path / "keyrelay.db"))
    yield SqlVault.create(database, Secret(b"open sesame"), random=SeededEntropy())
    database.close()


def test_a_secret_comes_back_as_it_was_put(vault: Vault) -> None:
    vault.put("oak", "server key", KEY)

    assert vault.open("oak", "server key") == KEY
    assert vault.holds("oak")


def test_putting_the_same_secret_again_is_nothing_new(vault: Vault) -> None:
    vault.put("oak", "server key", KEY)
    vault.put("oak", "server key", KEY)

    assert vault.open("oak", "server key") == KEY


def test_another_secret_never_takes_a_name_that_is_taken(vault: Vault) -> None:
    vault.put("oak", "server key", KEY)

    with pytest.raises(VaultError):
        vault.put("oak", "server key", OTHER)
    with pytest.raises(VaultError):
        vault.put("oak", "issuer key", KEY)

    assert vault.open("oak", "server key") == KEY


def test_a_secret_opens_only_for_its_purpose(vault: Vault) -> None:
    vault.put("oak", "server key", KEY)

    with pytest.raises(VaultError):
        vault.open("oak", "issuer key")


def test_what_was_never_put_is_not_there(vault: Vault) -> None:
    assert not vault.holds("oak")
    with pytest.raises(VaultError, match="oak"):
        vault.open("oak", "server key")


def test_what_was_destroyed_is_gone_and_its_name_is_free(vault: Vault) -> None:
    vault.put("oak", "server key", KEY)
    vault.put("elm", "server key", OTHER)

    vault.destroy("oak")
    vault.destroy("oak")

    assert not vault.holds("oak")
    with pytest.raises(VaultError):
        vault.open("oak", "server key")
    assert vault.open("elm", "server key") == OTHER
    vault.put("oak", "server key", OTHER)
    assert vault.open("oak", "server key") == OTHER


def test_several_are_destroyed_at_once_and_the_others_stay(vault: Vault) -> None:
    for name in ("oak", "elm", "ash"):
        vault.put(name, "server key", KEY)

    vault.destroy("oak", "ash", "fir")

    assert [name for name in ("oak", "elm", "ash") if vault.holds(name)] == ["elm"]


def test_an_empty_secret_and_an_odd_name_are_kept_as_they_are(vault: Vault) -> None:
    vault.put("Ünïcödé/../x y'\"", "", Secret(b""))

    assert vault.open("Ünïcödé/../x y'\"", "") == Secret(b"")
