"""How long a rollout waits for hosts, and how much may go wrong, before it goes on or stops."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
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
            return f"in wave {number}, {len(back)} of {len(wave)} went back: {_named(back)}"
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
    return waiver_costs(view, [agent])[agent]


def waiver_costs(view: View, agents: Collection[HostName]) -> Mapping[HostName, str]:
    """What it costs not to wait for each of some agents; linear in the edges of their servers."""
    servers = {server for agent in agents for server in view.listens.get(agent, frozenset())}
    asked = frozenset(agents)
    breaking: dict[HostName, list[HostName]] = {agent: [] for agent in agents}
    for server in sorted(servers & view.recorded.servers.keys()):
        for agent in asked.intersection(view.unproven(server)):
            breaking[agent].append(server)
    return {
        agent: f"it will not believe {_named(broken)} until it is reached again"
        if broken
        else "none of its edges change"
        for agent, broken in breaking.items()
    }


def waivable(view: View, playbook: PlaybookName, hosts: Iterable[HostName]) -> Mapping[HostName, str]:
    """Those of the hosts that the running rollout waits for as agents, with what it costs to waive each."""
    rollout = view.recorded.running(playbook)
    if rollout is None:
        return {}
    agents = frozenset(view.recorded.playbooks[playbook].agents()) - rollout.waived.keys()
    return waiver_costs(view, sorted(agents.intersection(hosts)))


def _named(hosts: Sequence[HostName]) -> str:
    more = len(hosts) - NAMED
    return ", ".join(hosts[:NAMED]) + (f" and {more} more" if more > 0 else "")
