import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from orchestrator.cli.plays import passwords_for
from orchestrator.documents import Encrypted
from orchestrator.errors import InputError, Place, UsageError
from orchestrator.inventory import endpoints
from orchestrator.inventory.endpoints import (
    OWN_VARIABLES,
    Become,
    BecomeMethod,
    Endpoint,
    Reading,
    Written,
)
from orchestrator.inventory.model import HostName, Inventory
from orchestrator.inventory.ssh_options import SshOptions

Read = Callable[..., Inventory]
WEB = HostName("web")


def reading(**variables: object) -> Reading:
    """A host with these variables, each written at line 7."""
    place = Place(file="hosts.yml", line=7, column=11)
    return Reading(
        host=WEB,
        variables=variables,
        place=Place(file="hosts.yml", line=2, column=3),
        written={
            name: Written(value=value, place=place, text=str(value)) for name, value in variables.items()
        },
    )


def test_a_host_without_variables_is_reached_by_its_name() -> None:
    assert asdict(reading().endpoint()) == {
        "host": "web",
        "address": "web",
        "port": None,
        "user": None,
        "key_file": None,
        "known_hosts": None,
        "base": "/etc/keyrelay",
        "ssh": None,
        "become": None,
    }
    assert reading().servers_pattern() is None


def test_every_variable_finds_its_place_in_the_endpoint() -> None:
    found = reading(
        ansible_host="2001:db8::1%eth0",
        ansible_port="2222",
        ansible_user="CORP\\j.doe@example.net",
        ansible_ssh_private_key_file="~/my keys/id",
        keyrelay_known_hosts="known_hosts",
        keyrelay_base="/srv/key-relay/a+b@c_1.d",
        keyrelay_servers="servers:&paris",
        other="{{ ignored }}",
    )
    assert found.endpoint() == Endpoint(
        host=WEB,
        address="2001:db8::1%eth0",
        port=2222,
        user="CORP\\j.doe@example.net",
        key_file="~/my keys/id",
        known_hosts="known_hosts",
        base="/srv/key-relay/a+b@c_1.d",
    )
    assert found.servers_pattern() == "servers:&paris"


def test_the_ssh_spelling_wins_and_null_is_no_value() -> None:
    both = reading(
        ansible_host="a",
        ansible_ssh_host="b",
        ansible_port=1,
        ansible_ssh_port=2,
        ansible_user="u",
        ansible_ssh_user="v",
        ansible_private_key_file="k",
        ansible_ssh_private_key_file="l",
    ).endpoint()
    assert (both.address, both.port, both.user, both.key_file) == ("b", 2, "v", "l")
    nothing = reading(
        ansible_host="a", ansible_ssh_host=None, ansible_port=None, ansible_user=None, keyrelay_base=None
    ).endpoint()
    assert nothing == Endpoint(host=WEB, address="a")


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("ansible_host", "-oProxyCommand=x", "is '-oProxyCommand=x'; allowed: a DNS name or an IP address"),
        ("ansible_host", "a b", "allowed: a DNS name or an IP address"),
        ("ansible_host", "", "is ''; allowed: text on one line"),
        ("ansible_host", "a\nb", "allowed: text on one line"),
        ("ansible_host", "a\u202eb", r"is 'a\u202eb'; allowed: text on one line"),
        ("ansible_host", "{{ inventory_hostname }}", "is the template"),
        ("ansible_host", ["a"], "is a list; allowed: text"),
        ("ansible_host", {"a": 1}, "is a mapping; allowed: text"),
        ("ansible_port", 0, "is 0; allowed: a port, 1 to 65535"),
        ("ansible_port", 65536, "is 65536; allowed: a port"),
        ("ansible_port", True, "is True; allowed: a port"),
        ("ansible_port", 22.0, "is 22.0; allowed: a port"),
        ("ansible_port", "22a", "is '22a'; allowed: a port"),
        ("ansible_port", "٢٢", "allowed: a port"),
        ("ansible_port", "{{ port }}", "is the template"),
        ("ansible_user", "a b", "allowed: a user name without blanks"),
        ("ansible_user", "-l", "allowed: a user name"),
        ("ansible_user", 1000, "is 1000, which YAML did not read as text"),
        ("ansible_private_key_file", "{% if x %}", "is the template"),
        ("ansible_ssh_private_key_file", False, "is False, which YAML did not read as text"),
        ("keyrelay_known_hosts", 5, "is 5, which YAML did not read as text"),
        ("keyrelay_base", "/", "allowed: an absolute path"),
        ("keyrelay_base", "etc/keyrelay", "allowed: an absolute path"),
        ("keyrelay_base", "/etc/", "allowed: an absolute path"),
        ("keyrelay_base", "/etc//keyrelay", "allowed: an absolute path"),
        ("keyrelay_base", "/etc/../keyrelay", "allowed: an absolute path"),
        ("keyrelay_base", "/etc/./keyrelay", "allowed: an absolute path"),
        ("keyrelay_base", "/etc/key relay", "allowed: an absolute path"),
        ("keyrelay_base", "/etc/$(id)", "allowed: an absolute path"),
        ("keyrelay_base", "/" + "a" * 200, "at most 200 characters"),
        ("keyrelay_base", "{{ base }}", "is the template"),
    ],
)
def test_a_wrong_value_names_its_place_what_was_found_and_what_is_allowed(
    name: str, value: object, found: str
) -> None:
    with pytest.raises(InputError) as caught:
        reading(**{name: value}).endpoint()
    assert caught.value.message.startswith(f"hosts.yml:7:11: {name} of host web ")
    assert found in caught.value.message
    if "template" in found:
        assert "renders nothing" in caught.value.hint


