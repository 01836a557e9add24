from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError, Place, UsageError
from orchestrator.inventory.model import Group, GroupName, Host, HostName, Inventory
from orchestrator.inventory.patterns import select, select_servers_of

HERE = Place(file="hosts.yml")


def inventory_of(**members: str) -> Inventory:
    """Groups by keyword, each with the names of its hosts or of groups below it."""
    hosts: dict[str, set[str]] = {}
    groups = {name: text.split() for name, text in members.items()}
    for name, inside in groups.items():
        for host in inside:
            if host not in groups:
                hosts.setdefault(host, set()).add(name)
    return Inventory(
        hosts={
            HostName(name): Host(name=HostName(name), groups=tuple(map(GroupName, sorted(of))), place=HERE)
            for name, of in hosts.items()
        },
        groups={
            GroupName(name): Group(
                name=GroupName(name),
                place=HERE,
                children=tuple(GroupName(one) for one in inside if one in groups),
                hosts=tuple(HostName(one) for one in inside if one not in groups),
            )
            for name, inside in {**groups, "all": list(groups), "ungrouped": []}.items()
        },
    )


FLEET = inventory_of(
    web="web1 web2 web10", db="db1 db2", paris="web1 db1", oslo="web2 web10 db2", sites="paris oslo"
)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("all", "web1 web2 web10 db1 db2"),
        ("*", "web1 web2 web10 db1 db2"),
        ("db2", "db2"),
        ("web", "web1 web2 web10"),
        ("sites", "web1 web2 web10 db1 db2"),
        ("ungrouped", ""),
        ("db:web1", "web1 db1 db2"),
        ("db2,db1,db2", "db1 db2"),
        (" db2 , web1 ", "web1 db2"),
        ("web:&paris", "web1"),
        ("web:!paris", "web2 web10"),
        ("!paris", "web2 web10 db2"),
        ("&paris:&db", "db1"),
        ("!oslo:web:&oslo:db", ""),
        ("!web1:web:db:&paris", "db1"),
        ("web?", "web1 web2"),
        ("*1", "web1 db1"),
        ("db[12]*", "db1 db2"),
        ("db[!1]", "db2"),
        ("[pw]*:!web[2-9]*", "web1 web10 db1"),
        ("nothing*", ""),
        ("web,&paris", "web1"),
    ],
)
def test_a_pattern_selects_hosts_in_inventory_order(pattern: str, names: str) -> None:
    assert " ".join(select(FLEET, pattern)) == names


@pytest.mark.parametrize("pattern", ["web11", "all:!web11", "all:&web11", "WEB1", "web1,webb"])
def test_a_plain_name_that_does_not_exist_is_an_error_wherever_it_stands(pattern: str) -> None:
    with pytest.raises(UsageError, match="the inventory has no host or group '") as caught:
        select(FLEET, pattern)
    assert caught.value.hint == "" or caught.value.hint.startswith("did you mean web")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("~web\\d$", "web1 web2"),
        ("~(web|db)1", "web1 web10 db1"),
        ("~par", "web1 db1"),
        ("web:!~.*0", "web1 web2"),
        ("all:&~.+2$", "web2 db2"),
        ("~(?:web1|db1)$,db2", "web1 db1 db2"),
        ("web[0]", "web1"),
        ("web[-1]", "web10"),
        ("web[0:1]", "web1 web2"),
        ("web[1:]", "web2 web10"),
        ("web[1:99]", "web2 web10"),
        ("web[5:9]", ""),
        ("web:!web[0]", "web2 web10"),
        ("web[0]:db[-1]", "web1 db2"),
        ("sites[1]", "db1"),
        ("sites[2]", "web2"),
        ("w*[3]", "web1"),
        ("web1[0]", "web1"),
        ("ungrouped[0]", ""),
    ],
)
def test_regular_expressions_and_positions_select_hosts(pattern: str, names: str) -> None:
    assert " ".join(select(FLEET, pattern)) == names


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("web[3]", r"'web\[3\]' names no host: 'web' has 3"),
        ("web[-4]", r"'web\[-4\]' names no host: 'web' has 3"),
        ("web[2:1]", "ends before it begins"),
        ("web[0000000000]", "is too large"),
        ("wbe[0]", "no host or group 'wbe'"),
        ("~(web", "is no regular expression: missing"),
        ("~(?:web|db)", "is no regular expression: "),
        ("~", "no name and no glob"),
        ("@hosts", "not supported: the file of hosts '@hosts'"),
    ],
)
def test_a_position_or_expression_that_means_nothing_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        select(FLEET, pattern)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "is empty"),
        (" : ", "is empty"),
        ("web:&db,oslo", "joined by both"),
        ("web[1", "without its partner"),
        ("web]", "without its partner"),
        ("!", "no name and no glob"),
        ("!&web", "no name and no glob"),
        ("web db", "no name and no glob"),
    ],
)
def test_a_malformed_pattern_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        select(FLEET, pattern)


PARTS = st.sampled_from(
    [
        "~web",
        "~.*1",
        "web[0]",
        "sites[1:2]",
        "web",
        "db",
        "paris",
        "oslo",
        "sites",
        "all",
        "web1",
        "db2",
        "*1",
        "web*",
        "?b*",
        "ungrouped",
    ]
)


@given(a=PARTS, b=PARTS, c=PARTS)
def test_the_laws_of_sets_hold(a: str, b: str, c: str) -> None:
    def chosen(pattern: str) -> set[str]:
        names = select(FLEET, pattern)
        assert list(names) == [name for name in FLEET.hosts if name in names]
        return set(names)

    assert chosen(f"{a}:{b}") == chosen(f"{b},{a}") == chosen(a) | chosen(b)
    assert chosen(f"{a}:&{b}") == chosen(a) & chosen(b)
    assert chosen(f"{a}:!{b}") == chosen(a) - chosen(b)
    assert chosen(f"{a}:!{a}") == set()
    assert chosen(f"!{a}") == chosen("all") - chosen(a)
    assert chosen(f"!{c}:&{b}:{a}") == chosen(f"{a}:&{b}:!{c}") == (chosen(a) & chosen(b)) - chosen(c)


def test_an_agents_own_servers_are_selected_and_errors_name_the_line(read: Callable[..., Inventory]) -> None:
    inventory = read("""
servers: {hosts: {s1: , s2: }}
agents:
  hosts:
    a1: {keyrelay_servers: "servers:!s2"}
    a2:
    a3: {keyrelay_servers: serverz}
""")
    assert select_servers_of(inventory, HostName("a1")) == ("s1",)
    assert select_servers_of(inventory, HostName("a2")) is None
    with pytest.raises(InputError, match=r":7:28: keyrelay_servers of host a3 is no pattern: ") as caught:
        select_servers_of(inventory, HostName("a3"))
    assert caught.value.hint == "did you mean servers?"
    with pytest.raises(UsageError, match="no host 'a4'"):
        select_servers_of(inventory, HostName("a4"))
