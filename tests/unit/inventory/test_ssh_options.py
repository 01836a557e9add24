from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.inventory.ssh_options import (
    Destination,
    OptionError,
    SshOptions,
    parse_arguments,
    parse_destination,
    parse_proxy_command,
)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", SshOptions()),
        ("-J bastion", SshOptions(proxy_jump="bastion")),
        ("-Ja,b -p 2222", SshOptions(proxy_jump="a,b", port=2222)),
        ("-o ProxyJump=a -o ProxyJump=b", SshOptions(proxy_jump="a")),
        ("-oProxyJump=a -J b", SshOptions(proxy_jump="a")),
        ('-o "ProxyJump a"', SshOptions(proxy_jump="a")),
        ("-o proxyjump = a", None),
        ("-i ~/one -o IdentityFile=/two", SshOptions(identity_files=("~/one", "/two"))),
        ('-i "/with blank"', SshOptions(identity_files=("/with blank",))),
        ("-l root -F /etc/other", SshOptions(user="root", config_file="/etc/other")),
        ('-o UserKnownHostsFile="/a /b"', SshOptions(user_known_hosts=("/a", "/b"))),
        ("-o HostKeyAlias=name -o HostName=::1", SshOptions(host_key_alias="name", hostname="::1")),
        ("-o StrictHostKeyChecking=no", SshOptions(trust_new=True)),
        ("-o StrictHostKeyChecking=accept-new", SshOptions(trust_new=True)),
        ("-o StrictHostKeyChecking=yes", SshOptions(trust_new=False)),
        (
            "-o IdentitiesOnly=yes -o IdentityAgent=none",
            SshOptions(identities_only=True, identity_agent="none"),
        ),
        ("-C -q -4 -o ControlMaster=auto -o ControlPersist=60s -vv -o ServerAliveInterval=5", SshOptions()),
        (
            "-o ProxyCommand='ssh -W %h:%p -q bastion'",
            SshOptions(proxy_command="ssh -W %h:%p -q bastion"),
        ),
        ("-o ProxyCommand=none -J a", SshOptions(proxy_command="none")),
    ],
)
def test_arguments_are_read_as_ssh_reads_them(text: str, options: SshOptions | None) -> None:
    if options is None:
        with pytest.raises(OptionError):
            parse_arguments(text)
    else:
        assert parse_arguments(text) == (options, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "-L 80:localhost:80",
            "'-L' is not supported; allowed: -F, -J, -i, -l, -p and -o with CertificateFile",
        ),
        ("-D 1080", "'-D' is not supported"),
        ("-o LocalCommand=id", "the option 'LocalCommand' is not supported; allowed: -F"),
        ("-o KnownHostsCommand=id", "the option 'KnownHostsCommand' is not supported"),
        ("-o RevokedHostKeys=/x", "RevokedHostKeys is not supported"),
        ("-p many", "Port has the port 'many'; allowed: 1 to 65535"),
        ("-p 0", "allowed: 1 to 65535"),
        ("-J", "-J has no value"),
        ("-o StrictHostKeyChecking=maybe", "is 'maybe'; allowed: no, off, accept-new, yes, ask"),
        ("-o IdentitiesOnly", "IdentitiesOnly takes one value, found ''"),
        ("-o 'x", "has no end"),
        ("one two", "'two' is a second destination, or a command to run"),
        ("- x", "a second destination"),
    ],
)
def test_what_is_not_followed_is_named_with_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_arguments(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ssh -W %h:%p bastion", (SshOptions(), "bastion")),
        ("exec /usr/bin/ssh -q -W [%h]:%p -p 2222 u@b", (SshOptions(port=2222), "u@b")),
        ('ssh -i "/a b" -W%h:%p b', (SshOptions(identity_files=("/a b",)), "b")),
        ("ssh -F /x -o ProxyJump=c -W %h:%p b", (SshOptions(config_file="/x", proxy_jump="c"), "b")),
        ("ssh bastion nc %h %p", None),
        ("ssh -W %h:%p", None),
        ("ssh -W %h:%p b; id", None),
        ("ssh -W %h:%p -o LocalCommand=id b", None),
        ("ssh -W other:22 b", None),
        ("nc %h %p", None),
        ("sshpass ssh -W %h:%p b", None),
        ("ssh -W %h:%p 'b", None),
        ("", None),
    ],
)
def test_a_proxy_command_is_a_jump_host_only_where_ssh_alone_passes_bytes_on(
    text: str, found: tuple[SshOptions, str] | None
) -> None:
    assert parse_proxy_command(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bastion", Destination(host="bastion")),
        ("u@bastion:2222", Destination(host="bastion", user="u", port=2222)),
        ("u@corp@bastion", Destination(host="bastion", user="u@corp")),
        ("[::1]:22", Destination(host="::1", port=22)),
        ("u@[fe80::1%eth0]", Destination(host="fe80::1%eth0", user="u")),
        ("ssh://u@b:22/", Destination(host="b", user="u", port=22)),
    ],
)
def test_a_jump_host_is_named_as_ssh_names_it(text: str, found: Destination) -> None:
    assert parse_destination(text) == found


@pytest.mark.parametrize("text", ["", "-oProxyCommand=id", "a b", "@host", "::1", "host:none", "host:70000"])
def test_what_is_no_jump_host_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_destination(text)


OPTIONS = st.builds(
    SshOptions,
    port=st.none() | st.integers(1, 9),
    user=st.none() | st.sampled_from("ab"),
    identity_files=st.lists(st.sampled_from("xyz"), unique=True).map(tuple),
    proxy_jump=st.none() | st.just("j"),
)


@given(OPTIONS, OPTIONS, OPTIONS)
def test_laying_options_over_others_is_associative_and_says_nothing_by_itself(
    one: SshOptions, two: SshOptions, three: SshOptions
) -> None:
    assert one.over(two).over(three) == one.over(two.over(three))
    assert SshOptions().over(one) == one.over(SshOptions()) == one


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(OptionError):
        parse_arguments(text)
    parse_proxy_command(text)
