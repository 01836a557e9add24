import json
from typing import Any

import pytest

from orchestrator.errors import InputError
from orchestrator.inventory.model import GroupName, Inventory
from orchestrator.inventory.yaml_files import load
from tests.unit.inventory.conftest import Write

META = '"_meta": {"hostvars": {}}'


@pytest.fixture
def read_listing(write: Write) -> Any:
    def read(text: str) -> Inventory:
        return load([write({"inventory.json": text}) / "inventory.json"])

    return read


def test_groups_hosts_and_variables_of_a_listing_know_their_places(read_listing: Any) -> None:
    inventory = read_listing(
        json.dumps(
            {
                "web": {"hosts": ["w1", "w2"], "vars": {"x": 1}, "children": ["db"]},
                "db": ["d1"],
                "_meta": {"hostvars": {"w1": {"ansible_host": "192.0.2.1"}}},
            },
            indent=1,
        )
    )
    assert inventory.members(GroupName("web")) == ("w1", "w2", "d1")
    assert inventory.host("w1").variables == {"x": 1, "ansible_host": "192.0.2.1"}
    assert str(inventory.host("w2").place).endswith("inventory.json:5:4")
    assert str(inventory.host("w1").written["ansible_host"].place).endswith("inventory.json:20:21")
    assert inventory.notes == ()


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ('{"_meta": {}}', "1:11", "found nothing as hostvars of _meta; allowed: a mapping of hosts"),
        ('{"_meta": [1]}', "1:11", "found a list as hostvars of _meta"),
        ('{"_meta": {"hostvars": []}}', "1:24", "found a list as hostvars of _meta"),
        ('{"g": 1, "_meta": {"hostvars": {}}}', "1:7", "found 1 as the group g; allowed: a mapping"),
        (f'{{"g": {{}}, {META}}}', "1:2", "found nothing that describes the group g"),
        (f'{{"g": {{"hosts": "a"}}, {META}}}', "1:17", "found 'a' as hosts of g; allowed: a list of names"),
        (f'{{"g": {{"hosts": [1]}}, {META}}}', "1:18", "found 1 in hosts of g; allowed: a name"),
        (f'{{"g": {{"hosts": ["a:22"]}}, {META}}}', "1:18", "a host is named 'a:22'"),
        (f'{{"g": {{"children": {{}}}}, {META}}}', "1:20", "found a mapping as children of g"),
        (f'{{"g": {{"children": ["a b"]}}, {META}}}', "1:21", "a group is named 'a b'"),
        (f'{{"g": {{"children": ["g"]}}, {META}}}', "1:21", "groups form a cycle: g → g"),
        (f'{{"g": {{"vars": []}}, {META}}}', "1:16", "found a list as vars of g; allowed: a mapping"),
        (f'{{"g": {{"hosts": [], "x": 1}}, {META}}}', "1:21", "found 'x' in the group g; allowed: hosts"),
        ('{"g": ["a"], "_meta": {"hostvars": {"a": 1}}}', "1:42", "found 1 as the host a"),
        ('{"g": ["a"], "_meta": {"hostvars": {"a": {"keyrelay_x": 1}}}}', "1:43", "unknown variable"),
    ],
)
def test_a_wrong_listing_is_refused_with_its_place(
    read_listing: Any, text: str, place: str, found: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_listing(text)
    assert f"inventory.json:{place}: " in caught.value.message
    assert found in caught.value.message


def test_variables_of_hosts_that_no_group_lists_are_noted(read_listing: Any) -> None:
    hostvars: dict[str, Any] = {name: {} for name in "abcde"}
    inventory = read_listing(json.dumps({"g": ["a"], "_meta": {"hostvars": hostvars}}))
    assert list(inventory.hosts) == ["a"]
    (note,) = inventory.notes
    assert "_meta has variables of 'b', 'c', 'd' and 1 more, which no group lists" in str(note)
