"""The authority's keys in a hardware security module: made there, used there, never outside (PKCS#11 v2.40).

Keys are ECDSA P-256, marked as sensitive and not extractable, and labelled ``keyrelay FLEET NAME``. What the
library of a token raises is mapped to errors here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pkcs11
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11.exceptions import (
    MultipleObjectsReturned,
    MultipleTokensReturned,
    NoSuchKey,
    NoSuchToken,
    PinIncorrect,
    PinLenRange,
    PinLocked,
    PKCS11Error,
)
from pkcs11.types import SignMixin
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

from orchestrator.errors import VaultError
from orchestrator.keys.kinds import Signer
from orchestrator.keys.secret import Secret
from orchestrator.keys.token import SignDigest, Token, TokenSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKeys:
    """The keys of one fleet's authority in a token that is logged in to.

    Attributes:
        token: for errors.
        fleet: whose keys they are.
        session: with the token.
    """

    token: Token
    fleet: str
    session: pkcs11.Session

    def make(self, name: str) -> Signer:
        """A new key, kept in the token.

        Raises:
            VaultError: there is one of that name, or the token does not make it.
        """
        with _told(self.token, f"does not make the key {self._label(name)!r}"):
            if list(self.session.get_objects({pkcs11.Attribute.LABEL: self._label(name)})):
                raise VaultError(f"{_named(self.token)} has a key {self._label(name)!r} already")
            curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
            parameters = self.session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
            parameters.generate_keypair(
                store=True,
                label=self._label(name),
                id=self._label(name).encode(),
                private_template={pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False},
            )
        return self.open(name)

    def open(self, name: str) -> Signer:
        """The key of that name.

        Raises:
            VaultError: there is none, or several, or it could leave the token.
        """
        label = self._label(name)
        with _told(self.token, f"does not give the key {label!r}"):
            private = self.session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=label)
            public = self.session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=label)
            if not isinstance(private, SignMixin) or not isinstance(public, pkcs11.PublicKey):
                raise VaultError(f"{_named(self.token)}: {label!r} is no key that signs")
            if private[pkcs11.Attribute.EXTRACTABLE]:
                raise VaultError(
                    f"{_named(self.token)}: the key {label!r} may be extracted, so others may have it",
                    hint="a key that keyrelay makes in a token may not",
                )
            opened = load_der_public_key(encode_ec_public_key(public))
        if not isinstance(opened, ec.EllipticCurvePublicKey):
            raise VaultError(f"{_named(self.token)}: {label!r} is no ECDSA key")
        return TokenSigner(opened, self._signing(private, label))

    def destroy(self, name: str) -> None:
        """Take both halves of a key out of the token; idempotent; raises ``VaultError``."""
        with _told(self.token, f"does not destroy the key {self._label(name)!r}"):
            for found in list(self.session.get_objects({pkcs11.Attribute.LABEL: self._label(name)})):
                found.destroy()

    def _label(self, name: str) -> str:
        return f"keyrelay {self.fleet} {name}"

    def _signing(self, private: SignMixin, label: str) -> SignDigest:
        def sign(digest: bytes) -> bytes:
            with _told(self.token, f"does not sign with {label!r}"):
                return bytes(private.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))

        return sign


def find_token(module: str, label: str) -> Token:
    """The one token of that label that a library knows of.

    Raises:
        VaultError: the library cannot be loaded, or there is no such token, or several.
    """
    token = Token(module=module, label=label, serial="")
    with _told(token, "cannot be asked"):
        return Token(module=module, label=label, serial=_serial(_found(token)))


@contextmanager
def open_token(token: Token, pin: Secret, *, fleet: str) -> Iterator[TokenKeys]:
    """Log in to a token, and out again.

    Raises:
        VaultError: the library cannot be loaded, the token is not there or another one, or the PIN is wrong.
    """
    with _told(token, "does not let us in"):
        session = _found(token).open(rw=True, user_pin=_text(pin))
    with session:
        yield TokenKeys(token=token, fleet=fleet, session=session)


def _found(token: Token) -> pkcs11.Token:
    try:
        library = pkcs11.lib(token.module)
    except (RuntimeError, OSError) as error:
        raise VaultError(
            f"the PKCS#11 library {token.module} cannot be loaded: {error}",
            hint="on another machine than the one that founded the fleet: $KEYRELAY_PKCS11_MODULE names it",
        ) from error
    there = list(library.get_tokens(token_label=token.label))
    mine = [one for one in there if not token.serial or _serial(one) == token.serial]
    if len(mine) != 1:
        raise VaultError(
            f"{token.module} knows {len(mine)} of {_named(token)}; expected one",
            hint="plug it in, or compare what the library's own tool lists",
        )
    return mine[0]


def _serial(found: pkcs11.Token) -> str:
    return bytes(found.serial).decode("ascii", "replace").strip()


def _text(pin: Secret) -> str:
    try:
        return pin.reveal().decode("utf-8")
    except UnicodeDecodeError:
        # The cause would quote the PIN.
        raise VaultError("the PIN is no text") from None


def _named(token: Token) -> str:
    return f"token {token.label!r}" + (f" (serial {token.serial})" if token.serial else "")


@contextmanager
def _told(token: Token, what: str) -> Iterator[None]:
    """What a library raises, in words."""
    try:
        yield
    except (PinIncorrect, PinLenRange) as error:
        raise VaultError(
            f"{_named(token)}: the PIN is wrong", hint="most tokens lock themselves after a few wrong ones"
        ) from error
    except PinLocked as error:
        raise VaultError(
            f"{_named(token)} is locked after too many wrong PINs", hint="its security officer can unlock it"
        ) from error
    except (NoSuchToken, MultipleTokensReturned, NoSuchKey) as error:
        raise VaultError(f"{_named(token)} {what}: there is none") from error
    except MultipleObjectsReturned as error:
        raise VaultError(f"{_named(token)} {what}: there are several") from error
    except (PKCS11Error, UnsupportedAlgorithm, ValueError) as error:
        raise VaultError(f"{_named(token)} {what}: {type(error).__name__}") from error
