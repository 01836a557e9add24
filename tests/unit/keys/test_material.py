import base64
import hashlib
import json
import math
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.jwk import base64url
from orchestrator.keys.material import (
    Algorithm,
    KeyPair,
    PublicKey,
    Random,
    generate,
    load_private,
    open_signer,
    sign,
)
from orchestrator.keys.secret import Secret

OpenSSL = Callable[..., subprocess.CompletedProcess[bytes]]

algorithms = pytest.mark.parametrize("algorithm", list(Algorithm))

ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")

# RFC 8037 appendix A.1 to A.4.
RFC8037_D = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
RFC8037_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC8037_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
RFC8037_SIGNING_INPUT = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
RFC8037_SIGNATURE = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"

# Points of order 1, 2, 4 (twice) and 8 (four times), and two encodings that are not canonical.
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def pair_from(seed: bytes, algorithm: Algorithm) -> KeyPair:
    """A pair for each seed; of RSA pairs, which take long to make, one for all."""
    if algorithm is Algorithm.RSA_3072:
        return rsa_pair()
    return generate(algorithm, random=lambda size: hashlib.shake_256(seed).digest(size))


@cache
def rsa_pair() -> KeyPair:
    return generate(Algorithm.RSA_3072, random=no_randomness)


def no_randomness(size: int) -> bytes:
    raise AssertionError(f"asked for {size} bytes")


pairs = st.builds(pair_from, st.binary(min_size=8, max_size=8), st.sampled_from(Algorithm))


def p384_key() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP384R1()).public_key()


def test_rfc_8037_appendix_a_gives_the_key_thumbprint_and_signature_it_prints() -> None:
    pair = generate(Algorithm.ED25519, random=lambda _: unbase64url(RFC8037_D))
    assert pair.public.jwk == {"kty": "OKP", "crv": "Ed25519", "x": RFC8037_X}
    assert pair.public.thumbprint == RFC8037_THUMBPRINT
    assert base64url(sign(pair.private, RFC8037_SIGNING_INPUT)) == RFC8037_SIGNATURE
    assert pair.public.verify(unbase64url(RFC8037_SIGNATURE), RFC8037_SIGNING_INPUT)


def test_a_p256_thumbprint_is_the_hash_of_the_required_members_in_order() -> None:
    """RFC 7638 section 3.2 names them; the JWK is the one of RFC 7517 appendix A.1."""
    x, y = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
    members = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    key = PublicKey.from_jwk({**json.loads(members), "use": "enc", "kid": "1"})
    assert key.thumbprint == base64url(hashlib.sha256(members.encode()).digest())
    assert key.jwk == json.loads(members)


def test_p256_scalars_are_reduced_as_fips_186_5_says() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    for drawn, scalar in ((0, 1), (order - 1, 1), (order - 2, order - 1), (2**320 - 1, None)):
        pair = generate(Algorithm.ECDSA_P256, random=lambda size, c=drawn: c.to_bytes(size, "big"))  # type: ignore[misc]
        expected = scalar or (2**320 - 1) % (order - 1) + 1
        assert pair.public == PublicKey.of(ec.derive_private_key(expected, ec.SECP256R1()).public_key())


def test_an_rsa_thumbprint_is_the_hash_of_exponent_type_and_modulus(openssl: OpenSSL) -> None:
    """RFC 7638 section 3.2 and, with a key of 2048 bits, 3.1."""
    pair = rsa_pair()
    printed = openssl("rsa", "-noout", "-modulus", stdin=pair.private.reveal()).stdout.decode()
    n = base64url(bytes.fromhex(printed.strip().removeprefix("Modulus=")))
    assert pair.public.jwk == {"kty": "RSA", "n": n, "e": "AQAB"}
    members = f'{{"e":"AQAB","kty":"RSA","n":"{n}"}}'
    assert pair.public.thumbprint == base64url(hashlib.sha256(members.encode()).digest())
    assert pair.public.algorithm is Algorithm.RSA_3072


