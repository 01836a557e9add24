"""init: found a fleet: its id, its root and its issuing CA.

The root's key is used by hand and rarely; the issuer's works unattended. Where each is kept is for the
``Keyring`` to know.
"""

from datetime import timedelta

from orchestrator.errors import LedgerError
from orchestrator.keys.authority import ISSUER_KEY, ROOT_KEY, make_issuer, make_root
from orchestrator.ports import Clock, Entropy, Keyring, Ledger
from orchestrator.rotation.events import FleetFounded

ROOT_LIFETIME = timedelta(days=20 * 365)
ISSUER_LIFETIME = timedelta(days=5 * 365)


def found(ledger: Ledger, keys: Keyring, *, fleet: str, clock: Clock, entropy: Entropy) -> None:
    """Make root and issuer, keep their keys, and write the fleet's first entry.

    Raises:
        LedgerError: the ledger holds a fleet already.
        VaultError: a key cannot be made or kept.
    """
    recorded = ledger.read()
    if recorded.version:
        raise LedgerError(f"the ledger holds fleet {recorded.fleet} already", hint="Use another home.")
    now = clock.now()
    root = make_root(keys.make(ROOT_KEY), fleet=fleet, now=now, lifetime=ROOT_LIFETIME, random=entropy)
    issuer = make_issuer(
        root, keys.make(ISSUER_KEY), fleet=fleet, now=now, lifetime=ISSUER_LIFETIME, random=entropy
    )
    founded = FleetFounded(fleet=fleet, root=root.certificate.pem, issuer=issuer.certificate.pem)
    ledger.append([founded], onto=recorded, at=now)