def test_arguments_for_ssh_win_and_yield_as_ansible_puts_them() -> None:
    found = reading(
        ansible_ssh_args="-C -o ControlMaster=auto -l first",
        ansible_user="second",
        ansible_port=22,
        ansible_ssh_common_args="-p 33 -J bastion",
        ansible_ssh_extra_args="-J other -o HostKeyAlias=alias",
    ).endpoint()

    assert (found.user, found.port) == ("first", 22)
    assert found.ssh == SshOptions(proxy_jump="bastion", host_key_alias="alias")


def test_without_variables_of_their_own_port_and_user_come_from_arguments() -> None:
    found = reading(ansible_ssh_common_args="-p 33", ansible_ssh_extra_args="-l someone -p 44").endpoint()

    assert (found.user, found.port, found.ssh) == ("someone", 33, None)


@pytest.mark.parametrize("value", ["", None])
def test_empty_arguments_say_nothing(value: object) -> None:
    assert reading(ansible_ssh_common_args=value, ansible_ssh_args=value).endpoint().ssh is None


@pytest.mark.parametrize("address", ["[::1]", "::1"])
def test_an_ipv6_address_may_stand_in_brackets(address: str) -> None:
    assert reading(ansible_host=address).endpoint().address == "::1"


@pytest.mark.parametrize(
    ("variables", "become"),
    [
        ({}, None),
        ({"ansible_become": False, "ansible_become_method": "su"}, None),
        ({"ansible_become": True}, Become()),
        ({"ansible_become": "yes", "ansible_become_user": "app"}, Become(user="app")),
        ({"ansible_become": 1, "ansible_sudo_user": "app_2$"}, Become(user="app_2$")),
        ({"ansible_become": True, "ansible_become_method": "ansible.builtin.sudo"}, Become()),
        (
            {"ansible_become": True, "ansible_become_method": "doas", "ansible_doas_user": "app"},
            Become(method=BecomeMethod.DOAS, user="app"),
        ),
        (
            {"ansible_become": True, "ansible_become_flags": "-H -S -n", "ansible_become_exe": "sudo"},
            Become(),
        ),
    ],
)
def test_whom_the_login_user_becomes(variables: dict[str, object], become: Become | None) -> None:
    assert reading(**variables).endpoint().become == become


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("ansible_become_method", "su", "is 'su'; allowed: sudo or doas"),
        ("ansible_become_method", "{{ method }}", "is the template"),
        ("ansible_become_user", "a;b", "allowed: the plain name of an account"),
        ("ansible_become_user", "-u", "allowed: the plain name of an account"),
        ("ansible_become_exe", "/opt/sudo", "is set; keyrelay runs sudo as the host's PATH finds it"),
        ("ansible_become_flags", "-E", "has flags that keyrelay does not give to sudo; allowed: -H -S -n"),
        ("ansible_become", "maybe", "is 'maybe'; allowed: true or false"),
        ("ansible_become", [True], "allowed: true or false"),
        ("ansible_become", "{{ x }}", "is the template"),
        ("ansible_connection", "local", "is 'local'; allowed: ssh, smart, paramiko"),
        ("ansible_ssh_common_args", "-L 1:a:2", "cannot be followed: '-L' is not supported; allowed: -F, -J"),
        ("ansible_ssh_args", "-o LocalCommand=id", "the option 'LocalCommand' is not supported"),
        ("ansible_ssh_extra_args", "somewhere", "names a destination or command, 'somewhere'"),
        ("ansible_ssh_common_args", "-J {{ bastion }}", "is the template"),
        ("ansible_ssh_common_args", ["-J", "a"], "is a list; allowed: text"),
    ],
)
def test_what_is_not_followed_is_named_with_its_place(name: str, value: object, found: str) -> None:
    with pytest.raises(InputError) as caught:
        reading(**{"ansible_become": True, name: value}).endpoint()
    assert caught.value.message.startswith(f"hosts.yml:7:11: {name} of host web ")
    assert found in caught.value.message


