"""ca renew: how the fleet's root and issuer go on lasting.

A renewal certifies the same key anew: whatever hangs below stays valid, and hosts need not know.
"""

from datetime import timedelta

from orchestrator.errors import IssuerError
from orchestrator.keys.authority import ROOT_KEY, Authority, make_issuer, make_root
from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.ports import Clock, Entropy, Keyring, Ledger
from orchestrator.rotation.home_events import IssuerRenewed, RootRenewed


def renew_issuer(
    ledger: Ledger, keys: Keyring, *, clock: Clock, entropy: Entropy, lifetime: timedelta
) -> Certificate:
    """Have the root certify the issuer's key anew.

    Raises:
        IssuerError: the root is not valid now, or would expire first.
        VaultError: a key cannot be opened.
        ConflictError: another controller wrote meanwhile.
    """
    recorded, now = ledger.read(), clock.now()
    root = Authority(certificate=parse_certificate(recorded.root), signer=keys.open(ROOT_KEY))
    renewed = make_issuer(
        root,
        keys.open(recorded.own_issuer(None).record),
        fleet=recorded.fleet,
        now=now,
        lifetime=lifetime,
        random=entropy,
    ).certificate
    _require_same_key(renewed, recorded.issuer)
    ledger.append([IssuerRenewed(certificate_pem=renewed.pem)], onto=recorded, at=now)
    return renewed


def renew_root(
    ledger: Ledger, keys: Keyring, *, clock: Clock, entropy: Entropy, lifetime: timedelta
) -> Certificate:
    """Have the root certify its own key anew.

    Raises:
        VaultError: its key cannot be opened.
        ConflictError: another controller wrote meanwhile.
    """
    recorded, now = ledger.read(), clock.now()
    renewed = make_root(
        keys.open(ROOT_KEY), fleet=recorded.fleet, now=now, lifetime=lifetime, random=entropy
    ).certificate
    _require_same_key(renewed, recorded.root)
    ledger.append([RootRenewed(certificate_pem=renewed.pem)], onto=recorded, at=now)
    return renewed


def _require_same_key(renewed: Certificate, before: str) -> None:
    if renewed.public_key != parse_certificate(before).public_key:
        raise IssuerError(
            f"the key that was opened is not that of {renewed.subject!r}; nothing was renewed",
            hint="the key belongs to another fleet or to an earlier authority",
        )
