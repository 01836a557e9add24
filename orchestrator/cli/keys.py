"""``keyrelay due``, ``holders``, ``holdings``: what the ledger says of keys; and ``compromise``."""

from functools import partial
from typing import Annotated

import typer

from orchestrator.cli.agreement import ask_first
from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.options import AsJson, PassphraseFile, Wait, Yes, duration, worded
from orchestrator.operations import queries
from orchestrator.operations.compromise import end_key
from orchestrator.operations.due import due as due_keys
from orchestrator.rotation.lookup import credential_named
from orchestrator.views.farewells import before_ending
from orchestrator.views.keys import due_answer, holders_answer, holdings_answer
from orchestrator.views.results import ended_answer

DASHES = {"ignore_unknown_options": True}
"""A thumbprint may begin with a dash."""

Key = Annotated[str, typer.Argument(metavar="KEY", help="A thumbprint, or an unambiguous beginning of one.")]


def due(
    context: typer.Context,
    *,
    within: Annotated[str, typer.Option(metavar="TIME", help="Look ahead so far, e.g. 30d.")] = "0s",
    as_json: AsJson = False,
) -> None:
    """Name what is due: keys, and the fleet's own authority; exit 4 if anything is."""
    here, ahead = Context.of(context), duration(within, "--within")
    with here.ledger() as ledger:
        found = due_keys(ledger, here.clock, within=ahead)
    here.screen.answer(due_answer(found, now=here.clock.now()), as_json=as_json)
    leave(Code.DUE if found else Code.DONE)


def holders(context: typer.Context, key: Key, *, as_json: AsJson = False) -> None:
    """Name every host that holds a key, or may hold it, and how we know."""
    here = Context.of(context)
    with here.ledger() as ledger:
        recorded = ledger.read()
    found = queries.holders(recorded, key)
    here.screen.answer(holders_answer(credential_named(recorded, key), found), as_json=as_json)


def holdings(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="A host's name, or controller for the vault.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Name every key that a host holds, or may hold."""
    here = Context.of(context)
    with here.ledger() as ledger:
        found = queries.holdings(ledger.read(), host)
    here.screen.answer(holdings_answer(host, found), as_json=as_json)


def compromise(
    context: typer.Context,
    key: Key,
    *,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="What happened, for the ledger.", callback=worded)
    ],
    lost: Annotated[
        bool, typer.Option("--lost", help="Nobody has it; it is replaced by the usual rules.")
    ] = False,
    yes: Yes = False,
    wait: Wait = "10m",
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a leaked key away everywhere and replace it; no agent is waited for."""
    here, waiting = Context.of(context), duration(wait, "--wait")
    ask_first(here, "compromise", partial(before_ending, key=key, lost=lost), yes=yes)
    with here.ports(passphrase_file) as (ports, _):
        ended = end_key(ports, key, lost=lost, reason=reason, wait=waiting)
    here.screen.answer(ended_answer(ended), as_json=as_json)
    leave(Code.DONE if ended.complete else Code.PARTLY)
