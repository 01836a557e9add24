"""Keys that never leave a hardware security module: what is known of them, and how they sign."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, KeySerializationEncryption, PrivateFormat

SignDigest = Callable[[bytes], bytes]
"""Signs a digest with ECDSA inside a token; gives r and s, of equal length, one behind the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The token that keeps the authority's keys (PKCS#11).

    Attributes:
        module: the path of the library that speaks with it.
        label: what people called it.
        serial: its own number, so that another token of the same name is not taken for it.
    """

    module: str
    label: str
    serial: str


class TokenSigner(ec.EllipticCurvePrivateKey):
    """An ECDSA key that is used where it lies.

    ``cryptography`` signs certificates and lists with any object that is of its class for private keys, so
    that nothing else has to know where a key is.
    """

    def __init__(self, public: ec.EllipticCurvePublicKey, sign_digest: SignDigest) -> None:
        self._public = public
        self._sign_digest = sign_digest

    def sign(
        self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        """An ECDSA signature in DER over the hash of ``data``; raises what the token raises."""
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed):
            digest = bytes(data)
        else:
            hashing = hashes.Hash(algorithm)
            hashing.update(data)
            digest = hashing.finalize()
        raw = self._sign_digest(digest)
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve of both halves."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Bits."""
        return self._public.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Refused: the key signs and does nothing else."""
        del algorithm, peer_public_key
        raise _stays()

    def private_numbers(self) -> NoReturn:
        """Refused: the key stays in its token."""
        raise _stays()

    def private_bytes(
        self,
        encoding: Encoding,
        format: PrivateFormat,  # noqa: A002 - named so by the class above
        encryption_algorithm: KeySerializationEncryption,
    ) -> NoReturn:
        """Refused: the key stays in its token."""
        del encoding, format, encryption_algorithm
        raise _stays()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


def _stays() -> TypeError:
    return TypeError("a key in a token only signs; it never comes out")
