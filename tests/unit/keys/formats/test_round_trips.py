"""What is written is read again, and is what it was; and nobody opens it without the password."""

import base64
import hmac
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import (
    DamagedFileError,
    KeyMaterialError,
    PasswordNeededError,
    TooCostlyError,
    UsageError,
    WrongPasswordError,
)
from orchestrator.keys.formats import der, pbe
from orchestrator.keys.formats.budget import MAX_FILE_BYTES, MAX_HASHES, Budget
from orchestrator.keys.formats.contents import Format
from orchestrator.keys.formats.intake import examine, take
from orchestrator.keys.formats.openssh import write_openssh_private
from orchestrator.keys.formats.reading import read
from orchestrator.keys.formats.writing import write_private, write_public
from orchestrator.keys.jwk import base64url
from orchestrator.keys.material import Algorithm, Random, sign
from orchestrator.keys.secret import Secret
from tests.fakes import SeededEntropy
from tests.key_files import MADE_AT, PASSWORD, certified, pair_of

WITH_CHAIN = {Format.PEM, Format.PKCS12, Format.JWK, Format.JWKS}
algorithms = pytest.mark.parametrize("algorithm", list(Algorithm))
formats = pytest.mark.parametrize("form", list(Format))


@algorithms
@formats
def test_a_private_key_comes_back_with_its_chain(form: Format, algorithm: Algorithm, random: Random) -> None:
    made = certified(algorithm)
    file = write_private(form, made.pair, made.certificates, PASSWORD, name="web-01", random=random)
    contents = read(file.reveal(), PASSWORD)
    taken = take([contents], at=MADE_AT)
    assert contents.encrypted
    assert taken.pair.public == made.pair.public
    assert made.pair.public.verify(sign(taken.pair.private, b"message"), b"message")
    if form in WITH_CHAIN:
        assert taken.chain is not None
        assert [one.opened for one in taken.chain.certificates] == list(made.certificates)
        assert examine(contents, at=MADE_AT) == ()


@formats
def test_an_encrypted_key_opens_with_its_password_alone(form: Format, random: Random) -> None:
    made = certified(Algorithm.ED25519)
    file = write_private(form, made.pair, (), PASSWORD, name="web-01", random=random).reveal()
    with pytest.raises(PasswordNeededError):
        read(file)
    with pytest.raises(WrongPasswordError):
        read(file, Secret(b"another"))
    raw = made.pair.private.reveal()
    assert raw.splitlines()[1] not in file


@algorithms
@pytest.mark.parametrize("form", [form for form in Format if form is not Format.PKCS12])
def test_a_key_in_the_clear_comes_back(form: Format, algorithm: Algorithm, random: Random) -> None:
    made = certified(algorithm)
    file = write_private(form, made.pair, made.certificates, None, name="web-01", random=random)
    contents = read(file.reveal())
    assert not contents.encrypted
    assert take([contents], at=MADE_AT).pair.public == made.pair.public


def test_pkcs12_in_the_clear_is_refused(random: Random) -> None:
    with pytest.raises(UsageError, match="without a password"):
        write_private(Format.PKCS12, pair_of(Algorithm.ED25519), (), None, name="web-01", random=random)


@algorithms
@pytest.mark.parametrize("form", [form for form in Format if form is not Format.PKCS12])
def test_a_public_key_comes_back(form: Format, algorithm: Algorithm) -> None:
    made = certified(algorithm)
    contents = read(write_public(form, made.pair.public, (), name="web-01"))
    assert [key.public for key in contents.publics] == [made.pair.public]
    whole = read(write_public(form, made.pair.public, made.certificates, name="web-01"))
    if form in {Format.PEM, Format.JWK, Format.JWKS}:
        assert [one.opened for one in whole.certificates] == list(made.certificates)


