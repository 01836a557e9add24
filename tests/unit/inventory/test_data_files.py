import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import yaml_nodes
from orchestrator.documents import Encrypted
from orchestrator.errors import InputError
from orchestrator.inventory import data_files
from orchestrator.inventory.data_files import is_vaulted, read_content, read_data

SAMPLE = b"""{
\t"a": {"b": [1, 1e3, "x\\u00e9\\ud83d\\ude00\\/", null]},
  "c": -0.5, "d": true, "e": {}
}
"""


def test_json_is_read_with_its_own_rules_and_places() -> None:
    document = read_data(SAMPLE, file="x")
    assert document.value == {"a": {"b": [1, 1000.0, "xé😀/", None]}, "c": -0.5, "d": True, "e": {}}
    assert str(document.place(("a", "b", 1))) == "x:2:17"
    assert str(document.key_place(("c",))) == "x:3:3"
    assert document.source_text(("a", "b", 1)) == "1e3"
    assert document.is_text(("a", "b", 2))
    assert not document.is_text(("c",))
    assert document.quoted(("c",)) == '"-0.5"'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: 1e3, b: yes}", {"a": "1e3", "b": True}),
        ('{"a": 1e3, "b": yes}', {"a": "1e3", "b": True}),
        ("# comment\na: 1", {"a": 1}),
        ("", None),
    ],
)
def test_what_is_no_json_is_read_as_yaml(text: str, value: Any) -> None:
    found = read_data(text.encode(), file="x").value
    assert found == value


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ('{"a": 1, "a": 2}', "x.json:1:10", 'the key "a" again; the first is at line 1, column 2'),
        ('{"a": {"b": 1,\n "\\u0062": 2}}', "x.json:2:2", "again; the first is at line 1, column 8"),
        ('{"a": "\\ud800"}', "x.json:1:7", "a lone surrogate"),
        ('{"a": ' + "1" * 201 + "}", "x.json:1:7", "a number of 201 characters"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}", "x.json:1:46", "more than 40 levels"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "x.json", "more than 40 levels"),
        ('{"a": {"__ansible_vault": 1}}', "x.json:1:7", "__ansible_vault that is not alone"),
        ('{"a": {"__ansible_unsafe": "x", "b": 1}}', "x.json:1:7", "__ansible_unsafe that is not alone"),
        ('{"a": 1]', "x.json:1:8", "this is not JSON: Expecting ',' delimiter"),
        (b'{"a": "\xff"}', "x.json:1", "the byte 0xff"),
    ],
)
def test_wrong_json_is_refused_with_its_place(text: str | bytes, place: str, found: str) -> None:
    with pytest.raises(InputError) as caught:
        read_data(text if isinstance(text, bytes) else text.encode(), file="x.json")
    assert caught.value.message.startswith(f"{place}: ")
    assert found in caught.value.message


def test_ansibles_marks_become_values() -> None:
    text = b'{"a": {"__ansible_vault": "$ANSIBLE_VAULT;1"}, "b": [{"__ansible_unsafe": "{{ x }}"}]}'
    document = read_data(text, file="x")
    assert document.value == {"a": Encrypted("$ANSIBLE_VAULT;1"), "b": ["{{ x }}"]}
    assert document.is_text(("b", 0))
    assert str(document.place(("a", "__ansible_vault"))) == "x:1:7"


def test_too_many_values_and_too_large_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_files, "MAX_VALUES", 100)
    with pytest.raises(InputError, match=r"x:1:\d+: found more than 100 values"):
        read_data(json.dumps({"a": list(range(200))}).encode(), file="x")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(data_files.MAX_BYTES + 1)
    with pytest.raises(InputError, match="larger than 64 MiB"):
        read_content(large)
    assert yaml_nodes.MAX_VALUES > 100


def test_a_vaulted_file_is_known_by_its_first_line() -> None:
    assert is_vaulted(b"$ANSIBLE_VAULT;1.2;AES256;id\n33")
    assert not is_vaulted(b"a: $ANSIBLE_VAULT;")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner),
    max_leaves=20,
)


@given(
    value=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), VALUES),
    indent=st.sampled_from([None, 0, 4]),
    ascii_only=st.booleans(),
)
def test_reading_what_json_wrote_gives_the_value_back(
    value: dict[str, Any], indent: int | None, *, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert read_data(text.encode(), file="x").value == value
