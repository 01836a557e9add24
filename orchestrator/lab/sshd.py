"""One host of the lab: the configuration of its ``sshd`` and the proof that it answers.

Only the port is believed. sshd forks, may live on after it failed to bind an address, and its exit code is 0
in cases where nothing listens; a host is up once it sends the identification line of RFC 4253, section 4.2.
"""

import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import LabError
from orchestrator.lab.layout import HostOptions

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_PRIVILEGE_SEPARATION = Path("/run/sshd")
# sshd_config knows no escape for these inside double quotes; % begins a token in some of its values.
_UNQUOTABLE = re.compile(r'["\\%\x00-\x1f\x7f]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Sshd:
    """The installed OpenSSH server: its absolute path and version."""

    program: str
    version: tuple[int, int]

    @property
    def punishes_sources(self) -> bool:
        """Whether it blocks addresses that fail to log in, by default (OpenSSH 9.8 and later)."""
        return self.version >= (9, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFiles:
    """Where one host's files lie.

    Attributes:
        control: the folder that runs the host: configuration, host key, log, pid file.
        machine: the folder that stands for the host's own disk.
    """

    control: Path
    machine: Path

    @property
    def config(self) -> Path:
        """The host's ``sshd_config``."""
        return self.control / "sshd_config"

    @property
    def host_key(self) -> Path:
        """The host's private key; the public one lies beside it with ``.pub``."""
        return self.control / "host_key"

    @property
    def log(self) -> Path:
        """What sshd has to say."""
        return self.control / "log"

    @property
    def pid(self) -> Path:
        """Process id and start time of the host's sshd."""
        return self.control / "pid"

    @property
    def home(self) -> Path:
        """HOME of every session; empty, so that no start-up file is found."""
        return self.machine / "home"

    @property
    def base(self) -> Path:
        """The host's ``keyrelay_base``; keyrelay makes it."""
        return self.machine / "keyrelay"


def find_sshd() -> Sshd:
    """Finds the OpenSSH server on this machine.

    Raises:
        LabError: it is not installed, or does not say its version.
    """
    search = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
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


def prepare_machine() -> None:
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


def render_config(
    files: HostFiles,
    *,
    sshd: Sshd,
    address: str,
    port: int,
    authorized_keys: Path,
    user: str,
    max_startups: int,
    options: HostOptions,
) -> str:
    """The text of one host's ``sshd_config``: key-only, modern algorithms, this address and this user alone.

    Raises:
        LabError: a path or variable holds characters that sshd_config cannot express.
    """
    if any(line.split(None, 1)[:1] == ["SetEnv"] for line in options.config):
        raise LabError("SetEnv lines cannot be added to a host's configuration", hint="use `environment`")
    # bash takes a session of SHLVL 0 under sshd for a remote login and reads ~/.bashrc.
    environment = {"HOME": str(files.home), "SHLVL": "1", "ZDOTDIR": str(files.home), **options.environment}
    force = options.force_command
    if options.login_shell:
        force = f'exec {shlex.quote(options.login_shell)} -c "$SSH_ORIGINAL_COMMAND"'
    lines = [
        *options.config,
        f"ListenAddress {address}:{port}",
        f"HostKey {_quoted(str(files.host_key))}",
        f"AuthorizedKeysFile {_quoted(str(authorized_keys))}",
        f"AllowUsers {user}",
        "AuthenticationMethods publickey",
        "PubkeyAuthentication yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        f"PermitRootLogin {'prohibit-password' if user == 'root' else 'no'}",
        # The key file is ours alone; StrictModes would refuse it below any sticky folder, as /tmp is.
        "StrictModes no",
        f"UsePAM {'yes' if _locked(user) else 'no'}",
        "HostKeyAlgorithms ssh-ed25519",
        "PubkeyAcceptedAlgorithms ssh-ed25519",
        "KexAlgorithms -diffie-hellman-*,ecdh-*",
        "Ciphers -3des-cbc,aes*-cbc",
        "MACs -hmac-sha1*,umac-64*",
        "DisableForwarding yes",
        "PermitUserEnvironment no",
        "PermitUserRC no",
        "PrintMotd no",
        "PrintLastLog no",
        "UseDNS no",
        "PidFile none",
        f"MaxStartups {max_startups}",
        "MaxSessions 64",
        "LoginGraceTime 60",
        f"SetEnv {_assignments(environment)}",
    ]
    if force:
        lines.append(f"ForceCommand {force}")
    if sshd.punishes_sources:
        lines.append("PerSourcePenalties no")
    return "\n".join(lines) + "\n"


def command_line(files: HostFiles, *, sshd: Sshd, user: str) -> list[str]:
    """The arguments that run a host's sshd in the foreground as ``user``."""
    arguments = [sshd.program, "-f", str(files.config), "-D", "-e"]
    if user == current_user():
        return arguments
    account = pwd.getpwnam(user)
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        raise LabError("setpriv is not installed", hint="apt-get install util-linux")
    return [
        setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups", *arguments,
    ]  # fmt: skip


def current_user() -> str:
    """The name of the account that runs this process."""
    return pwd.getpwuid(os.geteuid()).pw_name


def answers(address: str, port: int, *, timeout_s: float = 2.0) -> bool:
    """Whether an SSH server greets on this address and port."""
    try:
        with socket.create_connection((address, port), timeout=timeout_s) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def is_free(address: str, port: int) -> bool:
    """Whether nothing listens on this address and port."""
    with socket.socket() as probe:
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


def _assignments(environment: Mapping[str, str]) -> str:
    return " ".join(_quoted(f"{name}={value}") for name, value in environment.items())


def _quoted(value: str) -> str:
    if _UNQUOTABLE.search(value):
        raise LabError(f"sshd_config cannot express {value!r}", hint="choose a plainer path or value")
    return f'"{value}"'


def _locked(user: str) -> bool:
    """Whether the account has a locked password, which sshd lets in by key only if PAM decides.

    An account of Ubuntu's root is like that. Only root can tell, and only root's sshd asks.
    """
    if os.geteuid() != 0 or user != current_user():
        return False
    try:
        lines = Path("/etc/shadow").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.startswith(f"{user}:!") for line in lines)