def test_an_rsa_signature_is_one_of_rs256_and_not_of_pss() -> None:
    pair = rsa_pair()
    opened = pair.public.opened
    assert isinstance(opened, rsa.RSAPublicKey)
    signature = sign(pair.private, b"a fresh nonce")
    assert len(signature) == 384
    opened.verify(signature, b"a fresh nonce", padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        opened.verify(
            signature, b"a fresh nonce", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
        )


@pytest.mark.parametrize("algorithm", [Algorithm.ED25519, Algorithm.ECDSA_P256])
def test_a_short_draw_of_randomness_makes_no_key(algorithm: Algorithm) -> None:
    with pytest.raises(ValueError, match="gave 8 bytes"):
        generate(algorithm, random=lambda _: b"8 bytes!")


@settings(deadline=None)
@given(pairs)
def test_a_public_key_comes_back_from_each_of_its_forms(pair: KeyPair) -> None:
    key = pair.public
    adapter = TypeAdapter(PublicKey)
    assert PublicKey.from_pem(key.pem) == key
    assert PublicKey.from_pem(key.pem.encode()) == key
    assert PublicKey.from_der(key.der) == key
    assert PublicKey.from_jwk(key.jwk) == key
    assert adapter.validate_json(adapter.dump_json(key)) == key
    assert len(key.thumbprint) == 43
    assert key.spki_digest == hashlib.sha256(key.der).hexdigest()


@algorithms
def test_a_key_pair_comes_back_from_its_private_half(algorithm: Algorithm) -> None:
    pair = pair_from(b"one", algorithm)
    assert load_private(pair.private) == pair
    assert PublicKey.of(open_signer(pair.private).public_key()) == pair.public


@settings(deadline=None)
@given(pairs, st.binary(max_size=300), st.data())
def test_a_signature_verifies_and_no_bit_of_it_or_of_the_message_may_flip(
    pair: KeyPair, message: bytes, data: st.DataObject
) -> None:
    signature = sign(pair.private, message)
    assert pair.public.verify(signature, message)
    assert sign(pair.private, message) == signature
    bit = data.draw(st.integers(0, len(signature) * 8 - 1))
    assert not pair.public.verify(flipped(signature, bit), message)
    assert not pair.public.verify(signature, message + b"\0")
    assert not pair.public.verify(signature[:-1], message)
    assert not pair.public.verify(signature + b"\0", message)
    assert not pair.public.verify(b"", message)


@algorithms
def test_every_single_bit_of_a_signature_counts(algorithm: Algorithm) -> None:
    pair = pair_from(b"one", algorithm)
    signature = sign(pair.private, b"a fresh nonce")
    for bit in range(len(signature) * 8):
        assert not pair.public.verify(flipped(signature, bit), b"a fresh nonce")


def flipped(data: bytes, bit: int) -> bytes:
    return bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(data))


@algorithms
def test_the_same_message_under_another_key_does_not_verify(algorithm: Algorithm, random: Random) -> None:
    one, other = generate(algorithm, random=random), generate(algorithm, random=random)
    assert not other.public.verify(sign(one.private, b"nonce"), b"nonce")


