"""What an observer of the hosts sees, and remembers from move to move.

The hosts are believed, the ledger is not.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import TrustBundle
from orchestrator.rotation.recorded import Recorded
from tests.model.naming import denied_by, edges_of
from tests.model.state import Edge, Made, State, Used

_known_edges: dict[int, tuple[object, frozenset[Edge]]] = {}


def edges(recorded: Recorded) -> Iterator[Edge]:
    """Who is to listen to whom."""
    for desired in recorded.playbooks.values():
        for trust_set in desired.trust_sets:
            for agent in trust_set.agents:
                for server in trust_set.servers:
                    yield agent, server


def live(state: State, server: HostName) -> str | None:
    """The credential that the server uses."""
    there = state.hosts[server]
    return there.current if there.current in there.credentials else None


def trusts(state: State, agent: HostName, server: HostName, credential: str) -> bool:
    """Whether the bundle that the agent's programs go by accepts this server with this credential."""
    bundle = state.hosts[agent].heeded
    made = state.made.get(credential)
    if bundle is None or made is None:
        return False
    return (server, made.key) in edges_of(bundle) or _is_vouched_for(bundle, server, made)


def _is_vouched_for(bundle: TrustBundle, server: HostName, made: Made) -> bool:
    issuer = made.issuers.get(server)
    granted = issuer is not None and any(
        (d.server, d.issuer_key) == (server, issuer) for d in bundle.delegations
    )
    return granted and made.key not in denied_by(bundle)


def observed(before: State, after: State) -> State:
    """``after`` with what the observer remembers brought up to date."""
    if after.recorded.credentials is not before.recorded.credentials:
        after = _with_new_keys(after)
    left = {
        s
        for s in after.recorded.servers
        if (was := live(before, s)) in after.leaked and live(after, s) != was
    }
    relied_on = before.used - (after.strange - before.strange)
    strange = _strange(after, (before.meddled - after.meddled) | left)
    if strange or after.strange:
        after = after.changed(
            strange=frozenset(u for u in after.strange | strange if not _is_known(after, *u))
        )
    armed = _armed(after)
    cooling = {
        used: until for used, until in after.cooling.items() if until > after.now and used not in armed
    }
    for server, credential in relied_on - armed:
        cooling[server, credential] = after.now + after.made[credential].in_flight
    now = _edges_of(after.recorded)
    held = {edge for edge in after.held if edge in now}
    for agent, server in now - held:
        using = live(after, server)
        certain = agent not in after.adrift and server not in after.meddled
        if using is not None and certain and trusts(after, agent, server, using):
            held.add((agent, server))
    held = {(a, s) for a, s in held if s not in left or trusts(after, a, s, str(live(after, s)))}
    return after.changed(used=armed, cooling=cooling, held=frozenset(held))


def relieved(state: State, sound: Collection[str]) -> State:
    """What is remembered once people hold that these keys have not leaked.

    Agents that gave one up meanwhile need not believe it; those that believe it still have to.
    """
    given_up = frozenset(u for u in state.used if u[1] in sound and not _is_known(state, *u))
    return state.changed(
        leaked=state.leaked - frozenset(sound),
        used=state.used - given_up,
        strange=state.strange | given_up,
        cooling={used: until for used, until in state.cooling.items() if used[1] not in sound},
    )


def _edges_of(recorded: Recorded) -> frozenset[Edge]:
    known = _known_edges.get(id(recorded.playbooks))
    if known is None:
        known = _known_edges[id(recorded.playbooks)] = (recorded.playbooks, frozenset(edges(recorded)))
    return known[1]


def _with_new_keys(state: State) -> State:
    """Remembers every key; one made anew under the same id, by a ledger put back, beside the first."""
    made, renamed = dict(state.made), {}
    for c in state.recorded.credentials.values():
        if c.public is None:
            continue
        known = made.get(c.id)
        if known is None or known.key != c.public.spki_digest:
            if known is not None:
                renamed[str(c.id)] = name = f"{c.id} {len(made)}"
                made[name] = known
            made[c.id] = Made(key=c.public.spki_digest, in_flight=c.in_flight)
        if c.delegated and not c.issuers.items() <= made[c.id].issuers.items():
            made[c.id] = replace(made[c.id], issuers={**made[c.id].issuers, **c.issuers})
    if not renamed:
        return state.changed(made=made) if made != state.made else state
    return state.changed(
        made=made,
        leaked=frozenset(renamed.get(c, c) for c in state.leaked),
        cooling={(server, renamed.get(c, c)): until for (server, c), until in state.cooling.items()},
    )


def _strange(state: State, servers: Iterable[HostName]) -> frozenset[Used]:
    """Keys in use on some of these servers that not all of their agents trust."""
    using = ((server, live(state, server)) for server in servers if server in state.recorded.servers)
    return frozenset((s, key) for s, key in using if key is not None and not _is_known(state, s, key))


def _is_known(state: State, server: HostName, credential: str) -> bool:
    """Whether all agents of the server trust it with this key."""
    return all(trusts(state, a, s, credential) for a, s in edges(state.recorded) if s == server)


def _armed(state: State) -> frozenset[Used]:
    """Credentials within reach on a server that it uses or has used."""
    found = {used for used in state.used if used[1] in state.hosts[used[0]].credentials}
    for server in state.hosts:
        using = live(state, server)
        if using is not None and server not in state.meddled and (server, using) not in state.strange:
            found.add((server, using))
    return frozenset(found)
