import getpass
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.inventory.endpoints import Endpoint
from orchestrator.inventory.names import HostName
from orchestrator.inventory.ssh_options import SshOptions, parse_arguments
from orchestrator.remote.routes import GLOBAL_KNOWN_HOSTS, Hop, RouteError, Router

PLAIN = Endpoint(host=HostName("web"), address="web.example")


def route(where: Endpoint, arguments: str = "") -> tuple[Hop, ...]:
    options, _ = parse_arguments(arguments)
    return Router().route(replace(where, ssh=options))


def config(home: Path, text: str) -> None:
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh" / "config").write_text(text)
    (home / ".ssh" / "config").chmod(0o600)


def test_without_any_configuration_a_host_is_where_it_is_said_to_be(home: Path) -> None:
    (hop,) = route(PLAIN)

    assert hop == Hop(
        label="web",
        address="web.example",
        port=22,
        user=getpass.getuser(),
        known_as="web.example",
        known_port=22,
        own_known_hosts=None,
        known_hosts=(f"{home}/.ssh/known_hosts", f"{home}/.ssh/known_hosts2", *GLOBAL_KNOWN_HOSTS),
        identities=(),
        certificates=(),
        identities_only=False,
        agent=None,
        trust_new=False,
    )
    assert hop.where == "web.example:22"


def test_tokens_stand_for_what_they_stand_for_in_openssh(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    tokens = "%d %h %i %k %L %l %n %p %r %u %%"
    where = replace(PLAIN, user="ops", port=2222, key_file=f"${{KEYS}}/{tokens}")
    (hop,) = route(where, "-o HostName=%h.net -o HostKeyAlias=%n.alias")
    name = socket.gethostname()

    assert hop.address == "web.example.net"
    assert (hop.known_as, hop.known_port) == ("web.example.alias", 22)
    machine = f"{os.getuid()} web.example.alias {name.partition('.')[0]} {name}"
    rest = f"web.example 2222 ops {getpass.getuser()} %"
    assert hop.identities == (f"/keys{home} web.example.net {machine} {rest}",)


def test_an_ipv6_address_with_its_interface_is_no_token() -> None:
    (hop,) = route(replace(PLAIN, address="fe80::1%eth0"))

    assert (hop.address, hop.where) == ("fe80::1%eth0", "[fe80::1%eth0]:22")


@pytest.mark.parametrize(
    ("arguments", "agent"),
    [
        ("", "/run/agent"),
        ("-o IdentityAgent=SSH_AUTH_SOCK", "/run/agent"),
        ("-o IdentityAgent=none", None),
        ("-o IdentityAgent=$OTHER", "/run/other"),
        ("-o IdentityAgent=$NO_SUCH", None),
        ("-o IdentityAgent=/run/%r", "/run/ops"),
    ],
)
def test_an_agent_is_where_the_environment_or_the_configuration_says(
    monkeypatch: pytest.MonkeyPatch, arguments: str, agent: str | None
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("OTHER", "/run/other")

    assert route(replace(PLAIN, user="ops"), arguments)[-1].agent == agent


def test_jump_hosts_come_in_their_order_each_as_its_own_lines_say(home: Path) -> None:
    config(
        home,
        "Host outer\n HostName 192.0.2.1\n User gate\n ProxyJump edge\nHost inner\n Port 33\n ProxyJump no\n",
    )
    hops = route(replace(PLAIN, known_hosts="/known", key_file="/key"), "-J outer,me@inner")

    assert [(hop.label, hop.where) for hop in hops] == [
        ("edge", "edge:22"),
        ("outer", "192.0.2.1:22"),
        ("inner", "inner:33"),
        ("web", "web.example:22"),
    ]
    assert [hop.user for hop in hops] == [getpass.getuser(), "gate", "me", getpass.getuser()]
    assert {hop.own_known_hosts for hop in hops} == {"/known"}
    assert {hop.identities for hop in hops} == {("/key",)}


def test_a_proxy_command_brings_its_own_options_and_configuration(home: Path, tmp_path: Path) -> None:
    config(home, "Host bastion\n Port 1\n")
    other = tmp_path / "other"
    other.write_text("Host bastion\n Port 2\n")
    command = f"ssh -F {other} -i /its -l gate -W %h:%p bastion"

    jump, host = route(replace(PLAIN, key_file="/key"), f"-o ProxyCommand='{command}'")

    assert (jump.port, jump.user, jump.identities) == (2, "gate", ("/its",))
    assert host.identities == ("/key",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("-J one:two:three", "is ambiguous; write an IPv6 address in brackets"),
        ("-J ,", "'' is not a jump host"),
        (
            "-o ProxyCommand='nc %h %p'",
            "would run a program, and keyrelay runs none; use ProxyJump, or ssh -W",
        ),
        ("-F /no/such/file", "the ssh configuration /no/such/file does not exist"),
        ("-i %Z", "'%Z' has the token %Z, which is not known here"),
        ("-i ${NO_SUCH}", "names the environment variable NO_SUCH, which is not set"),
    ],
)
def test_a_way_that_cannot_be_gone_is_told(arguments: str, words: str) -> None:
    with pytest.raises(RouteError) as caught:
        route(PLAIN, arguments)
    assert words in str(caught.value)


def test_jump_hosts_in_a_circle_are_told(home: Path) -> None:
    config(home, "Host *\n ProxyJump bastion\n")

    with pytest.raises(
        RouteError, match=r"lead in a circle, or are more than 8: web.example < bastion < bastion"
    ):
        route(PLAIN)
    config(home, "Host bastion\n ProxyJump none\nHost *\n ProxyJump bastion\n")
    assert [hop.label for hop in route(PLAIN)] == ["bastion", "web"]


def test_a_way_is_looked_for_once(home: Path) -> None:
    config(home, "Host *\n Port 33\n")
    router = Router()
    first = router.route(PLAIN)
    config(home, "Host *\n Port 44\n")

    assert router.route(PLAIN) is first
    assert router.route(replace(PLAIN, ssh=SshOptions()))[0].port == 33
