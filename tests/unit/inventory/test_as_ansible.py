"""What keyrelay reads from an inventory is what the installed ansible-core reads from it.

``agreed.yml`` and Hypothesis give inventories that both read alike; ``refused.yml`` is the frozen list of
what only Ansible takes. How many there are is printed after a run of this folder.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.documents import Encrypted
from orchestrator.errors import KeyrelayError, UsageError
from orchestrator.inventory.model import Inventory, graph
from orchestrator.inventory.patterns import select
from orchestrator.inventory.yaml_files import load
from tests.unit.inventory.conftest import COUNTED, Ask, Write

HERE = Path(__file__).parent
EXAMPLES = Path(__file__).parents[3] / "inventory"
AGREED: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "agreed.yml").read_text(encoding="utf-8"))
REFUSED: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "refused.yml").read_text(encoding="utf-8"))
LISTING = "listing.json"
SCRIPT = '#!/bin/sh\nexec cat "$(dirname "$0")/listing.json"\n'

PATTERNS = [
    "all",
    "*",
    "all:!ungrouped",
    "*:&all",
    "h*:!i*",
    "[ghi]*",
    "*1,*2",
    "!*1",
    "&*1",
    "?",
    "*.*",
    "u*",
    "a*",
    "~[a-h]",
    "!~.*1$",
    "g*[0]",
]

Record = Callable[[str, object], None]


def sources_in(folder: Path, case: Mapping[str, Any]) -> list[Path]:
    """The sources of a case; a list of hosts is none of the folder's files."""
    named = case.get("sources") or [name for name in case["files"] if "_vars/" not in name]
    return [Path(name) if "," in name else folder / name for name in named]


def for_ansible(sources: list[Path]) -> list[Path]:
    """The same sources, a listing in the form of a script that prints it."""
    found = []
    for source in sources:
        if source.name == LISTING:
            script = source.with_name("listing.sh")
            script.write_text(SCRIPT, encoding="utf-8")
            script.chmod(0o755)
            found.append(script)
        else:
            found.append(source)
    return found


def unmarked(value: dict[str, Any]) -> Any:
    return value.get("__ansible_unsafe", value)


def in_json(value: Any) -> Any:
    """A value as Ansible writes what JSON has no form for."""
    if isinstance(value, Encrypted):
        return {"__ansible_vault": value.ciphertext}
    return value.isoformat()


def selected(inventory: Inventory, pattern: str) -> set[str] | None:
    try:
        return set(select(inventory, pattern))
    except UsageError:
        return None


def listing_of(inventory: Inventory) -> dict[str, Any]:
    """What ``ansible-inventory --list`` would print."""
    listing: dict[str, Any] = {}
    for name, group in inventory.groups.items():
        hosts = {"hosts": list(group.hosts)} if group.hosts and name != "all" else {}
        children = {"children": list(group.children)} if group.children else {}
        if hosts or children:
            listing[name] = {**hosts, **children}
    hostvars = {name: dict(host.variables) for name, host in inventory.hosts.items() if host.variables}
    listing["_meta"] = {"hostvars": hostvars}
    found: dict[str, Any] = json.loads(json.dumps(listing, default=in_json))
    return found


def expected_listing(answer: Mapping[str, Any], sealed: list[str]) -> dict[str, Any]:
    listing: dict[str, Any] = json.loads(json.dumps(answer["listing"]), object_hook=unmarked)
    del listing["_meta"]["profile"]
    hostvars = listing["_meta"]["hostvars"]
    for name in sealed:
        for variables in hostvars.values():
            del variables[name]
    return listing


def assert_same(inventory: Inventory, answer: Mapping[str, Any], *, sealed: list[str]) -> None:
    """Groups, members, listing, graphs and selections are Ansible's."""
    assert "error" not in answer, answer["error"]
    expected = expected_listing(answer, sealed)
    assert listing_of(inventory) == expected
    assert {name: list(host.groups) for name, host in inventory.hosts.items()} == answer["hosts"]
    assert {name: set(inventory.members(name)) for name in inventory.groups} == {
        name: set(members) for name, members in answer["groups"].items()
    }
    assert list(inventory.hosts) == list(answer["hosts"])
    assert list(inventory.groups) == list(answer["groups"])
    assert "\n".join(graph(inventory)) == answer["graph"]
    if answer["graph with variables"] and not sealed:
        assert "\n".join(graph(inventory, variables=True)) == answer["graph with variables"]
    for pattern, found in answer["selected"].items():
        names = None if isinstance(found, str) else set(found)
        assert selected(inventory, pattern) == names, pattern


