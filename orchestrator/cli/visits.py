"""``keyrelay audit`` and ``prove``: what asks every host and changes none."""

from collections.abc import Sequence
from pathlib import Path

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.machine import system_entropy
from orchestrator.cli.options import AsJson, Inventories
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.inventory.yaml_files import load
from orchestrator.operations.audit import audit as audit_hosts
from orchestrator.operations.prove import prove as prove_edges
from orchestrator.ports import Ledger
from orchestrator.views.findings import audit_answer, edges_answer


def audit(context: typer.Context, *, inventory: Inventories, as_json: AsJson = False) -> None:
    """Visit every host and name each difference; exit 4 on drift, 3 if only unreachable hosts are left."""
    here = Context.of(context)
    with here.ledger() as ledger, here.fleet() as fleet, here.progress() as progress:
        found = audit_hosts(
            _endpoints(inventory, ledger), ledger=ledger, fleet=fleet, clock=here.clock, progress=progress
        )
    here.screen.answer(audit_answer(found), as_json=as_json)
    leave(Code.DUE if found.drifted else Code.PARTLY if found.unreachable else Code.DONE)


def prove(context: typer.Context, *, inventory: Inventories, as_json: AsJson = False) -> None:
    """Have every server sign a fresh nonce and every agent verify it; exit 4 if an edge does not hold."""
    here = Context.of(context)
    with here.ledger() as ledger, here.fleet() as fleet, here.progress() as progress:
        edges = prove_edges(
            _endpoints(inventory, ledger), ledger=ledger, fleet=fleet, entropy=system_entropy,
            progress=progress,
        )  # fmt: skip
    here.screen.answer(edges_answer(edges), as_json=as_json)
    broken = [edge for edge in edges if not edge.holds]
    leave(Code.DUE if any(edge.asked for edge in broken) else Code.PARTLY if broken else Code.DONE)


def _endpoints(inventories: Sequence[Path], ledger: Ledger) -> dict[HostName, Endpoint]:
    """How hosts that the ledger knows are reached today; those that have left the inventory are left out."""
    loaded = load(inventories)
    return {host: loaded.endpoint(host) for host in ledger.read().endpoints if host in loaded.hosts}
