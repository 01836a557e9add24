"""The lab itself: up, down, and what can be done to single hosts meanwhile.

Everything a lab has lies in its folder, so that another process can take it over::

    DIR/inventory.yml  known_hosts  ssh_config  user_key  authorized_keys  lab.json
    DIR/control/<sshd>/{sshd_config,host_key,log,pid}      <sshd> is the host's name, up to 64 hosts
    DIR/hosts/<name>/{home,keyrelay}
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from orchestrator.errors import LabError
from orchestrator.lab import client_files, folder, sshd
from orchestrator.lab.daemons import RECORD, Daemons
from orchestrator.lab.layout import Layout, behind_by_site, check_size
from orchestrator.lab.options import HostOptions, check_options
from orchestrator.lab.settling import check_user, settle
from orchestrator.lab.sshd import Sshd

DEFAULT_MAX_STARTUPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LabHost:
    """One host as it stands now.

    Attributes:
        name: its inventory name.
        address, port: where its sshd listens.
        groups: its role (``servers`` or ``agents``) and its site; none for a jump host.
        user: the account that is logged in to.
        jumps: the jump hosts on the way to it, the nearest to the client first.
        home: HOME of its sessions.
        base: its ``keyrelay_base``.
        log: what its sshd wrote.
        pid: the process id of its sshd, or None if that does not run.

    In a lab of more than 64 hosts, 16 of them share an sshd, its log and its host key.
    """

    name: str
    address: str
    port: int
    groups: tuple[str, ...]
    user: str
    jumps: tuple[str, ...]
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
        self._daemons = Daemons(directory=self.directory, layout=layout)

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
        jump_hosts: int = 0,
        jump_sites: int = 0,
        options: Mapping[str, HostOptions] | None = None,
    ) -> Self:
        """Brings a lab up, or what is missing of it; one that is up already is left as it is.

        Args:
            directory: its folder, made if missing. No folder above it may be writable by others, for
                hosts keep no keys below such a folder.
            servers: how many servers.
            agents: how many agents.
            sites: how many sites; 2 by default, 1 for a single server, more beyond 64 hosts.
            port: the TCP port of all hosts; a free one by default.
            user: the account that runs the sshds and is logged in to; only root can name another.
            max_startups: ``MaxStartups`` of every sshd.
            jump_hosts: how many jump hosts, ``jump-01`` and so on; ``HostOptions.behind`` names them.
            jump_sites: how many sites, the last ones, are each behind a jump host of its own.
            options: how single hosts differ, by name; in a lab that exists they must be as they are there.

        Returns:
            The lab, every host of which answers.

        Raises:
            UsageError: no lab has that many hosts or sites, or those hosts or users do not exist.
            LabError: this machine or folder cannot hold the lab, or a host does not answer.
        """
        jump_hosts = max(jump_hosts, jump_sites)
        count = check_size(servers=servers, agents=agents, sites=sites, jump_hosts=jump_hosts)
        directory = directory.resolve()
        wanted = Layout(
            servers=servers, agents=agents, sites=count, jump_hosts=jump_hosts, port=port or 0, network="",
            user=check_user(user), max_startups=max_startups, options=options or {},
        )  # fmt: skip
        wanted = replace(wanted, options=behind_by_site(wanted, jump_sites))
        check_options(wanted.options, names=wanted.names, jumps=wanted.jumps, user=wanted.user)
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
        """All hosts of the inventory: the servers, then the agents."""
        pids = self._daemons.pids()
        return tuple(self._host(name, pids.get(name)) for name in self._layout.names)

    @property
    def jump_hosts(self) -> tuple[LabHost, ...]:
        """The jump hosts, which are neither servers nor agents."""
        pids = self._daemons.pids()
        return tuple(self._host(name, pids.get(name)) for name in self._layout.jumps)

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
        self._daemons.check(name)
        return self._host(name, self._daemons.pids().get(name))

    def ssh(self, name: str, command: str) -> list[str]:
        """The arguments of an OpenSSH client that runs a command on a host."""
        self._daemons.check(name)
        return ["ssh", "-F", str(self.ssh_config), name, command]

    def start(self, name: str) -> None:
        """Starts a host that was stopped, and waits until it answers; nothing if it runs.

        Raises:
            UsageError: here as in the following methods: it shares its sshd with others.
        """
        self._daemons.start([self._daemons.alone(name)], sshd.find_sshd())

    def stop(self, name: str) -> None:
        """Ends a host's sshd and every session on it, as if the machine were switched off."""
        self._daemons.end([self._daemons.alone(name)])

    def freeze(self, name: str) -> None:
        """Stops a host in its tracks (SIGSTOP), sessions too: it accepts connections and says nothing."""
        self._daemons.signal(self._daemons.alone(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Lets a frozen host go on where it was."""
        self._daemons.signal(self._daemons.alone(name), signal.SIGCONT)

    def replace_host_key(self, name: str) -> None:
        """Gives a host a new key, as if another machine had taken its address; known_hosts keeps the old."""
        self.stop(name)
        folder.write_key_pair(self._daemons.files_of(name).host_key, owner=self._daemons.owner)
        self.start(name)

    def accept_host_keys(self) -> None:
        """Writes known_hosts anew from the keys that the hosts have now."""
        names = self._layout.everyone
        keys = {name: self._daemons.files_of(name).host_key.with_suffix(".pub") for name in names}
        text = client_files.render_known_hosts(self._layout, keys)
        folder.write(self.known_hosts, text.encode(), owner=self._daemons.owner)

    def down(self) -> tuple[str, ...]:
        """Ends every host's sshd and sessions; files stay, so that ``up`` finds the hosts as they were.

        Returns:
            The names of the hosts that ran.
        """
        with folder.locked(self.directory):
            return self._daemons.end(self._layout.daemons)

    @property
    def _layout(self) -> Layout:
        return self._daemons.layout

    def _host(self, name: str, pid: int | None) -> LabHost:
        layout, files = self._layout, self._daemons.host_files(name)
        return LabHost(
            name=name, address=layout.address(name), port=layout.port, groups=layout.groups(name),
            user=layout.user_of(name), jumps=layout.jumps_to(name), home=files.home, base=files.base,
            log=self._daemons.files_of(name).log, pid=pid,
        )  # fmt: skip

    def _refuse_other_than(self, wanted: Layout) -> None:
        """Refuses to turn this lab into one of another size or user."""
        found = self._layout
        if (found.size, found.user) != (wanted.size, wanted.user):
            raise LabError(
                f"{self.directory} already holds a lab of {found.size} for {found.user}, "
                f"not of {wanted.size} for {wanted.user}",
                hint=f"choose another folder, or: keyrelay lab down {self.directory} and remove the folder",
            )
        others = [name for name in wanted.options if wanted.option(name) != found.option(name)]
        if others:
            raise LabError(
                f"{self.directory} already holds a lab, and {others[0]} is another kind of host there",
                hint=f"choose another folder, or: keyrelay lab down {self.directory} and remove the folder",
            )
        if wanted.port not in (0, found.port) and self._daemons.running():
            raise LabError(
                f"{self.directory} holds a lab that runs on port {found.port}, not {wanted.port}",
                hint=f"keyrelay lab down {self.directory}",
            )

    def _bring_up(self, server: Sshd, *, port: int | None) -> tuple[str, ...]:
        """Starts the hosts that do not run; says which."""
        if not self._complete:
            self._daemons.end(self._layout.daemons)
        running = self._daemons.running()
        missing = [daemon for daemon in self._layout.daemons if daemon not in running]
        if not missing:
            return ()
        if not running:
            settled = settle(self._layout, self.directory, port)
            settled.save(self.directory / RECORD, complete=False)
            self._daemons = Daemons(directory=self.directory, layout=settled)
            self._write_files(server)
        self._daemons.start(missing, server)
        self._layout.save(self.directory / RECORD, complete=True)
        return tuple(host for daemon in missing for host in daemon.hosts)

    def _write_files(self, server: Sshd) -> None:
        """Writes what hosts and clients read; keys that exist are kept."""
        daemons, owner = self._daemons, self._daemons.owner
        if not self.key_file.exists():
            folder.write_key_pair(self.key_file, owner=owner)
        daemons.write_files(server, login_key=self.key_file.with_suffix(".pub").read_bytes())
        self.accept_host_keys()
        bases = {name: daemons.host_files(name).base for name in self._layout.names}
        inventory = client_files.render_inventory(self._layout, bases, self.key_file, self.known_hosts)
        folder.write(self.inventory_file, inventory.encode(), owner=owner)
        config = client_files.render_ssh_config(self._layout, self.key_file, self.known_hosts)
        folder.write(self.ssh_config, config.encode(), owner=owner)