def test_a_password_is_no_part_of_the_endpoint() -> None:
    found = reading(ansible_become=True, ansible_become_pass="a", ansible_become_password="b")

    assert found.become_password() == "a"
    assert found.endpoint() == reading(ansible_become=True).endpoint()
    assert reading().become_password() is None
    place = Place(file="hosts.yml", line=2, column=3)
    vaulted = Reading(host=WEB, variables={"ansible_become_password": Encrypted("x")}, place=place)
    assert vaulted.become_password() is None
    assert reading(ansible_become_password="{{ vault_become }}").become_password() is None
    for wrong in (7, "a\nb", ""):
        with pytest.raises(InputError, match="is no password; allowed: text on one line"):
            reading(ansible_become_password=wrong).become_password()


@pytest.mark.parametrize("value", [3, "{{ x }}", ["servers"]])
def test_a_pattern_of_servers_is_text(value: object) -> None:
    with pytest.raises(InputError, match=r"^hosts.yml:7:11: keyrelay_servers of host web is "):
        reading(keyrelay_servers=value).servers_pattern()


def test_an_error_shows_the_quoted_form_of_what_was_written(read: Read) -> None:
    inventory = read("all: {hosts: {web: {ansible_user: 0755}}}")
    with pytest.raises(
        InputError, match=r"hosts\.yml:1:35: ansible_user of host web is 493, which"
    ) as caught:
        inventory.endpoint(WEB)
    assert caught.value.hint == 'write it quoted: ansible_user: "0755"'


def test_an_error_names_the_file_and_line_of_the_value_that_won(read: Read) -> None:
    inventory = read(
        "g: {hosts: {web: }, vars: {ansible_host: '{{ a }}', ansible_port: 99999}}",
        {"group_vars/g.yml": "# a comment\nansible_host: ok.example.net\nansible_port: 1.5\n"},
    )
    with pytest.raises(InputError, match=r"group_vars/g\.yml:3:15: ansible_port of host web is 1\.5"):
        inventory.endpoint(WEB)


@pytest.mark.parametrize("name", ["ansible_host", "ansible_port", "ansible_user", "keyrelay_base"])
def test_a_vaulted_value_is_an_error_only_where_it_is_needed(read: Read, name: str) -> None:
    inventory = read(f"g: {{hosts: {{web: {{{name}: !vault x, other: !vault y}}, db: {{other: !vault y}}}}}}")
    assert inventory.endpoint(HostName("db")).address == "db"
    with pytest.raises(
        InputError, match=rf"hosts\.yml:1:\d+: {name} of host web is encrypted by ansible-vault"
    ) as caught:
        inventory.endpoint(WEB)
    assert caught.value.hint == "write this value unencrypted; keyrelay needs no secret from an inventory"


