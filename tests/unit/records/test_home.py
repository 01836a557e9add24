import os
import stat
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.records.database import Database, sqlite_path
from orchestrator.records.home import Home


def test_a_home_is_private_whatever_the_umask(tmp_path: Path) -> None:
    for mask, path in ((0, tmp_path / "a" / "b" / "home"), (0o777, tmp_path / "home")):
        before = os.umask(mask)
        try:
            made = Home.create(path)
        finally:
            os.umask(before)
        assert made.path == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_home_opens_once_its_database_is_made(tmp_path: Path) -> None:
    made = Home.create(tmp_path / "home")
    with pytest.raises(UsageError, match="no home at"):
        Home.open(tmp_path / "home")

    Database.create(made.database_url).close()

    assert Home.open(tmp_path / "home") == made
    assert sqlite_path(made.database_url) == tmp_path / "home" / "keyrelay.db"
    assert made.root_key == tmp_path / "home" / "root.key"


def test_a_relative_path_is_a_home_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert Home.create(Path("home")).path == tmp_path / "home"


def test_an_empty_folder_may_become_a_home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)

    Home.create(tmp_path / "home")


def test_a_home_is_never_made_over_another(tmp_path: Path) -> None:
    made = Home.create(tmp_path / "home")
    Database.create(made.database_url).close()

    with pytest.raises(UsageError, match="there is a home"):
        Home.create(tmp_path / "home")


def test_a_home_is_not_made_over_other_things(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "notes").touch()
    (tmp_path / "file").touch(0o600)

    with pytest.raises(UsageError, match="not empty: it has 'notes'"):
        Home.create(tmp_path / "home")
    with pytest.raises(UsageError, match="expected a folder"):
        Home.create(tmp_path / "file")
    with pytest.raises(UsageError, match=r"File exists|Not a directory"):
        Home.create(tmp_path / "file" / "home")


def test_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no home at") as caught:
        Home.open(tmp_path / "home")

    assert "--home DIR" in caught.value.hint
    assert "keyrelay init" in caught.value.hint


def test_a_home_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    made = Home.create(tmp_path / "home")
    Database.create(made.database_url).close()
    made.path.chmod(0o755)

    with pytest.raises(UsageError, match=r"0755.*0700") as caught:
        Home.open(made.path)

    assert f"chmod 700 {made.path}" in caught.value.hint
