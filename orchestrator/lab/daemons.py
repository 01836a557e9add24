"""The lab's sshds: their files, and how they are switched on and off, with the hosts that they serve."""

import pwd
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import folder, machine, networks, sshd, sshd_config
from orchestrator.lab.layout import MAX_ALONE, Daemon, Layout
from orchestrator.lab.paths import DaemonFiles, HostFiles
from orchestrator.lab.processes import Started, end_trees, signal_trees, wait_until
from orchestrator.lab.sshd import Sshd
from orchestrator.lab.sshd_config import Served

RECORD = "lab.json"
_ANSWER_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemons:
    """All sshds of the lab in ``directory``, laid out as ``layout`` says."""

    directory: Path
    layout: Layout
    _by_host: dict[str, Daemon] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_host = {host: daemon for daemon in self.layout.daemons for host in daemon.hosts}
        object.__setattr__(self, "_by_host", by_host)

    @property
    def owner(self) -> tuple[int, int]:
        """User and group id of the account that runs the sshds."""
        account = pwd.getpwnam(self.layout.user)
        return account.pw_uid, account.pw_gid

    @property
    def authorized_keys(self) -> Path:
        """Who is let in to every host."""
        return self.directory / "authorized_keys"

    def check(self, name: str) -> None:
        """Refuses the name of a host that the lab does not have."""
        if name not in self._by_host:
            names = self.layout.everyone
            shown = ", ".join(names) if len(names) <= MAX_ALONE else f"{names[0]} … {names[-1]}"
            raise UsageError(f"the lab has no host {name!r}; it has {shown}")

    def alone(self, name: str) -> Daemon:
        """The sshd of a host that has one of its own.

        Raises:
            UsageError: the lab has no such host, or the host shares its sshd with others.
        """
        self.check(name)
        daemon = self._by_host[name]
        if others := len(daemon.hosts) - 1:
            raise UsageError(
                f"{name} shares its sshd with {others} other hosts, as hosts of large labs do: "
                "nothing can be done to it alone",
                hint="take a lab of at most 64 hosts",
            )
        return daemon

    def files(self, daemon: Daemon) -> DaemonFiles:
        """Where an sshd's files lie."""
        return DaemonFiles(control=self.directory / "control" / daemon.name)

    def files_of(self, name: str) -> DaemonFiles:
        """Where the files of this host's sshd lie."""
        self.check(name)
        return self.files(self._by_host[name])

    def host_files(self, name: str) -> HostFiles:
        """Where a host's own files lie."""
        self.check(name)
        return HostFiles(machine=self.directory / "hosts" / name)

    def started(self, daemon: Daemon) -> Started | None:
        """The process that was last started for an sshd, whether or not it still runs."""
        files = self.files(daemon)
        return Started.load(files.pid, marker=files.config)

    def pids(self) -> dict[str, int]:
        """The hosts that run, with the processes of their sshds."""
        return {
            host: started.pid
            for daemon in self.layout.daemons
            if (started := self.started(daemon)) and started.running
            for host in daemon.hosts
        }

    def running(self) -> tuple[Daemon, ...]:
        """The sshds that run."""
        running = self.pids()
        return tuple(daemon for daemon in self.layout.daemons if daemon.hosts[0] in running)

    def signal(self, daemon: Daemon, number: signal.Signals) -> None:
        """Sends a signal to an sshd and to every session on it."""
        signal_trees([started] if (started := self.started(daemon)) else [], number)

    def write_files(self, server: Sshd, *, login_key: bytes) -> None:
        """Writes what the sshds read; host keys that exist are kept."""
        accounts = {self.layout.user_of(name) for name in self.layout.everyone}
        shared = accounts != {self.layout.user}
        folder.write(self.authorized_keys, login_key, owner=self.owner, public=shared)
        for parent in ("control", "hosts"):
            folder.make_folder(self.directory / parent, owner=self.owner, open_to_all=shared)
        if shared:
            folder.open_to(self.directory, accounts)
        for name in self.layout.everyone:
            self._write_host(name, open_to_all=shared)
        as_root = self.layout.user == machine.current_user()
        for daemon in self.layout.daemons:
            files = self.files(daemon)
            folder.make_folder(files.control, owner=self.owner)
            if not files.host_key.exists():
                folder.write_key_pair(files.host_key, owner=self.owner)
            served = [self._served(name) for name in daemon.hosts]
            text = sshd_config.render(
                files, served, sshd=server, port=self.layout.port, authorized_keys=self.authorized_keys,
                max_startups=self.layout.max_startups, forwards=daemon.is_jump,
                pam=as_root and any(machine.locked(host.user) for host in served),
            )  # fmt: skip
            folder.write(files.config, text.encode(), owner=self.owner)

    def start(self, daemons: Sequence[Daemon], server: Sshd) -> None:
        """Starts sshds that do not run, side by side, and waits until each host greets; all or none.

        Raises:
            LabError: a host's port is taken, or its sshd does not answer.
        """
        machine.prepare()
        running = self.running()
        missing = [daemon for daemon in daemons if daemon not in running]
        try:
            for daemon in missing:
                self._spawn(daemon, server)
            for daemon in missing:
                self._await(daemon)
        except BaseException:
            self.end(missing)
            raise

    def end(self, daemons: Sequence[Daemon]) -> tuple[str, ...]:
        """Ends sshds and every session on them, and networks with nothing left in them.

        Returns:
            The hosts that ran.
        """
        pids = self.pids()
        end_trees(started for daemon in daemons if (started := self.started(daemon)))
        for daemon in daemons:
            self.files(daemon).pid.unlink(missing_ok=True)
        used = {network for daemon in self.running() for network in daemon.networks}
        idle = [self.files_of(name) for name in self.layout.jumps if name not in used]
        end_trees(keeper for files in idle if (keeper := networks.started(files)))
        for files in idle:
            files.network.pid.unlink(missing_ok=True)
        return tuple(host for daemon in daemons for host in daemon.hosts if host in pids)

    def _write_host(self, name: str, *, open_to_all: bool) -> None:
        """Makes the folders of a host."""
        files, option = self.host_files(name), self.layout.option(name)
        account = pwd.getpwnam(self.layout.user_of(name))
        folder.make_folder(files.machine, owner=self.owner, open_to_all=open_to_all)
        folder.make_folder(files.home, owner=(account.pw_uid, account.pw_gid))
        if option.busybox and not files.programs.exists():
            folder.make_folder(files.programs, owner=self.owner, open_to_all=open_to_all)
            _link_programs(files.programs)

    def _served(self, name: str) -> Served:
        return Served(
            address=self.layout.address(name), user=self.layout.user_of(name), files=self.host_files(name),
            options=self.layout.option(name),
        )  # fmt: skip

    def _network(self, name: str) -> int | None:
        """The process that keeps the network behind a jump host; None for the machine's own."""
        return networks.keep(self.files_of(name)) if name else None

    def _spawn(self, daemon: Daemon, server: Sshd) -> None:
        files, port, outside = self.files(daemon), self.layout.port, self._network(daemon.behind)
        for name in daemon.hosts:
            address = self.layout.address(name)
            if not networks.seen_from(outside, partial(sshd.is_free, address, port)):
                raise LabError(f"{name}: another program listens on {address} port {port}")
        command = [server.program, "-f", str(files.config), "-e"]
        if daemon.is_jump:
            address, within = self.layout.address(daemon.name), self._network(daemon.name)
            command = networks.program(
                "door", str(files.config), address, str(port), str(within), *command, "-i"
            )
        else:
            command.append("-D")
        files.log.unlink(missing_ok=True)
        arguments = networks.inside(outside, _as_user(self.layout.user, command))
        started = Started.spawn(arguments, marker=files.config, log=files.log)
        try:
            started.save(files.pid)
        except BaseException:
            end_trees([started])
            raise

    def _await(self, daemon: Daemon) -> None:
        """Waits until an sshd greets and listens on the addresses of all its hosts.

        Raises:
            LabError: it has ended, says nothing for 20 seconds, or leaves a host out.
        """
        networks.seen_from(self._network(daemon.behind), partial(self._look_for, daemon))

    def _look_for(self, daemon: Daemon) -> None:
        port, log, process = self.layout.port, self.files(daemon).log, self.started(daemon)
        first, *others = daemon.hosts
        # sshd binds all its addresses before it greets on one. Looking costs less than being greeted by each.
        deaf = [first] if not _greets(self.layout.address(first), port, process) else [
            name for name in others if sshd.is_free(self.layout.address(name), port)
        ]  # fmt: skip
        if not deaf:
            return
        said = ""
        with suppress(OSError):
            said = " / ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
        address = self.layout.address(deaf[0])
        raise LabError(
            f"{deaf[0]}: sshd does not answer on {address} port {port}: {said or 'it wrote nothing'}",
            hint=f"its log is {log}",
        )


def _greets(address: str, port: int, process: Started | None) -> bool:
    """Waits until a host greets or its sshd has ended; says whether it greets."""
    greeted = False

    def over() -> bool:
        nonlocal greeted
        alive = process is not None and process.running
        greeted = alive and sshd.answers(address, port)
        return greeted or not alive

    wait_until(over, timeout_s=_ANSWER_S)
    return greeted


def _as_user(user: str, command: list[str]) -> list[str]:
    """A command, run as the account that runs the lab's sshds."""
    if user == machine.current_user():
        return command
    account = pwd.getpwnam(user)
    setpriv = machine.find("setpriv", package="util-linux")
    return [
        setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups", *command,
    ]  # fmt: skip


def _link_programs(programs: Path) -> None:
    """Fills a folder with busybox's applets and openssl."""
    busybox = machine.find("busybox")
    listing = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)  # noqa: S603 - found above
    for applet in listing.stdout.split():
        (programs / applet).symlink_to(busybox)
    (programs / "openssl").unlink(missing_ok=True)
    (programs / "openssl").symlink_to(machine.find("openssl"))
