from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.inventory import sources
from orchestrator.inventory.sources import IGNORED_ENDINGS, files_of, folder_of
from orchestrator.inventory.yaml_files import load
from tests.unit.inventory.conftest import Write

ONE = "g: {hosts: {a: }}"


def test_a_file_is_its_own_only_file(write: Write) -> None:
    folder = write({"a.yml": ONE})
    assert list(files_of(folder / "a.yml")) == [folder / "a.yml"]
    assert folder_of(folder / "a.yml") == folder
    assert folder_of(folder) == folder


def test_the_files_of_a_directory_come_in_the_order_of_their_names_bytes(write: Write) -> None:
    folder = write(
        dict.fromkeys(["b", "B", "a/z.yml", "a/é.yml", "a.yml", "10", "9", "é", "group_vars/g", ".h"], ONE)
    )
    found = [str(path.relative_to(folder)) for path in files_of(folder)]
    assert found == ["10", "9", "B", "a/z.yml", "a/é.yml", "a.yml", "b", "é"]
    assert load([folder]).sources == tuple(str(folder / name) for name in found)


@pytest.mark.parametrize("ending", IGNORED_ENDINGS)
def test_files_with_an_ignored_ending_do_not_count(ending: str, write: Write) -> None:
    folder = write({"a.yml": ONE, f"b.yml{ending}": "g: {hosts: {b: }}"})
    assert list(load([folder]).hosts) == ["a"]


def test_a_directory_without_an_inventory_file_is_refused(write: Write) -> None:
    folder = write({"group_vars/all.yml": "x: 1", "README.md": "hosts"})
    with pytest.raises(InputError, match="there is no inventory file in this directory"):
        load([folder])


def test_folders_in_one_another_and_files_have_limits(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = write({"a.yml": ONE})
    (loop / "again").symlink_to(loop)
    with pytest.raises(InputError, match="found more than 20 folders in one another"):
        load([loop])
    many = write({"a.yml": ONE, "b.yml": ONE})
    monkeypatch.setattr(sources, "MAX_FILES", 1)
    with pytest.raises(InputError, match="found more than 1 files"):
        load([many])


def test_a_directory_that_cannot_be_listed_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write({"a.yml": ONE})

    def forbidden(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)  # root may list everything
    with pytest.raises(InputError, match="this folder cannot be read: Permission denied"):
        load([folder])


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("hosts.inv", ONE, r"the file's name ends in \.inv; allowed: \.yml, \.yaml, \.json, or no ending"),
        ("hosts.toml", "[g.hosts]\na = {}\n", "this is an inventory in TOML form"),
        ("hosts.ini", "[g]\na\n", "this is an inventory in INI form"),
        ("hosts", "a\nb.example.net\n\nc[1:2]\n", "this is an inventory in INI form"),
        ("hosts.yml", "a\n", "found 'a'; allowed: a mapping of groups"),
        ("a.json", '{"g": ', "this is not JSON: Expecting value"),
        (
            "a.yml",
            "$ANSIBLE_VAULT;1.1;AES256\n33\n",
            "encrypted by ansible-vault, which keyrelay does not open",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused_as_what_it_is(
    name: str, text: str, found: str, write: Write
) -> None:
    with pytest.raises(InputError, match=found):
        load([write({name: text}) / name])


def test_a_list_of_hosts_is_no_source_but_a_file_with_a_comma_is(write: Write) -> None:
    folder = write({"a,b": ONE})
    assert list(load([folder / "a,b"]).hosts) == ["a"]
    with pytest.raises(InputError, match="a list of hosts is no inventory") as caught:
        load([Path("web1,web2")])
    assert "write the hosts into a file" in caught.value.hint
