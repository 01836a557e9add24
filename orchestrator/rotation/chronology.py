"""Whether the controller's clock can be believed, and what becomes of what a wrong one wrote (S7).

Waits are measured from instants in the ledger, and the controller's clock writes them. So a run is refused
while most hosts contradict that clock, and an entry while the ledger does: one that goes back in time would
cut a wait short. Where the ledger is ahead and hosts confirm the clock, the ledger was wrong: every instant
that is yet to come becomes the present, so that waits begin anew and nobody waits for the wrong year.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.rotation.recorded import AgentRecord, Contact, Recorded, ServerRecord

NAMED = 3
"""So many hosts are named in a message; the others are counted."""

TOLERANCE = timedelta(seconds=30)
"""How far the ledger may be ahead where no playbook says how far clocks may be off."""


def refuse_wrong_clock(skews: Mapping[HostName, timedelta], allowed: timedelta) -> None:
    """Refuse to go on where most hosts that answered say that the clock here is wrong.

    Args:
        skews: how far the clock of each host is ahead of the one here.
        allowed: how far it may be off.

    Raises:
        RefusedError: names hosts, and how far each is off.
    """
    for way, sign in (("ahead", 1), ("behind", -1)):
        off = {host: skew for host, skew in skews.items() if skew * sign > allowed}
        if len(off) * 2 > len(skews):
            told = [f"{host} by {abs(skew).total_seconds():.0f} s" for host, skew in sorted(off.items())]
            more = f" and {len(told) - NAMED} more" if len(told) > NAMED else ""
            raise RefusedError(
                f"the clocks of {len(off)} of {len(skews)} hosts are {way} of this machine's: "
                f"{', '.join(told[:NAMED])}{more}; "
                f"messages.clock_skew allows {allowed.total_seconds():.0f} s",
                hint="Most likely this machine's clock is wrong. Set it right; nothing was written.",
            )


def refuse_set_clock(recorded: Recorded, by: timedelta) -> None:
    """Refuse to go on where the clock was set while a run was under way: waits would seem to be over.

    Args:
        recorded: the ledger, whose playbooks say how far clocks may be off.
        by: how much further the clock has gone than time has passed.

    Raises:
        RefusedError: says how far, and what to do.
    """
    if abs(by) > (allowed := _tolerated(recorded)):
        way = "forward" if by > timedelta(0) else "back"
        raise RefusedError(
            f"this machine's clock was set {way} by {abs(by).total_seconds():.0f} s while the run was under "
            f"way; messages.clock_skew allows {allowed.total_seconds():.0f} s",
            hint="What was done is recorded. Run the command again: it asks hosts what time they have.",
        )


def is_contradicted(recorded: Recorded, now: datetime) -> bool:
    """Whether the ledger's last entry was written later than it is now, by more than clocks may be off."""
    return recorded.written is not None and recorded.written - now > _tolerated(recorded)


def is_confirmed(skews: Mapping[HostName, timedelta], allowed: timedelta) -> bool:
    """Whether most hosts that answered, and at least one, agree with the clock here."""
    return sum(abs(skew) <= allowed for skew in skews.values()) * 2 > len(skews)


def refuse_going_back(recorded: Recorded, now: datetime) -> None:
    """Refuse to write an entry that would be older than the last one.

    Raises:
        RefusedError: says both instants.
    """
    if is_contradicted(recorded, now):
        raise RefusedError(
            f"the ledger's last entry is of {recorded.written:%Y-%m-%d %H:%M:%SZ}, "
            f"and by this machine's clock it is {now:%Y-%m-%d %H:%M:%SZ}",
            hint="Set the clock right. If it is, apply or watch mends the ledger once hosts confirm it.",
        )


def set_right(recorded: Recorded, at: datetime) -> Recorded:
    """``recorded`` without an instant that is yet to come; proofs from then, and a lease, are void."""
    return replace(
        recorded,
        credentials=MappingProxyType(
            {
                name: replace(
                    c,
                    created=min(c.created, at),
                    state_since=min(c.state_since, at),
                    ended_since=_past(c.ended_since, at),
                )
                for name, c in recorded.credentials.items()
            }
        ),
        servers=MappingProxyType({name: _server(server, at) for name, server in recorded.servers.items()}),
        agents=MappingProxyType({name: _agent(agent, at) for name, agent in recorded.agents.items()}),
        contacts=MappingProxyType({name: _contact(one, at) for name, one in recorded.contacts.items()}),
        rollouts=MappingProxyType(
            {
                name: replace(
                    one,
                    started=min(one.started, at),
                    ended=_past(one.ended, at),
                    paused_since=_past(one.paused_since, at),
                    awaited=MappingProxyType({h: min(since, at) for h, since in one.awaited.items()}),
                )
                for name, one in recorded.rollouts.items()
            }
        ),
        issuers=tuple(replace(one, since=_past(one.since, at)) for one in recorded.issuers),
        lease=None,
    )


def _server(server: ServerRecord, at: datetime) -> ServerRecord:
    return replace(
        server,
        placements=MappingProxyType(
            {c: replace(p, since=min(p.since, at)) for c, p in server.placements.items()}
        ),
        cleared=MappingProxyType({c: min(since, at) for c, since in server.cleared.items()}),
        missing=MappingProxyType({c: min(since, at) for c, since in server.missing.items()}),
        set_back=_past(server.set_back, at),
    )


def _agent(agent: AgentRecord, at: datetime) -> AgentRecord:
    installed = agent.installed
    if installed is not None:
        lines = tuple(replace(line, since=_past(line.since, at)) for line in installed.lines)
        installed = replace(installed, lines=lines)
    proven = {line: proof for line, proof in agent.proven.items() if proof.at is None or proof.at <= at}
    return replace(agent, installed=installed, proven=proven)


def _contact(contact: Contact, at: datetime) -> Contact:
    return replace(contact, seen=_past(contact.seen, at), failing_since=_past(contact.failing_since, at))


def _past(instant: datetime | None, at: datetime) -> datetime | None:
    return min(instant, at) if instant is not None else None


def _tolerated(recorded: Recorded) -> timedelta:
    allowed = (desired.messages.clock_skew for desired in recorded.playbooks.values())
    return min(allowed, default=TOLERANCE)
