"""``keyrelay rollout``: what ran, and a person's hand on what runs."""

from typing import Annotated

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.options import AsJson, PassphraseFile, Wait, duration, worded
from orchestrator.errors import RefusedError, UsageError
from orchestrator.operations import rollouts
from orchestrator.ports import Ledger
from orchestrator.rotation.lookup import rollout_named
from orchestrator.views.results import moved_answer
from orchestrator.views.rollouts import rollout_answer, rollouts_answer

app = typer.Typer(name="rollout", help="The runs of the handover.")

Id = Annotated[str, typer.Argument(metavar="[ID]", help="Its id, or a beginning; the one that is under way.")]


@app.command(name="list")
def list_(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show every rollout, the newest first."""
    here = Context.of(context)
    with here.ledger() as ledger:
        recorded = ledger.read()
    here.screen.answer(rollouts_answer(recorded), as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    rollout: Annotated[
        str, typer.Argument(metavar="[ID]", help="Its id, or a beginning; the newest one.")
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Show one rollout, and where its servers stand."""
    here = Context.of(context)
    with here.ledger() as ledger:
        recorded = ledger.read()
    newest = max(recorded.rollouts.values(), key=lambda one: one.started, default=None)
    if newest is None:
        raise UsageError("there was no rollout yet", hint="Run: keyrelay apply")
    found = rollout_named(recorded, rollout) if rollout else newest
    here.screen.answer(rollout_answer(recorded, found, now=here.clock.now()), as_json=as_json)


@app.command()
def pause(
    context: typer.Context,
    rollout: Id = "",
    *,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why, for the ledger.", callback=worded)
    ] = "a person paused it",
    as_json: AsJson = False,
) -> None:
    """Let nothing be done for a rollout until it is resumed."""
    here = Context.of(context)
    with here.ledger() as ledger:
        found = rollouts.pause(ledger, rollout or _under_way(ledger), clock=here.clock, reason=reason)
        recorded = ledger.read()
    here.screen.answer(rollout_answer(recorded, found, now=here.clock.now()), as_json=as_json)


@app.command()
def resume(
    context: typer.Context,
    rollout: Id = "",
    *,
    wait: Wait = "10m",
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a rollout from what hosts really hold."""
    here, waiting = Context.of(context), duration(wait, "--wait")
    with here.ports(passphrase_file) as (ports, _):
        moved = rollouts.resume(ports, rollout or _under_way(ports.ledger), wait=waiting)
    _tell(here, moved, as_json=as_json)


@app.command()
def revert(
    context: typer.Context,
    rollout: Id = "",
    *,
    wait: Wait = "10m",
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a rollout back: every server to the key it had; possible until an old key is put away."""
    here, waiting = Context.of(context), duration(wait, "--wait")
    with here.ports(passphrase_file) as (ports, _):
        moved = rollouts.revert(ports, rollout or _under_way(ports.ledger), wait=waiting)
    _tell(here, moved, as_json=as_json)


def _tell(here: Context, moved: rollouts.Moved, *, as_json: bool) -> None:
    here.screen.answer(moved_answer(moved), as_json=as_json)
    leave(Code.DONE if moved.result.complete else Code.PARTLY)


def _under_way(ledger: Ledger) -> str:
    """The id of the one rollout that is under way."""
    found = [rollout for rollout in ledger.read().rollouts.values() if rollout.ended is None]
    if not found:
        raise RefusedError("no rollout is under way", hint="see: keyrelay rollout list")
    if len(found) > 1:
        names = ", ".join(f"{one.id} of {one.playbook}" for one in found)
        raise UsageError(f"several rollouts are under way: {names}", hint="give the id of one")
    return found[0].id
