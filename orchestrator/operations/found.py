"""init: found a fleet: its id, its root and its issuing CA.

The root's key is used by hand and rarely; the issuer's works unattended. Where each is kept is for the
``Keyring`` to know.
"""

from dataclasses import dataclass
from datetime import timedelta

from orchestrator.errors import LedgerError
from orchestrator.keys.authority import ISSUER_KEY, ROOT_KEY, make_issuer, make_root
from orchestrator.keys.token import Token
from orchestrator.ports import Clock, Entropy, Keyring, Ledger
from orchestrator.rotation.home_events import FleetFounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long an authority's certificates are valid."""

    root: timedelta = timedelta(days=20 * 365)
    issuer: timedelta = timedelta(days=5 * 365)


LIFETIMES = Lifetimes()
"""What they are unless somebody wants them otherwise."""


def found(
    ledger: Ledger,
    keys: Keyring,
    *,
    fleet: str,
    clock: Clock,
    entropy: Entropy,
    lifetimes: Lifetimes = LIFETIMES,
    token: Token | None = None,
) -> None:
    """Make root and issuer, keep their keys, and write the fleet's first entry.

    Args:
        ledger: an empty one.
        keys: makes the keys and keeps them.
        fleet: its id.
        clock: the present.
        entropy: gives serial numbers.
        lifetimes: how long root and issuer are valid.
        token: where ``keys`` keeps them, if that is not the home.

    Raises:
        IssuerError: the issuer would outlive the root.
        LedgerError: the ledger holds a fleet already.
        VaultError: a key cannot be made or kept.
    """
    recorded = ledger.read()
    if recorded.version:
        raise LedgerError(f"the ledger holds fleet {recorded.fleet} already", hint="Use another home.")
    now = clock.now()
    root = make_root(keys.make(ROOT_KEY), fleet=fleet, now=now, lifetime=lifetimes.root, random=entropy)
    issuer = make_issuer(
        root, keys.make(ISSUER_KEY), fleet=fleet, now=now, lifetime=lifetimes.issuer, random=entropy
    )
    founded = FleetFounded(fleet=fleet, root=root.certificate.pem, issuer=issuer.certificate.pem, token=token)
    ledger.append([founded], onto=recorded, at=now)
