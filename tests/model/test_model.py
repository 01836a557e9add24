"""The engine, explored: within small bounds here, further with ``make model``."""

import pytest

from orchestrator.policy.desired import Policy
from tests.model.configurations import fleet, one_mishap, sharing, whole_runs
from tests.model.moves import Configuration
from tests.model.mutant import Mutant
from tests.model.mutants import MUTANTS
from tests.model.search import search, show

SMALL = (
    fleet(2, 1, new_keys=1),
    fleet(1, 2, Policy.SHARED, new_keys=1),
    fleet(2, 1, joining=True, new_keys=1, reverts=1, faults=1),
    fleet(1, 1, new_keys=1, snapshots=1, mishaps=2),
    fleet(1, 1, new_keys=1, backups=1, mishaps=1),
    fleet(1, 1, compromises=1, backups=1, faults=0),
    fleet(1, 1, new_keys=1, snapshots=1, restores=1, faults=0),
    fleet(1, 1, new_keys=1, late=1, mishaps=1),
    fleet(1, 1, new_keys=1, reverts=1, snapshots=1, mishaps=1),
    fleet(1, 1, new_keys=1, nearing=1, faults=0),
    fleet(1, 1, new_keys=1, reverts=1, compromises=1, waivers=1, mishaps=1),
    fleet(1, 1, Policy.DELEGATED, issuers=1, compromises=1, faults=0),
    sharing(1, new_keys=1, faults=1),
    one_mishap(whole_runs(sharing(1, new_keys=1)), ("faults", "snapshots")),
    fleet(1, 1, hooks=True, new_keys=1, reverts=1, faults=1),
)


@pytest.mark.parametrize("configuration", SMALL, ids=lambda configuration: configuration.name)
def test_no_state_breaks_an_invariant_and_each_leads_to_an_end(configuration: Configuration) -> None:
    found = search(configuration)
    assert found.complete
    assert found.violations == [], show(found)
    assert found.stuck == 0
    assert found.states > 50


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_seeded_fault_breaks_the_invariant_that_it_has_to(mutant: Mutant) -> None:
    found = search(mutant.configuration, seeded=mutant.seeded)
    assert mutant.is_caught(found), show(found)
