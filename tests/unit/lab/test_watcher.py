import hashlib
import subprocess
from pathlib import Path

import pytest

from orchestrator.lab.watcher import Witness


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


def test_a_server_that_has_no_key_in_use_is_not_looked_at(witness: Witness) -> None:
    install(witness, "1.1", "")
    (witness.servers["s"] / "server" / "current").unlink()
    witness.look()
    assert witness.looks == 0
