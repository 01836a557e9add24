from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.inventory.endpoints import ANSIBLE_VARIABLES
from orchestrator.inventory.model import OWN_VARIABLES
from orchestrator.inventory.schema import inventory_schema
from tests.unit.policy.json_schema import accepts

EXAMPLE = Path(__file__).parents[3] / "inventory" / "example.yml"


def host_with(**variables: Any) -> dict[str, Any]:
    return {"servers": {"hosts": {"s1": variables}}}


def test_the_schema_accepts_the_example_inventory() -> None:
    assert accepts(inventory_schema(), yaml.safe_load(EXAMPLE.read_text()))


@pytest.mark.parametrize(
    "inventory",
    [
        {
            "all": {
                "children": {"a": {"hosts": {"h[1:3]": None}, "vars": {"any": [1, {"b": None}]}}, "b": None}
            }
        },
        {"a": {"hosts": "h1", "children": "b"}},
        host_with(keyrelay_base="/opt/k", keyrelay_servers="a:!b", keyrelay_known_hosts="k"),
        host_with(ansible_port=22, ansible_host="h", other="{{ inert }}"),
        host_with(ansible_port="2222"),
        host_with(ansible_ssh_common_args="-J ops@bastion", ansible_ssh_args="", ansible_connection="ssh"),
        host_with(ansible_become=True, ansible_become_method="community.general.doas"),
        host_with(ansible_become="yes", ansible_become_user="ops", ansible_become_flags="-H -S -n"),
        host_with(ansible_become_password="secret", ansible_sudo_exe="sudo"),
        host_with(ansible_become_password="{{ vault_become }}", ansible_password=12345),
    ],
)
def test_the_schema_accepts_ansibles_grammar(inventory: dict[str, Any]) -> None:
    assert accepts(inventory_schema(), inventory)


@pytest.mark.parametrize(
    "inventory",
    [
        [],
        {"a": {"host": {}}},
        {"a": {"hosts": ["h"]}},
        {"a": {"children": {"b": {"hosts": 1}}}},
        {"a": {"vars": {"keyrelay_server": "x"}}},
        host_with(keyrelay_serverss="x"),
        host_with(keyrelay_base="relative"),
        host_with(keyrelay_base=7),
        host_with(keyrelay_servers="{{ x }}"),
        host_with(ansible_port=0),
        host_with(ansible_port="ssh"),
        host_with(ansible_user=1000),
        host_with(ansible_connection="winrm"),
        host_with(ansible_become="perhaps"),
        host_with(ansible_become_method="su"),
        host_with(ansible_become_user="a b"),
        host_with(ansible_become_flags="-E"),
        host_with(ansible_become_exe="/opt/sudo"),
        host_with(ansible_become_password=1234),
        host_with(ansible_ssh_common_args="{{ args }}"),
        host_with(ansible_ssh_common_args=["-J", "b"]),
    ],
)
def test_the_schema_refuses_what_keyrelay_refuses(inventory: Any) -> None:
    assert not accepts(inventory_schema(), inventory)


def test_the_schema_describes_every_variable_that_is_read() -> None:
    described = inventory_schema()["$defs"]["Variables"]["properties"]
    assert set(described) == {*OWN_VARIABLES, *ANSIBLE_VARIABLES}
    assert all(described[name]["description"] for name in described)
