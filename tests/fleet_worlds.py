"""Fleets of three empty hosts for tests, in memory and over SSH, and what is said to them."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.authority import Authority, certify, make_issuer, make_request, make_root
from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey, Use
from orchestrator.keys.delegation import Delegation, Denied
from orchestrator.keys.material import Algorithm, KeyPair, PublicKey, generate, open_signer, sign
from orchestrator.keys.secret import Secret
from orchestrator.lab import Lab
from orchestrator.ports import Fleet
from orchestrator.remote.dial import Patience
from orchestrator.remote.fleet import SshFleet
from orchestrator.rotation import reports, visits
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.reports import Outcome, Unchanged
from orchestrator.rotation.visits import Challenge, Claim, CredentialId, Fence, Hook, Order, Visit, Voucher
from tests.authorities import new_signer
from tests.fake_fleet import FakeFleet, counting_random

FLEET = "4f1eaf1e"
ONE = CredentialId("1" * 32)
TWO = CredentialId("2" * 32)
THREE = CredentialId("3" * 32)
SERVER = HostName("server-01")
AGENT = HostName("agent-001")
OTHER = HostName("agent-002")
random = counting_random("contract")


class World(Protocol):
    """A fleet of three empty hosts and what a test may do to them."""

    fleet: Fleet

    def endpoint(self, host: HostName) -> Endpoint: ...
    def cut_off(self, host: HostName) -> None:
        """No visit reaches the host any more."""
        ...

    def failing_hook(self, host: HostName) -> Hook:
        """A hook that fails on this host."""
        ...

    def obstruct(self, host: HostName, folder: Path) -> None:
        """Everybody may write to the folder of the host's stores from now on."""
        ...

    def mend(self, host: HostName) -> None:
        """Hooks that work run well there again."""
        ...

    def service_with(self, host: HostName, private: Secret) -> Hook:
        """Has the host's service sign, which loaded this key once and for all."""
        ...


class InMemory:
    def __init__(self) -> None:
        self.fake = FakeFleet(now=lambda: datetime.now(UTC))  # noqa: TID251 - the real hosts live now too
        self.fleet: Fleet = self.fake

    def endpoint(self, host: HostName) -> Endpoint:
        return Endpoint(host=host, address="192.0.2.1")

    def cut_off(self, host: HostName) -> None:
        self.fake.trouble(host, unreachable="connection refused on 192.0.2.1:22")

    def failing_hook(self, host: HostName) -> Hook:
        self.fake.trouble(host, hook_fails="not today")
        return Hook(command="echo not today; exit 1")

    def obstruct(self, host: HostName, folder: Path) -> None:
        reason = f"{folder} has mode 777, expected writable by its owner only"
        self.fake.trouble(host, obstructs=reason)

    def mend(self, host: HostName) -> None:
        self.fake.heal(host)

    def service_with(self, host: HostName, private: Secret) -> Hook:
        self.fake.trouble(host, serves=private)
        return Hook(command="ask the service", timeout=timedelta(seconds=1))


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the clock

    def elapsed(self) -> timedelta:
        return timedelta(seconds=monotonic())

    def wait_until(self, instant: datetime) -> None:
        raise NotImplementedError


def lab_endpoint(lab: Lab, name: str) -> Endpoint:
    """How a host of a lab is reached."""
    host = lab.host(name)
    return Endpoint(
        host=HostName(name),
        address=host.address,
        port=host.port,
        user=lab.user,
        key_file=str(lab.key_file),
        known_hosts=str(lab.known_hosts),
        base=str(host.base),
    )


def ssh_fleet(*, deadline_s: float = 60.0, concurrency: int = 16, open_connections: int = 8) -> SshFleet:
    """A fleet over SSH that waits for nothing longer than the deadline."""
    return SshFleet(
        clock=SystemClock(),
        entropy=entropy,
        concurrency=concurrency,
        deadline=timedelta(seconds=deadline_s),
        patience=Patience(connect_s=deadline_s, log_in_s=deadline_s),
        open_connections=open_connections,
    )


class OverSsh:
    """Each world has folders of its own on the hosts of one lab."""

    numbers = count(1)

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.number = next(self.numbers)
        self.ssh = ssh_fleet()
        self.fleet: Fleet = self.ssh
        self.gone: set[HostName] = set()

    def endpoint(self, host: HostName) -> Endpoint:
        found = lab_endpoint(self.lab, host)
        port = (found.port or 22) + (1 if host in self.gone else 0)
        return replace(found, port=port, base=f"{found.base}-{self.number}")

    def cut_off(self, host: HostName) -> None:
        self.gone.add(host)

    def failing_hook(self, host: HostName) -> Hook:
        del host
        return Hook(command="echo not today; exit 1")

    def obstruct(self, host: HostName, folder: Path) -> None:
        del host
        folder.chmod(0o777)

    def mend(self, host: HostName) -> None: ...

    def service_with(self, host: HostName, private: Secret) -> Hook:
        key = self.lab.host(host).base.with_name(f"service-{self.number}.pem")
        key.write_bytes(private.reveal())
        command = f"openssl pkeyutl -sign -rawin -inkey {key} -in /dev/stdin"
        return Hook(command=command, timeout=timedelta(seconds=1))


