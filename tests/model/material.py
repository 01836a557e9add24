"""Cheap stand-ins for what is dear and beside the point: keys, signatures, certificates, digests.

The engine is left as it is. Keys and certificates are real, but made once for all states; a signature is a
hash that only the right key can account for; the digest of a bundle is as long as its content is known by it.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from unittest.mock import patch

from orchestrator.errors import VaultError
from orchestrator.keys.authority import certify, make_issuer, make_request, make_root
from orchestrator.keys.bundle import TrustBundle
from orchestrator.keys.certificate import Certificate, parse_certificate, parse_chain
from orchestrator.keys.delegation import Fault, fault_of
from orchestrator.keys.material import Algorithm, KeyPair, PublicKey, Random, SpkiDigest, generate
from orchestrator.keys.path import verify_chain
from orchestrator.keys.secret import Secret
from orchestrator.ports import CertificateOrder, Issued
from orchestrator.rotation.recorded import Recorded
from tests.authorities import new_signer
from tests.fake_fleet import counting_random
from tests.fakes import NOON

FLEET = "0" * 16
MOST_KEYS = 24
"""So many keys are there for one history; none of them needs more."""

_random = counting_random("model")
KEYS = tuple(generate(Algorithm.ED25519, random=_random) for _ in range(MOST_KEYS))
_PUBLIC_OF = {pair.private.reveal(): pair.public for pair in KEYS}
_PAIR_OF = {pair.private.reveal(): pair for pair in KEYS}
_ROOT = make_root(
    new_signer(_random), fleet=FLEET, now=NOON, lifetime=timedelta(days=20 * 365), random=_random
)
_ISSUERS = tuple(
    make_issuer(
        _ROOT, new_signer(_random), fleet=FLEET, now=NOON, lifetime=timedelta(days=5 * 365), random=_random
    )
    for _ in range(2)
)
ROOT_PEM = _ROOT.certificate.pem
ISSUER_PEMS = tuple(issuer.certificate.pem for issuer in _ISSUERS)
"""The issuer of the beginning, and the one that may replace it."""
_SEPARATOR = "|"
MOST_CONTENTS = 100_000
_chains: set[tuple[Any, ...]] = set()
_contents: dict[int, tuple[TrustBundle, str]] = {}


@cache
def _certificate(request: str, issuer: int, now: datetime, not_after: datetime) -> str:
    number, name = request.split(_SEPARATOR)
    real = make_request(KEYS[int(number)], names=(name,))
    return certify(
        _ISSUERS[issuer],
        request_pem=real,
        names=(name,),
        now=now,
        not_after=not_after,
        backdate=timedelta(minutes=1),
        random=_random,
    ).pem


class CannedIssuer:
    """Certifies each key once for each server, issuer, beginning and end.

    Args:
        recorded: tells the ledger, which says who certifies now, and whose key is still there.
    """

    def __init__(self, recorded: Callable[[], Recorded]) -> None:
        self._recorded = recorded

    def issue(self, order: CertificateOrder, *, now: datetime) -> Issued:
        issuer = self._recorded().own_issuer(order.by)
        if not issuer.kept:
            raise VaultError(f"the key of {issuer.record} is destroyed")
        number = ISSUER_PEMS.index(issuer.certificate)
        pem = _certificate(order.request_pem, number, now, order.not_after)
        return Issued(certificate_pem=pem, chain_pem=issuer.certificate)


@dataclass(slots=True)
class Numbers:
    """Randomness that only counts: never twice the same, and the later the larger.

    Attributes:
        drawn: how often something was drawn.
        keys: how many keys were made.
    """

    drawn: int = 0
    keys: int = 0

    def __call__(self, size_bytes: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(size_bytes, "big")


@dataclass(slots=True)
class SetVault:
    """A vault that tells when it has changed.

    Attributes:
        kept: the numbers of the keys in it, by record.
    """

    kept: Mapping[str, int] = field(default_factory=dict)
    changed: list[Mapping[str, int]] = field(default_factory=list)

    def put(self, record: str, purpose: str, secret: Secret) -> None:
        del purpose
        self.kept = {**self.kept, record: KEYS.index(_PAIR_OF[secret.reveal()])}
        self.changed.append(self.kept)

    def open(self, record: str, purpose: str) -> Secret:
        del purpose
        if record not in self.kept:
            raise VaultError(f"nothing is kept as {record}")
        return KEYS[self.kept[record]].private

    def holds(self, record: str) -> bool:
        return record in self.kept

    def destroy(self, *records: str) -> None:
        self.kept = {name: key for name, key in self.kept.items() if name not in records}
        self.changed.append(self.kept)


def _next_key(algorithm: Algorithm, *, random: Random) -> KeyPair:
    """The next key of the list."""
    del algorithm
    assert isinstance(random, Numbers)
    random.keys += 1
    return KEYS[random.keys - 1]


def _load(private: Secret) -> KeyPair:
    return _PAIR_OF[private.reveal()]


def _request(pair: KeyPair, *, names: tuple[str, ...]) -> str:
    return f"{KEYS.index(pair)}{_SEPARATOR}{names[0]}"


def _signature(public: PublicKey, message: bytes) -> bytes:
    return hashlib.blake2b(message, key=public.pem[30:90].encode(), digest_size=16).digest()


def _sign(private: Secret, message: bytes) -> bytes:
    return _signature(_PUBLIC_OF[private.reveal()], message)


def _verify(public: PublicKey, signature: bytes, message: bytes) -> bool:
    return signature == _signature(public, message)


def _content(bundle: TrustBundle) -> str:
    known = _contents.get(id(bundle))
    if known is not None:
        return known[1]
    if len(_contents) > MOST_CONTENTS:
        _contents.clear()
    name = _name_of(
        (
            tuple((k.public.pem, k.uses, k.servers, k.expires) for k in bundle.keys),
            tuple((d.server, d.issuer_key, d.grace) for d in bundle.delegations),
            tuple((d.key.pem, d.expires) for d in bundle.denied),
        )
    )
    _contents[id(bundle)] = (bundle, name)
    return name


@cache
def _name_of(content: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _digest(bundle: TrustBundle) -> str:
    return f"{bundle.position} {_content(bundle)}"


@cache
def parsed(pem: str) -> Certificate:
    """A certificate, read once."""
    return parse_certificate(pem)


def _verified(leaf: Certificate, chain: Sequence[Certificate], root: Certificate, **how: Any) -> None:
    name = (leaf.pem, tuple(one.pem for one in chain), root.pem, *how.values())
    if name not in _chains:
        verify_chain(leaf, chain, root, **how)
        _chains.add(name)


@cache
def _known_fault(
    leaf: str, server: str, issuer: str, grace: timedelta, denied: frozenset[str], at: datetime
) -> Fault | None:
    kept = frozenset(SpkiDigest(key) for key in denied)
    return fault_of(parsed(leaf), server=server, issuer=parsed(issuer), grace=grace, denied=kept, at=at)


def _fault_of(
    certificate: Certificate,
    *,
    server: str,
    issuer: Certificate,
    grace: timedelta,
    denied: Collection[SpkiDigest],
    at: datetime,
) -> Fault | None:
    return _known_fault(certificate.pem, server, issuer.pem, grace, frozenset(denied), at)


@contextmanager
def cheap() -> Iterator[None]:
    """Within this, keys and signatures cost next to nothing."""
    with ExitStack() as stack:
        for where, what in (
            ("orchestrator.operations.making.generate", _next_key),
            ("orchestrator.operations.making.load_private", _load),
            ("orchestrator.operations.making.make_request", _request),
            ("orchestrator.rotation.bundles.parse_certificate", parsed),
            ("orchestrator.rotation.adopting.parse_certificate", parsed),
            ("orchestrator.rotation.adopting.parse_chain", cache(parse_chain)),
            ("orchestrator.rotation.adopting.verify_chain", _verified),
            ("orchestrator.rotation.credentials.parse_certificate", parsed),
            ("orchestrator.rotation.restored.parse_chain", cache(parse_chain)),
            ("orchestrator.rotation.sight.parse_certificate", parsed),
            ("orchestrator.rotation.sight.parse_chain", cache(parse_chain)),
            ("orchestrator.operations.issuing.parse_certificate", parsed),
            ("orchestrator.operations.issuing.parse_chain", cache(parse_chain)),
            ("orchestrator.operations.issuing.fault_of", _fault_of),
            ("orchestrator.rotation.sight.fault_of", _fault_of),
            ("tests.fake_host.parse_certificate", parsed),
            ("tests.fake_host.fault_of", _fault_of),
            ("tests.fake_host.sign", _sign),
            ("tests.fake_state.load_private", _load),
        ):
            stack.enter_context(patch(where, what))
        stack.enter_context(patch.object(PublicKey, "verify", _verify))
        stack.enter_context(patch.object(TrustBundle, "digest", property(_digest)))
        stack.enter_context(patch.object(TrustBundle, "content_digest", property(_content)))
        yield
