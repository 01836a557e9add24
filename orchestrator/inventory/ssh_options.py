"""The options of OpenSSH's client that keyrelay follows, as values.

They come from two places: from the arguments for ``ssh`` that an inventory holds (``ansible_ssh_common_args``
and its kin), which are parsed here and never given to any program, and from files in the grammar of
``ssh_config(5)``, which ``remote/ssh_config`` reads. Of each option the first value counts; files of keys
add up. Pure: values stand as they were written, ``~`` and ``%h`` included.
"""

import shlex
from dataclasses import dataclass, fields
from typing import Any, TypeVar

NONE = "none"
"""The word by which an option is switched off."""

_LOWEST_PORT, _HIGHEST_PORT = 1, 65535
T = TypeVar("T")


class OptionError(ValueError):
    """An option cannot be followed; the message says which, what was found and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshOptions:
    """Options of ``ssh_config(5)``; None: not said. Plain data, fit for JSON.

    Attributes:
        config_file: read instead of the user's and the system's file (``-F``).
        hostname: the address to connect to.
        identity_files, certificate_files: of keys to log in with and of certificates for them.
        identities_only: log in with the named keys alone, whatever else ssh-agent holds.
        identity_agent: the agent's socket.
        proxy_jump: jump hosts, parted by commas. Of this and the next one only one is ever set.
        proxy_command: a command that ``ssh`` would speak through.
        host_key_alias: the name that known_hosts has for the host.
        user_known_hosts, global_known_hosts: files of host keys.
        trust_new: whether ``StrictHostKeyChecking`` asks to believe keys of hosts that are not known.
    """

    config_file: str | None = None
    hostname: str | None = None
    port: int | None = None
    user: str | None = None
    identity_files: tuple[str, ...] = ()
    certificate_files: tuple[str, ...] = ()
    identities_only: bool | None = None
    identity_agent: str | None = None
    proxy_jump: str | None = None
    proxy_command: str | None = None
    host_key_alias: str | None = None
    user_known_hosts: tuple[str, ...] | None = None
    global_known_hosts: tuple[str, ...] | None = None
    trust_new: bool | None = None

    def over(self, other: "SshOptions") -> "SshOptions":
        """These options, and those of ``other`` where these say nothing."""
        proxied = self.proxy_jump is not None or self.proxy_command is not None
        joined: dict[str, Any] = {}
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if one.name in ("identity_files", "certificate_files"):
                joined[one.name] = tuple(dict.fromkeys((*mine, *theirs)))
            elif one.name.startswith("proxy_"):
                joined[one.name] = mine if proxied else theirs
            else:
                joined[one.name] = theirs if mine is None else mine
        return SshOptions(**joined)


FOLLOWED = (
    *("CertificateFile", "GlobalKnownHostsFile", "HostKeyAlias", "HostName", "IdentitiesOnly"),
    *("IdentityAgent", "IdentityFile", "Port", "ProxyCommand", "ProxyJump", "StrictHostKeyChecking"),
    *("User", "UserKnownHostsFile"),
)
"""The options that are followed, as ``ssh_config(5)`` writes them."""

_WITHOUT_EFFECT = frozenset(
    word.lower()
    for word in (
        *(
            "AddKeysToAgent",
            "AddressFamily",
            "BatchMode",
            "CheckHostIP",
            "ClearAllForwardings",
            "Compression",
        ),
        *("ConnectionAttempts", "ConnectTimeout", "ControlMaster", "ControlPath", "ControlPersist"),
        *("EscapeChar", "ForwardAgent", "ForwardX11", "ForwardX11Trusted", "GSSAPIAuthentication"),
        *("GSSAPIDelegateCredentials", "HashKnownHosts", "IPQoS", "KbdInteractiveAuthentication", "LogLevel"),
        *(
            "NumberOfPasswordPrompts",
            "PasswordAuthentication",
            "PermitLocalCommand",
            "PreferredAuthentications",
        ),
        *("PubkeyAuthentication", "RequestTTY", "ServerAliveCountMax", "ServerAliveInterval", "TCPKeepAlive"),
        *("UpdateHostKeys", "VerifyHostKeyDNS", "VisualHostKey"),
    )
)
"""Options that change neither who is reached nor what is believed, and may stand in arguments."""

_FLAGS_WITHOUT_EFFECT = frozenset("46ACKTXYaknqvx")
_KEYWORDS_OF_FLAGS = {"J": "ProxyJump", "i": "IdentityFile", "l": "User", "p": "Port"}
_ALLOWED = f"-F, -J, -i, -l, -p and -o with {', '.join(FOLLOWED)}"
_YES = {"yes": True, "true": True, "no": False, "false": False}
_TRUST_NEW = {"no": True, "off": True, "accept-new": True, "yes": False, "ask": False}


def with_option(options: SshOptions, keyword: str, words: tuple[str, ...]) -> SshOptions | None:
    """The options after one more, which changes nothing if it was said before; None: keyword not known here.

    Args:
        options: what was said before.
        keyword: as in ``ssh_config(5)``, in any case.
        words: its arguments.

    Raises:
        OptionError: the arguments are not such as the option takes.
    """
    match keyword.lower():
        case "hostname":
            more = SshOptions(hostname=_one(keyword, words))
        case "port":
            more = SshOptions(port=_port(keyword, words))
        case "user":
            more = SshOptions(user=_one(keyword, words))
        case "identityfile":
            more = SshOptions(identity_files=(_one(keyword, words),))
        case "certificatefile":
            more = SshOptions(certificate_files=(_one(keyword, words),))
        case "identitiesonly":
            more = SshOptions(identities_only=_chosen(keyword, words, _YES))
        case "identityagent":
            more = SshOptions(identity_agent=_one(keyword, words))
        case "proxyjump":
            more = SshOptions(proxy_jump=_one(keyword, words))
        case "proxycommand":
            more = SshOptions(proxy_command=" ".join(words))
        case "hostkeyalias":
            more = SshOptions(host_key_alias=_one(keyword, words))
        case "userknownhostsfile":
            more = SshOptions(user_known_hosts=words)
        case "globalknownhostsfile":
            more = SshOptions(global_known_hosts=words)
        case "stricthostkeychecking":
            more = SshOptions(trust_new=_chosen(keyword, words, _TRUST_NEW))
        case "revokedhostkeys" if words != (NONE,):
            raise OptionError(
                "RevokedHostKeys is not supported, and leaving it out would believe what it revokes; "
                "write @revoked lines into known_hosts"
            )
        case _:
            return None
    return options.over(more)


def parse_arguments(text: str) -> tuple[SshOptions, str | None]:
    """The options in arguments for ``ssh``, as Ansible's variables hold them; nothing is ever executed.

    Options that say nothing about who is reached, such as ``-C`` or ``-o ControlMaster=auto``, are taken and
    change nothing.

    Returns:
        The options, and the destination if the arguments name one (``ssh -W %h:%p bastion``).

    Raises:
        OptionError: an option is unknown, or has a wrong value; says what is allowed.
    """
    try:
        waiting = shlex.split(text)
    except ValueError as error:
        raise OptionError(f"a quotation mark or backslash has no end: {error}") from error
    options, destination = SshOptions(), None
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-") or word == "-":
            if destination is not None:
                raise OptionError(
                    f"{word!r} is a second destination, or a command to run; allowed: {_ALLOWED}"
                )
            destination = word
            continue
        flag = word[1:2]
        if flag and not set(word[1:]) - _FLAGS_WITHOUT_EFFECT:
            continue
        if flag not in ("F", "o", *_KEYWORDS_OF_FLAGS):
            raise OptionError(f"{word!r} is not supported; allowed: {_ALLOWED}")
        value = word[2:] or (waiting.pop(0) if waiting else "")
        if not value:
            raise OptionError(f"-{flag} has no value")
        options = _with_flag(options, flag, value)
    return options, destination


def parse_proxy_command(text: str) -> tuple[SshOptions, str] | None:
    """The jump host of a command that only asks ``ssh`` to pass bytes on; None: it is another command.

    ``ssh -W %h:%p [-p PORT] [-i FILE] … [USER@]HOST`` is what one wrote before there was ``ProxyJump``.
    """
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    if words[:1] == ["exec"]:
        words = words[1:]
    if not words or words[0] not in ("ssh", "/usr/bin/ssh"):
        return None
    rest = words[1:]
    for position, word in enumerate(rest):
        if word in ("-W", "-qW") and rest[position + 1 : position + 2] in (["%h:%p"], ["[%h]:%p"]):
            rest = rest[:position] + rest[position + 2 :]
            break
        if word in ("-W%h:%p", "-W[%h]:%p"):
            rest = rest[:position] + rest[position + 1 :]
            break
    else:
        return None
    try:
        options, destination = parse_arguments(shlex.join(rest))
    except OptionError:
        return None
    return None if destination is None else (options, destination)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where to, as ``ssh`` takes it: ``[user@]host[:port]`` or ``ssh://[user@]host[:port]``."""

    host: str
    user: str | None = None
    port: int | None = None


