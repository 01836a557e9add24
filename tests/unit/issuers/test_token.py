"""Keys in a token: made there, used there, and never outside; every refusal in words."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from traceback import format_exception

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator.errors import IssuerError, VaultError
from orchestrator.issuers.token import TokenKeys, find_token, open_token
from orchestrator.keys.authority import Authority, certify, make_issuer, make_request, make_root
from orchestrator.keys.material import Algorithm, generate
from orchestrator.keys.path import verify_chain
from orchestrator.keys.revocation import make_crl
from orchestrator.keys.secret import Secret
from orchestrator.keys.token import Token, TokenSigner
from tests.fakes import SeededEntropy
from tests.softhsm import MODULE, PIN, SoftHsm

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SHA256 = ec.ECDSA(hashes.SHA256())

pytestmark = pytest.mark.usefixtures("hsm")


@pytest.fixture
def keys(request: pytest.FixtureRequest) -> Iterator[TokenKeys]:
    """The keys of a fleet that has the test's name."""
    with open_token(find_token(MODULE, "fleet"), Secret(PIN.encode()), fleet=request.node.name) as keys:
        yield keys


def test_root_and_issuer_in_a_token_certify_and_revoke_like_any_other(keys: TokenKeys) -> None:
    random = SeededEntropy()
    root = make_root(keys.make("root"), fleet="orchard", now=NOW, lifetime=900 * DAY, random=random)
    issuer = make_issuer(
        root, keys.make("issuer"), fleet="orchard", now=NOW, lifetime=800 * DAY, random=random
    )
    leaf = certify(
        issuer,
        request_pem=make_request(generate(Algorithm.ED25519, random=random), names=["web-01"]),
        names=["web-01"],
        now=NOW,
        not_after=NOW + 90 * DAY,
        backdate=timedelta(minutes=1),
        random=random,
    )
    verify_chain(leaf, [issuer.certificate], root.certificate, at=NOW, name="web-01")
    crl = make_crl(issuer, [], number=1, now=NOW, next_update=NOW + DAY)
    public = issuer.certificate.opened.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert x509.load_der_x509_crl(crl.der).is_signature_valid(public)


def test_a_key_never_comes_out(keys: TokenKeys) -> None:
    signer = keys.make("issuer")
    assert isinstance(signer, TokenSigner)
    for way_out in (
        signer.private_numbers,
        lambda: signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        lambda: signer.exchange(ec.ECDH(), signer.public_key()),
    ):
        with pytest.raises(TypeError, match="never comes out"):
            way_out()
    assert (signer.curve.name, signer.key_size) == ("secp256r1", 256)


def test_every_signature_is_one_of_its_key(keys: TokenKeys) -> None:
    signer = keys.make("issuer")
    assert isinstance(signer, TokenSigner)
    for number in range(64):  # r or s begins with a zero byte in one of 128
        message = bytes([number])
        signer.public_key().verify(signer.sign(message, SHA256), message, SHA256)


def test_a_name_is_taken_once_and_free_again_when_its_key_is_destroyed(keys: TokenKeys) -> None:
    first = keys.make("issuer").public_key()
    with pytest.raises(
        VaultError, match=r"token 'fleet' \(serial \w+\) has a key 'keyrelay .* issuer' already"
    ):
        keys.make("issuer")
    keys.destroy("issuer")
    keys.destroy("issuer")
    with pytest.raises(VaultError, match=r"does not give the key 'keyrelay .* issuer': there is none"):
        keys.open("issuer")
    assert keys.make("issuer").public_key() != first


def test_another_fleets_key_of_that_name_is_another_one(keys: TokenKeys) -> None:
    mine = keys.make("issuer").public_key()
    other = replace(keys, fleet=f"{keys.fleet} too")
    assert other.make("issuer").public_key() != mine
    assert keys.open("issuer").public_key() == mine


def test_an_authority_whose_key_is_not_its_certificates_is_none(keys: TokenKeys) -> None:
    random = SeededEntropy()
    root = make_root(keys.make("root"), fleet="orchard", now=NOW, lifetime=900 * DAY, random=random)
    with pytest.raises(IssuerError, match="the private key is not that of 'CN=keyrelay root,O=orchard'"):
        Authority(certificate=root.certificate, signer=keys.make("issuer"))


def test_a_token_that_is_not_there_is_told_from_one_of_several() -> None:
    with pytest.raises(VaultError, match="knows 0 of token 'nobody'; expected one"):
        find_token(MODULE, "nobody")
    with pytest.raises(VaultError, match="knows 2 of token 'twin'; expected one"):
        find_token(MODULE, "twin")
    there = find_token(MODULE, "fleet")
    with (
        pytest.raises(VaultError, match=r"knows 0 of token 'fleet' \(serial 0123\)"),
        open_token(replace(there, serial="0123"), Secret(PIN.encode()), fleet="f"),
    ):
        pass


@pytest.mark.parametrize("pin", [b"nightingale", b"1", b"\xff\xfe"])
def test_a_wrong_pin_is_told_and_never_shown(pin: bytes) -> None:
    token = find_token(MODULE, "guessed")
    with pytest.raises(VaultError) as refused, open_token(token, Secret(pin), fleet="f"):
        pass
    assert "the PIN is" in refused.value.message
    assert "nightingale" not in "".join(format_exception(refused.value))


def test_a_library_that_is_none_is_named(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(b"no library")
    for path in (library, tmp_path / "missing.so"):
        with pytest.raises(VaultError, match=r"the PKCS#11 library .*\.so cannot be loaded"):
            find_token(str(path), "fleet")


def test_the_modules_own_tool_sees_the_token(hsm: SoftHsm) -> None:
    there: Token = find_token(MODULE, "fleet")
    assert there.serial in hsm.run("--show-slots")
