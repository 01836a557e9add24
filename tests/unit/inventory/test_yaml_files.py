from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import InputError, KeyrelayError, UsageError
from orchestrator.inventory.model import GroupName, HostName, Inventory, graph
from orchestrator.inventory.yaml_files import load
from tests.unit.inventory.conftest import Write

Read = Callable[..., Inventory]


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ("", ":1:1:", "found nothing; allowed: a mapping of groups"),
        ("- web\n", ":1:1:", "found a list; allowed: a mapping of groups"),
        ("web\n", ":1:1:", "found 'web'; allowed: a mapping of groups"),
        ("[web]\nhost1 ansible_port=22\n", ":", "an inventory in INI form, not YAML"),
        ("[web]\n", ":", "an inventory in INI form, not YAML"),
        ("[web:children]\nparis\n\n[db]\nx y=1\n", ":", "an inventory in INI form, not YAML"),
        ("host1 ansible_port=22\n", ":", "an inventory in INI form, not YAML"),
        ("#!/bin/sh\necho {}\n", ":", "this is an inventory script"),
        ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", ":", "encrypted by ansible-vault"),
        ("plugin: aws_ec2\nregions: []\n", ":1:1:", "the configuration of an inventory plugin"),
        (
            "10: {hosts: {web: }}",
            ":1:1:",
            "found 10, which YAML did not read as text; allowed: a group's name",
        ),
        (
            "g: {hosts: {10.1: }}",
            ":1:13:",
            "found 10.1, which YAML did not read as text; allowed: a host's name",
        ),
        (
            "g: {hosts: {w: {on: 1}}}",
            ":1:17:",
            "found True, which YAML did not read as text; allowed: a variable's",
        ),
        (
            "g: {vars: {1: 1}}",
            ":1:12:",
            "found 1, which YAML did not read as text; allowed: a variable's name",
        ),
        (
            "g: {children: {1: }}",
            ":1:16:",
            "found 1, which YAML did not read as text; allowed: a group's name",
        ),
        ("g: {host: {web: }}", ":1:5:", "found 'host' in the group g; allowed: hosts, children, vars"),
        (
            "g: {1: {web: }}",
            ":1:5:",
            "found 1, which YAML did not read as text; allowed: hosts, children, vars",
        ),
        ("g: web\n", ":1:4:", "found 'web' as the group g; allowed: a mapping"),
        ("g: {hosts: [web]}\n", ":1:12:", "found a list as hosts of g; allowed: a mapping"),
        ("g: {children: [a]}\n", ":1:15:", "found a list as children of g; allowed: a mapping"),
        ("g: {vars: [a]}\n", ":1:11:", "found a list as vars of g; allowed: a mapping"),
        ("g: {vars: x}\n", ":1:11:", "found 'x' as vars of g; allowed: a mapping"),
        ("g: {hosts: {web: 1}}\n", ":1:18:", "found 1 as the host web; allowed: a mapping"),
        ("g: {hosts: {-web: }}", ":1:13:", "a host is named '-web'; allowed: letters, digits"),
        ("g: {hosts: {../x: }}", ":1:13:", "a host is named '../x'"),
        ("g: {hosts: {'a b': }}", ":1:13:", "a host is named 'a b'"),
        ("g: {hosts: {'': }}", ":1:13:", "a host is named ''"),
        ("g: {hosts: {'2001:db8::1': }}", ":1:13:", "a host is named '2001:db8::1'"),
        (f"g: {{hosts: {{{'a' * 254}: }}}}", ":1:13:", "a host is named 'aaa"),
        ("g/h: ", ":1:1:", "a group is named 'g/h'; allowed: letters, digits"),
        ("g: {children: {.h: }}", ":1:16:", "a group is named '.h'"),
        ("g: {hosts: {'web[1:3': }}", ":1:13:", "a bracket without its partner"),
        ("g: {hosts: {g: }}", ":1:13:", "the name g is used again; it is a group at "),
        ("g: {hosts: {h: }}\nh: ", ":2:1:", "the name h is used again; it is a host at "),
        ("g: {hosts: {all: }}", ":1:13:", "the name all is used again"),
        ("a: {children: {a: }}", ":1:16:", "groups form a cycle: a → a"),
        (
            "a: {children: {b: {children: {c: }}}}\nc: {children: {a: }}",
            ":2:16:",
            "groups form a cycle: a → b → c → a",
        ),
        ("a: {children: {all: }}", ":1:16:", "all is a child of a"),
        ("a: {children: {ungrouped: }}", ":1:16:", "ungrouped is a child of a"),
        ("ungrouped: {children: {a: }}", ":1:24:", "a is a child of ungrouped"),
        (
            "g: {vars: {ansible_group_priority: high}}",
            ":1:36:",
            "ansible_group_priority is 'high'; allowed: a whole",
        ),
        (
            "g: {vars: {ansible_group_priority: }}",
            ":1:36:",
            "ansible_group_priority is None; allowed: a whole",
        ),
        ("g: {vars: {x: !!set {y}}}", ":1:15:", "found the tag !!set"),
        ("g: !vault x", ":1:4:", "found <encrypted by ansible-vault> as the group g"),
        ("g: {vars: {!vault x: y}}", ":1:12:", "found an encrypted value as a key"),
        ("g: {vars: {ansible_group_priority: !vault x}}", ":1:36:", "ansible_group_priority is <encrypted"),
        ("plugin: {hosts: {web: }}", ":1:1:", "the configuration of an inventory plugin"),
        ("g: {hosts: {web: }, hosts: {db: }}", ":1:21:", "found the key hosts again"),
    ],
)
def test_a_wrong_source_is_refused_with_one_clear_error(
    read: Read, text: str, place: str, found: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert f"hosts.yml{place} " in caught.value.message
    assert found in caught.value.message


@pytest.mark.parametrize(
    ("beside", "found"),
    [
        (
            {"group_vars/all.yml": "- x\n"},
            "group_vars/all.yml:1:1: found a list; allowed: a mapping of variables",
        ),
        (
            {"group_vars/all/x": "text\n"},
            "group_vars/all/x:1:1: found 'text'; allowed: a mapping of variables",
        ),
        ({"host_vars/web.yml": "1: x\n"}, "host_vars/web.yml:1:1: found 1, which YAML did not read as text"),
        ({"host_vars/web.yml": "a: 1\na: 2\n"}, "host_vars/web.yml:2:1: found the key a again"),
        ({"host_vars/web.json": '{"a": 1, "a": 2}'}, 'host_vars/web.json:1:10: found the key "a" again'),
        ({"host_vars/web.yml": "a: [\n"}, "host_vars/web.yml:2:1: this is not YAML"),
    ],
)
def test_a_wrong_variable_file_is_refused_with_one_clear_error(
    read: Read, beside: dict[str, str], found: str
) -> None:
    with pytest.raises(InputError) as caught:
        read("all: {hosts: {web: }}", beside)
    assert found in caught.value.message


def test_hints_say_what_to_do(read: Read) -> None:
    def hint(text: str) -> str:
        with pytest.raises(InputError) as caught:
            read(text)
        return caught.value.hint

    assert hint("g: {hosts: [web]}") == "end each name with a colon and put no dash before it"
    assert hint("g: {hosts: {0755: }}") == 'write it quoted: "0755"'
    assert hint("g: {paris: {hosts: {web: }}}").startswith("a group below this one belongs under children")
    assert "ansible_host" in hint("g: {hosts: {'::1': }}")
    assert "hosts.yml --list > inventory.json" in hint("[web]\n")
    assert hint("#!/bin/sh\n").startswith(
        "keyrelay runs no inventory script and no plugin; let Ansible read it"
    )
    assert hint("plugin: x\n").startswith(
        "keyrelay runs no inventory script and no plugin; let Ansible read it"
    )


def test_what_is_no_inventory_file_is_refused(write: Write) -> None:
    folder = write({"a.yml": "all: {hosts: {web: }}"})
    (folder / "program").write_bytes(b"\x7fELF\x02\x01")
    for path, found in [
        (folder / "missing.yml", "there is no such file"),
        (folder / "program", "this is an inventory script"),
    ]:
        with pytest.raises(InputError, match=found):
            load([folder / "a.yml", path])
    with pytest.raises(UsageError, match="no inventory was given"):
        load([])


def test_a_host_knows_where_it_was_first_named(read: Read) -> None:
    inventory = read("g:\n  hosts:\n    web:\nh:\n  hosts: {web: {x: 1}}\n", {"host_vars/web": "y: 2"})
    web = inventory.host("web")
    assert str(web.place).endswith("hosts.yml:3:5")
    assert str(web.written["x"].place).endswith("hosts.yml:5:20")
    assert web.written["x"].text == "1"
    assert str(web.written["y"].place).endswith("host_vars/web:1:4")
    assert str(inventory.groups[GroupName("h")].place).endswith("hosts.yml:4:1")


def test_hosts_that_differ_in_nothing_share_their_variables(read: Read) -> None:
    inventory = read("g: {hosts: {'web[1:1000]': , other: {x: 2}}, vars: {x: 1}}")
    shared = {id(host.variables) for host in inventory.hosts.values()}
    assert len(shared) == 2
    assert inventory.host("web7").variables == {"x": 1}


def test_sources_are_named_as_they_were_given(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write({"a.yml": "all: {hosts: {web: }}", "group_vars/all": "x: 1"}))
    inventory = load([Path("a.yml")])
    assert inventory.sources == ("a.yml",)
    assert str(inventory.host("web").place) == "a.yml:1:15"
    assert inventory.host("web").variables == {"x": 1}


def test_a_folder_of_variables_that_cannot_be_listed_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write({"a.yml": "all: {hosts: {web: }}", "group_vars/all": "x: 1"})

    def forbidden(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)  # root may list everything
    with pytest.raises(InputError, match="group_vars: this folder cannot be read: Permission denied"):
        load([folder / "a.yml"])


def test_more_hosts_than_allowed_are_refused(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.inventory.merging.MAX_HOSTS", 3)
    with pytest.raises(InputError, match=r"hosts\.yml:1:13: found more than 3 hosts"):
        read("g: {hosts: {'web[1:4]': }}")


def test_a_vaulted_file_of_variables_is_skipped_with_a_note(read: Read) -> None:
    inventory = read(
        "g: {hosts: {web: }}",
        {"group_vars/g/vault.yml": "$ANSIBLE_VAULT;1.1;AES256\n6162\n", "group_vars/g/a.yml": "x: 1"},
    )
    assert inventory.host("web").variables == {"x": 1}
    (note,) = inventory.notes
    assert str(note).endswith(
        "group_vars/g/vault.yml: this file is encrypted by ansible-vault and was skipped; "
        "what it says of a variable that keyrelay reads is not known"
    )


def test_a_graph_with_variables_shows_hosts_before_their_group(read: Read) -> None:
    inventory = read(
        "g: {hosts: {web: {y: !vault z}}, vars: {x: [1], ansible_group_priority: 2}}\nall: {vars: {a: b}}"
    )
    assert list(graph(inventory, GroupName("g"), variables=True)) == [
        "@g:",
        "  |--web",
        "  |  |--{a = b}",
        "  |  |--{x = [1]}",
        "  |  |--{y = <encrypted by ansible-vault>}",
        "  |--{ansible_group_priority = 2}",
        "  |--{x = [1]}",
    ]


def test_a_group_that_does_not_exist_has_no_members_and_no_graph(read: Read) -> None:
    inventory = read("servers: {hosts: {web: }}")
    with pytest.raises(UsageError, match="no group 'server'") as caught:
        list(graph(inventory, GroupName("server")))
    assert caught.value.hint == "did you mean servers?"
    assert list(graph(inventory, GroupName("servers"))) == ["@servers:", "  |--web"]
    assert inventory.members(GroupName("all")) == (HostName("web"),)


WORDS = [
    "all",
    "g",
    "h",
    "web[1:3]",
    "web:22",
    "hosts",
    "children",
    "vars",
    "ungrouped",
    "ansible_port",
    "keyrelay_base",
]
VALUES = st.sampled_from([None, True, 22, "22", "/x", "{{ x }}", "[a:b]", "", "-", "0755", 1.5])
BODIES = st.recursive(
    VALUES,
    lambda inner: (
        st.dictionaries(st.sampled_from(WORDS) | VALUES, inner, max_size=4) | st.lists(inner, max_size=2)
    ),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.dictionaries(st.sampled_from(WORDS), BODIES, min_size=1, max_size=3), noise=st.text(max_size=3)
)
def test_whatever_a_file_says_it_is_an_inventory_or_an_error_with_a_place(
    body: dict[str, object], noise: str, write: Write
) -> None:
    folder = write({"a.yml": yaml.safe_dump(body) + noise.replace("\r", "")})
    try:
        inventory = load([folder / "a.yml"])
    except KeyrelayError as refused:
        error = refused
    else:
        assert len(list(graph(inventory))) > 1
        assert all(problem.error.place.line for problem in inventory.problems())
        return
    assert str(folder / "a.yml") in error.message
