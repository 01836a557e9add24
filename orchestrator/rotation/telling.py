"""How an agent's programs are told of a new bundle: the hooks of its playbooks (``hooks.trusted``).

An agent of several playbooks has the hooks of all. One that leaves a playbook is told of the keys that it
drops by the hook which that playbook had for it last.
"""

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import Hook


def hooks_of(view: View, agent: HostName) -> tuple[Hook, ...]:
    """What an agent runs when it has a new bundle, in the order of its playbooks; no command twice."""
    recorded = view.recorded
    heard = {line.server for bundle in recorded.bundles(agent) for line in bundle.lines}
    listens = view.listens.get(agent, frozenset())
    left = _playbooks_of(recorded, heard - listens) - _playbooks_of(recorded, listens)
    commands = (
        *(desired.trusted_hooks.get(agent) for desired in recorded.playbooks.values()),
        *(_last_hook(recorded, playbook, agent) for playbook in sorted(left)),
    )
    return tuple(Hook(command=command) for command in dict.fromkeys(commands) if command is not None)


def _playbooks_of(recorded: Recorded, servers: frozenset[HostName] | set[HostName]) -> set[PlaybookName]:
    return {recorded.servers[server].playbook for server in servers if server in recorded.servers}


def _last_hook(recorded: Recorded, playbook: PlaybookName, agent: HostName) -> str | None:
    """What a playbook that an agent has left asked of it last."""
    newest_first = reversed(tuple(recorded.rollouts.values()))
    rollouts = (one for one in newest_first if one.playbook == playbook)
    befores = (one.before for one in rollouts if one.before is not None and agent in one.before.endpoints)
    last = next(befores, None)
    return last.trusted_hooks.get(agent) if last is not None else None
