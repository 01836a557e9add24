"""From an endpoint to a connection: the way there, the keys that log in, the lines that know the host.

Trying again is safe here and only here: nothing of a visit has left yet. A refused port is tried once more,
since sshd may be restarting; a host that hangs up before it greets is most often one that has too many
logins under way (``MaxStartups`` in ``sshd_config(5)``) and is tried again as long as time allows, after
waits that grow and that no two hosts share.
"""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from socket import socket
from types import MappingProxyType

from orchestrator.errors import InputError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.ports import Clock, Entropy
from orchestrator.remote.addresses import ImpatientSocket, RefusedError, connect
from orchestrator.remote.connection import Connection, TunnelLostError, Wire
from orchestrator.remote.deadlines import Watch
from orchestrator.remote.first_use import FirstUse
from orchestrator.remote.handshake import NotAcceptedError, NotReachedError, Peer
from orchestrator.remote.jumps import Jumps
from orchestrator.remote.known_hosts import HostRecord, KnownHosts
from orchestrator.remote.login_keys import Choice, LoginKey, LoginKeyError, LoginKeys
from orchestrator.remote.questions import AskInVisit, Question, Wanted, nobody
from orchestrator.remote.routes import Hop, RouteError, Router

_REFUSED_TRIES = 2
_PASSING_TRIES = 6
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 3.0
_UNSAFE = "StrictHostKeyChecking says to believe it, which takes an option of keyrelay's own"
_ON_FIRST_USE = "--accept-new-host-keys believes such keys once and records them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one attempt to reach a host may take; a visit's deadline holds besides.

    Attributes:
        connect_s: for the host's name and for the TCP connection, each; for each jump host too.
        log_in_s: for the greeting, the key exchange and the login together; for each jump host too.
    """

    connect_s: float = 10.0
    log_in_s: float = 20.0


DEFAULT_PATIENCE = Patience()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """A way being gone: the hops, for how long, and whom to ask on it."""

    hops: tuple[Hop, ...]
    watch: Watch
    ask: AskInVisit
    kind: type[socket] = socket


class Dialer:
    """Reaches hosts; reads each file of keys once, logs in to each jump host once. For many threads.

    Args:
        entropy: for the jitter of waits.
        clock: tells which certificates hold.
        patience: how long an attempt may take.
        first_use: keys that were believed on first use; None: none are.
        vouched: fingerprints of the keys that hosts have now, by a person's word; written there.
    """

    def __init__(
        self,
        *,
        entropy: Entropy,
        clock: Clock,
        patience: Patience = DEFAULT_PATIENCE,
        first_use: FirstUse | None = None,
        vouched: Mapping[HostName, str] = MappingProxyType({}),
    ) -> None:
        self._vouched = vouched
        self._entropy = entropy
        self._clock = clock
        self._patience = patience
        self._first_use = first_use
        self._router = Router()
        self._login_keys = LoginKeys(now=clock.now)
        self._jumps = Jumps()
        self._lock = threading.Lock()
        self._known: dict[tuple[bool, tuple[str, ...]], KnownHosts | NotReachedError] = {}

    def close(self) -> None:
        """Ends the connections to jump hosts and agents."""
        self._jumps.close()
        self._login_keys.close()

    def hops(self, endpoint: Endpoint) -> int:
        """How many SSH servers one logs in to on the way to a host, itself included; 1 if there is no way."""
        try:
            return len(self._router.route(endpoint))
        except RouteError:
            return 1

    def connect(self, endpoint: Endpoint, watch: Watch, ask: AskInVisit = nobody) -> Connection:
        """Connects and logs in.

        Raises:
            NotReachedError: with the reason of the last attempt.
        """
        try:
            hops = self._router.route(endpoint)
        except RouteError as error:
            raise NotReachedError(str(error)) from error
        return self._reach(_Way(hops=hops, watch=watch, ask=ask))

    def _reach(self, way: "_Way") -> Connection:
        """Logs in to the last hop, with each of its keys in turn."""
        hop = way.hops[-1]
        record, files = self._record(hop)
        try:
            choice = self._login_keys.choose(hop)
        except LoginKeyError as error:
            raise NotReachedError(str(error)) from error
        keys, locked = choice.ready, deque(choice.locked)
        tried: list[str] = []
        certificates: list[str] = []
        notes = list(choice.notes)
        while True:
            if not keys:
                opened = self._unlock(way, locked.popleft(), tried)
                keys = opened.ready
                notes += opened.notes
            try:
                return self._attempts(way, self._peer(hop, record, files, keys))
            except NotAcceptedError as error:
                tried += error.tried
                certificates += [key.certificate for key in keys if key.certificate]
                keys = ()
                if not locked:
                    reason = _not_accepted(error.reason, tried, notes, _what_to_do(hop, certificates))
                    raise NotAcceptedError(reason, tried) from error

    def _unlock(self, way: "_Way", file: str, tried: list[str]) -> Choice:
        passphrase = way.ask(Question(wanted=Wanted.PASSPHRASE, about=file), way.watch)
        try:
            return self._login_keys.unlock(way.hops[-1], file, passphrase)
        except LoginKeyError as error:
            before = f"; before, the host did not accept {', '.join(tried)}" if tried else ""
            raise NotReachedError(f"{error}{before}") from error

    def _attempts(self, way: "_Way", peer: Peer) -> Connection:
        tries = 0
        while True:
            tries += 1
            try:
                wire = self._wire(way)
                return Connection.log_in(wire, peer, way.watch, timeout_s=self._patience.log_in_s)
            except NotReachedError as error:
                most = _REFUSED_TRIES if isinstance(error, RefusedError) else _PASSING_TRIES
                wait = self._wait_s(tries)
                if not error.passing or tries >= most or way.watch.left_s <= wait:
                    raise
                way.watch.pause(wait)

    def _wire(self, way: "_Way") -> Wire:
        """A connected socket, or a tunnel through the hops before the last."""
        hop, before, limit_s = way.hops[-1], way.hops[:-1], self._patience.connect_s
        if not before:
            return connect(hop, way.watch, timeout_s=limit_s, kind=way.kind)
        through = replace(way, hops=before, kind=ImpatientSocket)
        jump = self._jumps.through(before, way.watch, partial(self._reach, through))
        try:
            return jump.tunnel(hop.address, hop.port, way.watch, timeout_s=limit_s)
        except NotReachedError as error:
            passing = isinstance(error, TunnelLostError)
            if passing:
                self._jumps.drop(jump)
            reason = f"jump host {before[-1].label!r} {error.reason}, on the way to {hop.where}"
            raise NotReachedError(reason, passing=passing, named=True) from error

    def _peer(self, hop: Hop, record: HostRecord, files: str, keys: tuple[LoginKey, ...]) -> Peer:
        accepts = self._first_use is not None and self._first_use.accepts
        if hop.trust_new and not accepts:
            unknown = f"{_UNSAFE}: {_ON_FIRST_USE}"
        else:
            unknown = f"compare it with the host's own, then add it there, or {_ON_FIRST_USE}"
        return Peer(
            host=hop.label,
            where=hop.where,
            name=hop.known_as.lower(),
            record=record,
            files=files,
            user=hop.user,
            keys=keys,
            now=self._clock.now(),
            accept=partial(self._accept, hop) if accepts else None,
            unknown=unknown,
            vouched=self._vouched.get(HostName(hop.label), ""),
            replace=partial(self._replace, hop, record),
        )

    def _replace(self, hop: Hop, record: HostRecord, kind: str, blob: bytes) -> None:
        """Writes down the key that a person has vouched for; raises ``NotReachedError`` if it cannot."""
        if self._first_use is None:
            raise NotReachedError(f"there is no file to record the key of {hop.label!r} in")
        try:
            self._first_use.replace(hop.label, record, kind=kind, blob=blob)
        except OSError as error:
            raise NotReachedError(f"the key of {hop.label!r} cannot be recorded: {error.strerror}") from error

    def _accept(self, hop: Hop, kind: str, blob: bytes) -> None:
        """Writes a key down that is to be believed on first use; raises ``NotReachedError`` if it is not."""
        try:
            believed = self._first_use is not None and self._first_use.accept(
                hop.label, hop.known_as, hop.known_port, kind=kind, blob=blob
            )
        except OSError as error:
            raise NotReachedError(f"the key of {hop.label!r} cannot be recorded: {error.strerror}") from error
        if not believed:
            raise NotReachedError(
                f"host key of {hop.label!r} differs from the one just believed on first use"
            )

    def _record(self, hop: Hop) -> tuple[HostRecord, str]:
        """What is known of a hop, and the names of the files, for reasons."""
        files = (hop.own_known_hosts,) if hop.own_known_hosts is not None else hop.known_hosts
        key = (hop.own_known_hosts is not None, files)
        with self._lock:
            if key not in self._known:
                self._known[key] = _read_known_hosts(files, required=key[0])
            found = self._known[key]
        if isinstance(found, NotReachedError):
            raise NotReachedError(found.reason)
        record = found.about(hop.known_as, hop.known_port)
        if self._first_use is not None:
            try:
                record = record.over_first_use(self._first_use.about(hop.known_as, hop.known_port))
            except (InputError, OSError) as error:
                raise NotReachedError(f"the file of keys believed on first use: {error}") from error
        return record, (" or ".join(files) or "any file: none is named") + _passed_over(found)

    def _wait_s(self, tries: int) -> float:
        """Between half and all of a time that doubles with each try."""
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (tries - 1))
        return longest * (0.5 + self._entropy(1)[0] / 512)


def _read_known_hosts(files: tuple[str, ...], *, required: bool) -> KnownHosts | NotReachedError:
    """The lines of those of the files that exist."""
    try:
        return KnownHosts.read(map(Path, files), missing_ok=not required)
    except InputError as error:
        return NotReachedError(
            f"{error.message}; a line with a mark is never passed over: mend it, or take it out"
        )
    except FileNotFoundError as error:
        return NotReachedError(f"known_hosts file {error.filename} does not exist")
    except OSError as error:
        return NotReachedError(f"known_hosts file {error.filename} cannot be read: {error.strerror}")


def _passed_over(known: KnownHosts) -> str:
    """How many lines cannot be read, and the first of them; empty if all can."""
    if not known.skipped:
        return ""
    first, *more = known.skipped
    others = f", and {len(more)} more" if more else ""
    return f" (passed over, for it cannot be read: {first.message}{others})"


def _what_to_do(hop: Hop, certificates: list[str]) -> str:
    """How a host comes to accept what was tried."""
    if not certificates:
        keys = f"its public key belongs into authorized_keys of {hop.user!r} there"
        return f"{keys}; passwords (ansible_password) are never used"
    return (
        f"{'; '.join(certificates)}: the host must name that authority (TrustedUserCAKeys), and let those "
        f"names log in as {hop.user!r} (the user's own name, or AuthorizedPrincipalsFile)"
    )


def _not_accepted(reason: str, tried: list[str], notes: list[str], what_to_do: str) -> str:
    """What was tried, in which order, what was passed over, and what to do."""
    order = f"tried {', then '.join(tried)}" if tried else "there was no key to try"
    passed = f"; not tried: {'; '.join(notes)}" if notes else ""
    return f"{reason}: {order}{passed}; {what_to_do}"
