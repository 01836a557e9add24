"""Names for keys that do not depend on when they were made: their rank in the scope they were made for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import TrustBundle
from orchestrator.keys.material import SpkiDigest
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Credential, Recorded
from orchestrator.rotation.visits import CredentialId
from tests.fake_state import HostState
from tests.model.state import State

OF_ONE = ("server:", "delegated:")
"""How the scopes of one server begin."""
OF_SEVERAL = 100
FOREIGN = 200
UNKNOWN = 300
_MOST_KNOWN = 200_000

_edges: dict[int, tuple[TrustBundle, tuple[tuple[str, SpkiDigest], ...]]] = {}


def edges_of(bundle: TrustBundle) -> tuple[tuple[str, SpkiDigest], ...]:
    """Server and key of each edge."""
    known = _edges.get(id(bundle))
    if known is not None:
        return known[1]
    if len(_edges) > _MOST_KNOWN:
        _edges.clear()
    found = tuple((server, key.public.spki_digest) for key in bundle.keys for server in key.servers)
    _edges[id(bundle)] = (bundle, found)
    return found


def denied_by(bundle: TrustBundle) -> frozenset[SpkiDigest]:
    """The keys that an agent refuses whoever vouches for them."""
    return frozenset([one.key.spki_digest for one in bundle.denied]) if bundle.denied else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Names:
    """The keys that anything in a state depends on, by name.

    Attributes:
        number: by credential, without saying for which server it is told.
        owner: by credential the one server it was made for; absent: several share it.
        of: by server the credentials that are its alone, the oldest first.
        of_several: the others.
    """

    number: Mapping[str, int]
    owner: Mapping[str, HostName]
    of: Mapping[HostName, tuple[Credential, ...]]
    of_several: tuple[Credential, ...]

    def at(self, server: HostName, credential: str) -> int:
        """The name of a key as it is told of a server."""
        number = self.number[credential]
        return number if self.owner.get(credential, server) == server else number + FOREIGN


class Namer:
    """Gives names, and remembers those it gave."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, int, tuple[str, ...]], tuple[object, Names]] = {}
        self._alive: dict[int, tuple[object, frozenset[str]]] = {}
        self._by_key: dict[int, tuple[object, Mapping[SpkiDigest, str]]] = {}

    def names(self, state: State) -> Names:
        """The names of all keys that the state depends on."""
        credentials = state.recorded.credentials
        alive = self._alive_in(state.recorded)
        whole = len(alive) == len(credentials) and state.made.keys() <= alive
        extra = () if whole else tuple(sorted(self._mentioned(state) - alive))
        key = (id(credentials), id(state.made), extra)
        known = self._names.get(key)
        if known is None:
            known = self._names[key] = ((credentials, state.made), self._named(state, extra))
        return known[1]

    def by_key(self, state: State) -> Mapping[SpkiDigest, str]:
        """The credential of each key that was ever made."""
        known = self._by_key.get(id(state.made))
        if known is None:
            found = {made.key: credential for credential, made in state.made.items()}
            known = self._by_key[id(state.made)] = (state.made, found)
        return known[1]

    def _alive_in(self, recorded: Recorded) -> frozenset[str]:
        known = self._alive.get(id(recorded.credentials))
        if known is None:
            alive = frozenset(c.id for c in recorded.credentials.values() if _is_alive(c))
            known = self._alive[id(recorded.credentials)] = (recorded.credentials, alive)
        return known[1]

    def _mentioned(self, state: State) -> set[str]:
        """What may not be in the ledger any more, and yet is somewhere."""
        by_key = self.by_key(state)
        found: set[str] = {c for _, c in state.cooling}
        found.update(state.vault)
        for there in self._hosts(state):
            found.update(there.credentials)
            found.update(there.disarmed)
            for bundle in (there.bundle, *there.loaded):
                if bundle is not None:
                    found.update([by_key[key] for _, key in edges_of(bundle)])
                    found.update([by_key[key] for key in denied_by(bundle)])
        ledgers = [state.recorded] if state.backup is None else [state.recorded, state.backup.recorded]
        for record in (record for recorded in ledgers for record in recorded.servers.values()):
            found.update(record.cleared)
            found.update(record.missing)
            if record.target is not None:
                found.add(record.target)
        if state.late is not None:
            for order in state.late.visit.orders:
                found.update(credentials_of(order))
                if isinstance(order, vs.Trust):
                    found.update(by_key[key] for _, key in edges_of(order.bundle))
        if state.backup is not None:
            found |= self._alive_in(state.backup.recorded)
            found.update(state.backup.vault)
        return found

    def _hosts(self, state: State) -> Iterator[HostState]:
        yield from state.hosts.values()
        if state.snapshot is not None:
            yield state.snapshot[1]

    def _named(self, state: State, extra: tuple[str, ...]) -> Names:
        known = state.recorded.credentials
        number: dict[str, int] = {}
        owner: dict[str, HostName] = {}
        of: dict[HostName, list[Credential]] = {}
        of_several: list[Credential] = []
        ranks: dict[str, int] = {}
        for credential in known.values():
            if not _is_alive(credential) and credential.id not in extra:
                continue
            rank = ranks[credential.scope] = ranks.get(credential.scope, -1) + 1
            if credential.scope.startswith(OF_ONE):
                number[credential.id] = rank
                owner[credential.id] = credential.servers[0]
                of.setdefault(credential.servers[0], []).append(credential)
            else:
                number[credential.id] = OF_SEVERAL + rank
                of_several.append(credential)
        for rank, name in enumerate(sorted(name for name in extra if name not in known)):
            number[name] = UNKNOWN + rank
        return Names(
            number=number,
            owner=owner,
            of={server: tuple(mine) for server, mine in of.items()},
            of_several=tuple(of_several),
        )


def _is_alive(credential: Credential) -> bool:
    """Whether anything may depend on it: agents deny a key that leaked though nobody has it any more."""
    return credential.state is not KeyState.REMOVED or (credential.delegated and credential.compromised)


def credentials_of(order: vs.Order) -> tuple[CredentialId, ...]:
    """The credentials that an order names."""
    match order:
        case vs.Generate() | vs.Stage() | vs.Activate() | vs.Revert():
            return (order.credential,)
        case vs.Disarm() | vs.Erase():
            return tuple(sorted(order.credentials))
        case _:
            return ()
