import os
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import documents, yaml_nodes
from orchestrator.documents import Encrypted, load_document, read_document
from orchestrator.errors import InputError

SAMPLE = """\
# a comment
servers:
  hosts:
    é😀: {port: 0755, "on": yes}
    web:
      - one
      - 'it''s two'
      - |
        folded
        text
day: 2026-01-31
"""


def refusal(text: str | bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        read_document(text, file="x.yml")
    return caught.value


def test_values_are_what_yaml_1_1_says() -> None:
    document = read_document(SAMPLE, file="x.yml")
    assert document.value == {
        "servers": {
            "hosts": {"é😀": {"port": 0o755, "on": True}, "web": ["one", "it's two", "folded\ntext\n"]}
        },
        "day": date(2026, 1, 31),
    }


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        ((), 2, 1),
        (("servers",), 3, 3),
        (("servers", "hosts", "é😀"), 4, 9),
        (("servers", "hosts", "é😀", "port"), 4, 16),
        (("servers", "hosts", "web", 1), 7, 9),
        (("servers", "hosts", "absent", "deeper"), 4, 5),
        (("servers", "hosts", "web", 9), 6, 7),
        (("day", "function-wrap[check]()"), 11, 6),
    ],
)
def test_a_place_is_that_of_the_value_or_of_its_nearest_known_parent(
    path: tuple[str | int, ...], line: int, column: int
) -> None:
    place = read_document(SAMPLE, file="x.yml").place(path)
    assert (place.file, place.line, place.column) == ("x.yml", line, column)


def test_a_key_has_a_place_of_its_own() -> None:
    document = read_document(SAMPLE, file="x.yml")
    assert str(document.key_place(("servers", "hosts", "é😀", "on"))) == "x.yml:4:22"
    assert str(document.key_place(("servers", "hosts", "web", 0))) == "x.yml:6:9"
    assert str(document.key_place(())) == "x.yml:2:1"


def test_a_scalar_shows_how_it_was_written_and_how_to_quote_it() -> None:
    document = read_document(SAMPLE, file="x.yml")
    port = ("servers", "hosts", "é😀", "port")
    assert not document.is_text(port)
    assert document.source_text(port) == "0755"
    assert document.quoted(port) == '"0755"'
    assert document.quoted_key(port) == '"port"'
    two = ("servers", "hosts", "web", 1)
    assert document.is_text(two)
    assert document.source_text(two) == "'it''s two'"
    assert document.quoted(two) == '"it\'s two"'
    assert not document.is_text(("servers",))
    assert document.source_text(("servers",)) == ""
    assert document.source_text(("absent",)) == ""
    assert document.quoted(("absent",)) == '""'
    assert read_document("yes: 1", file="x").quoted_key((True,)) == '"yes"'
    assert read_document("yes: 1", file="x").quoted_key(("absent",)) == '"absent"'


def test_an_empty_document_is_nothing_at_its_first_character() -> None:
    document = read_document("# only a comment\n", file="x.yml")
    assert document.value is None
    assert str(document.place(("anything",))) == "x.yml:1:1"


