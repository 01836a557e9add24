"""Faults put into the engine, its loop or the hosts, each of which the search has to find.

Each is a few lines over the real thing. ``caught_by`` are the invariants that may be the first to break.
"""

from tests.model import seeds_belief, seeds_handover, seeds_homes, seeds_hooks
from tests.model.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *seeds_handover.SEEDS.sown,
    *seeds_belief.SEEDS.sown,
    *seeds_homes.SEEDS.sown,
    *seeds_hooks.SEEDS.sown,
)
