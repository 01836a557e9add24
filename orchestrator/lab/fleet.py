"""The lab itself: up, down, and what can be done to single hosts meanwhile.

Everything a lab has lies in its folder, so that another process can take it over::

    DIR/inventory.yml  known_hosts  ssh_config  user_key  authorized_keys  lab.json
    DIR/control/<name>/{sshd_config,host_key,log,pid}
    DIR/hosts/<name>/{home,keyrelay}
"""

import os
import pwd
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import client_files, folder, sshd
from orchestrator.lab.layout import HostOptions, Layout, check_size, network_for
from orchestrator.lab.processes import Started, end_trees, signal_trees, wait_until
from orchestrator.lab.sshd import HostFiles, Sshd

DEFAULT_MAX_STARTUPS = 200
_ANSWER_S = 20.0
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
        self._layout, self._complete = Layout.load(self._record)

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
            if not (directory / "lab.json").exists():
                wanted.save(directory / "lab.json", complete=False)
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
        self._check(name)
        files = self._files(name)
        started = self._started(name)
        return LabHost(
            name=name, address=self._layout.address(name), port=self._layout.port,
            groups=self._layout.groups(name), home=files.home, base=files.base, log=files.log,
            pid=started.pid if started and started.running else None,
        )  # fmt: skip

    def ssh(self, name: str, command: str) -> list[str]:
        """The arguments of an OpenSSH client that runs a command on a host."""
        self._check(name)
        return ["ssh", "-F", str(self.ssh_config), name, command]

    def start(self, name: str) -> None:
        """Starts a host that was stopped, and waits until it answers; nothing if it runs."""
        self._check(name)
        self._start([name], sshd.find_sshd())

    def stop(self, name: str) -> None:
        """Ends a host's sshd and every session on it, as if the machine were switched off."""
        self._check(name)
        self._end([name])

    def freeze(self, name: str) -> None:
        """Stops a host in its tracks (SIGSTOP), sessions too: it accepts connections and says nothing."""
        self._check(name)
        signal_trees(self._all_started([name]), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Lets a frozen host go on where it was."""
        self._check(name)
        signal_trees(self._all_started([name]), signal.SIGCONT)

    def replace_host_key(self, name: str) -> None:
        """Gives a host a new key, as if another machine had taken its address; known_hosts keeps the old."""
        self.stop(name)
        folder.write_key_pair(self._files(name).host_key, owner=self._owner)
        self.start(name)

    def accept_host_keys(self) -> None:
        """Writes known_hosts anew from the keys that the hosts have now."""
        keys = {name: self._files(name).host_key.with_suffix(".pub") for name in self._layout.names}
        text = client_files.render_known_hosts(self._layout, keys)
        folder.write(self.known_hosts, text.encode(), owner=self._owner)

    def down(self) -> tuple[str, ...]:
        """Ends every host's sshd and sessions; files stay, so that ``up`` finds the hosts as they were.

        Returns:
            The names of the hosts that ran.
        """
        with folder.locked(self.directory):
            return self._end(self._layout.names)

    @property
    def _record(self) -> Path:
        return self.directory / "lab.json"

    @property
    def _owner(self) -> tuple[int, int]:
        account = pwd.getpwnam(self._layout.user)
        return account.pw_uid, account.pw_gid

    def _check(self, name: str) -> None:
        if name not in self._layout.names:
            raise UsageError(f"the lab has no host {name!r}; it has {', '.join(self._layout.names)}")

    def _files(self, name: str) -> HostFiles:
        return HostFiles(control=self.directory / "control" / name, machine=self.directory / "hosts" / name)

    def _started(self, name: str) -> Started | None:
        files = self._files(name)
        return Started.load(files.pid, marker=files.config)

    def _all_started(self, names: Iterable[str]) -> list[Started]:
        return [started for name in names if (started := self._started(name)) is not None]

    def _running(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if (started := self._started(name)) and started.running]

    def _refuse_other_than(self, wanted: Layout) -> None:
        """Refuses to turn this lab into one of another size or user."""
        same = replace(self._layout, port=0, network="", max_startups=0, options={})
        if same != replace(wanted, port=0, network="", max_startups=0, options={}):
            raise LabError(
                f"{self.directory} already holds a lab of {self.size} for {self.user}, "
                f"not of {wanted.size} for {wanted.user}",
                hint=f"choose another folder, or: keyrelay lab down {self.directory} and remove the folder",
            )
        if wanted.port not in (0, self._layout.port) and self._running(self._layout.names):
            raise LabError(
                f"{self.directory} holds a lab that runs on port {self._layout.port}, not {wanted.port}",
                hint=f"keyrelay lab down {self.directory}",
            )

    def _bring_up(self, server: Sshd, *, port: int | None) -> tuple[str, ...]:
        """Starts the hosts that do not run; says which."""
        names = self._layout.names
        if not self._complete:
            self._end(names)
        running = self._running(names)
        if len(running) == len(names):
            return ()
        if not running:
            self._settle(port)
            self._write_files(server)
        missing = tuple(name for name in names if name not in running)
        self._start(missing, server)
        self._layout.save(self._record, complete=True)
        return missing

    def _settle(self, port: int | None) -> None:
        """Chooses addresses and a port on which nothing listens; those of last time if they are free."""
        candidates = [self._layout] if self._layout.network and port in (None, self._layout.port) else []
        for attempt in range(_ATTEMPTS):
            network = network_for(self.directory, attempt=attempt)
            candidates.append(
                replace(self._layout, network=network, port=port or sshd.free_port(f"{network}.1"))
            )
        for layout in candidates:
            if all(sshd.is_free(layout.address(name), layout.port) for name in layout.names):
                self._layout = layout
                self._layout.save(self._record, complete=False)
                return
        networks = ", ".join(layout.network for layout in candidates)
        raise LabError(
            f"port {candidates[-1].port} is taken on the loopback networks {networks}",
            hint="choose another port, or none: a free one is found",
        )

    def _write_files(self, server: Sshd) -> None:
        """Writes what hosts and clients read; keys that exist are kept."""
        authorized = self.directory / "authorized_keys"
        if not self.key_file.exists():
            folder.write_key_pair(self.key_file, owner=self._owner)
        public = self.key_file.with_suffix(".pub").read_bytes()
        folder.write(authorized, public, owner=self._owner)
        for parent in ("control", "hosts"):
            folder.make_folder(self.directory / parent, owner=self._owner)
        for name in self._layout.names:
            files = self._files(name)
            for path in (files.control, files.machine, files.home):
                folder.make_folder(path, owner=self._owner)
            if not files.host_key.exists():
                folder.write_key_pair(files.host_key, owner=self._owner)
            config = sshd.render_config(
                files, sshd=server, address=self._layout.address(name), port=self._layout.port,
                authorized_keys=authorized, user=self._layout.user,
                max_startups=self._layout.max_startups,
                options=self._layout.options.get(name, HostOptions()),
            )  # fmt: skip
            folder.write(files.config, config.encode(), owner=self._owner)
        self.accept_host_keys()
        bases = {name: self._files(name).base for name in self._layout.names}
        inventory = client_files.render_inventory(self._layout, bases, self.key_file, self.known_hosts)
        folder.write(self.inventory_file, inventory.encode(), owner=self._owner)
        config = client_files.render_ssh_config(self._layout, self.key_file, self.known_hosts)
        folder.write(self.ssh_config, config.encode(), owner=self._owner)

    def _start(self, names: Iterable[str], server: Sshd) -> None:
        """Starts hosts side by side and waits until each one greets on its port; all of them or none."""
        sshd.prepare_machine()
        running = self._running(names)
        missing = [name for name in names if name not in running]
        try:
            for name in missing:
                self._spawn(name, server)
            for name in missing:
                self._await(name)
        except BaseException:
            self._end(missing)
            raise

    def _spawn(self, name: str, server: Sshd) -> None:
        address, port, files = self._layout.address(name), self._layout.port, self._files(name)
        if not sshd.is_free(address, port):
            raise LabError(f"{name}: another program listens on {address} port {port}")
        arguments = sshd.command_line(files, sshd=server, user=self._layout.user)
        files.log.unlink(missing_ok=True)
        Started.spawn(arguments, marker=files.config, log=files.log).save(files.pid)

    def _await(self, name: str) -> None:
        """Waits until a host greets.

        Raises:
            LabError: its sshd has ended, or says nothing for 20 seconds.
        """
        host = self.host(name)
        wait_until(
            lambda: sshd.answers(host.address, host.port) or not self._running([name]), timeout_s=_ANSWER_S
        )
        if self._running([name]) and sshd.answers(host.address, host.port):
            return
        said = ""
        with suppress(OSError):
            said = " / ".join(host.log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
        raise LabError(
            f"{name}: sshd does not answer on {host.address} port {host.port}: {said or 'it wrote nothing'}"
        )

    def _end(self, names: Iterable[str]) -> tuple[str, ...]:
        running = tuple(self._running(names))
        end_trees(self._all_started(running))
        for name in names:
            self._files(name).pid.unlink(missing_ok=True)
        return running


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
