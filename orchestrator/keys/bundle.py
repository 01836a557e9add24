r"""What an agent trusts: a trust bundle, and the exact bytes it becomes on a host.

``trust.jwks``
    RFC 7517 JWK Set with ``epoch``, ``sequence`` and ``fleet`` beside ``keys``; for applications. A key's
    ``kid`` is its thumbprint. Keys that sign messages have ``use: sig``; the fleet's authority has
    ``use: keyrelay-authority``, which JOSE libraries pass over (RFC 7517 section 4.2 allows other values).
``trust.pem``
    the public keys that sign messages, and no others, one after the other; for applications.
``edges``
    ``<server> <spki-sha256> <exp>\n`` for each key that a server may sign with; ``exp`` in seconds since
    1970, ``-`` when the key does not expire. Sorted bytewise.
``keys/<spki-sha256>.pem``
    each key that signs messages in a file of its own, because ``openssl`` reads only the first of several.

An agent that believes what an issuer certifies (``delegation.py``) has more; no other agent has these files:

``delegations``
    ``<server> <issuer's spki-sha256> <grace>\n`` for each server and each issuer that may vouch for it; the
    grace in seconds. Sorted bytewise.
``denied``
    ``<spki-sha256> <exp>\n`` for each key that is refused all the same; there only if there is one.
``issuers/<spki-sha256>.pem``
    the certificate of each of these issuers.

In ``trust.jwks`` these issuers' keys carry ``x5c``, and the set carries ``delegations`` and ``denied``.

A bundle's digest is the SHA-256, in lowercase hexadecimal, of what ``sha256sum delegations denied edges
issuers/*.pem keys/*.pem trust.jwks trust.pem`` prints for those of these files that are there, under
``LC_ALL=C``: a line ``<sha256>  <name>\n`` each, sorted bytewise by name.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Self

from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.keys.certificate import Certificate
from orchestrator.keys.delegation import Delegation, Denied, check_server_name
from orchestrator.keys.material import Algorithm, PublicKey, SpkiDigest

_POSITION = re.compile(r"(0|[1-9][0-9]{0,15})\.(0|[1-9][0-9]{0,15})", re.ASCII)
_LARGEST = 2**53 - 1
_JOSE_ALGORITHM = {
    Algorithm.ED25519: "EdDSA",
    Algorithm.ECDSA_P256: "ES256",
    Algorithm.RSA_3072: "RS256",
}


class Use(StrEnum):
    """What a key in a bundle may do."""

    SIGN = "sign"
    """Sign messages to agents, as one of the servers named beside it."""
    CERTIFY = "certify"
    """Sign certificates."""
    LOG = "log"
    """Sign links of the succession log."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Position:
    """Where a bundle stands in the fleet's one sequence; a later one is larger (S2).

    Attributes:
        epoch: counts openings by the root key; 0 to 2^53 - 1, which JSON and sh both hold.
        sequence: counts bundles within the epoch; the same bounds.
    """

    epoch: int
    sequence: int

    def __post_init__(self) -> None:
        for name, number in (("epoch", self.epoch), ("sequence", self.sequence)):
            if not 0 <= number <= _LARGEST:
                raise ValueError(f"{name} {number} is not between 0 and 2^53 - 1")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``<epoch>.<sequence>`` in decimal without leading zeros; raises ``ValueError``."""
        found = _POSITION.fullmatch(text)
        if found is None:
            raise ValueError(f"expected a position such as 1.42, found {text!r}")
        return cls(epoch=int(found[1]), sequence=int(found[2]))

    def __str__(self) -> str:
        return f"{self.epoch}.{self.sequence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """One key of a bundle, and what it is trusted for.

    Attributes:
        public: the key.
        uses: what it may do; sorted, at least one.
        servers: the servers whose messages it may sign; sorted, none exactly when it does not sign messages.
        expires: from when agents refuse it, in whole seconds UTC (S10); ``None``: never.

    Raises:
        ValueError: no use, servers without ``SIGN`` or ``SIGN`` without servers, a server name that does not
            fit a line of ``edges``, a time without a zone.
    """

    public: PublicKey
    uses: tuple[Use, ...] = (Use.SIGN,)
    servers: tuple[str, ...] = ()
    expires: datetime | None = None

    def __post_init__(self) -> None:
        if not self.uses:
            raise ValueError("a trusted key without a use")
        if bool(self.servers) is not (Use.SIGN in self.uses):
            raise ValueError("a key that signs messages names its servers, and no other key does")
        for server in self.servers:
            check_server_name(server)
        object.__setattr__(self, "uses", tuple(sorted(set(self.uses))))
        object.__setattr__(self, "servers", tuple(sorted(set(self.servers))))
        if self.expires is not None:
            if self.expires.tzinfo is None:
                raise ValueError("the expiry of a trusted key has no time zone")
            object.__setattr__(self, "expires", self.expires.astimezone(UTC).replace(microsecond=0))

    @property
    def signs(self) -> bool:
        """Whether messages signed with this key are believed."""
        return Use.SIGN in self.uses


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBundle:
    """All that one agent trusts, at one position of the fleet's sequence.

    Attributes:
        fleet: the fleet's name.
        position: where it stands in the sequence.
        keys: each trusted key once, sorted by SPKI digest; none for an agent that listens to nobody.
        delegations: the servers that an issuer may vouch for, each pair once, sorted by server and
            issuer; the issuers stand among ``keys``.
        denied: keys that are refused whoever vouches for them; sorted by SPKI digest.

    Raises:
        ValueError: a key, a delegation or a denied key stands twice; an issuer may not certify, or has two
            certificates; keys are denied and nothing is delegated.
    """

    fleet: str
    position: Position
    keys: tuple[TrustedKey, ...] = ()
    delegations: tuple[Delegation, ...] = ()
    denied: tuple[Denied, ...] = ()

    def __post_init__(self) -> None:
        self._order_delegations()
        ordered = sorted(self.keys, key=_spki)
        for one, other in pairwise(ordered):
            if one.public == other.public:
                raise ValueError(f"key {one.public.thumbprint} stands twice in a bundle")
        object.__setattr__(self, "keys", tuple(ordered))

    def _order_delegations(self) -> None:
        granted = sorted(self.delegations, key=lambda one: (one.server, one.issuer_key))
        if len({(one.server, one.issuer_key) for one in granted}) < len(granted):
            raise ValueError("an issuer may vouch for a server twice in a bundle")
        certifying = {_spki(key) for key in self.keys if Use.CERTIFY in key.uses}
        if not certifying.issuperset(one.issuer_key for one in granted):
            raise ValueError("an issuer that is to vouch for a server is no key of the bundle that certifies")
        if len({one.issuer for one in granted}) > len({one.issuer_key for one in granted}):
            raise ValueError("an issuer has two certificates in a bundle")
        denied = sorted(self.denied, key=lambda one: one.key.spki_digest)
        if denied and not granted:
            raise ValueError("a bundle denies keys that nobody may vouch for")
        if len({one.key for one in denied}) < len(denied):
            raise ValueError("a key is denied twice in a bundle")
        object.__setattr__(self, "delegations", tuple(granted))
        object.__setattr__(self, "denied", tuple(denied))

    def files(self) -> Mapping[str, bytes]:
        """Every file of the bundle by its name below the bundle's folder, sorted; the same bytes always."""
        return self._files({"epoch": self.position.epoch, "sequence": self.position.sequence})

    @property
    def digest(self) -> str:
        """The bundle's digest, which hosts compute too: 64 lowercase hexadecimal digits."""
        return manifest_digest(self.files())

    @property
    def content_digest(self) -> str:
        """The digest of the bundle without its position: equal when an agent needs no new bundle."""
        return manifest_digest(self._files({}))

    def signers(self, server: str) -> tuple[SpkiDigest, ...]:
        """The keys that messages of ``server`` may be signed with, sorted."""
        return tuple(_spki(key) for key in self.keys if server in key.servers)

    def issuers(self) -> Mapping[SpkiDigest, Certificate]:
        """The certificates of the issuers that may vouch for a server."""
        return {one.issuer_key: one.issuer for one in self.delegations}

    def _files(self, position: Mapping[str, int]) -> dict[str, bytes]:
        signing = [key for key in self.keys if key.signs]
        pems = {f"keys/{_spki(key)}.pem": key.public.pem.encode("ascii") for key in signing}
        issuers = self.issuers()
        keys = [_jwk(key, issuers.get(_spki(key))) for key in self.keys]
        jwks: dict[str, object] = {"fleet": self.fleet, "keys": keys, **position}
        delegated: dict[str, bytes] = {}
        if self.delegations:
            jwks["delegations"] = [_delegation(one) for one in self.delegations]
            delegated["delegations"] = b"".join(sorted(one.line() for one in self.delegations))
            delegated |= {f"issuers/{name}.pem": one.pem.encode("ascii") for name, one in issuers.items()}
        if self.denied:
            jwks["denied"] = [{"kid": one.key.thumbprint, "exp": one.exp} for one in self.denied]
            delegated["denied"] = b"".join(sorted(one.line() for one in self.denied))
        files = {
            **delegated,
            "edges": b"".join(sorted(line for key in signing for line in _edges(key))),
            **pems,
            "trust.jwks": json.dumps(jwks, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n",
            "trust.pem": b"".join(pems.values()),
        }
        return {name: files[name] for name in sorted(files)}


def manifest_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 of the lines ``sha256sum`` prints for ``files``, sorted bytewise by name, in hexadecimal."""
    manifest = hashlib.sha256()
    for name in sorted(files):
        manifest.update(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n".encode())
    return manifest.hexdigest()


def _spki(key: TrustedKey) -> SpkiDigest:
    return key.public.spki_digest


def _exp(key: TrustedKey) -> int | None:
    return None if key.expires is None else int(key.expires.timestamp())


def _edges(key: TrustedKey) -> list[bytes]:
    exp = _exp(key)
    ending = "-" if exp is None else str(exp)
    return [f"{server} {_spki(key)} {ending}\n".encode() for server in key.servers]


def _delegation(one: Delegation) -> dict[str, object]:
    return {
        "server": one.server,
        "issuer": one.issuer.public_key.thumbprint,
        "grace": int(one.grace.total_seconds()),
    }


def _jwk(key: TrustedKey, certificate: Certificate | None) -> dict[str, object]:
    members: dict[str, object] = {
        **key.public.jwk,
        "kid": key.public.thumbprint,
        "alg": _JOSE_ALGORITHM[key.public.algorithm],
        "use": "sig" if key.signs else "keyrelay-authority",
        "keyrelay_uses": list(key.uses),
    }
    if key.servers:
        members["keyrelay_servers"] = list(key.servers)
    exp = _exp(key)
    if exp is not None:
        members["exp"] = exp
    if certificate is not None:
        der = certificate.opened.public_bytes(Encoding.DER)
        members["x5c"] = [base64.b64encode(der).decode("ascii")]
    return members
