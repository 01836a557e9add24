"""A fleet is founded once; an attempt that was cut short leaves nothing in the way."""

import pytest

from orchestrator.errors import LedgerError
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import load_private
from orchestrator.operations.found import ISSUER_RECORD, found
from tests.fakes import FakeClock, FakeLedger, FakeVault, SeededEntropy
from tests.mortal import KilledError, Life, MortalLedger, MortalVault


def test_the_root_is_handed_back_and_only_the_issuer_is_kept() -> None:
    ledger, vault = FakeLedger(), FakeVault()
    root = found(ledger, vault, clock=FakeClock(), entropy=SeededEntropy())
    recorded = ledger.read()
    assert set(vault.kept) == {ISSUER_RECORD}
    assert load_private(root).public == parse_certificate(recorded.root).public_key
    kept = load_private(vault.open(ISSUER_RECORD, ISSUER_RECORD)).public
    assert kept == parse_certificate(recorded.issuer).public_key
    assert len(recorded.fleet) == 16


def test_a_second_time_is_refused() -> None:
    ledger, vault = FakeLedger(), FakeVault()
    found(ledger, vault, clock=FakeClock(), entropy=SeededEntropy())
    kept = vault.open(ISSUER_RECORD, ISSUER_RECORD)
    with pytest.raises(LedgerError, match=r"holds fleet .* already"):
        found(ledger, vault, clock=FakeClock(), entropy=SeededEntropy("again"))
    assert vault.open(ISSUER_RECORD, ISSUER_RECORD) == kept


@pytest.mark.parametrize("points", range(5))
def test_cut_short_before_the_ledger_knows_it_can_be_founded_again(points: int) -> None:
    ledger, vault, life = FakeLedger(), FakeVault(), Life()
    entropy = SeededEntropy()
    life.dies_after(points)
    with pytest.raises(KilledError):
        found(MortalLedger(ledger, life), MortalVault(vault, life), clock=FakeClock(), entropy=entropy)
    if ledger.read().version == 0:
        found(ledger, vault, clock=FakeClock(), entropy=entropy)
    issuer = load_private(vault.open(ISSUER_RECORD, ISSUER_RECORD)).public
    assert issuer == parse_certificate(ledger.read().issuer).public_key
