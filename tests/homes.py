"""Homes of a fleet in memory: copied, and put in the place of each other."""

import copy
from dataclasses import dataclass, replace

from tests.fakes import FakeKeyring, FakeLedger, FakeVault
from tests.mortal import MortalKeyring, MortalLedger, MortalVault
from tests.world import WatchedFleet, World


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeCopy:
    """A ledger and a vault of the same instant, and the authority's keys."""

    ledger: FakeLedger
    vault: FakeVault
    keys: FakeVault

    def again(self) -> "HomeCopy":
        """A copy of the copy, which can be written to."""
        return HomeCopy(ledger=_ledger(self.ledger), vault=_vault(self.vault), keys=_vault(self.keys))


def copied(world: World) -> HomeCopy:
    """The home of a world as it is now."""
    return live(world).again()


def live(world: World) -> HomeCopy:
    """The home of a world itself, to be put back after another one."""
    return HomeCopy(ledger=world.ledger, vault=world.vault, keys=world.key_vault)


def go_on_with(world: World, home: HomeCopy, *, watched: bool = True) -> None:
    """From now on the controller works with this home.

    Args:
        world: the fleet and its eye.
        home: from now on the eye judges by it as well.
        watched: whether the eye looks at all; it would find what a home does not know that was overtaken.
    """
    world.ledger, world.vault, world.key_vault = home.ledger, home.vault, home.keys
    world.keys = FakeKeyring(home.keys, world.entropy)
    world.eye.ledger, world.eye.vault = home.ledger, home.vault
    world.ports = replace(
        world.ports,
        ledger=MortalLedger(home.ledger, world.life),
        vault=MortalVault(home.vault, world.life),
        keys=MortalKeyring(world.keys, world.life),
        fleet=WatchedFleet(world.fleet, world) if watched else world.fleet,
    )


def _ledger(ledger: FakeLedger) -> FakeLedger:
    other = copy.copy(ledger)
    other._entries = list(ledger._entries)
    return other


def _vault(vault: FakeVault) -> FakeVault:
    other = FakeVault()
    other.kept = dict(vault.kept)
    return other
