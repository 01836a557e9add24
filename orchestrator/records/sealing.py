"""Secrets at rest: what a passphrase locks, and what can be told about a lock that does not open. Pure.

A passphrase becomes a *lock key* with Argon2id (RFC 9106); every secret is sealed with AES-256-GCM (NIST
SP 800-38D) under a fresh *data key* of its own, and the data key, sealed in the same way under the lock key,
lies beside it. Both are bound to their place: a record that is moved to another vault, name, version or
purpose does not open. The cost of Argon2id is bound to every wrapped data key, and bounded on reading, so
that whoever can write to the vault can neither make it cheap to guess nor too dear to open.

A seal is nonce (12 bytes), ciphertext, tag (16 bytes). A lock key seals fewer than 2^32 data keys under
random nonces, as SP 800-38D section 8.3 asks; a data key seals once.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from orchestrator.errors import VaultError, WrongPassphraseError
from orchestrator.keys.material import Random
from orchestrator.keys.secret import Secret
from orchestrator.records.framing import framed

VERSION = 1
"""The form of a sealed record that this program writes, and the only one it reads."""

_KEY_BYTES = 32
_NONCE_BYTES = 12
_SALT_BYTES = 16
_VAULT_ID_BYTES = 16
_VAULT_ID = re.compile(r"[0-9a-f]{32}")
_PROOF = b"keyrelay: this lock is open"
_RESTORE = "restore it from a backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one try at a passphrase costs; the second recommended option of RFC 9106, section 4.

    Attributes:
        memory_kib: 65536 (64 MiB) to 1048576 (1 GiB).
        iterations: 3 to 10.
        lanes: 1 to 16; more of them make a try no dearer.

    Raises:
        VaultError: out of these bounds.
    """

    memory_kib: int = 65_536
    iterations: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("memory (KiB)", self.memory_kib, 65_536, 1_048_576),
            ("iterations", self.iterations, 3, 10),
            ("lanes", self.lanes, 1, 16),
        ):
            if type(value) is not int or not least <= value <= most:
                raise VaultError(
                    f"Argon2id {name}: found {value!r}, expected {least} to {most}", hint=_RESTORE
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What has to be known beside the passphrase to open a lock; none of it is secret.

    Attributes:
        vault: the id of what the lock is for: 32 lowercase hex digits.
        salt: 16 bytes.
        proof: a known text sealed under the lock key, by which a passphrase is told to be right.
        checksum: SHA-256 over all of the above. Anyone can compute it: it only tells damage by accident from
            a wrong passphrase, so that people are told the right thing.

    Raises:
        VaultError: something else than that.
    """

    vault: str
    salt: bytes
    cost: Cost
    proof: bytes
    checksum: bytes

    def __post_init__(self) -> None:
        texts = isinstance(self.vault, str) and _VAULT_ID.fullmatch(self.vault)
        octets = all(isinstance(value, bytes) for value in (self.salt, self.proof, self.checksum))
        if (
            not texts
            or not octets
            or self.checksum != _checksum(self.vault, self.salt, self.cost, self.proof)
        ):
            raise VaultError("what is kept to open it with the passphrase is damaged", hint=_RESTORE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A secret that only its lock opens.

    Attributes:
        wrapped_key: the data key, sealed under the lock key.
        payload: the secret, sealed under the data key.
    """

    version: int
    wrapped_key: bytes
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """An open lock: seals and opens without asking for the passphrase again.

    Attributes:
        key: the lock key.
    """

    vault: str
    salt: bytes
    cost: Cost
    key: Secret

    @classmethod
    def make(cls, passphrase: Secret, *, random: Random) -> tuple[Header, Self]:
        """A new lock, open, and the header to keep beside what it seals.

        Raises:
            VaultError: the passphrase is empty.
        """
        vault, salt, cost = _draw(random, _VAULT_ID_BYTES).hex(), _draw(random, _SALT_BYTES), Cost()
        lock = cls(vault=vault, salt=salt, cost=cost, key=_derive(passphrase, salt, cost))
        proof = _seal(_PROOF, lock.key.reveal(), lock._bound_to_cost("proof"), random)
        checksum = _checksum(vault, salt, cost, proof)
        return Header(vault=vault, salt=salt, cost=cost, proof=proof, checksum=checksum), lock

    @classmethod
    def open_with(cls, passphrase: Secret, header: Header) -> Self:
        """The lock, opened; takes about a tenth of a second and 64 MiB.

        Raises:
            WrongPassphraseError: the passphrase is another one.
        """
        key = _derive(passphrase, header.salt, header.cost)
        lock = cls(vault=header.vault, salt=header.salt, cost=header.cost, key=key)
        if _open(header.proof, key.reveal(), lock._bound_to_cost("proof")) != _PROOF:
            raise WrongPassphraseError("the passphrase is wrong")
        return lock

    def seal(self, secret: Secret, *, record: str, purpose: str, random: Random) -> Sealed:
        """``secret``, to be opened under this ``record`` and ``purpose`` alone."""
        place = _place(self.vault, record, VERSION, purpose)
        data_key = _draw(random, _KEY_BYTES)
        return Sealed(
            version=VERSION,
            wrapped_key=_seal(data_key, self.key.reveal(), self._bound_to_cost("data key", *place), random),
            payload=_seal(secret.reveal(), data_key, framed("keyrelay sealed secret", *place), random),
        )

    def open(self, sealed: Sealed, *, record: str, purpose: str) -> Secret:
        """The secret.

        Raises:
            VaultError: sealed by a newer version, damaged, or sealed for another vault, record or purpose.
        """
        if sealed.version != VERSION:
            raise VaultError(
                f"{record} is sealed in form {sealed.version}, this program reads {VERSION}",
                hint="update keyrelay on this machine",
            )
        place = _place(self.vault, record, sealed.version, purpose)
        data_key = _open(sealed.wrapped_key, self.key.reveal(), self._bound_to_cost("data key", *place))
        payload = (
            None
            if data_key is None
            else _open(sealed.payload, data_key, framed("keyrelay sealed secret", *place))
        )
        if payload is None:
            raise VaultError(
                f"{record} is damaged, or was sealed for another purpose than {purpose!r} or another place",
                hint=_RESTORE,
            )
        return Secret(payload)

    def _bound_to_cost(self, what: str, *place: bytes) -> bytes:
        return framed(
            f"keyrelay lock: {what}", self.vault.encode(), self.salt, *_cost_fields(self.cost), *place
        )


def _derive(passphrase: Secret, salt: bytes, cost: Cost) -> Secret:
    if passphrase == Secret(b""):
        raise VaultError("the passphrase is empty")
    kdf = Argon2id(
        salt=salt,
        length=_KEY_BYTES,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    )
    return Secret(kdf.derive(passphrase.reveal()))


def _place(vault: str, record: str, version: int, purpose: str) -> tuple[bytes, ...]:
    return (vault.encode(), record.encode(), str(version).encode(), purpose.encode())


def _cost_fields(cost: Cost) -> tuple[bytes, ...]:
    return tuple(str(number).encode() for number in (cost.memory_kib, cost.iterations, cost.lanes))


def _checksum(vault: str, salt: bytes, cost: Cost, proof: bytes) -> bytes:
    fields = (vault.encode(), salt, *_cost_fields(cost), proof)
    return hashlib.sha256(framed("keyrelay lock: checksum", *fields)).digest()


def _seal(plain: bytes, key: bytes, place: bytes, random: Random) -> bytes:
    nonce = _draw(random, _NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, place)


def _open(sealed: bytes, key: bytes, place: bytes) -> bytes | None:
    """What was sealed; None: it does not open."""
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    if len(nonce) != _NONCE_BYTES:
        return None
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, place)
    except InvalidTag:
        return None


def _draw(random: Random, size_bytes: int) -> bytes:
    data = random(size_bytes)
    if len(data) != size_bytes:
        raise ValueError(f"the source of randomness gave {len(data)} bytes, not {size_bytes}")
    return data
