"""Which keys keyrelay uses: three kinds, each of one exact shape, and none with which anybody could sign.

Every key from outside passes ``supported`` or ``supported_private``. They look beyond the kind, because a
library that loads a key need not: an Ed25519 key has to be a canonical point (RFC 8032 section 5.1.3) of
large order; an RSA key has the one size and exponent, and passes what is cheap of NIST SP 800-89 section
5.3.3: no small factor, no square. That the modulus is no prime is not tested, which would cost 50 ms a key.
"""

import math
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from orchestrator.errors import KeyMaterialError

Verifier = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
Signer = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

RSA_BITS = 3072
"""As strong as the curves: 128 bits (NIST SP 800-57 part 1, table 2)."""

RSA_EXPONENT = 65537

_ED25519_FIELD = 2**255 - 19
_ED25519_D = -121665 * pow(121666, -1, _ED25519_FIELD) % _ED25519_FIELD
_LARGEST_SMALL_FACTOR = 751
_SMALL_FACTORS = math.lcm(*range(1, _LARGEST_SMALL_FACTOR + 1))


class Algorithm(StrEnum):
    """The kinds of key a playbook may ask for."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"
    RSA_3072 = "rsa-3072"


def algorithm_of(key: Verifier) -> Algorithm:
    """The kind of a key that ``supported`` gave."""
    match key:
        case ed25519.Ed25519PublicKey():
            return Algorithm.ED25519
        case ec.EllipticCurvePublicKey():
            return Algorithm.ECDSA_P256
        case rsa.RSAPublicKey():
            return Algorithm.RSA_3072


def supported(key: object) -> Verifier:
    """The public key itself.

    Raises:
        KeyMaterialError: of another kind or size, or one with which anybody could sign.
    """
    match key:
        case ed25519.Ed25519PublicKey():
            _require_sound_point(key.public_bytes_raw())
            return key
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return key
        case rsa.RSAPublicKey():
            _require_sound_modulus(key.public_numbers())
            return key
        case _:
            raise _other_kind("public")


def supported_private(key: object) -> Signer:
    """The private key itself; raises ``KeyMaterialError`` as ``supported`` does for its public half."""
    match key:
        case ed25519.Ed25519PrivateKey():
            return key
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1):
            return key
        case rsa.RSAPrivateKey():
            _require_sound_modulus(key.public_key().public_numbers())
            return key
        case _:
            raise _other_kind("private")


def _other_kind(half: str) -> KeyMaterialError:
    *first, last = Algorithm
    kinds = f"{', '.join(first)} or {last}"
    return KeyMaterialError(f"a {half} key of a kind keyrelay does not use; expected {kinds}")


def _require_sound_point(encoded: bytes) -> None:
    """Refuses Ed25519 keys that name no point, or one of small order, with which anybody can sign.

    OpenSSL loads any 32 bytes; RFC 8032 section 5.1.3 decodes only canonical points. A point's order divides
    8 when doubling it three times gives the neutral point, for which y is 1.
    """
    p = _ED25519_FIELD
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    x2 = (y * y - 1) * pow(_ED25519_D * y * y + 1, -1, p) % p
    if y >= p or (x2 and pow(x2, (p - 1) // 2, p) != 1):
        raise KeyMaterialError("the Ed25519 public key is no point of its curve")
    for _ in range(3):
        # On the curve -x² + y² = 1 + d·x²·y² doubling gives y' = (y² + x²) / (2 + x² - y²).
        y2 = (y * y) % p
        y = (y2 + x2) * pow(2 + x2 - y2, -1, p) % p
        x2 = (y * y - 1) * pow(_ED25519_D * y * y + 1, -1, p) % p
    if y == 1:
        raise KeyMaterialError("the Ed25519 public key is a point of small order: anybody could sign")


def _require_sound_modulus(numbers: rsa.RSAPublicNumbers) -> None:
    """Refuses RSA keys of another size or exponent, and moduli that fall apart at once."""
    n, bits = numbers.n, numbers.n.bit_length()
    if (bits, numbers.e) != (RSA_BITS, RSA_EXPONENT):
        raise KeyMaterialError(
            f"an RSA key of {bits} bits with exponent {numbers.e};"
            f" expected {RSA_BITS} bits with exponent {RSA_EXPONENT}"
        )
    if math.gcd(n, _SMALL_FACTORS) != 1 or math.isqrt(n) ** 2 == n:
        raise KeyMaterialError("the modulus of the RSA key is factored at once: anybody could sign")