@pytest.mark.parametrize("form", [Format.PEM, Format.DER, Format.PKCS12, Format.JWK])
def test_the_hashing_is_as_slow_as_is_told(form: Format, random: Random) -> None:
    file = write_private(form, pair_of(Algorithm.ED25519), (), PASSWORD, name="web-01", random=random)
    told = _rounds(file.reveal(), form)
    assert told
    assert all(rounds >= 600_000 for rounds in told)


def _rounds(file: bytes, form: Format) -> list[int]:
    """Every number of rounds that stands in a file: in JSON, or as integers of three octets in DER."""
    if form is Format.JWK:
        return [json.loads(base64.urlsafe_b64decode(file.split(b".")[0] + b"=="))["p2c"]]
    if form is Format.PEM:
        file = base64.b64decode(b"".join(file.split(b"-----")[2].split()))
    found = [int.from_bytes(part[:3], "big") for part in file.split(b"\x02\x03")[1:]]
    return [rounds for rounds in found if rounds < 1 << 20]


def test_openssh_keys_are_hashed_with_64_rounds_of_bcrypt() -> None:
    file = write_openssh_private(pair_of(Algorithm.ED25519).private, PASSWORD).reveal()
    body = base64.b64decode(b"".join(file.split(b"-----")[2].split()))
    assert b"bcrypt" in body
    assert (64).to_bytes(4, "big") in body[:120]


def locked_with(derivation: bytes) -> bytes:
    iv = der.encode(der.OCTET_STRING, bytes(16))
    cipher = der.encode(der.SEQUENCE, der.encode_oid("2.16.840.1.101.3.4.1.42"), iv)
    scheme = der.encode(der.SEQUENCE, derivation, cipher)
    algorithm = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.5.13"), scheme)
    return der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, bytes(48)))


def pbkdf2(rounds: int) -> bytes:
    parameters = der.encode(der.SEQUENCE, der.encode(der.OCTET_STRING, bytes(8)), der.encode_integer(rounds))
    return der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.5.12"), parameters)


def scrypt(n: int, r: int, p: int) -> bytes:
    numbers = (der.encode_integer(number) for number in (n, r, p))
    parameters = der.encode(der.SEQUENCE, der.encode(der.OCTET_STRING, bytes(8)), *numbers)
    return der.encode(der.SEQUENCE, der.encode_oid("1.3.6.1.4.1.11591.4.11"), parameters)


@pytest.mark.parametrize(
    "derivation",
    [pbkdf2(2**31), pbkdf2(2**2000), scrypt(2**30, 8, 1), scrypt(2**14, 8, 2**20), scrypt(2, 2**30, 1)],
)
def test_a_file_that_asks_for_endless_hashing_is_refused_at_once(derivation: bytes) -> None:
    with pytest.raises(TooCostlyError, match="at most"):
        read(locked_with(derivation), Secret(b"password"))


def hostile_pkcs12(safes: bytes, mac_rounds: int) -> bytes:
    """A container whose code over all is right, for the password ``password``."""
    salt = bytes(8)
    key = pbe.pkcs12_key("sha1", pbe.bmp_password(Secret(b"password")), salt, 1, use=pbe.MAC_USE, size=20)
    sha1 = der.encode(der.SEQUENCE, der.encode_oid("1.3.14.3.2.26"), der.encode(der.NULL))
    code = der.encode(der.OCTET_STRING, hmac.digest(key, safes, "sha1"))
    over_all = der.encode(
        der.SEQUENCE,
        der.encode(der.SEQUENCE, sha1, code),
        der.encode(der.OCTET_STRING, salt),
        der.encode_integer(mac_rounds),
    )
    return der.encode(der.SEQUENCE, der.encode_integer(3), data_info(safes), over_all)


def data_info(content: bytes) -> bytes:
    tagged = der.encode(der.CONTEXT_0, der.encode(der.OCTET_STRING, content))
    return der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.7.1"), tagged)


