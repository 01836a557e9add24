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
from tests.model.view import NONE, Ahead, Order, Pieces, Told, View

Key = tuple[Any, ...]

Name = tuple[Left, Key, frozenset[Told]]
"""What may still happen, what the state is called for that, and what the observer holds it to."""


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

    def __init__(self, symmetry: Symmetry, *, whole_runs: bool = False) -> None:
        self.symmetry = symmetry
        self.whole_runs = whole_runs
        self.pieces = Pieces()

    def __call__(self, state: State) -> tuple[Key, Mapping[HostName, Any], frozenset[Told]]:
        """Which states this one is the same as, its servers in the plain order.

        Returns:
            The name of its class, but for ``left`` and for what the observer remembers; what there is to tell
            of each agent; and what the observer holds the state to.
        """
        names, order = self.pieces.namer.names(state), self.symmetry.orders[0]
        told = self._told(state, names, Ahead.of(state), order)
        key, duties = self._in_order(state, names, told, order)
        alike = {
            agent: (number, told.agents[agent])
            for number, group in enumerate(self.symmetry.agents)
            if len(group) > 1
            for agent in group
        }
        return key, alike, duties

    def every(self, state: State) -> Iterator[Name]:
        """All names by which the state is known: in every order, and as if it allowed less."""
        yield from self._in_every_order(state)
        known = {Ahead.of(state)}
        for left in state.left.lesser():
            other = state.changed(left=left)
            ahead = Ahead.of(other)
            if ahead not in known:
                known.add(ahead)
                yield from self._in_every_order(other)

    def _in_every_order(self, state: State) -> Iterator[Name]:
        names, ahead, first = self.pieces.namer.names(state), Ahead.of(state), self.symmetry.orders[0]
        told = self._told(state, names, ahead, first)
        for order in self.symmetry.orders:
            if order is not first and (ahead.copies or ahead.puts_back or order.playbooks != first.playbooks):
                told = self._told(state, names, ahead, order)
            yield state.left, *self._in_order(state, names, told, order)

    def _in_order(
        self, state: State, names: Names, told: "_Told", order: Order
    ) -> tuple[Key, frozenset[Told]]:
        """The name in one order of the servers, the agents of a group by what is told of them."""
        groups = [
            sorted([(self._turned(told.agents[agent], order), agent) for agent in group])
            for group in self.symmetry.agents
        ]
        key = (
            told.rest,
            tuple([told.servers[server] for server in order.servers]),
            tuple([tuple([one for one, _ in group]) for group in groups]),
            NONE if state.at_work is None else order.playbooks.index(state.at_work),
        )
        places = {server: place for place, server in enumerate(order.servers)}
        places |= {agent: n for n, (_, agent) in enumerate(pair for group in groups for pair in group)}
        return key, _duties(state, names, places)

    def at_work(self, key: Key) -> Iterator[Key]:
        """The name; and where anybody may go on next, those that it would have if one run went on."""
        yield key
        if self.whole_runs and key[-1] == NONE:
            yield from ((*key[:-1], place) for place, _ in enumerate(self.symmetry.orders[0].playbooks))

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

    def _turned(self, views: Sequence[Told], order: Order) -> Told:
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
