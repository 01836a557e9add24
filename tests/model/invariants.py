"""S1 to S10 as an observer of the hosts checks them, and what the observer remembers from move to move.

The hosts are believed, the ledger is not: what it says is only ever compared with what they hold.
"""

from collections.abc import Iterable, Iterator

from orchestrator.inventory.model import HostName
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Recorded
from tests.fake_state import HostState
from tests.model.naming import edges_of
from tests.model.state import Edge, Made, State, Used

_known_edges: dict[int, tuple[object, frozenset[Edge]]] = {}


class BrokenError(AssertionError):
    """An invariant does not hold.

    Attributes:
        which: its name, S1 to S10, L1, L2 or L5.
    """

    def __init__(self, which: str, why: str) -> None:
        super().__init__(f"{which}: {why}")
        self.which = which


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
    """Whether the agent's bundle accepts this server with this credential."""
    bundle = state.hosts[agent].bundle
    made = state.made.get(credential)
    return bundle is not None and made is not None and (server, made.key) in edges_of(bundle)


def observed(before: State, after: State) -> State:
    """``after`` with what the observer remembers brought up to date."""
    if after.recorded.credentials is not before.recorded.credentials:
        after = _with_new_keys(after)
    left = {
        s
        for s in after.recorded.servers
        if (was := live(before, s)) in after.leaked and live(after, s) != was
    }
    strange = _strange(after, (before.meddled - after.meddled) | left)
    if strange or after.strange:
        after = after.changed(
            strange=frozenset(u for u in after.strange | strange if not _is_known(after, *u))
        )
    armed = _armed(after)
    cooling = {
        used: until for used, until in before.cooling.items() if until > after.now and used not in armed
    }
    for server, credential in before.used - armed:
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


def _edges_of(recorded: Recorded) -> frozenset[Edge]:
    known = _known_edges.get(id(recorded.playbooks))
    if known is None:
        known = _known_edges[id(recorded.playbooks)] = (recorded.playbooks, frozenset(edges(recorded)))
    return known[1]


def _with_new_keys(state: State) -> State:
    """Remembers every key; one made anew under the same id, by a ledger put back, beside the first."""
    made = dict(state.made)
    for c in state.recorded.credentials.values():
        if c.public is None:
            continue
        known = made.get(c.id)
        if known is None or known.key != c.public.spki_digest:
            if known is not None:
                made[f"{c.id} {len(made)}"] = known
            made[c.id] = Made(key=c.public.spki_digest, in_flight=c.in_flight, expires=c.expires)
    return state.changed(made=made) if len(made) > len(state.made) else state


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


def check_move(before: State, after: State) -> None:
    """What may not happen between two states.

    Raises:
        BrokenError: S2, S6 or S8 is broken.
    """
    for host, there in after.hosts.items():
        was = before.hosts[host]
        if was is there:
            continue
        if (
            was.bundle is not None
            and there.bundle is not None
            and there.bundle.position < was.bundle.position
        ):
            raise BrokenError("S2", f"the bundle of {host} went back")
        if was.bundle is not None and there.bundle is None:
            raise BrokenError("S2", f"the bundle of {host} is gone")
        if was.fence is not None and there.fence is not None and there.fence < was.fence:
            raise BrokenError("S8", f"{host} obeyed a controller that it had seen overtaken")
        if there.current != was.current and there.current is not None:
            _check_switch(before, after, host, was)


def _check_switch(before: State, after: State, server: HostName, was: HostState) -> None:
    """S6: a server switches only to what every agent trusts; unless it leaves a key that leaked."""
    using = live(after, server)
    if using is None or was.current in after.leaked:
        return
    arrives = before.late is not None and after.late is None
    if using in before.leaked and not arrives:
        raise BrokenError("S6", f"{server} switched to a key that leaked")
    excused = before.meddled | before.waived
    if before.late is not None and arrives:
        excused |= before.late.blind
        excused |= {agent for agent, heard in edges(after.recorded) if (agent, heard) not in before.held}
    for agent, heard in edges(after.recorded):
        if heard == server and agent not in excused and not trusts(before, agent, server, using):
            raise BrokenError("S6", f"{server} switched before {agent} trusts its key")


