"""From an endpoint to a connection: which key logs in, which lines know the host, and trying again.

Trying again is safe here and only here: nothing of a visit has left yet. A refused port is tried once more,
since sshd may be restarting; a host that hangs up before it greets is most often one that has too many
logins under way (``MaxStartups`` in ``sshd_config(5)``) and is tried again as long as time allows, after
waits that grow and that no two hosts share.
"""

import errno
import getpass
import queue
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.inventory.model import Endpoint
from orchestrator.ports import Entropy
from orchestrator.remote.connection import Connection
from orchestrator.remote.deadlines import Watch
from orchestrator.remote.handshake import NotReachedError, Peer
from orchestrator.remote.known_hosts import DEFAULT_FILES, KnownHosts
from orchestrator.remote.login_keys import LoginKeyError, LoginKeys

_REFUSED_TRIES = 2
_PASSING_TRIES = 6
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one attempt to reach a host may take; a visit's deadline holds besides.

    Attributes:
        connect_s: for the host's name and for the TCP connection, each.
        log_in_s: for the greeting, the key exchange and the login together.
    """

    connect_s: float = 10.0
    log_in_s: float = 20.0


DEFAULT_PATIENCE = Patience()


class _RefusedError(NotReachedError):
    """The port is closed."""


class Dialer:
    """Reaches hosts; reads each file of keys once. Safe to use from many threads.

    Args:
        entropy: for the jitter of waits.
        patience: how long an attempt may take.
    """

    def __init__(self, *, entropy: Entropy, patience: Patience = DEFAULT_PATIENCE) -> None:
        self._entropy = entropy
        self._patience = patience
        self._login_keys = LoginKeys()
        self._lock = threading.Lock()
        self._known: dict[str | None, tuple[KnownHosts, str] | NotReachedError] = {}

    def connect(self, endpoint: Endpoint, watch: Watch) -> Connection:
        """Connects and logs in.

        Raises:
            NotReachedError: with the reason of the last attempt.
        """
        peer = self._peer(endpoint)
        tries = 0
        while True:
            tries += 1
            try:
                sock = self._open(endpoint, peer.where, watch)
                return Connection.log_in(sock, peer, watch, timeout_s=self._patience.log_in_s)
            except NotReachedError as error:
                most = _REFUSED_TRIES if isinstance(error, _RefusedError) else _PASSING_TRIES
                wait = self._wait_s(tries)
                if not error.passing or tries >= most or watch.left_s <= wait:
                    raise
                watch.pause(wait)

    def _peer(self, endpoint: Endpoint) -> Peer:
        hosts, files = self._known_hosts(endpoint.known_hosts)
        try:
            keys = self._login_keys.of(endpoint.key_file)
        except LoginKeyError as error:
            raise NotReachedError(str(error)) from error
        brackets = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        return Peer(
            host=endpoint.host,
            where=f"{brackets}:{(endpoint.port or 22)}",
            record=hosts.about(endpoint.address, (endpoint.port or 22)),
            files=files,
            user=endpoint.user or getpass.getuser(),
            keys=keys,
        )

    def _known_hosts(self, file: str | None) -> tuple[KnownHosts, str]:
        with self._lock:
            if file not in self._known:
                self._known[file] = _read_known_hosts(file)
            found = self._known[file]
        if isinstance(found, NotReachedError):
            raise NotReachedError(found.reason)
        return found

    def _open(self, endpoint: Endpoint, where: str, watch: Watch) -> socket.socket:
        """A TCP connection to the first of the host's addresses that takes one."""
        problem = NotReachedError(f"{endpoint.address!r} has no address")
        for family, address in _resolve(endpoint, self._patience.connect_s, watch):
            sock = socket.socket(family, socket.SOCK_STREAM)
            timeout_s = min(self._patience.connect_s, watch.left_s)
            try:
                # Small packets go back and forth; waiting to join them would cost a round trip each.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(max(timeout_s, 0.001))
                with watch.guarding(lambda sock=sock: _hang_up(sock)):  # type: ignore[misc]
                    sock.connect(address)
            except ConnectionRefusedError:
                sock.close()
                problem = _RefusedError(f"connection refused on {where}", passing=True)
            except TimeoutError:
                sock.close()
                problem = NotReachedError(f"no connection to {where} within {timeout_s:.0f} s")
            except OSError as error:
                sock.close()
                problem = NotReachedError(f"no connection to {where}: {error.strerror or error}")
            else:
                return sock
        raise problem

    def _wait_s(self, tries: int) -> float:
        """Between half and all of a time that doubles with each try."""
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (tries - 1))
        return longest * (0.5 + self._entropy(1)[0] / 512)


def _read_known_hosts(file: str | None) -> tuple[KnownHosts, str] | NotReachedError:
    """The lines of the file, or of those of the default files that exist, and the files' names."""
    paths = DEFAULT_FILES if file is None else (Path(file),)
    present = [path for path in paths if path.expanduser().exists()]
    names = " or ".join(str(path) for path in paths)
    if file is not None and not present:
        return NotReachedError(f"known_hosts file {file} does not exist")
    try:
        return KnownHosts.read(present), names
    except InputError as error:
        return NotReachedError(error.message)
    except OSError as error:
        return NotReachedError(f"known_hosts file {error.filename} cannot be read: {error.strerror}")


_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


def _resolve(endpoint: Endpoint, timeout_s: float, watch: Watch) -> list[_Address]:
    """The host's addresses, in the resolver's order.

    The resolver cannot be interrupted, so names are looked up in a thread that is left behind if need be.
    """
    try:
        return _look_up(endpoint, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name, then
    found: queue.SimpleQueue[list[_Address] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(_look_up(endpoint, socket.AI_ADDRCONFIG))
        except OSError as error:
            found.put(error)

    threading.Thread(target=look_up, name="keyrelay-resolver", daemon=True).start()
    try:
        with watch.guarding(lambda: found.put(OSError(errno.ECANCELED, "the run was ended"))):
            addresses = found.get(timeout=min(timeout_s, watch.left_s))
    except queue.Empty:
        raise NotReachedError(
            f"the name {endpoint.address!r} was not resolved within {timeout_s:.0f} s"
        ) from None
    if isinstance(addresses, OSError):
        raise NotReachedError(
            f"the name {endpoint.address!r} does not resolve: {addresses.strerror}"
        ) from addresses
    return addresses


def _look_up(endpoint: Endpoint, flags: int) -> list[_Address]:
    rows = socket.getaddrinfo(endpoint.address, (endpoint.port or 22), type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in rows]


def _hang_up(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
