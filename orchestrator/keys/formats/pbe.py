"""What a password locks in PKCS #8 and PKCS #12 files.

PBES2 with PBKDF2 or scrypt is RFC 8018 section 6.2 and RFC 7914 section 7; what PKCS #12 had before is RFC
7292 appendices B and C. All of these are read, since files in use have them; only PBES2 with
PBKDF2-HMAC-SHA-256 and AES-256 is written.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from types import MappingProxyType

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from orchestrator.errors import (
    DamagedFileError,
    PasswordNeededError,
    UnsupportedFileError,
    WrongPasswordError,
)
from orchestrator.keys.formats import der
from orchestrator.keys.formats.budget import Budget
from orchestrator.keys.formats.rc2 import decrypt_rc2
from orchestrator.keys.material import Random
from orchestrator.keys.secret import Secret

ITERATIONS = 600_000
"""Rounds of PBKDF2-HMAC-SHA-256 in what is written: OWASP's recommendation since 2023."""

NOT_OPENED = "the password does not open the file"

_PBES2 = "1.2.840.113549.1.5.13"
_PBKDF2 = "1.2.840.113549.1.5.12"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"
_HMAC_SHA256 = "1.2.840.113549.2.9"
_AES_256_CBC = "2.16.840.1.101.3.4.1.42"
_HMAC_HASHES: Mapping[str, str] = MappingProxyType(
    {
        "1.2.840.113549.2.7": "sha1",
        "1.2.840.113549.2.8": "sha224",
        _HMAC_SHA256: "sha256",
        "1.2.840.113549.2.10": "sha384",
        "1.2.840.113549.2.11": "sha512",
    }
)
_KEY_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "2.16.840.1.101.3.4.1.2": 16,
        "2.16.840.1.101.3.4.1.22": 24,
        _AES_256_CBC: 32,
    }
)
_DES_EDE3_CBC = "1.2.840.113549.3.7"
_PKCS12_CIPHERS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "1.2.840.113549.1.12.1.3": (24, "3des"),
        "1.2.840.113549.1.12.1.4": (16, "2-key 3des"),
        "1.2.840.113549.1.12.1.5": (16, "rc2"),
        "1.2.840.113549.1.12.1.6": (5, "rc2"),
    }
)
NO_PASSWORD = Secret(b"")
"""Known by its identity; see ``bmp_password``."""

KEY_USE, IV_USE, MAC_USE = 1, 2, 3
"""What a PKCS #12 derivation is for (RFC 7292 appendix B.3)."""

_BLOCK_BYTES: Mapping[str, int] = MappingProxyType({"sha384": 128, "sha512": 128})


def decrypt(algorithm: der.Value, locked: bytes, password: Secret | None, budget: Budget) -> Secret:
    """What ``locked`` holds, under an AlgorithmIdentifier.

    Raises:
        PasswordNeededError: there is no password.
        WrongPasswordError: what comes out has no sound padding.
        UnsupportedFileError: an algorithm that is not read.
        TooCostlyError: more work than a file may cost.
    """
    name = algorithm.part(0, der.OID).oid()
    if password is None:
        raise PasswordNeededError("the file is encrypted, and no password was given")
    if name == _PBES2:
        scheme = algorithm.part(1, der.SEQUENCE)
        cipher = scheme.part(1, der.SEQUENCE)
        open_locked = _cipher_of(cipher)
        key = _derived(scheme.part(0, der.SEQUENCE), password, _key_bytes(cipher), budget)
        return open_locked(key, locked)
    if name in _PKCS12_CIPHERS:
        size, kind = _PKCS12_CIPHERS[name]
        salt, rounds = _salt_and_rounds(algorithm.part(1, der.SEQUENCE), budget)
        budget.hash(rounds)
        key, iv = (
            pkcs12_key("sha1", bmp_password(password), salt, rounds, use=use, size=octets)
            for use, octets in ((KEY_USE, size), (IV_USE, 8))
        )
        if kind == "rc2":
            return _unpadded(decrypt_rc2(key, iv, _blocks(locked, 8)), 8)
        return _cbc(TripleDES(key if size == 24 else key + key[:8]), iv, locked, 8)  # noqa: PLR2004 - its bytes
    raise UnsupportedFileError(f"encrypted with an algorithm that keyrelay does not read, {name}")


