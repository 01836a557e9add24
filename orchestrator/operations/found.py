"""init: found a fleet: its id, its root and its issuing CA.

The root's private key is handed back to be sealed apart, with a passphrase of its own; it is never in the
vault. The issuer's key is kept in the vault, since it works unattended.
"""

from datetime import timedelta

from orchestrator.errors import LedgerError
from orchestrator.keys.authority import make_issuer, make_root
from orchestrator.keys.secret import Secret
from orchestrator.ports import Clock, Entropy, Ledger, Vault
from orchestrator.rotation.events import FleetFounded

ROOT_LIFETIME = timedelta(days=20 * 365)
ISSUER_LIFETIME = timedelta(days=5 * 365)

ISSUER_RECORD = "issuer"
"""Under which the vault keeps the issuer's key, and what for."""


def found(ledger: Ledger, vault: Vault, *, clock: Clock, entropy: Entropy) -> Secret:
    """Make root and issuer, keep the issuer's key, and write the fleet's first entry.

    Returns:
        The root's private key (PKCS#8 PEM), for the caller to seal before anything else is done.

    Raises:
        LedgerError: the ledger holds a fleet already.
    """
    recorded = ledger.read()
    if recorded.version:
        raise LedgerError(f"the ledger holds fleet {recorded.fleet} already", hint="Use another home.")
    now = clock.now()
    fleet = entropy(8).hex()
    root = make_root(fleet=fleet, now=now, lifetime=ROOT_LIFETIME, random=entropy)
    issuer = make_issuer(root, fleet=fleet, now=now, lifetime=ISSUER_LIFETIME, random=entropy)
    vault.destroy(ISSUER_RECORD)  # of an attempt that was cut short: nothing in an empty ledger needs it
    vault.put(ISSUER_RECORD, ISSUER_RECORD, issuer.private)
    founded = FleetFounded(fleet=fleet, root=root.certificate.pem, issuer=issuer.certificate.pem)
    ledger.append([founded], onto=recorded, at=now)
    return root.private
