"""Runs the host program here, as sshd would and without one: bootstrap, frames on standard input."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey
from orchestrator.keys.material import Algorithm, KeyPair, PublicKey, generate, sign
from orchestrator.remote.wire import BOOTSTRAP, decode, encode
from orchestrator.rotation.reports import Outcome, Report
from orchestrator.rotation.visits import (
    READING,
    Challenge,
    Claim,
    CredentialId,
    Fence,
    Hook,
    Order,
    Stage,
    Visit,
)
from tests.fakes import SeededEntropy

FLEET = "fleet 1"
SERVER = HostName("server-01")
ONE = CredentialId("1" * 32)
TWO = CredentialId("2" * 32)
THREE = CredentialId("3" * 32)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nbm90IHJlYWxseSBvbmU=\n-----END CERTIFICATE-----\n"
SHELLS = ("dash", "busybox", "bash")
SHELLS_BY_TURNS = ("dash", *(pytest.param(shell, marks=pytest.mark.long) for shell in SHELLS[1:]))
"""For tests that take their time: one shell in make test, the others in make faults."""
TIMEOUT_S = 60

random = SeededEntropy("host program")
ED25519 = generate(Algorithm.ED25519, random=random)
P256 = generate(Algorithm.ECDSA_P256, random=random)
RSA = generate(Algorithm.RSA_3072, random=random)
_markers = count(1)


def challenge(server: str = SERVER) -> Challenge:
    """A fresh challenge for a server."""
    return Challenge(fleet=FLEET, server=HostName(server), nonce=random(32).hex())


def claim(pair: KeyPair, server: str = SERVER) -> Claim:
    """A true claim."""
    asked = challenge(server)
    return Claim(
        challenge=asked, key=pair.public.spki_digest, signature=sign(pair.private, asked.text()).hex()
    )


def stage(
    credential: CredentialId = ONE, pair: KeyPair = ED25519, *, certificate: str = CERTIFICATE
) -> Stage:
    """An order that stages ``pair``."""
    return Stage(
        credential=credential,
        certificate_pem=certificate,
        chain_pem=CERTIFICATE,
        challenge=challenge(),
        algorithm=pair.public.algorithm,
        private_key=pair.private,
    )


def bundle(
    sequence: int, *pairs: KeyPair, epoch: int = 1, expires: datetime | None = None, server: str = SERVER
) -> TrustBundle:
    """A bundle that lets ``server`` sign with ``pairs``."""
    keys = tuple(TrustedKey(public=pair.public, servers=(server,), expires=expires) for pair in pairs)
    return TrustBundle(fleet=FLEET, position=Position(epoch=epoch, sequence=sequence), keys=keys)


def signed_by(pair: KeyPair, order: Stage, signature: str) -> bool:
    """Whether ``signature`` answers the order's challenge with the key of ``pair``."""
    return pair.public.verify(bytes.fromhex(signature), order.challenge.text())


def verifies(public: PublicKey, asked: Challenge, signature: str) -> bool:
    """Whether ``signature`` answers ``asked``."""
    return public.verify(bytes.fromhex(signature), asked.text())


def programs(folder: Path, shell: str) -> Path:
    """A folder for PATH with the programs that ``shell`` stands for, ``sh`` among them."""
    folder.mkdir()
    if shell == "busybox":
        busybox = _where("busybox")
        listing = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout
        for applet in listing.split():
            (folder / applet).symlink_to(busybox)
        (folder / "openssl").symlink_to(_where("openssl"))
        return folder
    (folder / "sh").symlink_to(_where(shell))
    needed = (
        "cat chmod chown cp date dd env id kill ln ls mkdir mktemp mv od openssl readlink rm rmdir setsid"
    )
    for program in [*needed.split(), "sha256sum", "sleep", "stat", "sync", "timeout", "touch"]:
        (folder / program).symlink_to(_where(program))
    return folder


def _where(program: str) -> str:
    found = shutil.which(program)
    assert found is not None, f"{program} is missing: make setup installs it"
    return found