def test_a_value_whose_place_is_unknown_is_blamed_on_its_host() -> None:
    bare = Reading(host=WEB, variables={"ansible_user": 7}, place=Place(file="hosts.yml", line=2, column=3))
    with pytest.raises(InputError, match=r"^hosts\.yml:2:3: ansible_user of host web is 7, ") as caught:
        bare.endpoint()
    assert caught.value.hint == 'write it quoted: ansible_user: "7"'


@pytest.mark.parametrize(
    ("text", "beside", "place"),
    [
        ("all: {vars: {keyrelay_bse: /x}, hosts: {web: }}", {}, "hosts.yml:1:14"),
        ("all: {hosts: {web: {keyrelay_bse: /x}}}", {}, "hosts.yml:1:21"),
        (
            "all: {hosts: {web: }}",
            {"group_vars/all/a.yml": "x: 1\nkeyrelay_bse: /x"},
            "group_vars/all/a.yml:2:1",
        ),
        ("all: {hosts: {web: }}", {"host_vars/web": "keyrelay_bse: /x"}, "host_vars/web:1:1"),
    ],
)
def test_an_unknown_variable_of_keyrelay_is_refused_wherever_it_stands(
    read: Read, text: str, beside: dict[str, str], place: str
) -> None:
    with pytest.raises(InputError, match=f"{place}: unknown variable 'keyrelay_bse'; allowed: ") as caught:
        read(text, beside)
    assert ", ".join(OWN_VARIABLES) in caught.value.message
    assert caught.value.hint == "did you mean keyrelay_base?"


def test_all_hosts_that_cannot_be_reached_are_told(read: Read) -> None:
    inventory = read("all: {hosts: {a: {ansible_port: x}, b: , c: {keyrelay_servers: 3}}}")
    assert [error.message.split(": ", 1)[1][:25] for error in inventory.problems()] == [
        "ansible_port of host a is",
        "keyrelay_servers of host ",
    ]


def test_a_wrong_value_that_many_hosts_inherit_is_told_once(read: Read) -> None:
    text = (
        "all: {children: {g: {hosts: {'h[1:9]': }, vars: {ansible_port: 0}}}, hosts: {x: {ansible_port: 0}}}"
    )
    shared, own = read(text).problems()
    assert "ansible_port of host h1 and 8 more is 0; allowed: a port" in shared.message
    assert len(shared.hosts) == 9
    assert own.message == own.error.message
    two = read("all: {hosts: {a: , b: }, vars: {ansible_port: 0}}").problems()
    assert [": ansible_port of hosts a and b is 0" in problem.message for problem in two] == [True]


def test_a_password_for_sudo_that_is_none_is_told_where_it_would_be_used(read: Read) -> None:
    inventory = read(
        "all: {hosts: {a: {ansible_become: true}, b: , c: {ansible_become: true, ansible_become_pass: x}}, "
        "vars: {ansible_become_pass: 12345}}"
    )
    (problem,) = inventory.problems()

    assert ": ansible_become_pass of host a is no password; allowed: text on one line" in problem.message
    assert "12345" not in problem.message
    assert set(passwords_for(inventory, inventory.hosts)) == {"c"}


@pytest.mark.parametrize("name", endpoints.LOGIN_PASSWORDS)
def test_passwords_to_log_in_with_are_noted_once_as_not_used(read: Read, name: str) -> None:
    inventory = read(f"all: {{hosts: {{a: , b: , c: {{{name}: null}}}}, vars: {{{name}: secret}}}}")

    (note,) = inventory.unused_passwords()
    assert note.message == "passwords to log in with are not used; keyrelay logs in by keys alone"
    assert note.place.line == 1
    assert inventory.problems() == ()


def test_every_variable_of_ansibles_that_is_read_is_named() -> None:
    source = Path(endpoints.__file__).read_text(encoding="utf-8")
    read_here = set(re.findall(r'"(ansible_[a-z_]+)"', source))
    assert read_here <= set(endpoints.ANSIBLE_VARIABLES)


def test_a_host_that_does_not_exist_has_no_endpoint(read: Read) -> None:
    with pytest.raises(UsageError, match="the inventory has no host 'wbe'") as caught:
        read("all: {hosts: {web: }}").endpoint(HostName("wbe"))
    assert caught.value.hint == "did you mean web?"