def check_state(state: State) -> None:
    """What must hold in every state.

    Raises:
        BrokenError: names the invariant and the host.
    """
    _check_trust(state)
    _check_ledger(state)
    _check_keys(state)


def _check_trust(state: State) -> None:
    """S1, S7: agents trust what their servers sign with, and what is under way."""
    hot: dict[HostName, set[str]] = {}
    for server, credential in (*state.used, *(u for u, until in state.cooling.items() if until > state.now)):
        if credential not in state.leaked:
            hot.setdefault(server, set()).add(credential)
    for agent, server in state.held:
        if agent in state.waived | state.adrift or server in state.meddled:
            continue
        for credential in hot.get(server, ()):
            if not trusts(state, agent, server, credential):
                using = (server, credential) in state.used
                name = "S1" if using else "S7"
                what = "can sign with" if using else "may still have signed with"
                raise BrokenError(name, f"{agent} distrusts a key that {server} {what}")


def _check_ledger(state: State) -> None:
    """S3, S4, S5: the ledger knows every holder, and keys lie only where they belong, whole."""
    recorded = state.recorded
    for name in state.vault:
        known = recorded.credentials.get(name)  # type: ignore[call-overload]
        if known is None or not known.in_vault:
            raise BrokenError("S3", "the vault holds a key unknown to the ledger")
    by_key = {c.public.spki_digest: c.id for c in recorded.credentials.values() if c.public is not None}
    for host, there in state.hosts.items():
        if host in state.meddled:
            continue
        for name in (*there.credentials, *there.disarmed):
            if name not in recorded.may_hold(host):
                raise BrokenError("S3", f"{host} holds a private key unknown to the ledger")
            credential = recorded.credentials[name]  # type: ignore[index]
            if host not in {*credential.servers, *credential.certificates}:
                raise BrokenError("S4", f"{host} holds a private key of {credential.scope}")
        if there.bundle is None:
            continue
        listed = list(recorded.bundles(host))
        lines = {(line.server, line.credential) for bundle in listed for line in bundle.lines}
        for server, key in edges_of(there.bundle):
            if (server, by_key.get(key)) not in lines:
                which = "S10" if host in state.waived else "S3"
                raise BrokenError(which, f"{host} trusts a key of {server} unknown to the ledger")
        left = host not in recorded.agents and not edges_of(there.bundle)
        if not left and there.bundle.digest not in {bundle.digest for bundle in listed}:
            raise BrokenError("S5", f"the bundle of {host} is none that it was ever given")
        for trusted in there.bundle.keys:
            if trusted.signs:
                known = recorded.credentials[by_key[trusted.public.spki_digest]]
                if trusted.expires != known.expires:
                    raise BrokenError("S10", f"{host} trusts a key without the end it has")


def _check_keys(state: State) -> None:
    """What the ledger concludes of keys is true of the hosts: removed is removed, retired is retired."""
    for credential in state.recorded.credentials.values():
        if credential.state not in {KeyState.REMOVED, KeyState.RETIRED}:
            continue
        for host, there in state.hosts.items():
            if host in state.meddled:
                continue
            if there.current == credential.id:
                raise BrokenError("S3", f"{host} signs with a key that is said to be {credential.state}")
            if credential.state is KeyState.RETIRED or credential.public is None:
                continue
            trusted = there.bundle is not None and any(
                key == credential.public.spki_digest for _, key in edges_of(there.bundle)
            )
            if trusted or credential.id in {*there.credentials, *there.disarmed}:
                which = "S10" if host in state.waived else "S3"
                raise BrokenError(which, f"{host} has a key that is said to be removed")
