"""How long a rollout waits for hosts, and how much may go wrong, before it goes on or stops."""

from collections.abc import Mapping, Sequence

from orchestrator.inventory.model import HostName
from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.recorded import Rollout
from orchestrator.rotation.standing import View

NAMED = 5
"""So many hosts are named in a sentence; the others are counted."""


def over_budget(view: View, rollout: Rollout) -> str:
    """Why too many servers of a wave were set back; empty when they were not."""
    servers = view.recorded.servers
    limit = view.recorded.playbooks[rollout.playbook].rollout.max_failures
    for number, wave in enumerate(rollout.waves, start=1):
        back = [s for s in wave if s in servers and servers[s].set_back is not None]
        if back and len(back) >= limit.of(len(wave)):
            return f"of {len(wave)} servers in wave {number}, {len(back)} went back: {_named(back)}"
    return ""


def to_waive(view: View, steps: Mapping[HostName, Step]) -> Mapping[HostName, str]:
    """Agents that keep servers from switching and have been away for longer than the playbook waits.

    Returns:
        By agent what it costs not to wait for it.
    """
    found: dict[HostName, str] = {}
    for server, step in steps.items():
        offline = view.spec(server).offline
        if step is not Step.PUBLISH or offline is None:
            continue
        for agent in view.unproven(server):
            contact = view.recorded.contacts.get(agent)
            failing = contact is not None and contact.failing_since is not None
            since = view.recorded.awaited_since(view.recorded.servers[server].playbook, agent)
            if failing and since is not None and since + offline <= view.now:
                found[agent] = waiver_cost(view, agent)
    return found


def waiver_cost(view: View, agent: HostName) -> str:
    """What it costs not to wait for an agent: the edges that break until it catches up."""
    breaking = [
        server
        for server in sorted(view.listens.get(agent, frozenset()))
        if server in view.recorded.servers and agent in view.unproven(server)
    ]
    if not breaking:
        return "none of its edges change"
    return f"it will not believe {_named(breaking)} until it is reached again"


def _named(hosts: Sequence[HostName]) -> str:
    more = len(hosts) - NAMED
    return ", ".join(hosts[:NAMED]) + (f" and {more} more" if more > 0 else "")
