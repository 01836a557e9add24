"""The configuration of one of the lab's sshds.

Keys alone, modern algorithms, these addresses and these users. What differs between hosts that share an sshd
stands in a ``Match LocalAddress`` block for each, as ``sshd_config(5)`` has it.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import LabError
from orchestrator.lab.options import HostOptions
from orchestrator.lab.paths import DaemonFiles, HostFiles
from orchestrator.lab.sshd import Sshd

# sshd_config knows no escape for these inside double quotes; % begins a token in some of its values.
_UNQUOTABLE = re.compile(r'["\\%\x00-\x1f\x7f]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A host as its sshd sees it.

    Attributes:
        address: where it listens.
        user: the account that it lets in.
        files: where its home is.
        options: how it differs from other hosts.
    """

    address: str
    user: str
    files: HostFiles
    options: HostOptions


def render(
    files: DaemonFiles,
    hosts: Sequence[Served],
    *,
    sshd: Sshd,
    port: int,
    authorized_keys: Path,
    max_startups: int,
    forwards: bool = False,
    pam: bool = False,
) -> str:
    """The text of an ``sshd_config``.

    Args:
        files: where the sshd's own files lie.
        hosts: the hosts that it serves; 16 at most, for sshd takes no more addresses.
        sshd: the program that will read this.
        port: the port of all of them.
        authorized_keys: who is let in.
        max_startups: ``MaxStartups``.
        forwards: whether clients may connect to other hosts through these, as through a jump host.
        pam: whether PAM decides whether an account is locked.

    Raises:
        LabError: a path or variable holds characters that sshd_config cannot express.
    """
    first, *others = hosts
    own = _host_lines(first)
    blocks: list[str] = []
    if others:
        own = []
        for host in hosts:
            blocks += [f"Match LocalAddress {host.address}", *(f"    {line}" for line in _host_lines(host))]
    forwarding = ["AllowTcpForwarding local", "AllowAgentForwarding no", "AllowStreamLocalForwarding no"]
    lines = [
        *own,
        *(f"ListenAddress {socket_name(host.address, port)}" for host in hosts),
        f"HostKey {_quoted(str(files.host_key))}",
        f"AuthorizedKeysFile {_quoted(str(authorized_keys))}",
        "AuthenticationMethods publickey",
        "PubkeyAuthentication yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        # The key file is ours alone; StrictModes would refuse it below any sticky folder, as /tmp is.
        "StrictModes no",
        f"UsePAM {'yes' if pam else 'no'}",
        "HostKeyAlgorithms ssh-ed25519",
        "PubkeyAcceptedAlgorithms ssh-ed25519",
        "KexAlgorithms -diffie-hellman-*,ecdh-*",
        "Ciphers -3des-cbc,aes*-cbc",
        "MACs -hmac-sha1*,umac-64*",
        *(forwarding if forwards else ["DisableForwarding yes"]),
        "PermitUserEnvironment no",
        "PermitUserRC no",
        "PrintMotd no",
        "PrintLastLog no",
        "UseDNS no",
        "PidFile none",
        f"MaxStartups {max_startups}",
        "MaxSessions 64",
        "LoginGraceTime 60",
        *(["PerSourcePenalties no"] if sshd.punishes_sources else []),
        *blocks,
    ]
    return "\n".join(lines) + "\n"


def socket_name(address: str, port: int) -> str:
    """``127.64.0.1:2200`` or ``[::1]:2200``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _host_lines(host: Served) -> list[str]:
    """What holds for one host alone."""
    options = host.options
    if any(line.split(None, 1)[:1] == ["SetEnv"] for line in options.config):
        raise LabError("SetEnv lines cannot be added to a host's configuration", hint="use `environment`")
    # bash takes a session of SHLVL 0 under sshd for a remote login and reads ~/.bashrc.
    environment = {"HOME": str(host.files.home), "SHLVL": "1", "ZDOTDIR": str(host.files.home)}
    force, shell = options.force_command, options.login_shell
    if options.busybox:
        environment["PATH"] = str(host.files.programs)
        shell = str(host.files.programs / "sh")
    if shell and not force:
        force = f'exec {shlex.quote(shell)} -c "$SSH_ORIGINAL_COMMAND"'
    return [
        *options.config,
        f"AllowUsers {host.user}",
        f"PermitRootLogin {'prohibit-password' if host.user == 'root' else 'no'}",
        f"SetEnv {_assignments(environment | dict(options.environment))}",
        *([f"ForceCommand {force}"] if force else []),
    ]


def _assignments(environment: Mapping[str, str]) -> str:
    return " ".join(_quoted(f"{name}={value}") for name, value in environment.items())


def _quoted(value: str) -> str:
    if _UNQUOTABLE.search(value):
        raise LabError(f"sshd_config cannot express {value!r}", hint="choose a plainer path or value")
    return f'"{value}"'
