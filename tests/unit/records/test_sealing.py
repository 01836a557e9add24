import hashlib
from dataclasses import replace
from typing import TypeVar

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import VaultError
from orchestrator.keys.secret import Secret
from orchestrator.records.framing import framed
from orchestrator.records.sealing import Cost, Header, Lock, Sealed
from tests.fakes import SeededEntropy

T = TypeVar("T", Header, Sealed)

PASSPHRASE = Secret(b"open sesame")
KEY = Secret(b"a private key")
HEADER, LOCK = Lock.make(PASSPHRASE, random=SeededEntropy("lock"))
SEALED = LOCK.seal(KEY, record="oak", purpose="server key", random=SeededEntropy("record"))


def _with(value: T, field: str, changed: object) -> T:
    return replace(value, **{field: changed})  # type: ignore[arg-type]  # the fields of either class


def test_the_passphrase_opens_what_it_locked() -> None:
    lock = Lock.open_with(PASSPHRASE, HEADER)

    assert lock == LOCK
    assert lock.open(SEALED, record="oak", purpose="server key") == KEY


@given(
    secret=st.binary(max_size=100), record=st.text(max_size=9), purpose=st.text(max_size=9), seed=st.text()
)
def test_any_secret_comes_back(secret: bytes, record: str, purpose: str, seed: str) -> None:
    sealed = LOCK.seal(Secret(secret), record=record, purpose=purpose, random=SeededEntropy(seed))

    assert LOCK.open(sealed, record=record, purpose=purpose) == Secret(secret)


def test_the_form_on_disk_is_the_documented_one() -> None:
    """Opened with nothing but the primitives, as a recovery tool would."""
    vault, cost = HEADER.vault.encode(), (b"65536", b"3", b"4")
    place = (vault, b"oak", b"1", b"server key")
    lock_key = Argon2id(salt=HEADER.salt, length=32, iterations=3, lanes=4, memory_cost=65536).derive(
        b"open sesame"
    )

    def opened(key: bytes, sealed: bytes, bound_to: bytes) -> bytes:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], bound_to)

    bound = framed("keyrelay lock: data key", vault, HEADER.salt, *cost, *place)
    data_key = opened(lock_key, SEALED.wrapped_key, bound)
    assert opened(data_key, SEALED.payload, framed("keyrelay sealed secret", *place)) == KEY.reveal()
    assert opened(lock_key, HEADER.proof, framed("keyrelay lock: proof", vault, HEADER.salt, *cost))
    assert (
        HEADER.checksum
        == hashlib.sha256(framed("keyrelay lock: checksum", vault, HEADER.salt, *cost, HEADER.proof)).digest()
    )
    assert len(data_key) == 32
    assert len(HEADER.salt) == 16


def test_another_passphrase_is_told_from_damage() -> None:
    for wrong in (b"open sesame ", b"Open sesame", b"x"):
        with pytest.raises(VaultError, match="passphrase is wrong"):
            Lock.open_with(Secret(wrong), HEADER)
    with pytest.raises(VaultError, match="damaged"):
        replace(HEADER, salt=bytes(16))


def test_an_empty_passphrase_locks_and_opens_nothing() -> None:
    with pytest.raises(VaultError, match="empty"):
        Lock.make(Secret(b""), random=SeededEntropy())
    with pytest.raises(VaultError, match="empty"):
        Lock.open_with(Secret(b""), HEADER)


@given(field=st.sampled_from(["wrapped_key", "payload"]), data=st.data())
def test_any_changed_byte_of_a_record_is_found(field: str, data: st.DataObject) -> None:
    octets = bytearray(getattr(SEALED, field))
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(VaultError, match="oak is damaged"):
        LOCK.open(_with(SEALED, field, bytes(octets)), record="oak", purpose="server key")


