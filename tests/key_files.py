"""A key of each kind, certified by a made-up fleet: what the tests of key files write and read."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509

from orchestrator.keys.authority import Authority, certify, make_issuer, make_request, make_root
from orchestrator.keys.certificate import Certificate
from orchestrator.keys.material import Algorithm, KeyPair, generate, open_signer
from orchestrator.keys.secret import Secret
from tests.fakes import SeededEntropy

MADE_AT = datetime(2030, 1, 1, 12, tzinfo=UTC)
PASSWORD = Secret("correct hörse".encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """A key with its certificate and the chain, up to and with the root."""

    pair: KeyPair
    certificates: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> Certificate:
        return Certificate.of(self.certificates[0])


@cache
def pair_of(algorithm: Algorithm, seed: str = "") -> KeyPair:
    """A key, the same for the same seed, if it is not RSA."""
    return generate(algorithm, random=SeededEntropy(f"key files {algorithm} {seed}"))


@cache
def authorities(made_at: datetime = MADE_AT) -> tuple[Authority, Authority]:
    """A root and an issuer."""
    random = SeededEntropy(f"authorities {made_at}")
    mine, below = (open_signer(pair_of(Algorithm.ECDSA_P256, f"{made_at} {n}").private) for n in range(2))
    root = make_root(mine, fleet="orchard", now=made_at, lifetime=timedelta(days=3650), random=random)
    days = timedelta(days=730)
    return root, make_issuer(root, below, fleet="orchard", now=made_at, lifetime=days, random=random)


def certified(
    algorithm: Algorithm,
    *names: str,
    made_at: datetime = MADE_AT,
    lifetime: timedelta = timedelta(days=30),
    seed: str = "",
) -> Certified:
    """A key that is certified for ``names``, or for ``web-01``."""
    root, issuer = authorities(made_at)
    pair = pair_of(algorithm, seed)
    leaf = certify(
        issuer,
        request_pem=make_request(pair, names=names or ("web-01",)),
        names=names or ("web-01",),
        now=made_at,
        not_after=made_at + lifetime,
        backdate=timedelta(minutes=10),
        random=SeededEntropy(f"certify {algorithm} {names}"),
    )
    chain = (leaf.opened, issuer.certificate.opened, root.certificate.opened)
    return Certified(pair=pair, certificates=chain)
