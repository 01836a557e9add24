"""What this machine has for a lab: accounts, programs, IPv6 and networks."""

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

from orchestrator.errors import LabError

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_PRIVILEGE_SEPARATION = Path("/run/sshd")


def find(program: str, *, package: str = "") -> str:
    """The absolute path of a program that the lab needs.

    Raises:
        LabError: it is not installed.
    """
    if (found := shutil.which(program, path=f"{os.defpath}:{SBIN}")) is None:
        raise LabError(f"{program} is not installed", hint=f"apt-get install {package or program}")
    return found


def prepare() -> None:
    """Makes root's privilege separation folder, as the distribution's own start script does.

    Raises:
        LabError: it cannot be made.
    """
    if os.geteuid() != 0:
        return
    try:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise LabError(
            f"{_PRIVILEGE_SEPARATION}: root's sshd needs this folder, which cannot be made: {error.strerror}",
            hint="run the lab as an ordinary user",
        ) from error


def current_user() -> str:
    """The name of the account that runs this process."""
    return pwd.getpwuid(os.geteuid()).pw_name


def locked(user: str) -> bool:
    """Whether the account has a locked password, which sshd lets in by key only if PAM decides.

    An account of Ubuntu's root is like that. Only root can tell, and only root's sshd asks.
    """
    if os.geteuid() != 0:
        return False
    try:
        lines = Path("/etc/shadow").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.startswith(f"{user}:!") for line in lines)


def lacks_ipv6() -> str:
    """Why no host can listen on ``::1`` here; empty if one can."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        return f"this machine has no IPv6 loopback: {error.strerror}"
    return ""


def lacks_networks() -> str:
    """Why no host can have a network of its own here (``network_namespaces(7)``); empty if one can."""
    if os.geteuid() != 0:
        return "only root can give hosts a network of their own"
    for program in ("unshare", "nsenter"):
        if shutil.which(program, path=os.defpath) is None:
            return f"{program} is not installed (apt-get install util-linux)"
    answer = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)  # noqa: S607 - found above
    return f"this machine lets nobody make networks: {answer.stderr.strip()}" if answer.returncode else ""