def pbmac1(parameters: der.Value, content: bytes, password: Secret, budget: Budget) -> bytes:
    """The code over a PKCS #12 file as RFC 9579 makes it; raises as ``decrypt``."""
    scheme = parameters.part(1, der.SEQUENCE).part(0, der.OID).oid()
    if scheme not in _HMAC_HASHES:
        raise UnsupportedFileError(
            f"a PKCS #12 file with a code over it that keyrelay does not read, {scheme}"
        )
    derivation = parameters.part(0, der.SEQUENCE)
    sizes = [part.integer() for part in derivation.part(1, der.SEQUENCE).parts[2:] if part.tag == der.INTEGER]
    if not sizes or not 20 <= sizes[0] <= 64:  # noqa: PLR2004 - RFC 9579 section 5 wants it said, and at least 20
        raise DamagedFileError("the PKCS #12 file does not say how long the key of its code is")
    return hmac.digest(_derived(derivation, password, sizes[0], budget), content, _HMAC_HASHES[scheme])


def encrypt(secret: Secret, password: Secret, *, random: Random) -> tuple[bytes, bytes]:
    """A secret under PBES2, with PBKDF2-HMAC-SHA-256 and AES-256-CBC.

    Returns:
        The AlgorithmIdentifier in DER, and the encrypted octets.
    """
    salt, iv = random(16), random(16)
    key = hashlib.pbkdf2_hmac("sha256", password.reveal(), salt, ITERATIONS, 32)
    padding = 16 - len(secret.reveal()) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    locked = encryptor.update(secret.reveal() + bytes([padding]) * padding) + encryptor.finalize()
    prf = der.encode(der.SEQUENCE, der.encode_oid(_HMAC_SHA256), der.encode(der.NULL))
    parameters = der.encode(
        der.SEQUENCE, der.encode(der.OCTET_STRING, salt), der.encode_integer(ITERATIONS), prf
    )
    derivation = der.encode(der.SEQUENCE, der.encode_oid(_PBKDF2), parameters)
    cipher = der.encode(der.SEQUENCE, der.encode_oid(_AES_256_CBC), der.encode(der.OCTET_STRING, iv))
    scheme = der.encode(der.SEQUENCE, derivation, cipher)
    return der.encode(der.SEQUENCE, der.encode_oid(_PBES2), scheme), locked


def bmp_password(password: Secret) -> bytes:
    """A password as PKCS #12 hashes it: UTF-16 in big-endian order, two zero octets at the end.

    ``NO_PASSWORD`` stands for none at all, of which nothing is hashed, as opposed to an empty one.
    """
    if password is NO_PASSWORD:
        return b""
    try:
        return password.reveal().decode("utf-8").encode("utf-16-be") + b"\0\0"
    except UnicodeDecodeError:
        raise WrongPasswordError("the password is not UTF-8, and the file needs one that is text") from None


def pkcs12_key(name: str, secret: bytes, salt: bytes, rounds: int, *, use: int, size: int) -> bytes:
    """The derivation of RFC 7292 appendix B.2; ``name`` is the hash's, ``size`` in octets."""
    block = _BLOCK_BYTES.get(name, 64)
    diversifier = bytes([use]) * block
    spread = b"".join(_stretched(text, block) for text in (salt, secret))
    derived = b""
    while True:
        digest = hashlib.new(name, diversifier + spread).digest()
        for _ in range(rounds - 1):
            digest = hashlib.new(name, digest).digest()
        derived += digest
        if len(derived) >= size:
            return derived[:size]
        addend = int.from_bytes(_stretched(digest, block)[:block], "big") + 1
        pieces = (spread[at : at + block] for at in range(0, len(spread), block))
        spread = b"".join(
            ((int.from_bytes(piece, "big") + addend) % (1 << 8 * block)).to_bytes(block, "big")
            for piece in pieces
        )


