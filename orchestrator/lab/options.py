"""How single hosts of a lab differ from the others."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import machine


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """How one host differs from the others.

    Attributes:
        environment: variables of every session, besides or instead of those that the lab sets. sshd honours
            only the first SetEnv line, so they cannot be given as ``config``.
        login_shell: absolute path of the shell that gets the client's command, as if it were the account's.
        force_command: what runs instead of the client's command (``ForceCommand`` in ``sshd_config(5)``).
        config: further lines of ``sshd_config``; they stand first, and sshd takes the first value it sees.
            Where hosts share an sshd they stand in a ``Match`` block, which does not take every keyword.
        user: the account that is logged in to, if not the lab's; only root's lab can have that.
        behind: the jump host through which alone the host is reached.
        busybox: whether the host has busybox's applets and ``openssl`` and nothing else, its shell included.
        ipv6: whether it listens on ``::1`` instead of an address of its own; one host of a lab can.
        variables: further variables of the host in the inventory.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    login_shell: str = ""
    force_command: str = ""
    config: tuple[str, ...] = ()
    user: str = ""
    behind: str = ""
    busybox: bool = False
    ipv6: bool = False
    variables: Mapping[str, str | int | bool] = field(default_factory=dict)


def check_options(
    options: Mapping[str, HostOptions], *, names: tuple[str, ...], jumps: tuple[str, ...], user: str
) -> None:
    """Refuses options that contradict each other or the lab of ``names`` and jump hosts ``jumps``.

    Raises:
        UsageError: they name hosts or accounts that do not exist, or want what no lab has.
        LabError: this machine lacks what they need.
    """
    if unknown := sorted(set(options) - {*names, *jumps}):
        raise UsageError(f"options for hosts that the lab does not have: {', '.join(unknown)}")
    for name, option in options.items():
        _check_way(name, option, jumps)
        _check_account(name, option, user)
        if option.busybox and (option.login_shell or "PATH" in option.environment):
            raise UsageError(f"{name}: a host with busybox alone has its login shell and PATH from that")
        if option.busybox:
            machine.find("busybox")
            machine.find("openssl")
    if len(several := [name for name, option in options.items() if option.ipv6]) > 1:
        raise UsageError(f"{', '.join(several)}: one host alone can listen on ::1, the only IPv6 loopback")
    if several and (reason := machine.lacks_ipv6()):
        raise LabError(f"{several[0]}: {reason}")
    if not jumps:
        return
    if user != machine.current_user():
        raise UsageError(f"only the user who starts a lab can have jump hosts, not {user}")
    if reason := machine.lacks_networks():
        raise LabError(f"a lab with jump hosts cannot be had here: {reason}")


def _check_way(name: str, option: HostOptions, jumps: tuple[str, ...]) -> None:
    """A host is behind a jump host that exists, a jump host behind one of a lower number."""
    before = jumps[: jumps.index(name)] if name in jumps else jumps
    if option.behind and option.behind not in before:
        raise UsageError(
            f"{name} cannot be behind {option.behind!r}",
            hint=f"it can be behind {', '.join(before)}" if before else "ask for jump hosts",
        )


def _check_account(name: str, option: HostOptions, user: str) -> None:
    if option.user in ("", user):
        return
    if os.geteuid() != 0 or user != machine.current_user():
        raise UsageError(f"{name}: only a lab of root lets other accounts in, such as {option.user}")
    try:
        pwd.getpwnam(option.user)
    except KeyError:
        raise UsageError(f"{name}: there is no user {option.user!r} on this machine") from None
