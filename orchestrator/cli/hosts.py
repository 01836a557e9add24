"""``keyrelay remove`` and ``reinstall``: a host leaves the fleet, or comes back to it with nothing on it."""

from functools import partial
from typing import Annotated

import typer

from orchestrator.cli.agreement import ask_first
from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.options import AsJson, Inventories, PassphraseFile, Wait, Yes, duration, fingerprint
from orchestrator.cli.plays import passwords_for
from orchestrator.inventory.yaml_files import load
from orchestrator.operations import reinstall as reinstalling
from orchestrator.operations import remove as removal
from orchestrator.views.farewells import before_reinstall, before_removal
from orchestrator.views.results import reinstalled_answer, removed_answer


def remove(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="A server or an agent.")],
    *,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="It is gone for good: end its keys as compromised.")
    ] = False,
    yes: Yes = False,
    wait: Wait = "10m",
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Hand over without a host, erase what it holds, and prove that it is gone."""
    here, waiting = Context.of(context), duration(wait, "--wait")
    ask_first(here, "remove", partial(before_removal, name=host, give_up=give_up), yes=yes)
    with here.ports(passphrase_file) as (ports, _):
        removed = removal.remove(ports, host, wait=waiting, give_up=give_up)
    here.screen.answer(removed_answer(removed), as_json=as_json)
    leave(Code.DONE if removed.complete else Code.PARTLY)


def reinstall(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="A server or an agent.")],
    *,
    inventory: Inventories,
    host_key: Annotated[
        str,
        typer.Option(
            "--host-key",
            metavar="FINGERPRINT",
            help="The fingerprint of its new SSH host key, as the host itself tells it at its console.",
        ),
    ] = "",
    yes: Yes = False,
    wait: Wait = "10m",
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a host that was wiped and set up again what it had: its key, its trust, its place."""
    here, waiting, loaded = Context.of(context), duration(wait, "--wait"), load(inventory)
    name = loaded.host(host).name
    words = {name: fingerprint(host_key)} if host_key else {}
    ask_first(here, "reinstall", partial(before_reinstall, name=host), yes=yes)
    with here.ports(passphrase_file, passwords_for(loaded, loaded.hosts), vouched=words) as (ports, _):
        reinstalled = reinstalling.reinstall(ports, name, loaded.endpoint(name), wait=waiting)
    here.screen.answer(reinstalled_answer(reinstalled), as_json=as_json)
    leave(Code.DONE if reinstalled.complete else Code.PARTLY)
