"""What keyrelay reads from an inventory is what the installed ansible-core reads from it."""

import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.inventory.model import Inventory, graph
from orchestrator.inventory.patterns import select
from orchestrator.inventory.yaml_files import load
from tests.unit.inventory.conftest import Ask, Write

EXAMPLES = Path(__file__).parents[3] / "inventory"

CASES: dict[str, dict[str, str]] = {
    "one host and nothing else": {"a.yml": "all: {hosts: {web: }}"},
    "a host written as a bare word": {"a.yml": "all:\n  hosts: web\n"},
    "a host outside every group": {"a.yml": "ungrouped: {hosts: {web: {x: 1}}}"},
    "a host that leaves ungrouped": {"a.yml": "ungrouped: {hosts: {web: }}\ng: {hosts: {web: }}"},
    "groups without hosts or bodies": {"a.yml": "g:\nh: {hosts: }\ni: {children: }\nj: {vars: }"},
    "nested groups": {
        "a.yml": """
all:
  children:
    europe:
      vars: {zone: europe, depth: 1}
      children:
        paris: {hosts: {p1: , p2: {depth: 3}}, vars: {depth: 2}}
        oslo: {hosts: {o1: }}
    servers: {hosts: {p1: , o1: }}
"""
    },
    "a group described in several places": {
        "a.yml": """
a: {children: {c: }, vars: {x: a, y: a}}
b: {children: {c: {hosts: {h1: }}}, vars: {x: b}}
c: {vars: {y: c}, hosts: {h2: {x: h2}}}
all: {hosts: {h1: {z: 1}}, vars: {z: all, x: all, w: all}}
"""
    },
    "one group on ways of different length": {
        "a.yml": """
deep: {children: {middle: {children: {leaf: {hosts: {h: }}}}}, vars: {x: deep}}
near: {children: {leaf: }, vars: {x: near}}
middle: {vars: {x: middle}}
"""
    },
    "groups of one depth in the order of their names": {
        "a.yml": """
z: {hosts: {h: }, vars: {x: z}}
b: {hosts: {h: }, vars: {x: b}}
B: {hosts: {h: }, vars: {x: B}}
"""
    },
    "a group's priority": {
        "a.yml": """
a: {hosts: {h: }, vars: {x: a, ansible_group_priority: 10}}
z: {hosts: {h: }, vars: {x: z, ansible_group_priority: "5"}}
"""
    },
    "a priority in group_vars is a variable like others": {
        "a.yml": "a: {hosts: {h: }, vars: {x: a}}\nz: {hosts: {h: }, vars: {x: z}}",
        "group_vars/a.yml": "ansible_group_priority: 10",
    },
    "ranges of numbers and letters": {
        "a.yml": """
all:
  hosts:
    web[01:10].example.net: {role: web}
    db[8:11]:
    "[a:c]x":
    n[1:10:4]-[y:z]:
    u[:2]:
    cap[Y:Z]:
    mix[y:B]:
"""
    },
    "ports in host patterns": {
        "a.yml": """
all:
  hosts:
    a:2222:
    b[1:2]:2223: {ansible_port: 24}
    c:
    c:2224:
    d.example.net:2225: {x: 1}
"""
    },
    "values as YAML 1.1 reads them": {
        "a.yml": """
all:
  hosts:
    h:
      octal: 0755
      sexagesimal: 12:30:45
      yes_no: [yes, No, on, OFF, y, n]
      nothing: [~, null, ""]
      day: 2026-01-31
      moment: 2026-01-31T12:00:00Z
      floats: [1.5, .5, 1e3, 1.0e+3, .inf, 1_000.5]
      ints: [0x1f, 0b11, 1_000, +3, -0]
      text: ["0755", 'yes', 1.2.3.4, =x, a:b]
      block: |
        one
        two
      folded: >-
        one
        two
      nested: {a: [{b: c}], 2: one, yes: two}
"""
    },
    "anchors and merge keys": {
        "a.yml": """
all:
  vars:
    defaults: &defaults {a: 1, b: 2}
    more: &more {b: 3, c: 4}
  hosts:
    h1: {<<: *defaults, b: 5}
    h2: {<<: [*defaults, *more]}
    h3: {list: [*defaults, *more]}
"""
    },
    "templates are data": {
        "a.yml": 'all: {hosts: {h: {x: "{{ lookup(1) }}", y: "{% raw %}", z: "{# no #}"}}}'
    },
    "group_vars beat the inventory and host_vars beat all": {
        "a.yml": """
all: {vars: {a: 1, b: 1, c: 1, d: 1}}
g: {hosts: {h: {c: 4, d: 4, e: 4}}, vars: {b: 2, c: 2, d: 2}}
""",
        "group_vars/all.yml": "a: 3\nb: 3\nc: 3\nd: 3\nf: {x: 1}",
        "group_vars/g": "b: 5\nf: {y: 2}",
        "host_vars/h.json": '{"d": 6, "e": 6}',
    },
    "the first of several files for one name": {
        "a.yml": "g: {hosts: {h: }}\ni: {hosts: {j: }}",
        "group_vars/g.yml": "x: yml",
        "group_vars/g.yaml": "x: yaml",
        "group_vars/g.json": '{"x": "json", "y": 1}',
        "group_vars/i.json": '{"x": "json"}',
        "group_vars/all/z.yml": "w: folder",
        "group_vars/all.yml": "w: file",
        "host_vars/h.yaml": "z: yaml",
        "host_vars/other.yml": "not: [read",
    },
    "folders of variable files": {
        "a.yml": "g: {hosts: {h: }}",
        "group_vars/g/10.yml": "x: 10\ny: 10",
        "group_vars/g/20": "x: 20",
        "group_vars/g/30.yml~": "x: 30",
        "group_vars/g/.40.yml": "x: 40",
        "group_vars/g/50.txt": "x: 50",
        "group_vars/g/15/deep.json": '{"x": 15, "z": 15}',
        "group_vars/g/60.d/no.yml": "x: 60",
        "group_vars/g/70.yml": "",
        "host_vars/h/a.yaml": "u: 1",
    },
    "several sources in one folder": {
        "a.yml": "g: {hosts: {h: {x: 1, y: 1}}, vars: {z: 1}}",
        "b.yml": "g: {hosts: {i: }, vars: {z: 2}}\nall: {hosts: {h: {x: 2}}}",
        "group_vars/g.yml": "w: 1",
    },
    "several sources in folders of their own": {
        "one/a.yml": "g: {hosts: {h: }}\nf: {children: {g: }}",
        "one/group_vars/g.yml": "x: one-g\ny: one-g",
        "one/group_vars/f.yml": "z: one-f",
        "one/host_vars/h.yml": "v: one\nw: one",
        "two/b.yml": "f: {hosts: {i: }}",
        "two/group_vars/all.yml": "x: two-all\nu: two-all",
        "two/group_vars/f.yml": "y: two-f",
        "two/host_vars/h.yml": "v: two",
        "two/host_vars/i.yml": "v: two-i",
    },
    "an inventory in JSON": {
        "a.json": '{"all": {"hosts": {"h": {"x": 1.5, "y": null, "z": "\\u00e9", "l": [true]}}, "vars": {}}}'
    },
    "a file without a suffix": {"hosts": "g: {hosts: {h: }}"},
    "names with dots, dashes and underscores": {
        "a.yml": """
site-a.b: {hosts: {web-1.example.net: , _x: , 10.0.0.1: }}
other_group: {children: {site-a.b: }}
""",
        "group_vars/site-a.b.yml": "x: 1",
        "host_vars/web-1.example.net.yml": "x: 2",
        "host_vars/10.0.0.1": "x: 3",
    },
}

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
]


