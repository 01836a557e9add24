"""Visits straight to a host of the lab, under as many names as a test wants: each has a base of its own."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from time import monotonic

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from orchestrator.cli.machine import SystemClock, system_entropy
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import Algorithm, generate, open_signer
from orchestrator.lab import Lab
from orchestrator.remote.fleet import SshFleet
from orchestrator.rotation.reports import Outcome
from orchestrator.rotation.visits import Challenge, CredentialId, Fence, Order, Stage, Visit
from tests.fakes import NOON


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """An outcome, and how many seconds after the run began it came."""

    outcome: Outcome
    after_s: float


def endpoint(lab: Lab, name: str, *, port: int = 0) -> Endpoint:
    """The lab's first host under a name; ``port``: of 127.0.0.1, where a proxy for it listens."""
    host = lab.hosts[0]
    known = lab.known_hosts.with_name("known_by_any_name")
    if not known.exists():
        entry = next(
            line for line in lab.known_hosts.read_text(encoding="ascii").splitlines() if host.address in line
        )
        known.write_text(f"* {entry.split(' ', 1)[1]}\n", encoding="ascii")
    return Endpoint(
        host=HostName(name),
        address="127.0.0.1" if port else host.address,
        port=port or host.port,
        user=lab.user,
        key_file=str(lab.key_file),
        known_hosts=str(known),
        base=str(host.base.with_name(f"base-{name}")),
    )


def stage(host: HostName) -> Stage:
    """A new key and its certificate, for a host that is to keep it beside what it uses."""
    pair = generate(Algorithm.ED25519, random=system_entropy)
    signer = open_signer(pair.private)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    certificate = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=signer.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=NOON.replace(year=2020),
        not_valid_after=NOON.replace(year=2040),
    ).sign(signer, None)
    pem = certificate.public_bytes(Encoding.PEM).decode()
    return Stage(
        credential=CredentialId(system_entropy(16).hex()),
        certificate_pem=pem,
        chain_pem=pem,
        challenge=Challenge(fleet="faults", server=host, nonce=system_entropy(32).hex()),
        algorithm=Algorithm.ED25519,
        private_key=pair.private,
    )


def visit(at: Endpoint, order: Order, *, fence: int) -> Visit:
    return Visit(endpoint=at, orders=(order,), fence=Fence(generation=1, counter=fence))


def timed(
    fleet: SshFleet, visits: Sequence[Visit], *, until: int | None = None, without: str = ""
) -> dict[str, Timed]:
    """Makes the visits; by host, how each ended and when.

    Args:
        fleet: makes them.
        visits: to different hosts.
        until: the run is ended when so many have ended; None: all.
        without: a host that is not counted.
    """
    began = monotonic()
    ended: dict[str, Timed] = {}
    with closing(fleet.run(visits)) as outcomes:  # type: ignore[type-var]  # it is a generator
        for outcome in outcomes:
            if outcome.host != without:
                ended[outcome.host] = Timed(outcome=outcome, after_s=monotonic() - began)
            if len(ended) == until:
                break
    return ended


CLOCK, ENTROPY = SystemClock(), system_entropy