def parse_destination(text: str) -> Destination:
    """A jump host as ``-J`` names it, an IPv6 address in brackets.

    Raises:
        OptionError: it is none.
    """
    rest = text.strip().removeprefix("ssh://").rstrip("/")
    user, at, rest = rest.rpartition("@")
    host, port = rest, ""
    if rest.startswith("["):
        host, _, behind = rest[1:].partition("]")
        port = behind.removeprefix(":")
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    elif rest.count(":") > 1:
        raise OptionError(f"the jump host {text!r} is ambiguous; write an IPv6 address in brackets")
    if not host or host.startswith("-") or not host.isprintable() or " " in host or (at and not user):
        raise OptionError(f"{text!r} is not a jump host; allowed: [USER@]HOST[:PORT]")
    return Destination(host=host, user=user or None, port=_port("ProxyJump", (port,)) if port else None)


def _with_flag(options: SshOptions, flag: str, value: str) -> SshOptions:
    if flag == "F":
        return options.over(SshOptions(config_file=value))
    keyword, words = _assignment(value if flag == "o" else f"{_KEYWORDS_OF_FLAGS[flag]}={shlex.quote(value)}")
    more = with_option(options, keyword, words)
    if more is not None:
        return more
    if keyword.lower() not in _WITHOUT_EFFECT:
        raise OptionError(f"the option {keyword!r} is not supported; allowed: {_ALLOWED}")
    return options