def _counters() -> Iterator[int]:
    return count(1)


@dataclass
class Machine:
    """A host that is a folder of this machine.

    Attributes:
        base: keyrelay's folder on it.
        path: what its PATH names.
        answer: what the last visit wrote to standard output.
        noise: what it wrote to standard error.
        environment: what its environment holds beside PATH.
        user: the uid it runs as; None: this one.
        login: the login shell that gets the bootstrap with ``-c``, as its argument 0 names it; empty: ``sh``.
        executable: the login shell's program, where argument 0 is not its path.
    """

    base: Path
    path: Path
    counters: Iterator[int] = field(default_factory=_counters)
    answer: bytes = b""
    noise: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    login: tuple[str, ...] = ()
    executable: Path | None = None

    def visit(self, *orders: Order, fence: Fence | None = None, base: Path | None = None) -> Visit:
        """A visit with these orders, and a fence that rises each time where they change something."""
        if fence is None and not all(isinstance(order, READING) for order in orders):
            fence = Fence(generation=1, counter=next(self.counters))
        endpoint = Endpoint(host=HostName("host-01"), address="127.0.0.1", base=str(base or self.base))
        return Visit(
            endpoint=endpoint,
            orders=orders,
            fence=fence,
        )

    def run(self, *orders: Order, fence: Fence | None = None) -> Outcome:
        """Makes a visit."""
        return self.send(self.visit(*orders, fence=fence))

    def send(self, visit: Visit, *, cut_at: int | None = None) -> Outcome:
        """Makes ``visit``; ``cut_at`` says after how many bytes the connection breaks."""
        marker = f"{next(_markers):032x}"
        sent_at = _now()
        done = subprocess.run(
            [*(self.login or (str(self.path / "sh"),)), "-c", BOOTSTRAP],
            executable=self.executable,
            input=encode(visit, marker=marker).reveal()[:cut_at],
            capture_output=True,
            check=False,
            env={"PATH": str(self.path), **self.environment},
            timeout=TIMEOUT_S,
            user=self.user,
        )
        self.answer, self.noise = done.stdout, done.stderr
        return decode(visit, marker=marker, stdout=done.stdout, sent_at=sent_at, received_at=_now())

    def start(self, visit: Visit) -> subprocess.Popen[bytes]:
        """Begins ``visit`` and leaves it to itself."""
        process = subprocess.Popen(
            [self.path / "sh", "-c", BOOTSTRAP],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": str(self.path)},
        )
        assert process.stdin is not None
        process.stdin.write(encode(visit, marker=f"{next(_markers):032x}").reveal())
        process.stdin.close()
        return process

    def report(self, *orders: Order) -> Report:
        """The last report of a visit that must succeed."""
        outcome = self.run(*orders)
        assert outcome.kind in ("changed", "unchanged"), outcome
        return outcome.reports[-1]

    def snapshot(self) -> dict[str, tuple[object, ...]]:
        """Everything below the base: what it is, its inode, its last change, its content."""
        return {str(path.relative_to(self.base)): _facts(path) for path in sorted(self.base.rglob("*"))}

    def without_fence(self) -> dict[str, tuple[object, ...]]:
        """The snapshot without the fence."""
        return {name: facts for name, facts in self.snapshot().items() if name != "fence"}

    def files(self) -> dict[str, tuple[object, ...]]:
        """The snapshot without the fence, and without folders: files may have come and gone there."""
        return {
            name: facts for name, facts in self.without_fence().items() if not (self.base / name).is_dir()
        }


def hook(command: str, **arguments: object) -> Hook:
    """A hook."""
    return Hook(command=command, **arguments)  # type: ignore[arg-type]  # the test names Hook's own arguments


def _facts(path: Path) -> tuple[object, ...]:
    facts = path.lstat()
    content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
    return facts.st_mode, facts.st_uid, facts.st_ino, facts.st_mtime_ns, content


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the program runs by the machine's own clock