@algorithms
def test_openssl_verifies_what_keyrelay_signs(
    algorithm: Algorithm, random: Random, openssl: OpenSSL, tmp_path: Path
) -> None:
    pair = generate(algorithm, random=random)
    (tmp_path / "nonce").write_bytes(b"a fresh nonce")
    (tmp_path / "key.pem").write_text(pair.public.pem)
    (tmp_path / "nonce.sig").write_bytes(sign(pair.private, b"a fresh nonce"))
    verify = ["pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "nonce"]
    done = openssl(*verify, "-sigfile", "nonce.sig")
    assert done.returncode == 0, done.stderr
    (tmp_path / "nonce").write_bytes(b"another nonce")
    assert openssl(*verify, "-sigfile", "nonce.sig").returncode != 0


@algorithms
def test_keyrelay_verifies_what_openssl_signs_with_a_key_of_its_own(
    algorithm: Algorithm, openssl: OpenSSL, tmp_path: Path
) -> None:
    kind = {
        Algorithm.ED25519: ["-algorithm", "ed25519"],
        Algorithm.ECDSA_P256: ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        Algorithm.RSA_3072: ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
    }[algorithm]
    assert openssl("genpkey", *kind, "-out", "key.pem").returncode == 0
    (tmp_path / "nonce").write_bytes(b"a fresh nonce")
    signed = openssl("pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in", "nonce", "-out", "nonce.sig")
    assert signed.returncode == 0, signed.stderr
    pair = load_private(Secret((tmp_path / "key.pem").read_bytes()))
    assert pair.public.algorithm is algorithm
    assert pair.public.verify((tmp_path / "nonce.sig").read_bytes(), b"a fresh nonce")
    assert not pair.public.verify((tmp_path / "nonce.sig").read_bytes(), b"another nonce")


@algorithms
def test_openssl_prints_the_same_pem_and_der(algorithm: Algorithm, random: Random, openssl: OpenSSL) -> None:
    pair = generate(algorithm, random=random)
    private = pair.private.reveal()
    assert openssl("pkey", "-pubout", stdin=private).stdout.decode() == pair.public.pem
    assert openssl("pkey", "-pubin", stdin=pair.public.pem.encode()).stdout.decode() == pair.public.pem
    assert openssl("pkey", "-pubout", "-outform", "DER", stdin=private).stdout == pair.public.der
    assert openssl("pkey", stdin=private).stdout == private


def test_a_sec_1_key_and_a_compressed_point_become_canonical(random: Random, openssl: OpenSSL) -> None:
    pair = generate(Algorithm.ECDSA_P256, random=random)
    old = openssl("ec", "-conv_form", "compressed", stdin=pair.private.reveal()).stdout
    assert old.startswith(b"-----BEGIN EC PRIVATE KEY-----")
    assert load_private(Secret(old)) == pair
    short = openssl("ec", "-pubout", "-conv_form", "compressed", stdin=pair.private.reveal()).stdout
    assert short.decode() != pair.public.pem
    assert PublicKey.from_pem(short) == pair.public


def test_a_pkcs_1_key_becomes_canonical(openssl: OpenSSL) -> None:
    pair = rsa_pair()
    old = openssl("rsa", "-traditional", stdin=pair.private.reveal()).stdout
    assert old.startswith(b"-----BEGIN RSA PRIVATE KEY-----")
    assert load_private(Secret(old)) == pair
    short = openssl("rsa", "-RSAPublicKey_out", stdin=pair.private.reveal()).stdout
    assert short.startswith(b"-----BEGIN RSA PUBLIC KEY-----")
    assert PublicKey.from_pem(short) == pair.public


def test_public_keys_of_other_kinds_are_refused() -> None:
    with pytest.raises(
        KeyMaterialError,
        match="a public key of a kind keyrelay does not use; expected ed25519, ecdsa-p256 or rsa-3072",
    ):
        PublicKey.from_pem(p384_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize(("exponent", "bits"), [(65537, 1024), (65537, 2048), (3, 3072), (65537, 4096)])
def test_rsa_keys_of_another_size_or_exponent_are_refused_in_both_halves(exponent: int, bits: int) -> None:
    modulus = rsa_modulus() >> (3072 - bits) if bits < 3072 else rsa_modulus() << (bits - 3072) | 1
    words = f"an RSA key of {bits} bits with exponent {exponent}; expected 3072 bits with exponent 65537"
    with pytest.raises(KeyMaterialError, match=words):
        PublicKey.of(rsa.RSAPublicNumbers(exponent, modulus | 1).public_key())


@pytest.mark.parametrize("arguments", [("2048",), ("-3", "3072")])
def test_private_rsa_keys_of_another_size_or_exponent_are_refused(
    arguments: tuple[str, ...], openssl: OpenSSL
) -> None:
    pem = openssl("genrsa", *arguments).stdout
    with pytest.raises(KeyMaterialError, match=r"an RSA key of .* expected 3072 bits with exponent 65537"):
        load_private(Secret(pem))


def test_rsa_moduli_that_are_factored_at_once_are_refused() -> None:
    n = rsa_modulus()
    square = (math.isqrt(n) | 1) ** 2
    for modulus in (n - n % 751, n - n % 3, square, n - 1):
        assert modulus.bit_length() == 3072
        with pytest.raises(KeyMaterialError, match="anybody could sign"):
            PublicKey.of(unchecked(modulus))


def rsa_modulus() -> int:
    opened = rsa_pair().public.opened
    assert isinstance(opened, rsa.RSAPublicKey)
    return opened.public_numbers().n


def unchecked(modulus: int) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(65537, modulus).public_key()


def test_public_pem_that_is_damaged_doubled_or_private_is_refused(random: Random) -> None:
    pair = generate(Algorithm.ED25519, random=random)
    for text, words in (
        ("", "exactly one public key"),
        ("hello", "exactly one public key"),
        (pair.public.pem * 2, "exactly one public key"),
        (pair.public.pem.replace("MCow", "MCox"), "cannot|can be read"),
        (pair.private.reveal(), "can be read"),
        (b"\xff\xfe", "not text"),
    ):
        with pytest.raises(KeyMaterialError, match=words):
            PublicKey.from_pem(text)


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_bytes_that_are_no_der_key_are_refused_in_our_own_words(junk: bytes) -> None:
    with pytest.raises(KeyMaterialError):
        PublicKey.from_der(junk)


@settings(deadline=None)
@given(pairs, st.integers(min_value=0), st.integers(1, 255))
def test_a_damaged_der_key_is_refused_or_is_another_key(pair: KeyPair, place: int, change: int) -> None:
    der = bytearray(pair.public.der)
    der[place % len(der)] ^= change
    try:
        damaged = PublicKey.from_der(bytes(der))
    except KeyMaterialError:
        return
    assert damaged != pair.public


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_ed25519_points_with_which_anybody_could_sign_are_refused(point: str) -> None:
    with pytest.raises(KeyMaterialError, match=r"small order|no point"):
        PublicKey.from_der(ED25519_SPKI + bytes.fromhex(point))


def test_ed25519_bytes_that_are_no_point_are_refused() -> None:
    refused = 0
    for y in range(2, 40):
        try:
            PublicKey.of(ed25519.Ed25519PublicKey.from_public_bytes(y.to_bytes(32, "little")))
        except KeyMaterialError as error:
            assert "no point" in error.message  # noqa: PT017 (about half of all numbers are points)
            refused += 1
    assert 10 < refused < 30


def test_a_jwk_that_is_not_exactly_a_public_key_is_refused(random: Random) -> None:
    good = dict(generate(Algorithm.ED25519, random=random).public.jwk)
    point = dict(generate(Algorithm.ECDSA_P256, random=random).public.jwk)
    whole = dict(rsa_pair().public.jwk)
    for members, words in (
        ({**good, "d": good["x"]}, "private key"),
        ({**good, "crv": "X25519"}, "OKP/Ed25519, EC/P-256 or RSA"),
        ({**good, "x": None}, "without a text member 'x'"),
        ({**good, "x": good["x"][:-1] + "!"}, "not base64url"),
        ({**good, "x": good["x"] + "AAAA"}, "32 bytes"),
        ({**good, "x": good["x"] + "="}, "not base64url|32 bytes"),
        ({**point, "y": point["x"]}, "no key of its kind"),
        ({**good, "kty": "oct"}, "OKP/Ed25519, EC/P-256 or RSA"),
        ({**whole, "n": None}, "without a text member 'n'"),
        ({**whole, "n": whole["n"][:-4]}, "'n' is not 384 bytes"),
        ({**whole, "n": "AAAA" + whole["n"]}, "'n' is not 384 bytes"),
        ({**whole, "n": "A" + whole["n"][1:]}, "an RSA key of 30.. bits"),
        ({**whole, "e": "AAEAAQ"}, "'e' is not 3 bytes"),
        ({**whole, "e": "Aw"}, "'e' is not 3 bytes"),
        ({**whole, "e": "AQAD"}, "with exponent 65539"),
        ({**whole, "d": "AQAB"}, "private key"),
    ):
        with pytest.raises(KeyMaterialError, match=words):
            PublicKey.from_jwk(members)


def test_private_keys_that_cannot_be_used_are_refused_without_showing_them(random: Random) -> None:
    pem = generate(Algorithm.ED25519, random=random).private.reveal()
    signer = ed25519.Ed25519PrivateKey.generate()
    sealed = signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    foreign = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for data, words in (
        (b"", "exactly one private key"),
        (pem * 2, "exactly one private key"),
        (pem.replace(b"MC4C", b"MC4D"), "damaged"),
        (sealed, "encrypted"),
        (foreign, "a private key of a kind keyrelay does not use"),
    ):
        with pytest.raises(KeyMaterialError, match=words) as raised:
            load_private(Secret(data))
        assert raised.value.__cause__ is None or "encrypted" in words
        for line in data.splitlines()[1:-1]:
            assert line.decode() not in str(raised.value)


def test_an_rsa_key_whose_numbers_do_not_belong_together_is_damaged(openssl: OpenSSL) -> None:
    """Loaded without a look, such a key would sign, and with faulty signatures give its primes away."""
    opened = open_signer(rsa_pair().private)
    assert isinstance(opened, rsa.RSAPrivateKey)
    numbers = opened.private_numbers()
    wrong = rsa.RSAPrivateNumbers(
        p=numbers.p,
        q=numbers.q,
        d=numbers.d,
        dmp1=numbers.dmp1 ^ 2,
        dmq1=numbers.dmq1,
        iqmp=numbers.iqmp,
        public_numbers=numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    pem = wrong.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert openssl("pkey", "-check", "-noout", stdin=pem).returncode != 0
    with pytest.raises(KeyMaterialError, match="damaged"):
        load_private(Secret(pem))


def test_a_key_pair_shows_its_public_half_alone(random: Random) -> None:
    pair = generate(Algorithm.ED25519, random=random)
    body = pair.private.reveal().splitlines()[1].decode()
    assert body not in repr(pair)
    assert "Secret(…)" in repr(pair)
