"""From an endpoint to the hops that lead to it: jump hosts in their order, the host itself last.

What the inventory says comes first, then ``~/.ssh/config``, then ``/etc/ssh/ssh_config``, then what ``ssh``
does by itself. Jump hosts are reached as the configuration says; of the inventory, the file given with ``-F``
and ``keyrelay_known_hosts`` hold for them too, and the host's key file where no other is named for them.
Nothing is executed: a ``ProxyCommand`` that is no plain ``ssh -W`` is refused.
"""

import getpass
import os
import re
import socket
import threading
from dataclasses import dataclass, replace

from orchestrator.inventory.endpoints import DEFAULT_PORT, Endpoint
from orchestrator.inventory.ssh_options import (
    NONE,
    OptionError,
    SshOptions,
    parse_destination,
    parse_proxy_command,
)
from orchestrator.remote import user_files
from orchestrator.remote.ssh_config import SshConfig, SshConfigError

USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_MOST_HOPS = 8
_TOKEN = re.compile(r"%(.?)")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class RouteError(Exception):
    """There is no way to say how the host is reached; the message tells why, and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One SSH server on the way, all defaults applied; paths are absolute or start at the working directory.

    Attributes:
        label: for reasons: the host's name, or how the jump host was called.
        known_as, known_port: what known_hosts has a line for.
        own_known_hosts: the file that the inventory names, which must exist; the others are not read then.
        known_hosts: files of host keys, of which any may be missing.
        identities: files of keys to log in with; empty: none is named.
        certificates: files of certificates besides those that lie beside their keys.
        identities_only: nothing else in ssh-agent is tried.
        agent: the agent's socket; None: no agent is asked.
        trust_new: the configuration asks to believe keys of hosts that are not known.
    """

    label: str
    address: str
    port: int
    user: str
    known_as: str
    known_port: int
    own_known_hosts: str | None
    known_hosts: tuple[str, ...]
    identities: tuple[str, ...]
    certificates: tuple[str, ...]
    identities_only: bool
    agent: str | None
    trust_new: bool

    @property
    def where(self) -> str:
        """Address and port, for reasons."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Going:
    """Where one is going: to an endpoint, or to ``name``, a jump host on the way to those ``behind`` it.

    Attributes:
        given: what is said of ``name`` itself.
        config_file: what is read where ``given`` names no file.
    """

    endpoint: Endpoint
    name: str
    given: SshOptions
    config_file: str | None
    behind: tuple[str, ...] = ()


class Router:
    """Finds the way to hosts; reads each configuration once. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._configs: dict[str | None, SshConfig | SshConfigError] = {}
        self._routes: dict[Endpoint, tuple[Hop, ...]] = {}

    def route(self, endpoint: Endpoint) -> tuple[Hop, ...]:
        """The hops to a host; the last one is the host.

        Raises:
            RouteError: the configuration cannot be followed.
        """
        if (found := self._routes.get(endpoint)) is not None:
            return found
        said = endpoint.ssh or SshOptions()
        named = (endpoint.key_file,) if endpoint.key_file else ()
        given = SshOptions(port=endpoint.port, user=endpoint.user, identity_files=named).over(said)
        try:
            going = _Going(
                endpoint=endpoint, name=endpoint.address, given=given, config_file=said.config_file
            )
            hops = tuple(self._hops(going))
        except (SshConfigError, OptionError) as error:
            raise RouteError(str(error)) from error
        self._routes[endpoint] = hops
        return hops

    def _hops(self, going: "_Going") -> list[Hop]:
        """The hops to where one is going; those of jump hosts come from here again."""
        endpoint, name, behind = going.endpoint, going.name, going.behind
        if len(behind) >= _MOST_HOPS:
            raise RouteError(
                f"the jump hosts lead in a circle, or are more than {_MOST_HOPS}: "
                f"{' < '.join((*behind, name))}; look at ProxyJump in the ssh configuration"
            )
        file = going.given.config_file or going.config_file
        options = self._config(file).about(name, going.given, local_user=getpass.getuser())
        if behind and not options.identity_files and endpoint.key_file:
            options = replace(options, identity_files=(endpoint.key_file,))
        hop = _hop(name if behind else endpoint.host, name, options, endpoint.known_hosts)
        hops: list[Hop] = []
        for text, jump in _jumps(options, hop, name):
            destination = parse_destination(text)
            given = SshOptions(port=destination.port, user=destination.user).over(jump)
            if hops:
                # Only the first jump host is reached as its own configuration says; the next ones through it.
                given = given.over(SshOptions(proxy_jump=NONE))
            hops += self._hops(
                replace(going, name=destination.host, given=given, config_file=file, behind=(*behind, name))
            )
        return [*hops, hop]

    def _config(self, file: str | None) -> SshConfig:
        with self._lock:
            if file not in self._configs:
                try:
                    self._configs[file] = SshConfig.read(file)
                except SshConfigError as error:
                    self._configs[file] = error
            found = self._configs[file]
        if isinstance(found, SshConfigError):
            raise SshConfigError(*found.args)
        return found