def entropy(size_bytes: int) -> bytes:
    return os.urandom(size_bytes)  # noqa: TID251 - this is the source


def visit(
    world: World, host: HostName, *orders: Order, generation: int = 1, counter: int = 1, fence: bool = True
) -> Outcome:
    asked = Visit(
        endpoint=world.endpoint(host),
        orders=orders,
        fence=Fence(generation=generation, counter=counter) if fence else None,
    )
    (outcome,) = world.fleet.run([asked])
    assert outcome.host == host
    return outcome


def survey(world: World, host: HostName, *, stores: str = "") -> HostSurvey:
    match visit(world, host, visits.Survey(server_stores=stores), fence=False):
        case Unchanged(reports=(reports.Surveyed(survey=found),)):
            return found
        case outcome:
            pytest.fail(f"a survey ended as {outcome}")


def challenge(server: HostName = SERVER) -> Challenge:
    return Challenge(fleet=FLEET, server=server, nonce=random(32).hex())


def claim(pair: KeyPair, *, server: HostName = SERVER, altered: bool = False) -> Claim:
    asked = challenge(server)
    text = b"something else" if altered else asked.text()
    return Claim(challenge=asked, key=pair.public.spki_digest, signature=sign(pair.private, text).hex())


def certificate(pair: KeyPair) -> str:
    """A certificate of the key's own, valid from 2020 to 2040."""
    signer = open_signer(pair.private)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER)])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=signer.public_key(),
        serial_number=1,
        not_valid_before=datetime(2020, 1, 1, tzinfo=UTC),
        not_valid_after=datetime(2040, 1, 1, tzinfo=UTC),
    )
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(signer, digest).public_bytes(Encoding.PEM).decode()


def stage(pair: KeyPair, credential: CredentialId = ONE, *, own: bool = False) -> visits.Stage:
    pem = certificate(pair)
    return visits.Stage(
        credential=credential,
        certificate_pem=pem,
        chain_pem=pem,
        challenge=challenge(),
        algorithm=pair.public.algorithm,
        private_key=None if own else pair.private,
    )


def activate(
    credential: CredentialId = ONE, algorithm: Algorithm = Algorithm.ED25519, hook: Hook | None = None
) -> visits.Activate:
    return visits.Activate(credential=credential, challenge=challenge(), algorithm=algorithm, hook=hook)


def revert(credential: CredentialId) -> visits.Revert:
    return visits.Revert(credential=credential, challenge=challenge(), algorithm=Algorithm.ED25519)


def key(algorithm: Algorithm = Algorithm.ED25519) -> KeyPair:
    return generate(algorithm, random=random)


def bundle(sequence: int, *pairs: KeyPair, epoch: int = 1, expires: datetime | None = None) -> TrustBundle:
    return TrustBundle(
        fleet=FLEET,
        position=Position(epoch=epoch, sequence=sequence),
        keys=tuple(TrustedKey(public=pair.public, servers=(SERVER,), expires=expires) for pair in pairs),
    )


def vouching() -> Authority:
    """An issuer of a fleet of its own."""
    now = datetime.now(UTC)  # noqa: TID251 - hosts judge by their own clock
    root = make_root(new_signer(random), fleet=FLEET, now=now, lifetime=timedelta(days=9), random=random)
    return make_issuer(
        root, new_signer(random), fleet=FLEET, now=now, lifetime=timedelta(days=8), random=random
    )


def vouched(
    pair: KeyPair,
    issuer: Authority,
    *,
    told: Authority | None = None,
    server: HostName = SERVER,
    ended: bool = False,
    altered: bool = False,
) -> Claim:
    """A claim whose key a certificate of ``issuer`` vouches for, said to be of ``told``.

    Args:
        ended: whether the certificate has ended half an hour ago.
        altered: whether the signature is over something else.
    """
    now = datetime.now(UTC) - (timedelta(minutes=50) if ended else timedelta(0))  # noqa: TID251 - as above
    certificate = certify(
        issuer,
        request_pem=make_request(pair, names=(server,)),
        names=(server,),
        now=now,
        not_after=now + timedelta(minutes=20),
        backdate=timedelta(minutes=1),
        random=random,
    )
    spki = (told or issuer).certificate.public_key.spki_digest
    voucher = Voucher(certificate_pem=certificate.pem, issuer=spki)
    return replace(claim(pair, server=server, altered=altered), voucher=voucher)


def delegating(sequence: int, issuer: Authority, *, denied: tuple[KeyPair, ...] = ()) -> TrustBundle:
    """A bundle that lets an issuer vouch for the server."""
    return TrustBundle(
        fleet=FLEET,
        position=Position(epoch=1, sequence=sequence),
        keys=(TrustedKey(public=issuer.certificate.public_key, uses=(Use.CERTIFY, Use.LOG)),),
        delegations=(Delegation(server=SERVER, issuer=issuer.certificate, grace=timedelta(minutes=1)),),
        denied=tuple(Denied(key=pair.public, expires=datetime(2040, 1, 1, tzinfo=UTC)) for pair in denied),
    )


def verified(public: PublicKey, signature: str, asked: Challenge) -> bool:
    return public.verify(bytes.fromhex(signature), asked.text())
