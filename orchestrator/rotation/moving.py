"""Servers that go from one playbook to another: handed over like any other, by both playbooks at once.

A server belongs to one playbook, and an edge to whichever lists it. Were one of the two to begin first, there
would be a moment at which nobody asks for the server, and its key and its agents' trust would be taken away,
or at which both do. So playbooks of one command that exchange servers are planned together, and what begins
them is written in one go. The one that a server leaves does not name it; the one that it comes to gives it a
target, and the old key goes the way of every old key.
"""

from collections.abc import Collection, Iterable, Sequence

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.rotation.recorded import Recorded, Rollout

Group = tuple[Desired, ...]
"""What playbooks ask for that begin together."""


def together(recorded: Recorded, wanted: Iterable[Desired]) -> tuple[Group, ...]:
    """The playbooks of one command, those that exchange servers in one group, by their firsts."""
    groups: list[Group] = []
    for desired in wanted:
        linked = [g for g in groups if any(_exchange(recorded, one, desired) for one in g)]
        joined = (*(one for g in linked for one in g), desired)
        first = groups.index(linked[0]) if linked else len(groups)
        groups[first:first] = [joined]
        groups = [g for g in groups if g not in linked]
    return tuple(groups)


def _exchange(recorded: Recorded, one: Desired, other: Desired) -> bool:
    """Whether one of them lists a server that is the other's by now."""
    return any(
        (record := recorded.servers.get(server)) is not None and record.playbook == there.playbook
        for here, there in ((one, other), (other, one))
        for server in here.servers()
    )


def received_by(beside: Iterable[Desired]) -> frozenset[HostName]:
    """The servers of the playbooks that begin in the same go."""
    return frozenset(server for other in beside for server in other.servers())


def refuse_foreign_servers(desired: Desired, recorded: Recorded, beside: Sequence[Desired]) -> None:
    """Refuse servers of a playbook that was not asked, in the same go, whether it gives them up.

    Args:
        desired: what a playbook asks for.
        recorded: the ledger.
        beside: what begins in the same go.

    Raises:
        RefusedError: names a server, whose it is, and how it is moved.
    """
    asked = {other.playbook: set(other.servers()) for other in beside}
    for server in desired.servers():
        record = recorded.servers.get(server)
        if record is None or record.playbook == desired.playbook or record.target is None:
            continue
        if server in asked.get(record.playbook, {server}):
            raise RefusedError(
                f"{server} belongs to playbook {record.playbook!r}, so {desired.playbook!r} cannot have it",
                hint=_how_to_move(server, record.playbook, recorded, listed=record.playbook in asked),
            )


def _how_to_move(server: HostName, playbook: PlaybookName, recorded: Recorded, *, listed: bool) -> str:
    if listed:
        return "A server has one key; take it out of one of the two."
    left = any(s != server and one.playbook == playbook for s, one in recorded.servers.items())
    if left:
        return (
            f"Take it out of the play {playbook!r} and apply both plays by one command, of one file or two: "
            "it signs until its agents have proven its next key. To change its policy keep the play's name."
        )
    return (
        f"{playbook!r} has no other server: give this play its name, and its policy changes. Otherwise, with "
        f"no key in between: keyrelay remove {server}, then apply this one."
    )


def whence(rollout: Rollout | None, server: HostName) -> str:
    """Why a server changes that came with a rollout from another playbook; empty: it did not."""
    came_from = rollout.received.get(server) if rollout is not None else None
    return f"it moves from playbook {came_from!r}" if came_from is not None else ""


def refuse_to_undo(recorded: Recorded, rollout: Rollout, servers: Collection[HostName]) -> None:
    """Refuse to take a rollout back, where a server has come or gone with it.

    Args:
        recorded: the ledger.
        rollout: the one to be taken back.
        servers: those of the playbook before it.

    Raises:
        RefusedError: names a server, and how it goes back.
    """
    for server, came_from in rollout.received.items():
        raise _crossing(rollout, server, f"came from playbook {came_from!r}, which has it no more", came_from)
    for server in servers:
        record = recorded.servers.get(server)
        if record is not None and record.playbook != rollout.playbook and record.target is not None:
            gone = f"has gone to playbook {record.playbook!r}"
            raise _crossing(rollout, server, gone, record.playbook)


def _crossing(rollout: Rollout, server: HostName, what: str, other: PlaybookName) -> RefusedError:
    return RefusedError(
        f"rollout {rollout.id} cannot be taken back: {server} {what}",
        hint=f"To move it back, list it where it was, and apply {rollout.playbook!r} and {other!r} together, "
        "by one command.",
    )
