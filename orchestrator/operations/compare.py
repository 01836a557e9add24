"""policy compare: the policies side by side, with durations from this fleet's own history."""

from collections.abc import Iterable
from datetime import timedelta

from orchestrator.inventory.model import Inventory
from orchestrator.policy.comparison import DEFAULT_CONCURRENCY, Comparison, compare
from orchestrator.policy.playbook import Playbook
from orchestrator.ports import Ledger
from orchestrator.rotation.events import Entry, VisitsEnded, VisitsIntended


def compare_policies(playbook: Playbook, inventory: Inventory, *, ledger: Ledger | None) -> Comparison:
    """Judge each policy for a playbook over an inventory.

    Args:
        playbook: whose policy is one of those compared.
        inventory: its hosts and groups.
        ledger: the fleet's history; None: it has none yet.

    Raises:
        InputError: the playbook does not fit the inventory.
        LedgerError: the ledger cannot be read.
    """
    seconds = mean_seconds(ledger.entries()) if ledger is not None else None
    return compare(playbook, inventory, seconds_a_visit=seconds)


def mean_seconds(entries: Iterable[Entry], *, concurrency: int = DEFAULT_CONCURRENCY) -> float | None:
    """The mean duration of a visit, in seconds, from the batches that the ledger tells of.

    A batch begins with its intents and ends with its outcomes, the next entry of the two kinds; m visits are
    taken as ceil(m / concurrency) rounds, one after the other. None: no batch has ended yet.
    """
    spent, rounds = timedelta(0), 0
    begun: Entry | None = None
    for entry in entries:
        match entry.event:
            case VisitsIntended():
                begun = entry
            case VisitsEnded(outcomes=outcomes):
                if begun is not None and outcomes and entry.at >= begun.at:
                    spent += entry.at - begun.at
                    rounds += -(-len(outcomes) // concurrency)
                begun = None
    return spent.total_seconds() / rounds if rounds and spent else None
