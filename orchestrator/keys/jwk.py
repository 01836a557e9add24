"""Public keys as JSON Web Keys: the required members, and the key that they name.

RFC 7517 has the form; RFC 8037 section 2 the members for Ed25519, RFC 7518 sections 6.2 and 6.3 those for
P-256 and RSA. What RFC 7518 calls Base64urlUInt has no leading zeros, so each key has one JWK.
"""

import base64
import binascii
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.kinds import RSA_BITS, Verifier

_COORDINATE_BYTES = 32
_MODULUS_BYTES = RSA_BITS // 8
_EXPONENT_BYTES = 3


def jwk_of(key: Verifier) -> dict[str, str]:
    """The members that RFC 7638 section 3.2 hashes, a new mapping each time."""
    match key:
        case ed25519.Ed25519PublicKey():
            return {"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_bytes_raw())}
        case ec.EllipticCurvePublicKey():
            point = key.public_numbers()
            x, y = (_text(number, _COORDINATE_BYTES) for number in (point.x, point.y))
            return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            n, e = _text(numbers.n, _MODULUS_BYTES), _text(numbers.e, _EXPONENT_BYTES)
            return {"kty": "RSA", "n": n, "e": e}


def key_of(members: Mapping[str, object]) -> Verifier:
    """The key a public JWK names; members that are not required are left alone.

    Raises:
        KeyMaterialError: another ``kty`` or ``crv``, a private key, or numbers of no such key. Whether the
            key is sound is for ``kinds.supported`` to say.
    """
    if "d" in members:
        raise KeyMaterialError("a JWK with a private key stands where a public key belongs")
    try:
        match (members.get("kty"), members.get("crv")):
            case ("OKP", "Ed25519"):
                x = _bytes(members, "x", _COORDINATE_BYTES)
                return ed25519.Ed25519PublicKey.from_public_bytes(x)
            case ("EC", "P-256"):
                x, y = (_bytes(members, name, _COORDINATE_BYTES) for name in ("x", "y"))
                return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
            case ("RSA", _):
                n = int.from_bytes(_bytes(members, "n", _MODULUS_BYTES), "big")
                e = int.from_bytes(_bytes(members, "e", _EXPONENT_BYTES), "big")
                return rsa.RSAPublicNumbers(e, n).public_key()
            case (kty, crv):
                raise KeyMaterialError(
                    f"JWK of kty {kty!r} and crv {crv!r}; expected OKP/Ed25519, EC/P-256 or RSA"
                )
    except ValueError as error:
        raise KeyMaterialError("a JWK's numbers are no key of its kind") from error


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _text(number: int, size_bytes: int) -> str:
    return base64url(number.to_bytes(size_bytes, "big"))


def _bytes(members: Mapping[str, object], name: str, size_bytes: int) -> bytes:
    value = members.get(name)
    if not isinstance(value, str):
        raise KeyMaterialError(f"a JWK without a text member {name!r}")
    try:
        data = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise KeyMaterialError(f"a JWK whose {name!r} is not base64url") from error
    if len(data) != size_bytes or base64url(data) != value:
        raise KeyMaterialError(f"a JWK whose {name!r} is not {size_bytes} bytes in base64url")
    return data
