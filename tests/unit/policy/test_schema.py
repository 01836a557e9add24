import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.policy.playbook import Playbook
from orchestrator.policy.schema import playbook_schema
from tests.unit.policy.json_schema import accepts

SHIPPED = sorted((Path(__file__).parents[3] / "playbooks").glob("*.yml"))
GOOD = {"name": "a", "servers": "s", "agents": "b", "policy": "per-server", "service": "follows"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_schema_accepts_a_shipped_playbook(path: Path) -> None:
    assert accepts(playbook_schema(), yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "change",
    [
        {"group_by": "a"},
        {"issuer": {"command": ["/our-ca"], "root": "r.pem", "timeout": "1m"}},
        {"issuer": {"acme": {"directory": "https://a", "publish": ["/b"]}, "root": "r.pem"}},
        {"group_by": ["a", "b"]},
        {"certificate": {"lifetime": "1d12h", "renew_at": 0.5}},
        {"certificate": {"renew_at": "1/2"}},
        {"hooks": {"activated": "x"}},
        {"hooks": {"activated": "x", "trusted": "x"}},
        {"hooks": {"trusted": "x"}},
        {"prove_command": "x"},
        {"prove_command": "x", "prove_within": "2m"},
        {"key": {"origin": "server"}},
        {"rollout": {"waves": [1, "25%"], "max_failures": 2, "prove": "direct"}},
        {"rollout": {"offline": "block"}},
        {"rollout": {"offline": "proceed-after 1d12h", "proof_age": "2h"}},
        {"install": [{"store": "pem", "key": "/a/k", "fullchain": "/a/c", "mode": "0640"}]},
        {"install": [{"store": "pem", "anchors": "/a/ca.pem"}, {"store": "system"}]},
        {"install": [{"store": "pkcs12", "file": "/a/p", "password_file": "/a/w"}]},
        {"install": [{"store": "nss", "database": "/etc/pki/app", "holds": "anchors"}]},
        {"install": [{"store": "java", "keystore": "/a/k", "password_file": "/a/w", "alias": "web"}]},
    ],
)
def test_the_schema_accepts_what_the_models_accept(change: dict[str, Any]) -> None:
    Playbook.model_validate({**GOOD, **change})
    assert accepts(playbook_schema(), [{**GOOD, **change}])


@pytest.mark.parametrize(
    "change",
    [
        {"install": []},
        {"install": {"store": "system"}},
        {"install": [{"store": "windows"}]},
        {"install": [{"name": "a"}]},
        {"install": [{"store": "pem"}]},
        {"install": [{"store": "pem", "key": "/a", "anchors": "/b"}]},
        {"install": [{"store": "pem", "key": "a"}]},
        {"install": [{"store": "pem", "key": "/a/../b"}]},
        {"install": [{"store": "pem", "key": "/a", "mode": "0660"}]},
        {"install": [{"store": "pkcs12", "file": "/a"}]},
        {"install": [{"store": "java", "keystore": "/a", "password_file": "/b", "alias": "Web"}]},
        {"issuer": {"command": [], "root": "r.pem"}},
        {"issuer": {"command": ["/our-ca"]}},
        {"issuer": {"root": "r.pem"}},
        {"issuer": {"acme": {"directory": "https://a"}, "root": "r.pem"}},
        {
            "issuer": {
                "command": ["/our-ca"],
                "acme": {"directory": "https://a", "publish": ["/b"]},
                "root": "r.pem",
            }
        },
        {"policy": "delegate"},
        {"policy": "per-group"},
        {"policy": "shared", "key": {"origin": "server"}},
        {"name": 7},
        {"name": ""},
        {"group_by": []},
        {"group_by": [7]},
        {"key": None},
        {"key": {"algorithm": "rsa-2048"}},
        {"certificate": {"lifetime": 365}},
        {"certificate": {"lifetime": "1y"}},
        {"certificate": {"lifetime": ""}},
        {"certificate": {"renew_at": 1}},
        {"certificate": {"renew_at": "half"}},
        {"rollout": {"waves": []}},
        {"rollout": {"waves": 1}},
        {"rollout": {"waves": [0]}},
        {"rollout": {"waves": ["1"]}},
        {"rollout": {"max_failures": "101%"}},
        {"rollout": {"offline": "proceed-after"}},
        {"rollout": {"offline": "7d"}},
        {"rollout": {"offline": None}},
        {"rollout": {"prove": "all"}},
        {"service": "reload"},
        {"service": None},
        {"hooks": {}},
        {"hooks": {"trusted": None}},
        {"prove_command": ""},
        {"prove_within": "2m"},
    ],
)
def test_the_schema_refuses_what_the_models_refuse(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Playbook.model_validate({**GOOD, **change})
    assert not accepts(playbook_schema(), [{**GOOD, **change}])


@pytest.mark.parametrize("field", GOOD)
def test_the_schema_requires_what_the_models_require(field: str) -> None:
    assert not accepts(playbook_schema(), [{key: value for key, value in GOOD.items() if key != field}])


@pytest.mark.parametrize("value", [[], {}, None, "x", [1]])
def test_the_schema_refuses_what_is_no_list_of_plays(value: Any) -> None:
    assert not accepts(playbook_schema(), value)


def test_the_schema_is_plain_json_and_describes_every_field() -> None:
    schema = json.loads(json.dumps(playbook_schema()))
    sections = schema["$defs"].values()
    described = [
        "description" in field or "description" in schema["$defs"][field["$ref"].removeprefix("#/$defs/")]
        for section in sections
        for field in section["properties"].values()
    ]
    assert all(described)
    assert all(section["additionalProperties"] is False for section in sections)


def test_the_schema_names_defaults_as_a_playbook_writes_them() -> None:
    sections = playbook_schema()["$defs"]
    defaults = {
        name: [field["default"] for field in sections[name]["properties"].values() if "default" in field]
        for name in ("CertificateSection", "RolloutSection")
    }
    assert defaults == {
        "CertificateSection": ["365d", "2/3", "30d", "0s"],
        "RolloutSection": [[1, "25%", "100%"], "5%", "10m", "1d", "block", "covered"],
    }


def test_the_reference_page_tells_every_field_and_every_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "playbook.md").read_text()
    schema = playbook_schema()
    for name, field in schema["$defs"]["Playbook"]["properties"].items():
        if "$ref" not in field:
            assert f"`{name}" in page
            continue
        for inner, told in fields_of(field, schema, name):
            (row,) = (line for line in page.splitlines() if line.startswith(f"| `{inner}` |"))
            assert f"| `{written(told['default'])}` |" in row if "default" in told else True


def test_the_reference_page_tells_every_field_of_every_store_and_its_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "playbook.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    sections = playbook_schema()["$defs"]
    entries = [section["properties"] for name, section in sections.items() if name.endswith("Entry")]
    assert len(entries) == 6
    for fields in entries:
        kind = fields["store"]["const"]
        for name in fields.keys() - {"store", "owner", "group", "mode", "adopt"}:
            (row,) = (line for line in rows if line.startswith(f"| `{kind}`: `{name}` |"))
            assert f"| `{fields[name]['default']}` |" in row if "default" in fields[name] else True


def fields_of(field: Any, schema: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The fields of a section, and of the sections in it, by their full names."""
    for inner, told in schema["$defs"][field["$ref"].removeprefix("#/$defs/")]["properties"].items():
        if "$ref" in told:
            yield from fields_of(told, schema, f"{name}.{inner}")
        else:
            yield f"{name}.{inner}", told


def written(default: Any) -> str:
    """A default as the page has it."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"[{', '.join(map(str, default))}]" if isinstance(default, list) else str(default)
