"""What every keyring does, the tests' own and the real ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import VaultError
from orchestrator.issuers.token import find_token, open_token
from orchestrator.keys.authority import ISSUER_KEY, ROOT_KEY
from orchestrator.keys.secret import Secret
from orchestrator.ports import Keyring
from orchestrator.records.home_keys import HomeKeys
from tests.fakes import FakeKeyring, FakeVault, SeededEntropy
from tests.softhsm import MODULE, PIN

MESSAGE = b"a certificate"
SHA256 = ec.ECDSA(hashes.SHA256())


@pytest.fixture(params=["fake", "home", "token"])
def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keyring]:
    random = SeededEntropy("keys")
    if request.param == "fake":
        yield FakeKeyring(FakeVault(), random)
        return
    if request.param == "token":
        request.getfixturevalue("hsm")
        token = find_token(MODULE, "fleet")
        with open_token(token, Secret(PIN.encode()), fleet=request.node.name) as keys:
            yield keys
        return
    tmp_path.chmod(0o700)
    yield HomeKeys(
        vault=FakeVault(),
        root_file=tmp_path / "root.key",
        ask_root=lambda: Secret(b"open sesame"),
        random=random,
    )


def verifies(keyring: Keyring, name: str, public: object) -> None:
    """What ``name`` signs is the signature of ``public``."""
    signer = keyring.open(name)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signer.sign(MESSAGE, SHA256), MESSAGE, SHA256)


@pytest.mark.parametrize("name", [ROOT_KEY, ISSUER_KEY])
def test_a_key_that_was_made_is_the_one_that_is_opened(keyring: Keyring, name: str) -> None:
    made = keyring.make(name)
    assert keyring.open(name).public_key() == made.public_key()
    verifies(keyring, name, made.public_key())


def test_each_name_has_a_key_of_its_own(keyring: Keyring) -> None:
    root, issuer = keyring.make(ROOT_KEY).public_key(), keyring.make(ISSUER_KEY).public_key()
    assert root != issuer
    verifies(keyring, ROOT_KEY, root)
    verifies(keyring, ISSUER_KEY, issuer)


def test_a_key_that_was_destroyed_is_gone_and_the_others_are_there(keyring: Keyring) -> None:
    keyring.make(ROOT_KEY)
    for name in (ISSUER_KEY, "issuer-2"):
        keyring.make(name)
    keyring.destroy("issuer-2")
    keyring.destroy("issuer-2")
    with pytest.raises(VaultError):
        keyring.open("issuer-2")
    keyring.open(ISSUER_KEY)
    keyring.open(ROOT_KEY)


@pytest.mark.parametrize("name", [ROOT_KEY, ISSUER_KEY])
def test_a_key_that_was_never_made_is_not_there(keyring: Keyring, name: str) -> None:
    with pytest.raises(VaultError):
        keyring.open(name)
