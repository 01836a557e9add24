"""The lab itself: up, down, and what can be done to single hosts meanwhile.

Everything a lab has lies in its folder, so that another process can take it over::

    DIR/inventory.yml  known_hosts  ssh_config  user_key  authorized_keys  lab.json
    DIR/control/<name>/{sshd_config,host_key,log,pid}
    DIR/hosts/<name>/{home,keyrelay}
"""

import os
import pwd
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import client_files, folder, sshd
from orchestrator.lab.layout import HostOptions, Layout, check_size, network_for
from orchestrator.lab.machines import RECORD, Machines
from orchestrator.lab.sshd import Sshd

DEFAULT_MAX_STARTUPS = 200
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LabHost:
    """One host as it stands now.

    Attributes:
        name: its inventory name.
        address, port: where its sshd listens.
        groups: its role (``servers`` or ``agents``) and its site.
        home: HOME of its sessions.
        base: its ``keyrelay_base``.
        log: what its sshd wrote.
        pid: the process id of its sshd, or None if that does not run.
    """

    name: str
    address: str
    port: int
    groups: tuple[str, str]
    home: Path
    base: Path
    log: Path
    pid: int | None


class Lab:
    """A lab in a folder. All state is in the folder, so two objects for one folder agree.

    Attributes:
        directory: its folder, an absolute path.
        started_now: the hosts that the ``up`` which returned this object had to start.
    """

    def __init__(self, directory: Path) -> None:
        """Takes over the lab in ``directory``; ``Lab.up`` makes one.

        Raises:
            LabError: there is no lab, or its record cannot be read.
        """
        self.directory = directory.resolve()
        self.started_now: tuple[str, ...] = ()
        layout, self._complete = Layout.load(self.directory / RECORD)
        self._machines = Machines(directory=self.directory, layout=layout)

    @classmethod
    def up(
        cls,
        directory: Path,
        *,
        servers: int,
        agents: int,
        sites: int | None = None,
        port: int | None = None,
        user: str | None = None,
        max_startups: int = DEFAULT_MAX_STARTUPS,
        options: Mapping[str, HostOptions] | None = None,
    ) -> Self:
        """Brings a lab up, or what is missing of it; one that is up already is left as it is.

        Args:
            directory: its folder, made if missing. No folder above it may be writable by others, for
                hosts keep no keys below such a folder.
            servers: how many servers.
            agents: how many agents.
            sites: how many sites; 2 by default, or 1 for a single server.
            port: the TCP port of all hosts; a free one by default.
            user: the account that runs the sshds and is logged in to; only root can name another.
            max_startups: ``MaxStartups`` of every host.
            options: how single hosts differ, by name; ignored where the lab exists.

        Returns:
            The lab, every host of which answers.

        Raises:
            UsageError: no lab has that many hosts or sites, or those hosts or users do not exist.
            LabError: this machine or folder cannot hold the lab, or a host does not answer.
        """
        count = check_size(servers=servers, agents=agents, sites=sites)
        directory = directory.resolve()
        wanted = Layout(
            servers=servers, agents=agents, sites=count, port=port or 0, network="",
            user=_check_user(user), max_startups=max_startups, options=options or {},
        )  # fmt: skip
        if unknown := sorted(set(wanted.options) - set(wanted.names)):
            raise UsageError(f"options for hosts that the lab does not have: {', '.join(unknown)}")
        server = sshd.find_sshd()
        folder.make_directory(directory, user=wanted.user)
        with folder.locked(directory):
            if not (directory / RECORD).exists():
                wanted.save(directory / RECORD, complete=False)
            lab = cls(directory)
            lab._refuse_other_than(wanted)
            lab.started_now = lab._bring_up(server, port=port)
            return lab

    @property
    def hosts(self) -> tuple[LabHost, ...]:
        """All hosts: the servers, then the agents."""
        return tuple(self.host(name) for name in self._layout.names)

    @property
    def size(self) -> str:
        """The size in words, e.g. ``3 servers, 8 agents, 2 sites``."""
        return self._layout.size

    @property
    def user(self) -> str:
        """The account that is logged in to."""
        return self._layout.user

    @property
    def inventory_file(self) -> Path:
        """The lab as an Ansible inventory."""
        return self.directory / "inventory.yml"

    @property
    def known_hosts(self) -> Path:
        """The hosts' public keys, as ``ssh`` reads them."""
        return self.directory / "known_hosts"

    @property
    def key_file(self) -> Path:
        """The private key with which one logs in."""
        return self.directory / "user_key"

    @property
    def ssh_config(self) -> Path:
        """For the OpenSSH client: ``ssh -F DIR/ssh_config server-01``."""
        return self.directory / "ssh_config"

    def host(self, name: str) -> LabHost:
        """One host by its inventory name.

        Raises:
            UsageError: the lab has no such host.
        """
        self._machines.check(name)
        files = self._machines.files(name)
        started = self._machines.started(name)
        return LabHost(
            name=name, address=self._layout.address(name), port=self._layout.port,
            groups=self._layout.groups(name), home=files.home, base=files.base, log=files.log,
            pid=started.pid if started and started.running else None,
        )  # fmt: skip

    def ssh(self, name: str, command: str) -> list[str]:
        """The arguments of an OpenSSH client that runs a command on a host."""
        self._machines.check(name)
        return ["ssh", "-F", str(self.ssh_config), name, command]

    def start(self, name: str) -> None:
        """Starts a host that was stopped, and waits until it answers; nothing if it runs."""
        self._machines.start([name], sshd.find_sshd())

    def stop(self, name: str) -> None:
        """Ends a host's sshd and every session on it, as if the machine were switched off."""
        self._machines.end([name])

    def freeze(self, name: str) -> None:
        """Stops a host in its tracks (SIGSTOP), sessions too: it accepts connections and says nothing."""
        self._machines.signal([name], signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Lets a frozen host go on where it was."""
        self._machines.signal([name], signal.SIGCONT)

    def replace_host_key(self, name: str) -> None:
        """Gives a host a new key, as if another machine had taken its address; known_hosts keeps the old."""
        self.stop(name)
        folder.write_key_pair(self._machines.files(name).host_key, owner=self._machines.owner)
        self.start(name)

    def accept_host_keys(self) -> None:
        """Writes known_hosts anew from the keys that the hosts have now."""
        keys = {name: self._machines.files(name).host_key.with_suffix(".pub") for name in self._layout.names}
        text = client_files.render_known_hosts(self._layout, keys)
        folder.write(self.known_hosts, text.encode(), owner=self._machines.owner)

    def down(self) -> tuple[str, ...]:
        """Ends every host's sshd and sessions; files stay, so that ``up`` finds the hosts as they were.

        Returns:
            The names of the hosts that ran.
        """
        with folder.locked(self.directory):
            return self._machines.end(self._layout.names)

    @property
    def _layout(self) -> Layout:
        return self._machines.layout

    def _refuse_other_than(self, wanted: Layout) -> None:
        """Refuses to turn this lab into one of another size or user."""
        found = self._layout
        if (found.size, found.user) != (wanted.size, wanted.user):
            raise LabError(
                f"{self.directory} already holds a lab of {found.size} for {found.user}, "
                f"not of {wanted.size} for {wanted.user}",
                hint=f"choose another folder, or: keyrelay lab down {self.directory} and remove the folder",
            )
        if wanted.port not in (0, found.port) and self._machines.running(found.names):
            raise LabError(
                f"{self.directory} holds a lab that runs on port {found.port}, not {wanted.port}",
                hint=f"keyrelay lab down {self.directory}",
            )

    def _bring_up(self, server: Sshd, *, port: int | None) -> tuple[str, ...]:
        """Starts the hosts that do not run; says which."""
        names = self._layout.names
        if not self._complete:
            self._machines.end(names)
        running = self._machines.running(names)
        if len(running) == len(names):
            return ()
        if not running:
            settled = _settle(self._layout, self.directory, port)
            settled.save(self.directory / RECORD, complete=False)
            self._machines = Machines(directory=self.directory, layout=settled)
            self._write_files(server)
        missing = tuple(name for name in names if name not in running)
        self._machines.start(missing, server)
        self._layout.save(self.directory / RECORD, complete=True)
        return missing

    def _write_files(self, server: Sshd) -> None:
        """Writes what hosts and clients read; keys that exist are kept."""
        machines, owner = self._machines, self._machines.owner
        if not self.key_file.exists():
            folder.write_key_pair(self.key_file, owner=owner)
        machines.write_files(server, login_key=self.key_file.with_suffix(".pub").read_bytes())
        self.accept_host_keys()
        bases = {name: machines.files(name).base for name in self._layout.names}
        inventory = client_files.render_inventory(self._layout, bases, self.key_file, self.known_hosts)
        folder.write(self.inventory_file, inventory.encode(), owner=owner)
        config = client_files.render_ssh_config(self._layout, self.key_file, self.known_hosts)
        folder.write(self.ssh_config, config.encode(), owner=owner)


def _settle(layout: Layout, directory: Path, port: int | None) -> Layout:
    """Gives the hosts addresses and a port on which nothing listens; those of last time if they are free."""
    candidates = [layout] if layout.network and port in (None, layout.port) else []
    for attempt in range(_ATTEMPTS):
        network = network_for(directory, attempt=attempt)
        candidates.append(replace(layout, network=network, port=port or sshd.free_port(f"{network}.1")))
    for candidate in candidates:
        if all(sshd.is_free(candidate.address(name), candidate.port) for name in candidate.names):
            return candidate
    networks = ", ".join(candidate.network for candidate in candidates)
    raise LabError(
        f"port {candidates[-1].port} is taken on the loopback networks {networks}",
        hint="choose another port, or none: a free one is found",
    )


def _check_user(user: str | None) -> str:
    current = sshd.current_user()
    if user is None or user == current:
        return current
    if os.geteuid() != 0:
        raise UsageError(
            f"a lab for {user} can be started by root or by {user}, not by {current}",
            hint="start it as that user",
        )
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"there is no user {user!r} on this machine") from None
    return user