def test_a_byte_order_mark_and_crlf_do_not_move_places() -> None:
    document = read_document(b"\xef\xbb\xbfa: 1\r\nb:  2\r\n", file="x.yml")
    assert str(document.place(("b",))) == "x.yml:2:5"
    assert document.source_text(("b",)) == "2"


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yml:3:1", "the key a again; the first is at line 1, column 1"),
        ("a: {b: 1, 'b': 2}", "x.yml:1:11", "the key 'b' again"),
        ("a: &x 1\nb: &x 2\n", "x.yml:2:4", "the anchor &x again"),
        ("a: *x\n", "x.yml:1:4", "*x with no &x"),
        ("a: &x [1, *x]\n", "x.yml:1:11", "*x inside the value"),
        ("a: &x {b: {c: *x}}\n", "x.yml:1:15", "*x inside the value"),
        ("a: 1\n---\nb: 2\n", "x.yml:2:1", "a second document"),
        ("a: !vault |\n  $ANSIBLE_VAULT\n", "x.yml:1:4", "the tag !vault"),
        ("a: !unsafe '{{ b }}'\n", "x.yml:1:4", "the tag !unsafe"),
        ("a: !!python/object/apply:os.system [x]\n", "x.yml:1:4", "the tag !!python/object/apply:os.system"),
        ("a: !!binary aGk=\n", "x.yml:1:4", "the tag !!binary"),
        ("a: !!set {b, c}\n", "x.yml:1:4", "the tag !!set"),
        ("a: {{ b }}\n", "x.yml:1:5", "a mapping as a key"),
        ("? [a]\n: 1\n", "x.yml:1:3", "a list as a key"),
        ("a: &x [1]\n*x : 2\n", "x.yml:2:1", "a list as a key"),
        ("a:\n\t- b\n", "x.yml:2:1", "this is not YAML"),
        ("a: %b\n", "x.yml:1:4", "this is not YAML"),
        ("a: [1\n", "x.yml:2:1", "this is not YAML"),
        ("a: \x00b\n", "x.yml:1:4", "the character U+0000"),
        ("é: 1\nb: \x07\n", "x.yml:2:4", "the character U+0007"),
        (b"a: 1\nb: \xff\n", "x.yml:2", "the byte 0xff, which is not UTF-8"),
        ("a: \ud800\n", "x.yml", "a lone surrogate"),
        ("a: 2026-02-31\n", "x.yml:1:4", "which is no YAML timestamp"),
        ("a: !!int one\n", "x.yml:1:4", "which is no YAML int"),
        ("a: 1" + ":1" * 200, "x.yml:1:4", "a number of 401 characters"),
        ("1: a\ntrue: b\n", "x.yml:2:1", "the key true, which equals 1; the first is at line 1, column 1"),
        ("<<: 1\n", "x.yml:1:5", "<< takes a mapping"),
        ("<<: {a: 1}\n<<: {b: 1}\n", "x.yml:2:1", "the key << again"),
        ("[" * 41, "x.yml:1:41", "more than 40 levels"),
    ],
)
def test_a_refusal_names_the_place_and_what_was_found(text: str | bytes, place: str, found: str) -> None:
    error = refusal(text)
    assert str(error.place) == place
    assert found in error.message
    assert error.message.startswith(f"{place}: ")


def test_text_is_never_too_deep_to_be_refused_in_the_same_words() -> None:
    with pytest.raises(InputError, match="more than 40 levels"):
        read_document("[" * 100_000, file="x.yml")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a: {{ b }}\n", "must be quoted"),
        ("a:\n\t- b\n", "not with tabs"),
        ("a: %b\n", "begins with % must be quoted"),
        ("a: !vault x\n", "opens no Ansible vault"),
        ("a: !unsafe x\n", "renders nothing"),
        ("a: 2026-02-31\n", "quote it"),
    ],
)
def test_a_usual_mistake_has_a_hint(text: str, hint: str) -> None:
    assert hint in refusal(text).hint


def test_ansibles_tags_are_read_where_they_are_allowed() -> None:
    text = (
        "a: !vault |\n  $ANSIBLE_VAULT\nb: !unsafe '{{ x }}'\nc: !unsafe '12'\nd: !unsafe [!unsafe {e: 1}]\n"
    )
    document = read_document(text, file="x.yml", ansible_tags=True)
    assert document.value == {
        "a": Encrypted("$ANSIBLE_VAULT\n"),
        "b": "{{ x }}",
        "c": 12,
        "d": [{"e": 1}],
    }
    assert not document.is_text(("a",))
    for wrong in ["a: !vault [x]", "!vault x: 1", "a: !unsafe_ x"]:
        with pytest.raises(InputError):
            read_document(wrong, file="x.yml", ansible_tags=True)


def test_nothing_can_be_known_of_an_encrypted_value() -> None:
    value = Encrypted("$ANSIBLE_VAULT;1.1;AES256\n3133")
    assert repr(value) == "<encrypted by ansible-vault>"
    with pytest.raises(ValueError, match="what it says cannot be known"):
        str(value)
    assert len({value, Encrypted(value.ciphertext), Encrypted("other")}) == 2
    with pytest.raises(ValueError, match="whether it is true cannot be known"):
        bool(value)
    with pytest.raises(ValueError, match="what it equals cannot be known"):
        assert value == "x"


