import hashlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.lab.watcher import Witness
from tests.forgeries import SERVER, Forge


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    """One server with a key in use, and one agent without a bundle."""
    key = tmp_path / "server" / "server" / "credentials" / "one"
    key.mkdir(parents=True)
    make = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key / "key.pem")]
    subprocess.run(make, check=True, capture_output=True)
    (tmp_path / "server" / "server" / "current").symlink_to("credentials/one")
    (tmp_path / "agent" / "agent" / "bundles").mkdir(parents=True)
    return Witness(servers={"s": tmp_path / "server"}, agents={"a": tmp_path / "agent"})


def digest(witness: Witness) -> str:
    key = witness.servers["s"] / "server" / "current" / "key.pem"
    show = ["openssl", "pkey", "-in", str(key), "-pubout", "-outform", "DER"]
    return hashlib.sha256(subprocess.run(show, check=True, capture_output=True).stdout).hexdigest()


def install(witness: Witness, name: str, edges: str) -> None:
    folder = witness.agents["a"] / "agent"
    (folder / "bundles" / name).mkdir()
    (folder / "bundles" / name / "edges").write_text(edges, encoding="ascii")
    (folder / "next").symlink_to(f"bundles/{name}")
    (folder / "next").replace(folder / "current")


def test_an_agent_without_a_bundle_is_not_looked_at(witness: Witness) -> None:
    witness.look()
    assert (witness.looks, witness.moments) == (0, 0)


def test_an_agent_that_lists_the_key_in_use_trusts_it(witness: Witness) -> None:
    install(witness, "1.1", f"s {digest(witness)} -\ns {'0' * 64} 1\n")
    witness.look()
    witness.look()
    assert (witness.looks, witness.moments) == (2, 0)


@pytest.mark.parametrize("edges", ["", "s KEY 1\n", "t KEY -\n", f"s {'0' * 64} -\n"])
def test_a_key_that_is_missing_ended_or_of_another_server_is_a_moment(witness: Witness, edges: str) -> None:
    install(witness, "1.1", edges.replace("KEY", digest(witness)))
    witness.look()
    assert (witness.looks, witness.moments) == (1, 1)
    assert witness.examples[0].startswith("a with bundle 1.1 does not trust")


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    return Forge(tmp_path_factory.mktemp("forge"), now=datetime.now(UTC))  # noqa: TID251 - openssl's own clock


def vouched(witness: Witness, forge: Forge, certificate: str, *, denied: str = "") -> None:
    """The server has a certificate, and the agent believes the forge's issuer of it."""
    credential = witness.servers["s"] / "server" / "credentials" / "one"
    (credential / "key.pem").write_bytes(forge.pair().private.reveal())
    (credential / "cert.pem").write_text(certificate)
    issuer = forge.issuer.public_key.spki_digest
    witness.servers = {SERVER: witness.servers["s"]}
    install(witness, "1.1", "")
    bundle = witness.agents["a"] / "agent" / "current"
    (bundle / "delegations").write_text(f"{SERVER} {issuer} 0\n")
    (bundle / "denied").write_text(denied)
    (bundle / "issuers").mkdir()
    (bundle / "issuers" / f"{issuer}.pem").write_text(forge.issuer.pem)


def test_an_agent_that_believes_the_certificate_in_use_trusts_it(witness: Witness, forge: Forge) -> None:
    vouched(witness, forge, forge.real)
    witness.look()
    assert (witness.looks, witness.moments) == (1, 0)


def test_a_certificate_of_another_issuer_is_a_moment(witness: Witness, forge: Forge) -> None:
    forged = {one.name: one.certificate_pem for one in forge.forgeries}
    vouched(witness, forge, forged["of another issuer of the same name"])
    witness.look()
    assert witness.moments == 1


def test_a_certificate_of_another_name_is_a_moment(witness: Witness, forge: Forge) -> None:
    forged = {one.name: one.certificate_pem for one in forge.forgeries}
    vouched(witness, forge, forged["for another name"])
    witness.look()
    assert witness.moments == 1


def test_a_denied_key_is_a_moment(witness: Witness, forge: Forge) -> None:
    vouched(witness, forge, forge.real, denied=f"{forge.pair().public.spki_digest} 9\n")
    witness.look()
    assert witness.moments == 1


def test_a_server_that_has_no_key_in_use_is_not_looked_at(witness: Witness) -> None:
    install(witness, "1.1", "")
    (witness.servers["s"] / "server" / "current").unlink()
    witness.look()
    assert witness.looks == 0
