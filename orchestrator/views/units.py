"""A service and a timer for systemd: ``systemd.service(5)``, ``systemd.exec(5)``, ``systemd.timer(5)``.

The service may read what its user may, write into the home and the folders of automatic backups, and gain
nothing. It is not hidden from the processes of others (``ProtectProc``), for whether another controller still
runs is told from those.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from orchestrator.views.screen import Answer

SERVICE = "keyrelay-watch.service"
TIMER = "keyrelay-watch.timer"
FOLDER = "/etc/systemd/system"

_HARDENED = """\
UMask=0077
LimitCORE=0
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unattended:
    """What is to be run; all paths are absolute.

    Attributes:
        program: keyrelay's words.
        user: as whom.
        folder: where the command line was typed: what is relative in files is relative to it.
        accept_new: whether keys of unknown hosts are believed.
        pin_file: with the PIN of the authority's token, where it has one.
        backups: the folders of automatic backups, where new ones are written and old ones removed.
    """

    program: tuple[str, ...]
    user: str
    folder: Path
    home: Path
    passphrase_file: Path
    playbooks: tuple[Path, ...]
    inventories: tuple[Path, ...]
    accept_new: bool = False
    pin_file: Path | None = None
    backups: tuple[Path, ...] = ()


def units_answer(unattended: Unattended, *, every: timedelta) -> Answer:
    """Both files, each below its path."""
    units = {SERVICE: service(unattended), TIMER: timer(every)}
    lines = [line for name, text in units.items() for line in (f"# {FOLDER}/{name}", *text.splitlines(), "")]
    enable = f"# then: systemctl daemon-reload && systemctl enable --now {TIMER}"
    return Answer(data={"units": units}, body=(*lines, enable))


def service(unattended: Unattended) -> str:
    """The service: one look at what is due, ended gently when its time is over."""
    command = [
        *unattended.program,
        *(("--accept-new-host-keys",) if unattended.accept_new else ()),
        "watch",
        "--once",
        *map(str, unattended.playbooks),
        *(word for file in unattended.inventories for word in ("-i", str(file))),
    ]
    environment = (
        f"KEYRELAY_HOME={unattended.home}",
        f"KEYRELAY_PASSPHRASE_FILE={unattended.passphrase_file}",
        *((f"KEYRELAY_PIN_FILE={unattended.pin_file}",) if unattended.pin_file is not None else ()),
    )
    # One that is missing is told by keyrelay itself: for that it has to be started.
    writable = (str(unattended.home), *(f"-{folder}" for folder in unattended.backups))
    return f"""\
[Unit]
Description=Hand over keys that have come due
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User={_escaped(unattended.user)}
WorkingDirectory={_escaped(str(unattended.folder))}
Environment={" ".join(map(_quoted, environment))}
ExecStart={" ".join(_quoted(word.replace("$", "$$")) for word in command)}
SuccessExitStatus=3
TimeoutStartSec=1h
TimeoutStopSec=5min
ReadWritePaths={" ".join(map(_quoted, writable))}
{_HARDENED}"""


def timer(every: timedelta) -> str:
    """The timer: soon after it is started, and then as long after each end."""
    seconds = max(1, int(every.total_seconds()))
    return f"""\
[Unit]
Description=Hand over keys that have come due

[Timer]
OnActiveSec=1min
OnUnitInactiveSec={seconds}s
RandomizedDelaySec={seconds // 10}s

[Install]
WantedBy=timers.target
"""


def _escaped(text: str) -> str:
    """``text`` without specifiers (``systemd.unit(5)``)."""
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """One word (``systemd.syntax(7)``, quoting)."""
    inner = "".join(_in_quotes(sign) for sign in _escaped(word))
    return word if inner == word and word and not set(word) & {" ", "'", ";"} else f'"{inner}"'


def _in_quotes(sign: str) -> str:
    if sign in '"\\':
        return f"\\{sign}"
    return sign if sign.isprintable() else "".join(f"\\x{byte:02x}" for byte in sign.encode())