def test_forty_levels_are_allowed_and_an_alias_counts_with_its_own() -> None:
    assert read_document("[" * 40 + "]" * 40, file="x").value
    anchor = "a: &x " + "[" * 30 + "]" * 30 + "\n"
    assert read_document(f"{anchor}b: {'[' * 9}*x{']' * 9}\n", file="x").value
    assert "levels" in refusal(f"{anchor}b: {'[' * 10}*x{']' * 10}\n").message


def test_aliases_that_unfold_to_billions_are_refused_while_they_are_read() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert "aliases unfolded" in refusal("\n".join(lines)).message


def test_merge_keys_count_as_what_they_unfold_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_nodes, "MAX_VALUES", 100)
    big = "a: &a {" + ", ".join(f"k{n}: {n}" for n in range(40)) + "}\n"
    assert read_document(big, file="x").value
    assert "more than 100 values" in refusal(big + "b: {<<: *a}\nc: {<<: *a}\n").message


def test_a_merged_value_keeps_the_place_where_it_was_written() -> None:
    document = read_document("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", file="x.yml")
    assert document.value["b"] == {"x": 1, "y": 3}
    assert str(document.place(("b", "x"))) == "x.yml:1:11"
    assert str(document.place(("b", "y"))) == "x.yml:2:16"


def test_more_bytes_than_allowed_are_refused() -> None:
    assert "larger than 8 MiB" in refusal("#" * (documents.MAX_BYTES + 1)).message


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.dates(),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))),
    st.sampled_from(["yes", "0755", "12:30", "<<", "=", "~", "1e3", "null", "{{ x }}", "2026-01-01"]),
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abcé<=~", max_size=4), inner),
    max_leaves=15,
)


@given(value=trees, flow=st.booleans())
def test_reading_what_yaml_wrote_gives_the_value_back(value: Any, *, flow: bool) -> None:
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=flow)
    assert read_document(text, file="x").value == value


PIECES = st.sampled_from(
    [
        *"ab01-?:,[]{}#&*!|>'\"%@` \n",
        "  ",
        ": ",
        "- ",
        "<<: ",
        "&a ",
        "*a ",
        "yes",
        "010",
        "1:30",
        "0x1f",
        ".5",
        "~",
        "=",
    ]
)


@given(text=st.lists(PIECES, max_size=25).map("".join))
def test_any_text_is_read_as_pyyaml_reads_it_or_refused_with_a_place(text: str) -> None:
    try:
        found = read_document(text, file="x.yml").value
    except InputError as refused:
        error = refused
    else:
        # "=" and a lone "<<" are text here, and an error there
        with suppress(yaml.constructor.ConstructorError):
            assert found == yaml.load(text, Loader=yaml_nodes.LOADER)  # noqa: S506 - it is a safe one
        return
    assert error.place.line >= 1


def test_a_file_is_read_with_its_name_in_every_place(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("a: 1\n")
    document = load_document(path)
    assert document.value == {"a": 1}
    assert document.place(("a",)).file == str(path)


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(documents.MAX_BYTES + 1)
    for path, found in [
        (tmp_path / "missing", "there is no such file"),
        (tmp_path, "found a directory"),
        (tmp_path / "fifo", "no regular file"),
        (large, "larger than 8 MiB"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (tmp_path / "a\0b", "cannot be read: "),
    ]:
        with pytest.raises(InputError, match=found):
            load_document(path)


def test_a_file_that_the_system_forbids_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yml"
    path.write_text("a: 1\n")

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)  # root may read everything
    with pytest.raises(InputError, match="may not be read"):
        load_document(path)


def test_without_the_c_library_values_and_places_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_document(SAMPLE, file="x.yml")
    monkeypatch.setattr(yaml_nodes, "LOADER", yaml.SafeLoader)
    document = read_document(SAMPLE, file="x.yml")
    assert document.value == expected.value
    for path in [(), ("day",), ("servers", "hosts", "é😀", "port"), ("servers", "hosts", "web", 2)]:
        assert document.place(path) == expected.place(path)
        assert document.source_text(path) == expected.source_text(path)
    assert str(refusal("é: 1\nb: \x07\n").place) == "x.yml:2:4"
    assert str(refusal("[" * 100_000).place) == "x.yml:1:41"
