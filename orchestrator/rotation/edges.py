"""Which edges hold, as far as the ledger can tell."""

from collections.abc import Iterator

from orchestrator.inventory.model import HostName
from orchestrator.rotation.recorded import Recorded


def broken_edges(recorded: Recorded) -> Iterator[tuple[HostName, HostName]]:
    """The edges (server, agent) on which the agent may not believe what its server signs, sorted.

    An edge whose server cannot sign yet is not broken, and neither is one to an agent that was given up.
    """
    for server, agents in sorted(recorded.listeners().items()):
        signing = recorded.may_sign(server) if server in recorded.servers else frozenset()
        for agent in agents:
            record = recorded.agents.get(agent)
            if not signing or (record is not None and record.given_up):
                continue
            bundles = tuple(recorded.bundles(agent))
            believed = all(b.believes(recorded.line(server, c), c) for b in bundles for c in signing)
            if not bundles or not believed:
                yield server, agent
