"""``keyrelay plan`` and ``apply``: what changes hosts, and what would."""

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from orchestrator.cli.agreement import QUESTION, refuse_unasked
from orchestrator.cli.context import Context
from orchestrator.cli.exits import Code, gravest, leave
from orchestrator.cli.machine import system_entropy
from orchestrator.cli.options import AsJson, Inventories, PassphraseFile, PlaybookFiles, Wait, duration
from orchestrator.cli.plays import Play, load_plays, passwords_of
from orchestrator.errors import InputError, KeyrelayError, StoppedError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.issuers.chosen import why_not
from orchestrator.operations.apply import Applied, apply_together
from orchestrator.operations.planning import Prepared, prepare_together
from orchestrator.rotation.moving import together as begun_together
from orchestrator.views.plans import SHOWN_DIGEST, applied_answer, does_anything, how_to_apply, plan_answer
from orchestrator.views.progress import Bars
from orchestrator.views.screen import Screen, together

_DIGEST = re.compile(r"[0-9a-f]{8,64}")

NewKey = Annotated[bool, typer.Option("--new-key", help="Make new keys, due or not.")]


def plan(
    context: typer.Context,
    playbooks: PlaybookFiles,
    *,
    inventory: Inventories,
    new_key: NewKey = False,
    as_json: AsJson = False,
) -> None:
    """Ask every host, and show what apply would change on which, and why; changes nothing."""
    here, plays = Context.of(context), load_plays(playbooks, inventory)
    with here.ledger() as ledger, here.progress() as bars, here.fleet(bars, passwords_of(plays)) as fleet:
        order = [play.desired.playbook for play in plays]
        found = [
            _issuable(prepared)
            for group in begun_together(ledger.read(), (play.desired for play in plays))
            for prepared in prepare_together(
                group, ledger=ledger, fleet=fleet, clock=here.clock, entropy=system_entropy,
                progress=bars, new_key=new_key,
            )
        ]  # fmt: skip
    found.sort(key=lambda one: order.index(one.plan.desired.playbook))
    here.screen.answer(together("plays", [plan_answer(one) for one in found]), as_json=as_json)
    if not as_json and any(does_anything(one) for one in found):
        files = shlex.join(map(str, (*playbooks, *(file for one in inventory for file in ("-i", one)))))
        here.screen.note(how_to_apply(found, f"keyrelay apply {files}"))
    leave(Code.PARTLY if any(one.answers.failures for one in found) else Code.DONE)


def apply_(
    context: typer.Context,
    playbooks: PlaybookFiles,
    *,
    inventory: Inventories,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to whatever the plan is.")] = False,
    plan: Annotated[
        list[str] | None,
        typer.Option(metavar="DIGEST", help="Agree to this plan alone; once for each play."),
    ] = None,
    new_key: NewKey = False,
    waive: Annotated[
        list[str] | None,
        typer.Option(metavar="AGENT", help="Do not wait for this agent; its edges break until it is back."),
    ] = None,
    wait: Wait = "10m",
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the fleet as the playbook asks, and go on with what an earlier run left unfinished."""
    here, waiting = Context.of(context), duration(wait, "--wait")
    plays = load_plays(playbooks, inventory)
    agreed = _agreed_digests(plan, plays, here.screen, yes=yes)
    digests = {play.desired.playbook: digest for play, digest in zip(plays, agreed, strict=True)}
    with here.ports(passphrase_file, passwords_of(plays)) as (ports, bars):
        agree = _agreement(here.screen, bars, agreed=yes or plan is not None)
        waived = [HostName(name) for name in waive or ()]
        ended = in_turn(
            partial(
                apply_together, ports, group, wait=waiting, agree=agree,
                digests=[digests[desired.playbook] for desired in group], new_key=new_key, waive=waived,
            )
            for group in begun_together(ports.ledger.read(), (play.desired for play in plays))
        )  # fmt: skip
    conclude(here.screen, ended, as_json=as_json)


def _issuable(prepared: Prepared) -> Prepared:
    """The same, warning of an issuer whose program is not there."""
    plan = prepared.plan
    warnings = (*plan.warnings, *filter(None, (why_not(plan.desired.issuer),)))
    return replace(prepared, plan=replace(plan, warnings=warnings))


def _agreed_digests(
    given: list[str] | None, plays: Sequence[Play], screen: Screen, *, yes: bool
) -> Sequence[str | None]:
    """A digest for each play, or none; refuses what could never be agreed to before a host is asked."""
    if given is None:
        if not yes:
            refuse_unasked(
                screen,
                "apply",
                hint="look at the plan with keyrelay plan, then give --plan DIGEST, or --yes for any plan",
            )
        return [None] * len(plays)
    wrong = next((digest for digest in given if not _DIGEST.fullmatch(digest)), None)
    if wrong is not None:
        raise UsageError(
            f"--plan {wrong!r} is no digest", hint=f"give the first {SHOWN_DIGEST} digits that plan shows"
        )
    if len(given) != len(plays):
        raise UsageError(
            f"{len(given)} digests for {len(plays)} plays",
            hint="give --plan once for each play, in their order",
        )
    return given


def _agreement(screen: Screen, bars: Bars, *, agreed: bool) -> Callable[[Prepared], bool]:
    def agree(prepared: Prepared) -> bool:
        if agreed:
            return True
        bars.pause()
        screen.note(*plan_answer(_issuable(prepared)).body)
        return screen.ask(QUESTION)

    return agree


def in_turn(runs: Iterable[Callable[[], Sequence[Applied]]]) -> list[Applied | KeyrelayError]:
    """How each play ended; one that fails holds up no other, and after one that was stopped none is begun.

    Plays that begin in the same go are one run.
    """
    ended: list[Applied | KeyrelayError] = []
    for run in runs:
        try:
            ended.extend(run())
        except StoppedError as error:
            return [*ended, error]
        except KeyrelayError as error:
            ended.append(error)
    return ended


def conclude(screen: Screen, ended: Sequence[Applied | KeyrelayError], *, as_json: bool) -> None:
    """Tell how each play ended, and leave with the gravest code.

    Raises:
        Exit: not all is done.
    """
    tell(screen, ended, as_json=as_json)
    leave(gravest(code_of(one) for one in ended))


def tell(screen: Screen, ended: Sequence[Applied | KeyrelayError], *, as_json: bool) -> None:
    """Tell how each play ended."""
    applied = [one for one in ended if isinstance(one, Applied)]
    failed = [one for one in ended if isinstance(one, KeyrelayError)]
    if applied:
        screen.answer(together("plays", [applied_answer(one) for one in applied]), as_json=as_json)
    for one in failed:
        screen.error(one.message, one.hint)


def code_of(applied: Applied | KeyrelayError) -> Code:
    """The exit code of one play."""
    if isinstance(applied, StoppedError):
        return Code.PARTLY
    if isinstance(applied, KeyrelayError):
        return Code.WRONG if isinstance(applied, UsageError | InputError) else Code.FAILED
    if not applied.agreed:
        return Code.FAILED
    return Code.DONE if applied.complete else Code.PARTLY
