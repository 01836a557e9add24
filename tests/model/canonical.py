"""What makes two states one: the same but for names, numbers and times that nothing depends on.

See ``docs/explanation/model.md`` for what is left out and why nothing is lost by it. Each host is told in
pieces, one for each server, in which keys have names of their own, so that servers trade places by trading
pieces (``view.py``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from tests.model.naming import Names
from tests.model.state import Left, State
from tests.model.told_agents import tell_agent
from tests.model.told_servers import tell_server
from tests.model.view import Ahead, Order, Pieces, Told, View

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Symmetry:
    """Which hosts may trade places.

    Attributes:
        orders: of the servers that cannot be told apart, and of playbooks with them; the plain one first.
        names: of the servers.
        agents: groups of agents that listen to the same servers in every variant of every playbook.
    """

    orders: tuple[Order, ...]
    names: tuple[HostName, ...]
    agents: tuple[tuple[HostName, ...], ...]

    @classmethod
    def of(
        cls, names: Sequence[HostName], agents: Sequence[Sequence[HostName]], *, alike: bool
    ) -> "Symmetry":
        """All orders of the servers of the playbook ``main``, if they are alike."""
        some = permutations(names) if alike else [tuple(names)]
        orders = tuple(Order(servers=servers, playbooks=(PlaybookName("main"),)) for servers in some)
        return cls(orders=orders, names=tuple(names), agents=tuple(tuple(group) for group in agents))

    @classmethod
    def of_playbooks(
        cls, servers: Mapping[PlaybookName, HostName], agents: Sequence[Sequence[HostName]]
    ) -> "Symmetry":
        """Playbooks that ask for the same, each of a server of its own: they trade places together."""
        orders = tuple(
            Order(servers=tuple([servers[playbook] for playbook in playbooks]), playbooks=playbooks)
            for playbooks in permutations(servers)
        )
        names = tuple(servers.values())
        return cls(orders=orders, names=names, agents=tuple(tuple(group) for group in agents))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What is told of a state, in one order.

    Attributes:
        agents: of each what is told of it as a whole, and by server, in the plain order.
    """

    rest: tuple[int, ...]
    servers: Mapping[HostName, tuple[int, ...]]
    agents: Mapping[HostName, Told]


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
        first = symmetry.orders[0]
        told = plain = self._told(state, names, ahead, first)
        best: Key = ()
        duties: Told = ()
        for order in symmetry.orders:
            if order is not first and (ahead.copies or ahead.puts_back or order.playbooks != first.playbooks):
                told = self._told(state, names, ahead, order)
            groups = [
                sorted([(self._in_order(told.agents[agent], order), agent) for agent in group])
                for group in symmetry.agents
            ]
            key = (
                told.rest,
                tuple([told.servers[server] for server in order.servers]),
                tuple([tuple([one for one, _ in group]) for group in groups]),
            )
            if not best or key <= best:
                places = {server: place for place, server in enumerate(order.servers)}
                places |= {
                    agent: n for n, (_, agent) in enumerate(pair for group in groups for pair in group)
                }
                mine = tuple(sorted(_duties(state, names, places)))
                if not best or key < best or mine < duties:
                    best, duties = key, mine
        alike = {
            agent: (number, plain.agents[agent])
            for number, group in enumerate(symmetry.agents)
            if len(group) > 1
            for agent in group
        }
        return best, alike, frozenset(duties)

    def lesser(self, state: State) -> Iterator[tuple[Left, Key, frozenset[Told]]]:
        """What the state is called where less may still happen and so less is told of it.

        Returns:
            What may still happen, the name for that, and what the observer holds the state to.
        """
        known = {Ahead.of(state)}
        for left in state.left.lesser():
            other = state.changed(left=left)
            ahead = Ahead.of(other)
            if ahead not in known:
                known.add(ahead)
                key, _, duties = self(other)
                yield left, key, duties

    def _told(self, state: State, names: Names, ahead: Ahead, order: Order) -> "_Told":
        """All that is told of a state, and of an older copy of its home, host by host."""
        views = [View(self.pieces, state, names, ahead, order)]
        if state.backup is not None:
            older = state.changed(recorded=state.backup.recorded, vault=state.backup.vault)
            views.append(View(self.pieces, older, names, ahead, order))
        gone = [self._gone(view) for view in views]
        return _Told(
            rest=tuple([self.pieces.number(view.rest()) for view in views]),
            servers={s: tuple([tell_server(view, s) for view in views]) for s in self.symmetry.names},
            agents={
                agent: tuple(
                    [
                        tell_agent(view, agent, self.symmetry.names, out)
                        for view, out in zip(views, gone, strict=True)
                    ]
                )
                for group in self.symmetry.agents
                for agent in group
            },
        )

    def _in_order(self, views: Sequence[Told], order: Order) -> Told:
        """What is told of an agent, its servers in this order."""
        if order is self.symmetry.orders[0]:
            return tuple(views)
        turned = [self.symmetry.names.index(server) for server in order.servers]
        return tuple([(whole, tuple([pieces[n] for n in turned])) for whole, pieces in views])

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
