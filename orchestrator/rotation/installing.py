"""What hosts are to have in their stores.

It follows from the record alone: from what the playbooks of a host asked for last. An agent of several
playbooks has the stores of all. While servers leave one root for another, their agents have both.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Desired, PlaybookName
from orchestrator.policy.stores import (
    Rendered,
    Store,
    digest_of,
    entry_of,
    find_clash,
    key_places,
    make_manifest,
    places,
)
from orchestrator.rotation.recorded import Recorded

MOST_STORES = 16
"""Of one host."""

MOST_OF_TEXTS = 100_000
"""Characters of the files that templates become on one host."""

_Asked = tuple[tuple[PlaybookName, tuple[Store, ...]], ...]
"""What plays ask of an agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installs:
    """What one play puts on which hosts."""

    desired: Desired
    servers: frozenset[HostName]
    agents: frozenset[HostName]

    @classmethod
    def of(cls, desired: Desired) -> Self:
        """What a play installs; it has no hosts where that is nothing."""
        stores = desired.stores
        return cls(
            desired=desired,
            servers=frozenset(desired.servers() if stores.server else ()),
            agents=frozenset(desired.agents() if stores.agent else ()),
        )

    def as_server(self, host: HostName) -> tuple[Store, ...]:
        """The stores of a host as a server."""
        return self.desired.stores.server if host in self.servers else ()

    def as_agent(self, host: HostName) -> tuple[Store, ...]:
        """The stores of a host as an agent; what it has as a server is none of them."""
        if host not in self.agents:
            return ()
        return tuple(store for store in self.desired.stores.agent if store not in self.as_server(host))

    def entry(self, host: HostName, store: Store, *, roots: str = "") -> str:
        """The entry of a store in the host's manifest."""
        return entry_of(store, anchors=roots, texts=self.desired.stores.texts.get(host, {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """The manifests that a record asks for, each worked out once."""

    recorded: Recorded
    plays: Mapping[PlaybookName, Installs]
    _roots: dict[PlaybookName, str] = field(default_factory=dict)
    _servers: dict[HostName, str] = field(default_factory=dict)
    _agents: dict[HostName, str] = field(default_factory=dict)
    _alike: dict[_Asked, str] = field(default_factory=dict)

    @classmethod
    def of(cls, recorded: Recorded) -> Self:
        """Those of a record."""
        plays = {name: Installs.of(desired) for name, desired in recorded.playbooks.items()}
        return cls(recorded=recorded, plays=plays)

    def server(self, server: HostName) -> str:
        """What a server is to have in its stores; empty: nothing, or it leaves."""
        if server not in self._servers:
            self._servers[server] = make_manifest(self.entries(server, as_server=True).values())
        return self._servers[server]

    def agent(self, agent: HostName) -> str:
        """What an agent is to have in its stores; empty: nothing, or it has left every playbook."""
        if agent not in self._agents:
            asked = self._asked(agent)
            own = any(isinstance(store, Rendered) for _, stores in asked for store in stores)
            self._agents[agent] = self._made(agent, asked) if own else self._made_alike(agent, asked)
        return self._agents[agent]

    def entries(self, host: HostName, *, as_server: bool) -> Mapping[Store, str]:
        """The stores that a host is to have in one of its roles, each with its entry in the manifest."""
        if not as_server:
            return self._entries(host, self._asked(host))
        record = self.recorded.servers[host]
        if record.target is None:
            return {}
        play = self.plays[record.playbook]
        return {store: play.entry(host, store) for store in play.as_server(host)}

    def asked(self, host: HostName) -> tuple[str, str]:
        """What a host is to have in its stores as a server, with whatever key, and as an agent."""
        as_server = (
            play.entry(host, store) for play in self.plays.values() for store in play.as_server(host)
        )
        return make_manifest(as_server), self.agent(host)

    def _asked(self, agent: HostName) -> _Asked:
        return tuple((name, stores) for name, play in self.plays.items() if (stores := play.as_agent(agent)))

    def _made_alike(self, agent: HostName, asked: _Asked) -> str:
        """Agents without texts of their own have the very same manifest."""
        if asked not in self._alike:
            self._alike[asked] = self._made(agent, asked)
        return self._alike[asked]

    def _made(self, agent: HostName, asked: _Asked) -> str:
        return make_manifest(self._entries(agent, asked).values())

    def _entries(self, agent: HostName, asked: _Asked) -> Mapping[Store, str]:
        """Plays that ask for the very same store have the anchors of all in it."""
        asking: dict[Store, list[PlaybookName]] = {}
        for name, stores in asked:
            for store in stores:
                asking.setdefault(store, []).append(name)
        return {
            store: self.plays[names[0]].entry(agent, store, roots="\n".join(map(self._roots_of, names)))
            for store, names in asking.items()
        }

    def places(self, host: HostName, *, as_server: bool) -> tuple[str, ...]:
        """Every place in the stores of a host in one of its roles, sorted."""
        stores = (
            store
            for play in self.plays.values()
            for store in (play.as_server(host) if as_server else play.as_agent(host))
        )
        return tuple(sorted({place for store in stores for place in places(store)}))

    def holding(self, server: HostName) -> tuple[str, ...]:
        """Where the server's stores hold the key that they were filled with last, sorted; none if unknown."""
        filled = self.recorded.server_stores.get(server)
        if filled is None or filled.manifest != digest_of(self.server(server)):
            return ()
        stores = self.plays[self.recorded.servers[server].playbook].as_server(server)
        return tuple(sorted({place for store in stores for place in key_places(store)}))

    def is_filled(self, server: HostName) -> bool:
        """Whether a server's stores hold its target, all of it, and nothing of ours is elsewhere."""
        filled, wanted = self.recorded.server_stores.get(server), digest_of(self.server(server))
        if filled is None:
            return not wanted
        fits = filled.manifest == wanted and filled.credential == self.recorded.servers[server].target
        return bool(wanted) and fits and filled.intact

    def is_stocked(self, agent: HostName) -> bool:
        """Whether an agent's stores hold what they are to hold, and nothing of ours is elsewhere."""
        filled, wanted = self.recorded.agent_stores.get(agent), digest_of(self.agent(agent))
        if filled is None:
            return not wanted
        return bool(wanted) and filled.manifest == wanted and filled.intact

    def _roots_of(self, playbook: PlaybookName) -> str:
        """The roots (PEM) that chains end at of keys that the play's servers may be using."""
        if playbook not in self._roots:
            asked = (self.plays[playbook].desired, *self._left_behind(playbook))
            found = (one.issuer.root if one.issuer is not None else self.recorded.root for one in asked)
            self._roots[playbook] = "\n".join(dict.fromkeys(found))
        return self._roots[playbook]

    def _left_behind(self, playbook: PlaybookName) -> Iterator[Desired]:
        """What the play asked for before, as long as a server may sign with a key from then."""
        recorded = self.recorded
        servers = (item for item in recorded.servers.items() if item[1].playbook == playbook)
        old = {c for server, record in servers for c in recorded.may_sign(server) - {record.target}}
        if not old:
            return
        yield from self._asked_before(playbook)
        for other in sorted({recorded.credentials[c].playbook for c in old} & self.plays.keys() - {playbook}):
            yield self.plays[other].desired
            yield from self._asked_before(other)

    def _asked_before(self, playbook: PlaybookName) -> Iterator[Desired]:
        """What the play asked for before its rollout under way, and before those that this took over from."""
        recorded = self.recorded
        rollout = recorded.running(playbook)
        while rollout is not None:
            if rollout.before is not None:
                yield rollout.before
            name = rollout.id
            rollout = next((r for r in recorded.rollouts.values() if r.replaced_by == name), None)


def refuse_clashes(desired: Desired, recorded: Recorded) -> None:
    """Refuse stores that would undo each other on a host of several plays, or that are too many for it.

    Raises:
        RefusedError: names a host, and the place or the number.
    """
    mine = Installs.of(desired)
    others = [Installs.of(other) for name, other in recorded.playbooks.items() if name != desired.playbook]
    for host in sorted(mine.servers | mine.agents):
        own = (*mine.as_server(host), *mine.as_agent(host))
        stores, texts = [*own], desired.stores.texts.get(host, {})
        size = sum(map(len, texts.values()))
        for other in others:
            theirs = (*other.as_server(host), *other.as_agent(host))
            told = other.desired.stores.texts.get(host, {})
            alike = {
                store
                for store in theirs
                if store in stores
                and not (
                    isinstance(store, Rendered) and store in own and told[store.file] != texts[store.file]
                )
            }
            differing = [store for store in theirs if store not in alike]
            clash = find_clash([*stores, *differing])
            if clash is not None:
                raise RefusedError(
                    f"{desired.playbook!r} and {other.desired.playbook!r} both write to {clash[1]} on {host}",
                    hint="give one of them another place, or take it out of one and apply that first",
                )
            stores += differing
        if len(stores) > MOST_STORES or size > MOST_OF_TEXTS:
            raise RefusedError(
                f"{host} would have {len(stores)} stores, and {size} characters of templates in them; "
                f"allowed: {MOST_STORES}, and {MOST_OF_TEXTS} characters",
                hint="take entries out of the install of a play, or make its templates shorter",
            )