@given(field=st.sampled_from(["wrapped_key", "payload"]), length=st.integers(0, 40))
def test_a_record_that_was_cut_is_found(field: str, length: int) -> None:
    cut = _with(SEALED, field, getattr(SEALED, field)[:length])

    with pytest.raises(VaultError, match="oak is damaged"):
        LOCK.open(cut, record="oak", purpose="server key")


@given(field=st.sampled_from(["vault", "salt", "proof", "checksum"]), data=st.data())
def test_any_changed_byte_of_a_header_is_found(field: str, data: st.DataObject) -> None:
    value = getattr(HEADER, field)
    octets = bytearray(value.encode() if isinstance(value, str) else value)
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 127))
    changed = octets.decode("ascii") if isinstance(value, str) else bytes(octets)

    with pytest.raises(VaultError, match="damaged"):
        _with(HEADER, field, changed)


def test_a_record_opens_in_its_own_place_only() -> None:
    for record, purpose in (("elm", "server key"), ("oak", "issuer key"), ("oakserver", " key")):
        with pytest.raises(VaultError):
            LOCK.open(SEALED, record=record, purpose=purpose)
    with pytest.raises(VaultError):
        replace(LOCK, vault="0" * 32).open(SEALED, record="oak", purpose="server key")


def test_the_parts_of_two_records_cannot_be_mixed() -> None:
    other = LOCK.seal(Secret(b"other"), record="oak", purpose="server key", random=SeededEntropy("other"))

    with pytest.raises(VaultError):
        LOCK.open(replace(SEALED, payload=other.payload), record="oak", purpose="server key")
    assert {SEALED.wrapped_key, SEALED.payload}.isdisjoint({other.wrapped_key, other.payload})


def test_a_forged_cost_opens_nothing_even_with_its_checksum() -> None:
    """Whoever can write the header cannot have the passphrase tried at another cost and go unnoticed."""
    cost = Cost(iterations=4)
    fields = (HEADER.vault.encode(), HEADER.salt, b"65536", b"4", b"4", HEADER.proof)
    checksum = hashlib.sha256(framed("keyrelay lock: checksum", *fields)).digest()
    forged = Header(vault=HEADER.vault, salt=HEADER.salt, cost=cost, proof=HEADER.proof, checksum=checksum)

    with pytest.raises(VaultError, match="passphrase is wrong"):
        Lock.open_with(PASSPHRASE, forged)
    with pytest.raises(VaultError):
        replace(LOCK, cost=cost).open(SEALED, record="oak", purpose="server key")


@pytest.mark.parametrize(
    "cost",
    [
        {"memory_kib": 65_535},
        {"memory_kib": 1_048_577},
        {"memory_kib": 2**40},
        {"iterations": 2},
        {"iterations": 11},
        {"iterations": 0},
        {"lanes": 0},
        {"lanes": 17},
        {"lanes": -1},
        {"memory_kib": "65536"},
        {"lanes": True},
        {"iterations": None},
    ],
    ids=str,
)
def test_a_cost_out_of_bounds_is_refused_before_it_is_paid(cost: dict[str, int]) -> None:
    with pytest.raises(VaultError, match="Argon2id"):
        Cost(**cost)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_a_record_of_another_version_is_refused(version: int) -> None:
    with pytest.raises(VaultError, match="sealed in form"):
        LOCK.open(replace(SEALED, version=version), record="oak", purpose="server key")


def test_nothing_shows_a_secret() -> None:
    for shown in (repr(LOCK), repr(SEALED), repr(HEADER)):
        assert "sesame" not in shown
        assert "private key" not in shown
        assert LOCK.key.reveal().hex() not in shown
    assert isinstance(SEALED, Sealed)


def test_a_source_of_randomness_that_gives_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="randomness"):
        LOCK.seal(KEY, record="oak", purpose="server key", random=lambda size: bytes(size - 1))


def test_fields_cannot_run_together() -> None:
    assert framed("a", b"b", b"") != framed("a", b"", b"b") != framed("ab", b"") != framed("ab")
