"""A fleet is founded once; an attempt that was cut short leaves nothing in the way."""

import pytest

from orchestrator.errors import LedgerError
from orchestrator.keys.authority import ISSUER_KEY, ROOT_KEY
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import PublicKey
from orchestrator.operations.found import found
from orchestrator.ports import Ledger
from tests.fakes import FakeClock, FakeKeyring, FakeLedger, FakeVault, SeededEntropy
from tests.mortal import KilledError, Life, MortalLedger, MortalVault

FLEET = "0123456789abcdef"


def found_one(ledger: Ledger, keys: FakeKeyring) -> None:
    found(ledger, keys, fleet=FLEET, clock=FakeClock(), entropy=SeededEntropy())


def test_root_and_issuer_are_those_whose_keys_are_kept() -> None:
    ledger, vault = FakeLedger(), FakeVault()
    keys = FakeKeyring(vault, SeededEntropy("keys"))
    found_one(ledger, keys)
    recorded = ledger.read()
    assert recorded.fleet == FLEET
    assert set(vault.kept) == {ISSUER_KEY, ROOT_KEY}
    for name, certificate in ((ROOT_KEY, recorded.root), (ISSUER_KEY, recorded.issuer)):
        kept = PublicKey.of(keys.open(name).public_key())
        assert kept == parse_certificate(certificate).public_key


def test_a_second_time_is_refused() -> None:
    ledger, vault = FakeLedger(), FakeVault()
    keys = FakeKeyring(vault, SeededEntropy("keys"))
    found_one(ledger, keys)
    kept = dict(vault.kept)
    with pytest.raises(LedgerError, match=r"holds fleet .* already"):
        found_one(ledger, keys)
    assert vault.kept == kept


@pytest.mark.parametrize("points", range(9))
def test_cut_short_before_the_ledger_knows_it_can_be_founded_again(points: int) -> None:
    ledger, vault, life = FakeLedger(), FakeVault(), Life()
    entropy = SeededEntropy("keys")
    life.dies_after(points)
    with pytest.raises(KilledError):
        found_one(MortalLedger(ledger, life), FakeKeyring(MortalVault(vault, life), entropy))
    keys = FakeKeyring(vault, entropy)
    if ledger.read().version == 0:
        found_one(ledger, keys)
    issuer = PublicKey.of(keys.open(ISSUER_KEY).public_key())
    assert issuer == parse_certificate(ledger.read().issuer).public_key
