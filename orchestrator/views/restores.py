"""Restoring a home: what it would do to the fleet, and what came of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.operations.restore import Effects
from orchestrator.views.screen import Answer, Grid, grid
from orchestrator.views.text import count, named

STRANDED_SHOWN = 20
CLAIMED_SHOWN = 20

_BY_LEDGER = "no host was visited: this is by the ledger of the home that is here; -i FILE asks the hosts"


def before_restoring(effects: Effects, *, visited: bool = True) -> tuple[str | Grid, ...]:
    """What would happen, for a person to agree to; ``visited``: whether hosts told, or a ledger alone."""
    opening, meeting = effects.opening, effects.meeting
    agents = {one.agent for one in effects.stranded}
    body: list[str | Grid] = [
        f"{count(effects.asked, 'host')} answered" if visited else _BY_LEDGER,
        f"generation {opening.generation} and epoch {opening.epoch} are above all that they have seen",
        "every other copy of this home, and every backup of one, is refused by these hosts from then on",
        f"{count(len(meeting.found), 'key')} that it does not know would be taken over from the hosts",
        f"{count(len(meeting.ended) + len(meeting.over), 'key')} that ended since would never be used again",
    ]
    if opening.unmet:
        body.append(grid(("not waited for", "and what that costs"), sorted(opening.unmet.items())))
    if effects.accused:
        rows = [(one.thumbprint[:10], named(one.servers), one.why) for one in effects.accused]
        body += ["others rely on these keys, which have leaked by the word of hosts alone:"]
        body += [grid(("key", "of", "because"), rows)]
    body.extend(_told_of_claims(effects))
    body.extend(_told_of_issuer(effects))
    if not agents:
        body.append("restoring this strands no agent")
        return tuple(body)
    body.append(f"restoring this strands {count(len(agents), 'agent')}: {named(tuple(sorted(agents)))}")
    rows = [(one.agent, one.server, one.why) for one in effects.stranded[:STRANDED_SHOWN]]
    body.append(grid(("agent", "stops believing", "because"), rows))
    return tuple(body)


def _told_of_claims(effects: Effects) -> Iterator[str | Grid]:
    """The keys that agents alone tell of, and what a person can say of them."""
    if effects.claimed:
        rows = [
            (one.thumbprint[:10], one.server, named(one.agents)) for one in effects.claimed[:CLAIMED_SHOWN]
        ]
        yield "agents alone tell of these keys; those who trust one go on to, and no other agent is given it:"
        yield grid(("key", "for", "trusted by"), rows)
        if len(effects.claimed) > CLAIMED_SHOWN:
            yield f"and {len(effects.claimed) - CLAIMED_SHOWN} more"
        yield "if an agent is not to be believed: --disbelieve AGENT; it loses what only such agents tell of"


def _told_of_issuer(effects: Effects) -> tuple[str, ...]:
    """That the issuer was replaced since the backup, and what to do before anything else."""
    if not effects.superseded:
        return ()
    return (
        f"this home's issuer was replaced since: {named(effects.superseded)} trust one that it does not know",
        "nothing is applied, so that no agent is given this home's issuer again, before you say of its key:",
        "that it may have leaked: keyrelay ca rotate --leaked REASON",
        "that it has not: keyrelay restore --this-home --keep-issuer",
    )


def restored_answer(effects: Effects, *, home: str) -> Answer:
    """What was done."""
    opening = effects.opening
    return Answer(
        data={"home": home, "restored": True, **effects_data(effects)},
        body=(
            f"{home} goes on in generation {opening.generation}, epoch {opening.epoch}",
            *_told_of_claims(effects),
            *_told_of_issuer(effects),
            "agents get bundles of it with the next run of: keyrelay apply",
        ),
    )


def effects_data(effects: Effects) -> Mapping[str, Any]:
    """The effects as JSON."""
    return {
        "generation": effects.opening.generation,
        "epoch": effects.opening.epoch,
        "asked": effects.asked,
        "waived": dict(effects.opening.unmet),
        "taken_over": [found.public.thumbprint for found in effects.meeting.found],
        "ended": dict(effects.meeting.ended) | dict(effects.meeting.over),
        "accused": [
            {"host": one.host, "key": one.thumbprint, "servers": list(one.servers), "why": one.why}
            for one in effects.accused
        ],
        "claimed": [
            {"key": one.thumbprint, "server": one.server, "agents": list(one.agents)}
            for one in effects.claimed
        ],
        "superseded": list(effects.superseded),
        "stranded": [{"agent": one.agent, "server": one.server, "why": one.why} for one in effects.stranded],
    }
