"""The OpenSSH server of this machine, and the proof that one answers.

Only the port is believed. sshd forks, may live on after it failed to bind an address, and its exit code is 0
in cases where nothing listens; a host is up once it sends the identification line of RFC 4253, section 4.2.
"""

import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass

from orchestrator.errors import LabError
from orchestrator.lab import machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Sshd:
    """The installed OpenSSH server: its absolute path and version."""

    program: str
    version: tuple[int, int]

    @property
    def punishes_sources(self) -> bool:
        """Whether it blocks addresses that fail to log in, by default (OpenSSH 9.8 and later)."""
        return self.version >= (9, 8)


def find_sshd() -> Sshd:
    """Finds the OpenSSH server on this machine.

    Raises:
        LabError: it is not installed, or does not say its version.
    """
    search = f"{os.environ.get('PATH', os.defpath)}:{machine.SBIN}"
    if (program := shutil.which("sshd", path=search)) is None:
        raise LabError(
            "sshd is not installed: a lab host is a real OpenSSH server",
            hint="apt-get install openssh-server",
        )
    answer = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)  # noqa: S603 - found above
    # Versions before 9.2 do not know -V, but name themselves in the refusal.
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", answer.stderr + answer.stdout)
    if match is None:
        raise LabError(f"{program}: not an OpenSSH server that says its version")
    return Sshd(program=os.path.realpath(program), version=(int(match[1]), int(match[2])))


def answers(address: str, port: int, *, timeout_s: float = 2.0) -> bool:
    """Whether an SSH server greets on this address and port."""
    try:
        with socket.create_connection((address, port), timeout=timeout_s) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def is_free(address: str, port: int) -> bool:
    """Whether nothing listens on this address and port."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def free_port(address: str) -> int:
    """A port on which nothing listens at this address."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
