"""Where the files of a lab's hosts and sshds lie."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFiles:
    """The files of one sshd, in the folder ``control``."""

    control: Path

    @property
    def config(self) -> Path:
        """Its ``sshd_config``."""
        return self.control / "sshd_config"

    @property
    def host_key(self) -> Path:
        """Its private key; the public one lies beside it with ``.pub``."""
        return self.control / "host_key"

    @property
    def log(self) -> Path:
        """What it has to say."""
        return self.control / "log"

    @property
    def pid(self) -> Path:
        """Process id and start time."""
        return self.control / "pid"

    @property
    def network(self) -> "DaemonFiles":
        """The same for the process that keeps the network behind a jump host."""
        return DaemonFiles(control=self.control / "network")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFiles:
    """The files of one host; the folder ``machine`` stands for its own disk."""

    machine: Path

    @property
    def home(self) -> Path:
        """HOME of every session; empty, so that no start-up file is found."""
        return self.machine / "home"

    @property
    def programs(self) -> Path:
        """PATH of a host with busybox alone."""
        return self.machine / "bin"

    @property
    def base(self) -> Path:
        """The host's ``keyrelay_base``; keyrelay makes it."""
        return self.machine / "keyrelay"