def _stretched(text: bytes, block: int) -> bytes:
    """``text`` repeated up to the next multiple of a block."""
    size = -(-len(text) // block) * block
    return (text * (size // len(text) + 1))[:size] if text else b""


def _derived(derivation: der.Value, password: Secret, size: int, budget: Budget) -> bytes:
    name, parameters = derivation.part(0, der.OID).oid(), derivation.part(1, der.SEQUENCE)
    if name == _PBKDF2:
        hashed = "sha1"
        if parameters.parts and parameters.parts[-1].tag == der.SEQUENCE:
            prf = parameters.parts[-1].part(0, der.OID).oid()
            if prf not in _HMAC_HASHES:
                raise UnsupportedFileError(f"encrypted with PBKDF2 over {prf}, which keyrelay does not read")
            hashed = _HMAC_HASHES[prf]
        salt, rounds = _salt_and_rounds(parameters, budget)
        return hashlib.pbkdf2_hmac(hashed, password.reveal(), salt, rounds, size)
    if name == _SCRYPT:
        salt = parameters.part(0, der.OCTET_STRING).octets
        n, r, p = (parameters.part(at, der.INTEGER).integer() for at in (1, 2, 3))
        budget.scrypt(n=n, r=r, p=p)
        try:
            return hashlib.scrypt(
                password.reveal(), salt=salt, n=n, r=r, p=p, maxmem=128 * r * (n + p + 2) + 65536, dklen=size
            )
        except ValueError as error:
            raise DamagedFileError("the file asks for scrypt with numbers that it does not allow") from error
    raise UnsupportedFileError(f"encrypted with a key derivation that keyrelay does not read, {name}")


def _salt_and_rounds(parameters: der.Value, budget: Budget) -> tuple[bytes, int]:
    salt, rounds = parameters.part(0, der.OCTET_STRING).octets, parameters.part(1, der.INTEGER).integer()
    if not rounds:
        raise DamagedFileError("the file asks for no round of password hashing")
    budget.hash(rounds)
    return salt, rounds


def _key_bytes(cipher: der.Value) -> int:
    return _KEY_BYTES.get(cipher.part(0, der.OID).oid(), 24)


def _cipher_of(cipher: der.Value) -> Callable[[bytes, bytes], Secret]:
    name = cipher.part(0, der.OID).oid()
    if name in _KEY_BYTES:
        iv = _iv(cipher, 16)
        return lambda key, locked: _cbc(algorithms.AES(key), iv, locked, 16)
    if name == _DES_EDE3_CBC:
        iv = _iv(cipher, 8)
        return lambda key, locked: _cbc(TripleDES(key), iv, locked, 8)
    raise UnsupportedFileError(f"encrypted with a cipher that keyrelay does not read, {name}")


def _iv(cipher: der.Value, size: int) -> bytes:
    iv = cipher.part(1, der.OCTET_STRING).octets
    if len(iv) != size:
        raise DamagedFileError(f"the file's initialization vector has {len(iv)} octets, expected {size}")
    return iv


def _cbc(algorithm: algorithms.AES | TripleDES, iv: bytes, locked: bytes, block: int) -> Secret:
    decryptor = Cipher(algorithm, modes.CBC(iv)).decryptor()
    return _unpadded(decryptor.update(_blocks(locked, block)) + decryptor.finalize(), block)


def _blocks(locked: bytes, block: int) -> bytes:
    if not locked or len(locked) % block:
        raise DamagedFileError(f"{len(locked)} encrypted octets are not a multiple of {block}")
    return locked


def _unpadded(text: bytes, block: int) -> Secret:
    padding = text[-1]
    if not 1 <= padding <= block or text[-padding:] != bytes([padding]) * padding:
        raise WrongPasswordError(NOT_OPENED)
    return Secret(text[:-padding])