def sources_in(folder: Path, files: Mapping[str, str]) -> list[Path]:
    return [folder / name for name in files if "_vars/" not in name]


def as_told(inventory: Inventory, patterns: list[str]) -> dict[str, Any]:
    told = {
        "parsed": list(inventory.sources),
        "hosts": {
            name: {"groups": list(host.groups), "variables": dict(host.variables)}
            for name, host in inventory.hosts.items()
        },
        "groups": {
            name: {
                "children": list(group.children),
                "hosts": list(group.hosts),
                "members": sorted(inventory.members(name)),
            }
            for name, group in inventory.groups.items()
        },
        "selected": {pattern: sorted(select(inventory, pattern)) for pattern in patterns},
    }
    as_json: dict[str, Any] = json.loads(json.dumps(told, default=str))
    return as_json


def ordered(answer: dict[str, Any]) -> dict[str, Any]:
    """Ansible's answer, where its order of hosts goes by groups and ours by first appearance."""
    for group in answer["groups"].values():
        group["members"].sort()
    for hosts in answer["selected"].values():
        hosts.sort()
    return answer


@pytest.mark.parametrize("case", CASES)
def test_hosts_groups_variables_and_selections_are_those_of_ansible(
    case: str, write: Write, ask_ansible: Ask
) -> None:
    sources = sources_in(write(CASES[case]), CASES[case])
    answer = ordered(ask_ansible(sources, PATTERNS))
    inventory = load(sources)
    assert as_told(inventory, PATTERNS) == answer
    assert list(inventory.hosts) == list(answer["hosts"])
    assert list(inventory.groups) == list(answer["groups"])


@pytest.mark.parametrize("source", sorted(EXAMPLES.glob("*.yml")), ids=lambda path: path.name)
def test_the_shipped_examples_are_what_the_ansible_inventory_command_makes_of_them(
    source: Path, ansible_environment: dict[str, str]
) -> None:
    command = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(source)]

    def run(option: str) -> str:
        return subprocess.run(
            [*command, option],
            capture_output=True,
            text=True,
            check=True,
            cwd=ansible_environment["HOME"],
            env=ansible_environment,
        ).stdout

    inventory = load([source])
    hostvars = json.loads(run("--list"))["_meta"]["hostvars"]
    assert {
        name: dict(host.variables) for name, host in inventory.hosts.items() if host.variables
    } == hostvars
    assert "\n".join(graph(inventory)) + "\n" == run("--graph")
    assert list(inventory.problems()) == []


GROUPS = ["all", *"ABCDEF"]
HOSTS = ["h1", "h2", "h[3:5]", "k:2200"]
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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inventories=st.lists(st.tuples(SOURCES, BESIDE, st.booleans()), min_size=1, max_size=2),
    patterns=st.lists(st.sampled_from(["all", "*", "h*", "!h1*", "&h[!12]", "A*", "[!A]*"]), max_size=3).map(
        ":".join
    ),
)
def test_any_inventory_is_read_as_ansible_reads_it(
    inventories: list[tuple[list[dict[str, Any]], dict[str, Any], bool]],
    patterns: str,
    write: Write,
    ask_ansible: Ask,
) -> None:
    sources: list[Path] = []
    for texts, beside, flow in inventories:
        numbers = itertools.count()
        files = {
            f"{next(numbers)}.yml": yaml.safe_dump(text, sort_keys=False, default_flow_style=flow)
            for text in texts
        }
        folder = write({**files, **{name: yaml.safe_dump(values) for name, values in beside.items()}})
        sources += [folder / name for name in files]
    asked = [patterns] if patterns else []
    assert as_told(load(sources), asked) == ordered(ask_ansible(sources, asked))