def test_a_container_that_asks_for_endless_hashing_is_refused_at_once() -> None:
    with pytest.raises(TooCostlyError, match="2147483648 rounds"):
        read(hostile_pkcs12(der.encode(der.SEQUENCE), 2**31), Secret(b"password"))


def test_what_is_hidden_in_an_encrypted_part_is_bounded_too(random: Random) -> None:
    bag = der.encode(
        der.SEQUENCE,
        der.encode_oid("1.2.840.113549.1.12.10.1.2"),
        der.encode(der.CONTEXT_0, locked_with(pbkdf2(2**31))),
    )
    algorithm, locked = pbe.encrypt(Secret(der.encode(der.SEQUENCE, bag)), Secret(b"password"), random=random)
    inner = der.encode(
        der.SEQUENCE,
        der.encode_oid("1.2.840.113549.1.7.1"),
        algorithm,
        der.encode(der.PRIMITIVE_0, locked),
    )
    body = der.encode(der.CONTEXT_0, der.encode(der.SEQUENCE, der.encode_integer(0), inner))
    info = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.7.6"), body)
    with pytest.raises(TooCostlyError, match="rounds"):
        read(hostile_pkcs12(der.encode(der.SEQUENCE, info), 1), Secret(b"password"))


def test_what_a_file_asks_for_is_added_up() -> None:
    budget = Budget()
    budget.hash(MAX_HASHES // 2)
    budget.hash(MAX_HASHES // 2)
    with pytest.raises(TooCostlyError, match=f"{MAX_HASHES + 1} rounds"):
        budget.hash(1)


def test_an_openssh_key_that_asks_for_endless_hashing_is_refused_at_once() -> None:
    file = write_openssh_private(pair_of(Algorithm.ED25519).private, PASSWORD).reveal()
    body = base64.b64decode(b"".join(file.split(b"-----")[2].split()))
    slow = body.replace((64).to_bytes(4, "big"), (2**31).to_bytes(4, "big"), 1)
    pem = b"-----BEGIN OPENSSH PRIVATE KEY-----\n%b\n-----END OPENSSH PRIVATE KEY-----\n"
    with pytest.raises(TooCostlyError, match="rounds of bcrypt"):
        read(pem % base64.b64encode(slow), PASSWORD)


def test_an_encrypted_jwk_that_asks_for_endless_hashing_is_refused_at_once() -> None:
    header = base64url(
        b'{"alg":"PBES2-HS512+A256KW","enc":"A256GCM","p2c":2147483648,"p2s":"AAAAAAAAAAAAAAAA"}'
    )
    with pytest.raises(TooCostlyError, match="2147483648 rounds"):
        read(f"{header}.AAAA.AAAA.AAAA.AAAA".encode(), PASSWORD)


def test_a_file_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(TooCostlyError, match="longer than"):
        read(b"\x30" * (MAX_FILE_BYTES + 1))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(TooCostlyError, match="in one another"):
        read(b"\x30\x80" * 1000)
    with pytest.raises(DamagedFileError):
        read(b'{"keys":' + b"[" * 100_000)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_whatever_octets_come_there_is_a_value_or_one_error_in_words(data: bytes) -> None:
    for file in (data, b"\x30" + data, b"{" + data, b"-----BEGIN CERTIFICATE-----\n" + data):
        with suppress(KeyMaterialError):
            read(file, Secret(b"password"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_with_any_octet_changed_is_read_or_refused_in_words(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(sorted(CLEAR)))
    file = bytearray(CLEAR[form])
    at = data.draw(st.integers(0, len(file) - 1))
    file[at] ^= data.draw(st.integers(1, 255))
    with suppress(KeyMaterialError):
        read(bytes(file), Secret(b"password"))


CLEAR = {
    form: write_private(
        form, pair_of(Algorithm.ECDSA_P256), (), None, name="web-01", random=SeededEntropy()
    ).reveal()
    for form in Format
    if form is not Format.PKCS12
}
