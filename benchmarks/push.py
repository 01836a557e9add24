"""How fast a fleet is visited, beside a loop of OpenSSH clients that only log in.

64 real hosts of the lab on this machine. One visit stages a credential: private key, certificate and chain,
written beside what is in use, read back, synced, signed with. The loop beside it runs ``ssh … true``, 16 at
once. Both log in anew each time and hang up; rounds alternate, so that whatever else the machine does meets
both. With ``--kept``, visits over connections that are open already are measured too. With ``--peers``, the
same three files also go to the same hosts by Ansible and by pyinfra, in the same rounds; see ``peers.py``.

    python benchmarks/push.py [--hosts 64] [--rounds 5] [--kept] [--peers]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from time import monotonic, perf_counter

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from rich.console import Console
from rich.table import Table

from benchmarks.peers import LEFT_OUT, Peers
from benchmarks.peers import PYINFRA as PYINFRA_PROGRAM
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import Algorithm, generate, open_signer
from orchestrator.lab import HostOptions, Lab
from orchestrator.remote.fleet import SshFleet
from orchestrator.rotation.reports import Changed
from orchestrator.rotation.visits import Challenge, CredentialId, Fence, Stage, Visit

CONCURRENCY = 16
SESSION_ENDS_S = 30.0
PUSH = "keyrelay, stage"
KEPT = "keyrelay, stage, connected before"
NO_OP = "ssh, true"
ANSIBLE = "ansible-core, copy x 3"
PYINFRA = "pyinfra, files.put x 3"
AIMS = {NO_OP: 0.8, ANSIBLE: 20.0, PYINFRA: 4.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One pass over all hosts.

    Attributes:
        hosts_per_s: hosts visited a second.
        client_cpu_ms: CPU time of the client for one host; the hosts' own is not in it.
        host_cpu_ms: CPU time of one host, its sshd and all that the visit ran there; also of logging in, even
            if that was before.
    """

    hosts_per_s: float
    client_cpu_ms: float
    host_cpu_ms: float


class SystemClock:
    """The machine's time."""

    def now(self) -> datetime:
        """The present, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the clock

    def elapsed(self) -> timedelta:
        """Since some instant."""
        return timedelta(seconds=monotonic())

    def wait_until(self, instant: datetime) -> None:
        """Not used here."""
        raise NotImplementedError


def entropy(size_bytes: int) -> bytes:
    """Random bytes of the system."""
    return os.urandom(size_bytes)  # noqa: TID251 - this is the source


def endpoints(lab: Lab) -> list[Endpoint]:
    """How the lab's hosts are reached."""
    return [
        Endpoint(
            host=HostName(host.name),
            address=host.address,
            port=host.port,
            user=lab.user,
            key_file=str(lab.key_file),
            known_hosts=str(lab.known_hosts),
            base=str(host.base),
        )
        for host in lab.hosts
    ]


def with_sftp(servers: int, agents: int) -> dict[str, HostOptions]:
    """The options of a lab whose hosts all serve SFTP, which Ansible and pyinfra copy by."""
    names = (
        *(f"server-{number:02}" for number in range(1, servers + 1)),
        *(f"agent-{number:03}" for number in range(1, agents + 1)),
    )
    return dict.fromkeys(names, HostOptions(config=("Subsystem sftp internal-sftp",)))


def visits(hosts: Sequence[Endpoint], fence: int) -> list[Visit]:
    """One ``stage`` for each host, each with a credential of its own that the host has never seen."""
    return [
        Visit(endpoint=host, orders=(stage(host.host),), fence=Fence(generation=1, counter=fence))
        for host in hosts
    ]


def stage(host: HostName) -> Stage:
    """A new ed25519 key, its certificate and a chain of one."""
    pair = generate(Algorithm.ED25519, random=entropy)
    signer = open_signer(pair.private)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = SystemClock().now()
    certificate = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=signer.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now,
        not_valid_after=now + timedelta(days=365),
    ).sign(signer, None)
    pem = certificate.public_bytes(Encoding.PEM).decode()
    return Stage(
        credential=CredentialId(entropy(16).hex()),
        certificate_pem=pem,
        chain_pem=pem,
        challenge=Challenge(fleet="benchmark", server=host, nonce=entropy(32).hex()),
        algorithm=Algorithm.ED25519,
        private_key=pair.private,
    )


def push(fleet: SshFleet, asked: Sequence[Visit]) -> None:
    """Makes the visits; every host must have changed."""
    for outcome in fleet.run(asked):
        if not isinstance(outcome, Changed):
            sys.exit(f"{outcome.host} ended as {outcome}")


def log_in_and_out(lab: Lab, hosts: Sequence[Endpoint]) -> None:
    """``ssh … true`` on every host."""

    def run(host: Endpoint) -> None:
        subprocess.run(
            [
                "ssh", "-F", "/dev/null", "-o", "KexAlgorithms=curve25519-sha256", "-o", "BatchMode=yes",
                "-o", f"UserKnownHostsFile={lab.known_hosts}", "-o", "GlobalKnownHostsFile=none",
                "-o", "IdentitiesOnly=yes", "-i", str(lab.key_file), "-p", str(host.port),
                f"{host.user}@{host.address}", "true",
            ],
            check=True,
        )  # fmt: skip

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(run, hosts))


