"""``keyrelay audit`` and ``prove``: what asks every host and changes none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.machine import system_entropy
from orchestrator.cli.options import AsJson, Inventories
from orchestrator.cli.plays import passwords_for
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.inventory.yaml_files import load
from orchestrator.operations.audit import audit as audit_hosts
from orchestrator.operations.prove import prove as prove_edges
from orchestrator.ports import Fleet, Ledger
from orchestrator.remote.first_use import accepted_keys
from orchestrator.views.backups import held_back
from orchestrator.views.findings import Believed, audit_answer, edges_answer
from orchestrator.views.progress import Bars


def audit(context: typer.Context, *, inventory: Inventories, as_json: AsJson = False) -> None:
    """Visit every host and name each difference; exit 4 on drift, 3 if only unreachable hosts are left."""
    here = Context.of(context)
    with reaching(here, inventory) as (ledger, fleet, bars, endpoints):
        found = audit_hosts(endpoints, ledger=ledger, fleet=fleet, clock=here.clock, progress=bars)
    believed = [
        Believed(host=key.host, name=key.name, key=f"{key.kind} {key.fingerprint}", at=key.at)
        for key in accepted_keys(here.first_use_file)
    ]
    here.screen.answer(audit_answer(found, believed), as_json=as_json)
    with here.ledger() as ledger:
        here.screen.note(*held_back(ledger.read()))
    leave(Code.DUE if found.drifted else Code.PARTLY if found.unreachable else Code.DONE)


def prove(context: typer.Context, *, inventory: Inventories, as_json: AsJson = False) -> None:
    """Have every server sign a fresh nonce and every agent verify it; exit 4 if an edge does not hold."""
    here = Context.of(context)
    with reaching(here, inventory) as (ledger, fleet, bars, endpoints):
        edges = prove_edges(endpoints, ledger=ledger, fleet=fleet, entropy=system_entropy, progress=bars)
    here.screen.answer(edges_answer(edges), as_json=as_json)
    broken = [edge for edge in edges if not edge.holds]
    leave(Code.DUE if any(edge.asked for edge in broken) else Code.PARTLY if broken else Code.DONE)


@contextmanager
def reaching(
    here: Context, inventories: Sequence[Path]
) -> Iterator[tuple[Ledger, Fleet, Bars, dict[HostName, Endpoint]]]:
    """The hosts that the ledger knows, as the inventory reaches them today; others are left to the ledger."""
    loaded = load(inventories)
    with here.ledger() as ledger, here.progress() as bars:
        known = [host for host in ledger.read().endpoints if host in loaded.hosts]
        with here.fleet(bars, passwords_for(loaded, known)) as fleet:
            yield ledger, fleet, bars, {host: loaded.endpoint(host) for host in known}
