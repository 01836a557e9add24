"""What makes two states one: the same but for names, numbers and times that nothing depends on.

See ``docs/explanation/model.md`` for what is left out and why nothing is lost by it. Each host is told in
pieces, one for each server, in which keys have names of their own, so that servers trade places by trading
pieces (``view.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from orchestrator.inventory.model import HostName
from tests.model.naming import Names
from tests.model.state import State
from tests.model.told_agents import tell_agent
from tests.model.told_servers import tell_server
from tests.model.view import Ahead, Pieces, Told, View

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Symmetry:
    """Which hosts may trade places.

    Attributes:
        servers: orders of the servers that cannot be told apart, the plain one first.
        agents: groups of agents that listen to the same servers in every variant of every playbook.
    """

    servers: tuple[tuple[int, ...], ...]
    names: tuple[HostName, ...]
    agents: tuple[tuple[HostName, ...], ...]

    @classmethod
    def of(
        cls, names: Sequence[HostName], agents: Sequence[Sequence[HostName]], *, alike: bool
    ) -> "Symmetry":
        """All orders of the servers if they are alike."""
        plain = tuple(range(len(names)))
        orders = tuple(permutations(plain)) if alike else (plain,)
        return cls(servers=orders, names=tuple(names), agents=tuple(tuple(group) for group in agents))


class Canon:
    """Names the classes of the states of one configuration."""

    def __init__(self, symmetry: Symmetry) -> None:
        self.symmetry = symmetry
        self.pieces = Pieces()

    def __call__(self, state: State) -> tuple[Key, Mapping[HostName, Any], frozenset[Told]]:
        """Which states this one is the same as.

        Returns:
            The name of its class, but for ``left`` and for what the observer remembers; what there is to tell
            of each agent; and what the observer holds the state to.
        """
        symmetry, names, ahead = self.symmetry, self.pieces.namer.names(state), Ahead.of(state)
        views = [View(self.pieces, state, names, ahead)]
        if state.backup is not None:
            older = state.changed(recorded=state.backup.recorded, vault=state.backup.vault)
            views.append(View(self.pieces, older, names, ahead))
        servers = [tuple([tell_server(view, s) for view in views]) for s in symmetry.names]
        gone = [self._gone(view) for view in views]
        agents = {
            agent: tuple(
                [tell_agent(view, agent, symmetry.names, out) for view, out in zip(views, gone, strict=True)]
            )
            for group in symmetry.agents
            for agent in group
        }
        rest = tuple([self.pieces.number(view.rest()) for view in views])
        best: Key = ()
        places: dict[HostName, int] = {}
        for order in symmetry.servers:
            told = [
                sorted([(self._in_order(agents[agent], order), agent) for agent in group])
                for group in symmetry.agents
            ]
            key = (
                rest,
                tuple([servers[n] for n in order]),
                tuple([tuple([one for one, _ in group]) for group in told]),
            )
            if not best or key < best:
                best = key
                places = {symmetry.names[n]: place for place, n in enumerate(order)}
                places |= {agent: n for n, (_, agent) in enumerate(pair for group in told for pair in group)}
        alike = {
            agent: (number, agents[agent])
            for number, group in enumerate(symmetry.agents)
            if len(group) > 1
            for agent in group
        }
        return best, alike, _duties(state, names, places)

    def _in_order(self, views: Sequence[Told], order: Sequence[int]) -> Told:
        """What is told of an agent, its servers in this order."""
        return tuple([(whole, tuple([pieces[n] for n in order])) for whole, pieces in views])

    def _gone(self, view: View) -> frozenset[HostName]:
        """Agents that listen to nobody, and never will."""
        state, recorded = view.state, view.recorded
        stays = all(recorded.playbooks.get(name) is asked for name, asked in state.asked.items())
        if not stays or view.ahead.goes_back or view.ahead.puts_back or state.left.edits:
            return frozenset()
        everyone = {agent for group in self.symmetry.agents for agent in group}
        return frozenset(everyone - {a for desired in recorded.playbooks.values() for a in desired.agents()})


def _duties(state: State, names: Names, places: Mapping[HostName, int]) -> frozenset[Told]:
    """What the observer remembers: the more it is, the more has to hold from then on."""
    now, number = state.now, names.number
    duties: list[Told] = [("held", places[agent], places[server]) for agent, server in state.held]
    duties += [("used", places[server], number[c]) for server, c in state.used]
    duties += [
        ("cools", places[server], number[c]) for (server, c), until in state.cooling.items() if until > now
    ]
    return frozenset(duties)