def _assignment(value: str) -> tuple[str, tuple[str, ...]]:
    """The keyword and the words of ``Keyword=value`` or ``Keyword value``."""
    stripped = value.strip()
    length = next((at for at, letter in enumerate(stripped) if letter in " \t="), len(stripped))
    keyword, rest = stripped[:length], stripped[length:].strip()
    rest = rest.removeprefix("=").strip()
    if keyword.lower() == "proxycommand":
        return keyword, (rest,)
    try:
        return keyword, tuple(shlex.split(rest))
    except ValueError as error:
        raise OptionError(f"{value!r} has a quotation mark without an end") from error


def _one(keyword: str, words: tuple[str, ...]) -> str:
    if len(words) != 1 or not words[0] or not words[0].isprintable():
        raise OptionError(f"{keyword} takes one value, found {' '.join(words)!r}")
    return words[0]


def _port(keyword: str, words: tuple[str, ...]) -> int:
    word = _one(keyword, words)
    if not (word.isascii() and word.isdigit() and _LOWEST_PORT <= int(word) <= _HIGHEST_PORT):
        raise OptionError(f"{keyword} has the port {word!r}; allowed: {_LOWEST_PORT} to {_HIGHEST_PORT}")
    return int(word)


def _chosen(keyword: str, words: tuple[str, ...], known: dict[str, T]) -> T:
    word = _one(keyword, words).lower()
    if word not in known:
        raise OptionError(f"{keyword} is {word!r}; allowed: {', '.join(known)}")
    return known[word]