def _jumps(options: SshOptions, hop: Hop, name: str) -> list[tuple[str, SshOptions]]:
    """The jump hosts as they are written, each with what is said of it alone."""
    if options.proxy_command not in (None, NONE):
        found = parse_proxy_command(options.proxy_command or "")
        if found is None:
            raise RouteError(
                f"ProxyCommand {options.proxy_command!r} would run a program, and keyrelay runs none; "
                "use ProxyJump, or ssh -W %h:%p HOST"
            )
        return [(found[1], found[0])]
    if options.proxy_jump in (None, NONE):
        return []
    text = _expanded(options.proxy_jump or "", hop, name)
    return [(part, SshOptions()) for part in text.split(",")]


def _hop(label: str, name: str, options: SshOptions, own_known_hosts: str | None) -> Hop:
    user = options.user or getpass.getuser()
    hop = Hop(
        label=label,
        address=name,
        port=options.port or DEFAULT_PORT,
        user=user,
        known_as=name,
        known_port=options.port or DEFAULT_PORT,
        own_known_hosts=own_known_hosts,
        known_hosts=(),
        identities=(),
        certificates=(),
        identities_only=bool(options.identities_only),
        agent=None,
        trust_new=bool(options.trust_new),
    )
    address = _expanded(options.hostname or name, hop, name).strip("[]")
    hop = replace(hop, address=address, known_as=address)
    if options.host_key_alias is not None:
        alias = _expanded(options.host_key_alias, hop, name)
        hop = replace(hop, known_as=alias, known_port=DEFAULT_PORT)

    def paths(files: tuple[str, ...] | None, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        chosen = default if files is None else files
        return tuple(_path(file, hop, name) for file in chosen if file != NONE)

    return replace(
        hop,
        known_hosts=(
            *paths(options.user_known_hosts, USER_KNOWN_HOSTS),
            *paths(options.global_known_hosts, GLOBAL_KNOWN_HOSTS),
        ),
        identities=paths(options.identity_files),
        certificates=paths(options.certificate_files),
        agent=_agent(options.identity_agent, hop, name),
    )


def _agent(written: str | None, hop: Hop, name: str) -> str | None:
    if written is None or written == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK") or None
    if written == NONE:
        return None
    if written.startswith("$") and not written.startswith("${"):
        return os.environ.get(written[1:]) or None
    return _path(written, hop, name)


def _path(written: str, hop: Hop, name: str) -> str:
    """A file's path with ``${VARIABLE}``, ``%`` tokens and ``~`` replaced."""

    def variable(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise RouteError(f"{written!r} names the environment variable {found[1]}, which is not set")
        return os.environ[found[1]]

    return _home(_expanded(_VARIABLE.sub(variable, written), hop, name))


def _home(path: str) -> str:
    try:
        return str(user_files.expanded(path))
    except OSError as error:
        raise RouteError(f"the path {path} leads nowhere: {error.strerror}") from error


def _expanded(text: str, hop: Hop, name: str) -> str:
    """``text`` with the tokens of ``ssh_config(5)`` replaced."""
    if "%" not in text:
        return text

    def token(found: re.Match[str]) -> str:
        match found[1]:
            case "%":
                return "%"
            case "d":
                return _home("~")
            case "h":
                return hop.address
            case "i":
                return str(os.getuid())
            case "k":
                return hop.known_as
            case "L":
                return socket.gethostname().partition(".")[0]
            case "l":
                return socket.gethostname()
            case "n":
                return name
            case "p":
                return str(hop.port)
            case "r":
                return hop.user
            case "u":
                return getpass.getuser()
            case other:
                raise RouteError(f"{text!r} has the token %{other}, which is not known here")

    # An IPv6 address may name its interface with a per cent sign.
    return text if ":" in text and text == name else _TOKEN.sub(token, text)
