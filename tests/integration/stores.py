"""Hosts with stores: real credentials for them, and eyes of their own on what lies in a store."""

import base64
import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from orchestrator.keys.authority import Authority, certify, make_issuer, make_request, make_root
from orchestrator.keys.material import Algorithm, KeyPair, generate
from orchestrator.policy.stores import Access, Store, entry_of, make_manifest
from orchestrator.rotation.observed import HeldStore, HeldStores
from orchestrator.rotation.reports import Surveyed
from orchestrator.rotation.visits import Activate, CredentialId, Hook, Stage, Survey, Trust
from tests.authorities import new_signer
from tests.integration.program import (
    ED25519,
    FLEET,
    ONE,
    SERVER,
    TWO,
    Machine,
    bundle,
    challenge,
    programs,
    random,
)

NOW = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251 - the tools on the host judge by its own clock
PUBLIC = Access(mode="644")
PRIVATE = Access(mode="600")
PASSWORD = "correct horse"


@cache
def root(number: int) -> Authority:
    """A root of the fleet."""
    del number
    return make_root(new_signer(random), fleet=FLEET, now=NOW, lifetime=timedelta(days=900), random=random)


@cache
def issuer() -> Authority:
    """What the first root certified."""
    lifetime = timedelta(days=800)
    return make_issuer(root(1), new_signer(random), fleet=FLEET, now=NOW, lifetime=lifetime, random=random)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A key and its certificate."""

    id: CredentialId
    pair: KeyPair
    certificate_pem: str

    @property
    def stage(self) -> Stage:
        """The order that stages it."""
        return Stage(
            credential=self.id,
            certificate_pem=self.certificate_pem,
            chain_pem=issuer().certificate.pem,
            challenge=challenge(),
            algorithm=self.pair.public.algorithm,
            private_key=self.pair.private,
        )

    def activate(self, manifest: str = "", *, hook: Hook | None = None, goes_back: bool = True) -> Activate:
        """The order that switches to it and fills the stores."""
        return Activate(
            credential=self.id,
            challenge=challenge(),
            algorithm=self.pair.public.algorithm,
            hook=hook,
            goes_back=goes_back,
            stores=manifest,
        )

    @property
    def chain_pem(self) -> str:
        """Its certificate and the issuer's."""
        return self.certificate_pem + issuer().certificate.pem

    @property
    def digest(self) -> str:
        """SHA-256 of its certificate's DER."""
        return digests(self.certificate_pem)[0]


def credential(number: CredentialId, algorithm: Algorithm = Algorithm.ECDSA_P256) -> Credential:
    """A new credential of the server."""
    pair = generate(algorithm, random=random)
    return Credential(id=number, pair=pair, certificate_pem=certified(pair))


def certified(pair: KeyPair) -> str:
    """A new certificate for the server's key."""
    return certify(
        issuer(),
        request_pem=make_request(pair, names=(SERVER,)),
        names=(SERVER,),
        now=NOW,
        not_after=NOW + timedelta(days=90),
        backdate=timedelta(minutes=1),
        random=random,
    ).pem


OLD = credential(ONE)
NEW = credential(TWO)


def server_manifest(*stores: Store, **texts: str) -> str:
    """What a server is to put elsewhere; ``texts`` are those of templates, by the path's last part."""
    texts = _by_path(stores, texts)
    return make_manifest(entry_of(store, anchors="", texts=texts) for store in stores)


def agent_manifest(*stores: Store, roots: tuple[int, ...] = (1,), **texts: str) -> str:
    """What an agent is to put elsewhere."""
    anchors = "".join(root(number).certificate.pem for number in roots)
    texts = _by_path(stores, texts)
    return make_manifest(entry_of(store, anchors=anchors, texts=texts) for store in stores)


def _by_path(stores: tuple[Store, ...], texts: dict[str, str]) -> dict[str, str]:
    paths = [store.file for store in stores if store.kind == "template"]
    return {path: texts[Path(path).stem] for path in paths}


def trust(manifest: str, sequence: int = 1) -> Trust:
    """The order that installs a bundle and fills the agent's stores."""
    return Trust(bundle=bundle(sequence, ED25519), stores=manifest)


def digests(pem: str) -> list[str]:
    """SHA-256 of the DER of each certificate in a text."""
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", pem, re.DOTALL)
    return [hashlib.sha256(base64.b64decode(block)).hexdigest() for block in blocks]


def surveyed(machine: Machine) -> tuple[HeldStores | None, HeldStores | None, dict[str, str]]:
    """What a survey tells of the server's stores, of the agent's, and of wrong places."""
    report = machine.report(Survey())
    assert isinstance(report, Surveyed)
    problems = {problem.path: problem.found for problem in report.survey.problems}
    return report.survey.server_stores, report.survey.agent_stores, problems


def places(held: HeldStores | None) -> dict[str, HeldStore]:
    """The stores by their place."""
    assert held is not None
    return {one.place: one for one in held.places}


def states(held: HeldStores | None) -> dict[str, str]:
    """Their states by place."""
    return {place: one.state.value for place, one in places(held).items()}


def run(*command: str | Path, accept: tuple[int, ...] = (0,)) -> str:
    """What a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode in accept, (command, done.stdout, done.stderr)
    return done.stdout


def in_pkcs12(file: Path, password: str) -> tuple[bytes, list[str], bytes | None]:
    """The private key in DER, the digests of certificates and the name in a PKCS #12 file."""
    held = load_pkcs12(file.read_bytes(), password.encode())
    assert held.key is not None
    assert held.cert is not None
    key = held.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    pem = [one.certificate.public_bytes(Encoding.PEM) for one in (held.cert, *held.additional_certs)]
    return key, digests(b"".join(pem).decode()), held.cert.friendly_name


def der(pair: KeyPair) -> bytes:
    """The private key in DER."""
    return load_pem_private_key(pair.private.reveal(), None).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )


def facts(*files: Path) -> dict[Path, tuple[int, int]]:
    """Inode and last change of files."""
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def application(folder: Path) -> Path:
    """The folder of an application, with an NSS database that has no password."""
    database = folder / "nss"
    database.mkdir(mode=0o755, parents=True)
    folder.chmod(0o755)
    database.chmod(0o755)
    (folder / "pass").write_text(f"{PASSWORD}\n")
    (folder / "pass").chmod(0o600)
    (folder / "unmanaged").write_text("mine\n")
    run("certutil", "-N", "-d", f"sql:{database}", "--empty-password")
    return folder


def with_tools(folder: Path, shell: str) -> Path:
    """A folder for PATH with the programs of ``shell`` and those that stores need."""
    programs(folder, shell)
    for tool in ("certutil", "pk12util", "keytool"):
        found = shutil.which(tool)
        assert found is not None, f"{tool} is missing: make setup installs it"
        (folder / tool).symlink_to(found)
    return folder


def between(machine: Machine, folder: Path, script: str) -> Machine:
    """The machine, where ``script`` runs before each program, whose name and arguments are its own."""
    folder.mkdir()
    for program in machine.path.iterdir():
        if program.name == "sh":
            (folder / "sh").symlink_to(program.readlink())
            continue
        shim = folder / program.name
        shim.write_text(f'#!/bin/dash\n{script}\nexec {program} "$@"\n')
        shim.chmod(0o755)
    return Machine(base=machine.base, path=folder, counters=machine.counters)