def measure(work: Callable[[], None], lab: Lab, *, who: int, hang_up: Callable[[], None]) -> Round:
    """Runs ``work``, which visits every host; ``who`` says whose CPU time the client's is."""
    sshds, count = [host.pid for host in lab.hosts if host.pid], len(lab.hosts)
    hosts_cpu, cpu, started = _hosts_cpu_s(sshds), _cpu_s(who), perf_counter()
    work()
    took_s, cpu = perf_counter() - started, _cpu_s(who) - cpu
    hang_up()
    _await_ends(sshds)
    return Round(
        hosts_per_s=count / took_s,
        client_cpu_ms=cpu * 1000 / count,
        host_cpu_ms=(_hosts_cpu_s(sshds) - hosts_cpu) * 1000 / count,
    )


def _cpu_s(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _await_ends(sshds: Sequence[int]) -> None:
    """Waits until the sessions have ended: only then is their time known."""
    deadline = perf_counter() + SESSION_ENDS_S
    while any(Path(f"/proc/{pid}/task/{pid}/children").read_text() for pid in sshds):
        if perf_counter() > deadline:
            sys.exit("sessions go on after the connections have ended")
        Event().wait(0.01)


def _hosts_cpu_s(sshds: Sequence[int]) -> float:
    """What the hosts have used, sessions that have ended included."""
    # proc(5): utime, stime, cutime, cstime are the fields 14 to 17; the name before them may hold blanks.
    fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15] for pid in sshds)
    return sum(sum(map(int, each)) for each in fields) / os.sysconf("SC_CLK_TCK")


def report(rows: dict[str, list[Round]]) -> None:
    """Prints a line for each way of visiting, and how much faster keyrelay is than each of the others."""
    console = Console() if sys.stdout.isatty() else Console(width=120)
    table = Table("", *(f"round {number}" for number in range(1, len(rows[PUSH]) + 1)))
    table.add_column("median hosts/s", justify="right")
    table.add_column("CPU ms/host: client", justify="right")
    table.add_column("the host", justify="right")
    medians = {name: statistics.median(one.hosts_per_s for one in rounds) for name, rounds in rows.items()}
    for name, rounds in rows.items():
        ours = statistics.median(one.client_cpu_ms for one in rounds)
        theirs = statistics.median(one.host_cpu_ms for one in rounds)
        speeds = (f"{one.hosts_per_s:.1f}" for one in rounds)
        table.add_row(name, *speeds, f"{medians[name]:.1f}", f"{ours:.2f}", f"{theirs:.1f}")
    console.print(table)
    for name, aim in AIMS.items():
        if name in rows:
            ratio = medians[PUSH] / medians[name]
            verdict = "met" if ratio >= aim else "missed"
            console.print(f"ratio to {name}: {ratio:.2f} (aim: at least {aim:g}, {verdict})")
    if ANSIBLE in rows:
        console.print(LEFT_OUT)


def nothing() -> None:
    """For connections that are gone when the work is done."""


def main() -> None:
    """Brings the lab up, measures, prints, and takes the lab down."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--hosts", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--concurrency", type=int, default=CONCURRENCY)
    arguments.add_argument("--kept", action="store_true")
    arguments.add_argument("--peers", action="store_true")
    options = arguments.parse_args()
    if options.peers and not PYINFRA_PROGRAM.exists():
        sys.exit(f"{PYINFRA_PROGRAM} is missing: make bench installs it")
    with tempfile.TemporaryDirectory(prefix="keyrelay-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        servers = min(8, options.hosts)
        agents = options.hosts - servers
        lab = Lab.up(folder / "lab", servers=servers, agents=agents, options=with_sftp(servers, agents))
        try:
            peers = Peers(lab=lab, folder=folder / "peers") if options.peers else None
            report(rounds(lab, options.rounds, options.concurrency, kept=options.kept, peers=peers))
        finally:
            lab.down()


def rounds(
    lab: Lab, count: int, concurrency: int, *, kept: bool, peers: Peers | None
) -> dict[str, list[Round]]:
    """Alternates; a round before the first, not counted, warms every cache there is."""
    hosts = endpoints(lab)
    names = (PUSH, NO_OP, *([KEPT] if kept else []), *([ANSIBLE, PYINFRA] if peers else []))
    rows: dict[str, list[Round]] = {name: [] for name in names}
    if peers:
        peers.set_up()
    for number in range(count + 1):
        for name, done in rows.items():
            if name == NO_OP:
                one = measure(
                    lambda: log_in_and_out(lab, hosts), lab, who=resource.RUSAGE_CHILDREN, hang_up=nothing
                )
            elif peers and name in (ANSIBLE, PYINFRA):
                one = copied(peers, hosts, name)
            else:
                one = pushed(lab, hosts, number, concurrency, kept=name == KEPT)
            if number:
                done.append(one)
    return rows


def copied(peers: Peers, hosts: Sequence[Endpoint], name: str) -> Round:
    """One round of one of the others, with files that no host has yet."""
    peers.load({host.host: stage(host.host) for host in hosts})
    work = peers.ansible if name == ANSIBLE else peers.pyinfra
    one = measure(work, peers.lab, who=resource.RUSAGE_CHILDREN, hang_up=peers.hang_up)
    peers.check("ansible" if name == ANSIBLE else "pyinfra")
    return one


def pushed(lab: Lab, hosts: Sequence[Endpoint], number: int, concurrency: int, *, kept: bool) -> Round:
    """One round of visits: each over a connection of its own, or each over one that is there already."""
    room = len(hosts) if kept else 0
    with SshFleet(
        clock=SystemClock(), entropy=entropy, concurrency=concurrency, open_connections=room
    ) as fleet:
        if kept:
            push(fleet, visits(hosts, number + 1))
        asked = visits(hosts, number + 1)
        return measure(lambda: push(fleet, asked), lab, who=resource.RUSAGE_SELF, hang_up=fleet.close)


if __name__ == "__main__":
    main()