@pytest.mark.parametrize("name", [name for name, case in AGREED.items() if "through" not in case])
def test_an_inventory_is_read_as_ansible_reads_it(
    name: str, write: Write, ask_ansible: Ask, record_property: Record
) -> None:
    case = AGREED[name]
    folder = write(case["files"])
    sources = sources_in(folder, case)
    answer = ask_ansible(for_ansible(sources), [*PATTERNS, *case.get("patterns", [])])
    for script in folder.rglob("*-script"):  # in a directory: keyrelay gets what the script prints
        printed = subprocess.run([script], capture_output=True, text=True, check=True).stdout
        script.write_text(printed, encoding="utf-8")
    assert_same(load(sources), answer, sealed=case.get("sealed", []))
    record_property(COUNTED, {"inventories read alike, written": 1})


@pytest.mark.parametrize("name", [name for name, case in AGREED.items() if "through" in case])
def test_what_ansible_inventory_lists_is_the_inventory_that_ansible_read(
    name: str, write: Write, ask_ansible: Ask, record_property: Record
) -> None:
    case = AGREED[name]
    answer = ask_ansible([write(case["files"]) / case["through"]], PATTERNS)
    listing = write({"inventory.json": json.dumps(answer["listing"], sort_keys=True, indent=4)})
    inventory = load([listing / "inventory.json"])
    assert listing_of(inventory) == expected_listing(answer, [])
    assert {host: set(one.groups) for host, one in inventory.hosts.items()} == {
        host: set(groups) for host, groups in answer["hosts"].items()
    }
    for pattern, found in answer["selected"].items():
        assert "[0]" in pattern or selected(inventory, pattern) == set(found)
    record_property(COUNTED, {"inventories read alike, through ansible-inventory": 1})


@pytest.mark.parametrize("name", REFUSED)
def test_what_ansible_takes_and_keyrelay_refuses_is_on_a_list_with_the_reason(
    name: str, write: Write, ask_ansible: Ask, record_property: Record
) -> None:
    case = REFUSED[name]
    assert case["why"].endswith(".")
    sources = sources_in(write(case["files"]), case)
    pattern = case.get("pattern")
    answer = ask_ansible(for_ansible(sources), [pattern] if pattern else [])
    assert answer["parsed"]
    assert all(isinstance(hosts, list) for hosts in answer["selected"].values())
    with pytest.raises(KeyrelayError) as caught:  # noqa: PT012 - which of the two refuses is the case's matter
        inventory = load(sources)
        if pattern:
            select(inventory, pattern)
    assert case["found"] in caught.value.message
    record_property(COUNTED, {"inventories and patterns refused with a reason": 1})


def test_sixty_inventories_and_more_are_compared() -> None:
    assert len(AGREED) >= 60
    assert sum("pattern" not in case for case in REFUSED.values()) >= 30


@pytest.mark.parametrize("source", sorted(EXAMPLES.glob("*.yml")), ids=lambda path: path.name)
def test_the_shipped_examples_are_what_the_ansible_inventory_command_makes_of_them(
    source: Path, ansible_environment: dict[str, str], record_property: Record
) -> None:
    command = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(source)]

    def run(*options: str) -> str:
        return subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            check=True,
            cwd=ansible_environment["HOME"],
            env=ansible_environment,
        ).stdout

    inventory = load([source])
    assert listing_of(inventory) == expected_listing({"listing": json.loads(run("--list"))}, [])
    assert "\n".join(graph(inventory)) + "\n" == run("--graph")
    assert "\n".join(graph(inventory, variables=True)) + "\n" == run("--graph", "--vars")
    assert list(inventory.problems()) == []
    assert inventory.notes == ()
    record_property(COUNTED, {"inventories read alike, shipped": 1})


GROUPS = ["all", *"ABCDEF"]
HOSTS = ["h1", "h2", "h[3:5]", "k:2200", "j[01:09:4]", "[a:b]x"]
NAMES = st.sampled_from(["x", "y", "z", "ansible_group_priority"])
VALUES = st.integers(0, 9)
VARIABLES = st.dictionaries(NAMES, VALUES, max_size=3)


def bodies(group: str) -> st.SearchStrategy[dict[str, Any]]:
    below = GROUPS[GROUPS.index(group) + 1 :]
    children = (
        st.dictionaries(
            st.sampled_from(below),
            st.none() | st.fixed_dictionaries({}, optional={"vars": VARIABLES}),
            max_size=3,
        )
        if below
        else st.none()
    )
    hosts = st.dictionaries(st.sampled_from(HOSTS), st.none() | VARIABLES, max_size=3)
    return st.fixed_dictionaries({}, optional={"hosts": hosts, "children": children, "vars": VARIABLES})


