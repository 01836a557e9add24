"""What is read by keyrelay's own code, held to answers from elsewhere."""

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import RC2
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UnsupportedKeyError, WrongPasswordError
from orchestrator.keys.formats import der
from orchestrator.keys.formats.rc2 import decrypt_rc2
from orchestrator.keys.formats.reading import read
from orchestrator.keys.secret import Secret

# RFC 7520 section 5.3.5: a set of two symmetric keys.
COOKBOOK = (
    "eyJhbGciOiJQQkVTMi1IUzI1NitBMTI4S1ciLCJwMnMiOiI4UTFTemluYXNSM3hjaFl6NlpaY0hBIiwicDJjIjo4MTkyLCJjdHkiOiJq"
    "d2stc2V0K2pzb24iLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0.YKbKLsEoyw_JoNvhtuHo9aaeRNSEhhAW2OVHcuF_HLqS0n6hA_fgCA.V"
    "BiCzVHNoLiR3F4V82uoTQ.23i-Tb1AV4n0WKVSSgcQrdg6GRqsUKxjruHXYsTHAJLZ2nsnGIX86vMXqIi6IRsfywCRFzLxEcZBRnTvG3"
    "nhzPk0GDD7FMyXhUHpDjEYCNA_XOmzg8yZR9oyjo6lTF6si4q9FZ2EhzgFQCLO_6h5EVg3vR75_hkBsnuoqoM3dwejXBtIodN84PeqMb"
    "6asmas_dpSsz7H10fC5ni9xIz424givB1YLldF6exVmL93R3fOoOJbmk2GBQZL_SEGllv2cQsBgeprARsaQ7Bq99tT80coH8ItBjgV08"
    "AtzXFFsx9qKvC982KLKdPQMTlVJKkqtV4Ru5LEVpBZXBnZrtViSOgyg6AiuwaS-rCrcD_ePOGSuxvgtrokAKYPqmXUeRdjFJwafkYEki"
    "uDCV9vWGAi1DH2xTafhJwcmywIyzi4BqRpmdn_N-zl5tuJYyuvKhjKv6ihbsV_k1hJGPGAxJ6wUpmwC4PTQ2izEm0TuSE8oMKdTw8V3k"
    "obXZ77ulMwDs4p.ALTKwxvAefeL-32NY7eTAQ"
)


@given(
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=8, max_size=8),
    st.lists(st.binary(min_size=8, max_size=8), max_size=20),
)
def test_rc2_undoes_what_the_library_does_with_long_keys(key: bytes, iv: bytes, blocks: list[bytes]) -> None:
    text = b"".join(blocks)
    encryptor = Cipher(RC2(key), modes.CBC(iv)).encryptor()
    assert decrypt_rc2(key, iv, encryptor.update(text) + encryptor.finalize()) == text


@pytest.mark.parametrize(
    ("key", "locked", "text"),
    [
        # RFC 2268 section 5.
        ("ffffffffffffffff", "278b27e42e2f0d49", "ffffffffffffffff"),
        ("3000000000000000", "30649edf9be7d2c2", "1000000000000001"),
    ],
)
def test_rc2_gives_the_answers_of_its_rfc(key: str, locked: str, text: str) -> None:
    assert decrypt_rc2(bytes.fromhex(key), bytes(8), bytes.fromhex(locked)).hex() == text


def test_the_encrypted_keys_of_the_jose_cookbook_are_opened() -> None:
    with pytest.raises(UnsupportedKeyError, match="a JWK of kty 'oct'"):
        read(COOKBOOK.encode(), Secret(b"entrap_o_peter_long_credit_tun"))
    with pytest.raises(WrongPasswordError):
        read(COOKBOOK.encode(), Secret(b"entrap_o_peter_long_credit_tan"))


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**40), max_size=6))
def test_an_object_identifier_is_read_as_it_was_written(first: int, second: int, others: list[int]) -> None:
    dotted = ".".join(map(str, (first, second, *others)))
    assert der.parse(der.encode_oid(dotted)).oid() == dotted


@given(st.integers(0, 2**4096))
def test_a_number_is_read_as_it_was_written(number: int) -> None:
    assert der.parse(der.encode_integer(number)).integer() == number
