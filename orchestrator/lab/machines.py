"""The lab's hosts as machines: their files, and how they are switched on and off."""

import pwd
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import folder, sshd
from orchestrator.lab.layout import HostOptions, Layout
from orchestrator.lab.processes import Started, end_trees, signal_trees, wait_until
from orchestrator.lab.sshd import HostFiles, Sshd

RECORD = "lab.json"
_ANSWER_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """All hosts of the lab in ``directory``, laid out as ``layout`` says."""

    directory: Path
    layout: Layout

    @property
    def owner(self) -> tuple[int, int]:
        """User and group id of the account that runs the hosts."""
        account = pwd.getpwnam(self.layout.user)
        return account.pw_uid, account.pw_gid

    def check(self, name: str) -> None:
        """Refuses the name of a host that the lab does not have."""
        if name not in self.layout.names:
            raise UsageError(f"the lab has no host {name!r}; it has {', '.join(self.layout.names)}")

    def files(self, name: str) -> HostFiles:
        """Where a host's files lie."""
        self.check(name)
        return HostFiles(control=self.directory / "control" / name, machine=self.directory / "hosts" / name)

    def started(self, name: str) -> Started | None:
        """The sshd that was last started for a host, whether or not it still runs."""
        files = self.files(name)
        return Started.load(files.pid, marker=files.config)

    def running(self, names: Iterable[str]) -> tuple[str, ...]:
        """Which of these hosts run."""
        return tuple(name for name in names if (started := self.started(name)) and started.running)

    def signal(self, names: Iterable[str], number: signal.Signals) -> None:
        """Sends a signal to the sshds of these hosts and to every session on them."""
        signal_trees(self._all_started(names), number)

    def write_files(self, server: Sshd, *, login_key: bytes) -> None:
        """Writes what the hosts read; host keys that exist are kept."""
        authorized = self.directory / "authorized_keys"
        folder.write(authorized, login_key, owner=self.owner)
        for parent in ("control", "hosts"):
            folder.make_folder(self.directory / parent, owner=self.owner)
        for name in self.layout.names:
            files = self.files(name)
            for path in (files.control, files.machine, files.home):
                folder.make_folder(path, owner=self.owner)
            if not files.host_key.exists():
                folder.write_key_pair(files.host_key, owner=self.owner)
            config = sshd.render_config(
                files, sshd=server, address=self.layout.address(name), port=self.layout.port,
                authorized_keys=authorized, user=self.layout.user, max_startups=self.layout.max_startups,
                options=self.layout.options.get(name, HostOptions()),
            )  # fmt: skip
            folder.write(files.config, config.encode(), owner=self.owner)

    def start(self, names: Iterable[str], server: Sshd) -> None:
        """Starts hosts that do not run, side by side, and waits until each greets; all of them or none.

        Raises:
            LabError: a host's port is taken, or its sshd does not answer.
        """
        sshd.prepare_machine()
        wanted = tuple(names)
        running = self.running(wanted)
        missing = [name for name in wanted if name not in running]
        try:
            for name in missing:
                self._spawn(name, server)
            for name in missing:
                self._await(name)
        except BaseException:
            self.end(missing)
            raise

    def end(self, names: Iterable[str]) -> tuple[str, ...]:
        """Ends the sshds of these hosts and every session on them; says which ran."""
        wanted = tuple(names)
        running = self.running(wanted)
        end_trees(self._all_started(running))
        for name in wanted:
            self.files(name).pid.unlink(missing_ok=True)
        return running

    def _all_started(self, names: Iterable[str]) -> list[Started]:
        return [started for name in names if (started := self.started(name)) is not None]

    def _spawn(self, name: str, server: Sshd) -> None:
        address, port, files = self.layout.address(name), self.layout.port, self.files(name)
        if not sshd.is_free(address, port):
            raise LabError(f"{name}: another program listens on {address} port {port}")
        arguments = sshd.command_line(files, sshd=server, user=self.layout.user)
        files.log.unlink(missing_ok=True)
        Started.spawn(arguments, marker=files.config, log=files.log).save(files.pid)

    def _await(self, name: str) -> None:
        """Waits until a host greets.

        Raises:
            LabError: its sshd has ended, or says nothing for 20 seconds.
        """
        address, port, log = self.layout.address(name), self.layout.port, self.files(name).log
        wait_until(lambda: sshd.answers(address, port) or not self.running([name]), timeout_s=_ANSWER_S)
        if self.running([name]) and sshd.answers(address, port):
            return
        said = ""
        with suppress(OSError):
            said = " / ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
        raise LabError(
            f"{name}: sshd does not answer on {address} port {port}: {said or 'it wrote nothing'}",
            hint=f"its log is {log}",
        )