SOURCES = st.lists(
    st.fixed_dictionaries({}, optional={group: bodies(group) for group in GROUPS}).filter(bool),
    min_size=1,
    max_size=3,
)
BESIDE = st.dictionaries(
    st.sampled_from([f"group_vars/{group}.yml" for group in GROUPS] + ["host_vars/h1", "host_vars/h4.json"]),
    VARIABLES,
    max_size=3,
)
PARTS = st.sampled_from(
    [
        "all",
        "*",
        "h*",
        "!h1*",
        "&h[!12]",
        "A*",
        "[!A]*",
        "~[hk]",
        "!~.*[135]$",
        "&~(h|j)0?\\d",
        "h*[0]",
        "!h*[1:2]",
    ]
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inventories=st.lists(st.tuples(SOURCES, BESIDE, st.booleans(), st.booleans()), min_size=1, max_size=2),
    patterns=st.lists(PARTS, max_size=3).map(":".join),
)
def test_any_inventory_is_read_as_ansible_reads_it(
    inventories: list[tuple[list[dict[str, Any]], dict[str, Any], bool, bool]],
    patterns: str,
    write: Write,
    ask_ansible: Ask,
    record_property: Record,
) -> None:
    sources: list[Path] = []
    for texts, beside, flow, as_directory in inventories:
        numbers = itertools.count()
        files = {
            f"{next(numbers)}.yml": yaml.safe_dump(text, sort_keys=False, default_flow_style=flow)
            for text in texts
        }
        folder = write({**files, **{name: json.dumps(values) for name, values in beside.items()}})
        sources += [folder] if as_directory else [folder / name for name in files]
    asked = [patterns] if patterns else []
    assert_same(load(sources), ask_ansible(sources, asked), sealed=[])
    record_property(COUNTED, {"inventories read alike, generated": 1})


LISTED = st.fixed_dictionaries(
    {},
    optional={
        "hosts": st.lists(st.sampled_from(["h1", "h2", "k", "x-1.y"]), unique=True, max_size=3),
        "vars": VARIABLES,
    },
).filter(bool)


@st.composite
def listings(draw: st.DrawFn) -> dict[str, Any]:
    listing: dict[str, Any] = {}
    for number, name in enumerate(GROUPS):
        body: Any = draw(st.none() | LISTED | LISTED.map(lambda one: one.get("hosts", [])))
        below = GROUPS[number + 1 :]
        if isinstance(body, dict) and below:
            body["children"] = draw(st.lists(st.sampled_from(below), unique=True, max_size=3))
        if body is not None:
            listing[name] = body
    hostvars = st.dictionaries(
        st.sampled_from(["h1", "h2", "k", "nobody"]),
        st.dictionaries(
            st.sampled_from("xyz"), st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
        ),
    )
    return {**listing, "_meta": {"hostvars": draw(hostvars)}}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(listing=listings(), indent=st.sampled_from([None, 4]))
def test_any_listing_is_read_as_ansible_reads_it(
    listing: dict[str, Any], indent: int | None, write: Write, ask_ansible: Ask, record_property: Record
) -> None:
    sources = [write({LISTING: json.dumps(listing, indent=indent)}) / LISTING]
    assert_same(load(sources), ask_ansible(for_ansible(sources), PATTERNS), sealed=[])
    record_property(COUNTED, {"inventories read alike, generated": 1})


FLEET = """
web: {hosts: {"web[1:9]": }, vars: {x: 1}}
db: {hosts: {"db[1:3]": }, children: {replicas: {hosts: {"rep[1:2]": , db2: }}}}
paris: {hosts: {web1: , web3: , db1: , p-1.example.net: }}
oslo: {hosts: {web2: , db2: , rep1: }}
empty:
lone: {hosts: {x: }}
"""
WORDS = st.sampled_from(
    [
        "web",
        "db",
        "paris",
        "oslo",
        "empty",
        "all",
        "ungrouped",
        "web1",
        "db*",
        "*",
        "?",
        "w*[13]",
        "*-*",
        "[!w]*",
    ]
)
POSITIONS = st.integers(-4, 11).map("[{}]".format) | st.tuples(st.integers(0, 6), st.integers(0, 6)).map(
    lambda ends: f"[{min(ends)}:{ends[0] + ends[1]}]"
)
REGEXES = st.sampled_from(
    ["~web[1-3]", "~.*1$", "~(db|rep)[12]", "~^p", "~[^w].*\\d$", "~(?i)WEB\\d", "~o", "~x?$", "~.+\\.net"]
)
WHOLE = st.one_of(WORDS, st.tuples(WORDS, POSITIONS | st.just("[2:]")).map("".join), REGEXES)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.tuples(st.sampled_from(["", "", "!", "&"]), WHOLE).map("".join), min_size=1, max_size=4
    ),
    joint=st.sampled_from([":", ",", " , "]),
)
def test_any_pattern_selects_what_it_selects_in_ansible(
    parts: list[str], joint: str, write: Write, ask_ansible: Ask, record_property: Record
) -> None:
    sources = [write({"a.yml": FLEET}) / "a.yml"]
    pattern = joint.join(parts)
    found = ask_ansible(sources, [pattern])["selected"][pattern]
    assert selected(load(sources), pattern) == (None if isinstance(found, str) else set(found))
    record_property(COUNTED, {"patterns that select alike, generated": 1})
