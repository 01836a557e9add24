"""``keyrelay restore``: go on with a home that hosts do not follow any more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.agreement import QUESTION, refuse_unasked
from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.options import AsJson, PassphraseFile, Yes
from orchestrator.cli.plays import load_plays, passwords_for
from orchestrator.errors import UsageError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.inventory.yaml_files import load
from orchestrator.keys.secret import Secret
from orchestrator.operations.restore import Effects, Request
from orchestrator.operations.restore import restore as restore_home
from orchestrator.rotation.recorded import Recorded
from orchestrator.views.progress import Bars
from orchestrator.views.restores import before_restoring, restored_answer
from orchestrator.views.screen import Screen

MaybeInventories = Annotated[
    list[Path] | None,
    typer.Option(
        "-i", "--inventory", metavar="FILE", help="How hosts are reached now; else as the ledger says."
    ),
]
Playbooks = Annotated[
    list[Path] | None,
    typer.Option(
        "--playbook", metavar="FILE", help="Ask its hosts too; some may have joined since the backup."
    ),
]
Waive = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST", help="Do not wait for this host; what that costs is told."),
]


def restore(
    context: typer.Context,
    *,
    this_home: Annotated[bool, typer.Option("--this-home", help="Go on with the home as it is.")] = False,
    inventory: MaybeInventories = None,
    playbook: Playbooks = None,
    waive: Waive = None,
    yes: Yes = False,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask every host, and open a generation above all that they have seen; older controllers are refused."""
    here = Context.of(context)
    if not this_home:
        raise UsageError("what is to be restored?", hint="say --this-home")
    if not yes:
        refuse_unasked(here.screen, "restore", hint="see what would happen on a terminal, or say --yes")
    with here.ledger() as ledger:
        reached = hosts_reached(ledger.read(), inventory, playbook)
    request = Request(waive=[HostName(name) for name in waive or ()], endpoints=reached.endpoints)
    with here.ports(passphrase_file, reached.passwords) as (ports, bars):
        effects = restore_home(ports, request, agree=_agreement(here.screen, bars, agreed=yes))
    if effects is None:
        here.screen.note("nothing was changed")
        leave(Code.FAILED)
    else:
        here.screen.answer(restored_answer(effects, home=str(here.home)), as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How hosts are reached, as far as inventory and playbooks say."""

    endpoints: Mapping[HostName, Endpoint]
    passwords: Mapping[HostName, Secret]


def hosts_reached(
    recorded: Recorded, inventories: Sequence[Path] | None, playbooks: Sequence[Path] | None
) -> Reached:
    """The hosts that a ledger knows, as the inventory reaches them, and every host of the playbooks."""
    if not inventories:
        if playbooks:
            raise UsageError("--playbook needs an inventory", hint="name it with -i")
        return Reached(endpoints={}, passwords={})
    loaded = load(inventories)
    known = [host for host in recorded.endpoints if host in loaded.hosts]
    plays = load_plays(playbooks or [], inventories)
    endpoints = {host: loaded.endpoint(host) for host in known}
    endpoints |= {host: e for play in plays for host, e in play.desired.endpoints.items()}
    return Reached(endpoints=endpoints, passwords=passwords_for(loaded, endpoints))


def _agreement(screen: Screen, bars: Bars, *, agreed: bool) -> Callable[[Effects], bool]:
    def agree(effects: Effects) -> bool:
        bars.pause()
        screen.note(*before_restoring(effects))
        return agreed or screen.ask(QUESTION)

    return agree
