"""From a name and a port to a connected socket."""

import errno
import queue
import socket
import threading
from contextlib import suppress

from orchestrator.remote.deadlines import Watch
from orchestrator.remote.handshake import NotReachedError
from orchestrator.remote.routes import Hop

_NOT_LISTENING = "check its port (ansible_port, Port in ssh_config), and that sshd runs there"
_NOT_THERE = "check its address (ansible_host), that it is on, and the firewalls on the way"
_NO_NAME = "check ansible_host, or HostName in ssh_config"
_STALL_S = 10.0

_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class RefusedError(NotReachedError):
    """The port is closed."""


class ImpatientSocket(socket.socket):
    """Breaks when the other side takes nothing for some seconds, in as many time-outs.

    A connection to a jump host carries many visits, none of which may end it at its own deadline; paramiko
    would try to write for ever.
    """

    _stalled_s = 0.0

    def send(self, data: bytes, flags: int = 0, /) -> int:  # type: ignore[override]  # paramiko sends bytes
        """Sends; ``BrokenPipeError`` when nothing has been taken for too long."""
        try:
            sent = super().send(data, flags)
        except TimeoutError:
            self._stalled_s += self.gettimeout() or _STALL_S
            if self._stalled_s >= _STALL_S:
                raise BrokenPipeError(errno.EPIPE, "the other side takes nothing") from None
            raise
        self._stalled_s = 0.0
        return sent


def connect(hop: Hop, watch: Watch, *, timeout_s: float, kind: type[socket.socket]) -> socket.socket:
    """A TCP connection to the first of a hop's addresses that takes one.

    Raises:
        RefusedError: the last address tried refuses.
        NotReachedError: says why.
    """
    problem = NotReachedError(f"{hop.address!r} has no address")
    for family, address in _resolve(hop, timeout_s, watch):
        sock = kind(family, socket.SOCK_STREAM)
        limit_s = min(timeout_s, watch.left_s)
        try:
            # Small packets go back and forth; waiting to join them would cost a round trip each.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(max(limit_s, 0.001))
            with watch.guarding(lambda sock=sock: _hang_up(sock)):  # type: ignore[misc]
                sock.connect(address)
        except ConnectionRefusedError:
            sock.close()
            problem = RefusedError(f"connection refused on {hop.where}; {_NOT_LISTENING}", passing=True)
        except TimeoutError:
            sock.close()
            problem = NotReachedError(f"no connection to {hop.where} within {limit_s:.0f} s; {_NOT_THERE}")
        except OSError as error:
            sock.close()
            problem = NotReachedError(
                f"no connection to {hop.where}: {error.strerror or error}; {_NOT_THERE}"
            )
        else:
            return sock
    raise problem


def _resolve(hop: Hop, timeout_s: float, watch: Watch) -> list[_Address]:
    """The hop's addresses, in the resolver's order.

    The resolver cannot be interrupted, so names are looked up in a thread that is left behind if need be.
    """
    try:
        return _look_up(hop, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name, then
    found: queue.SimpleQueue[list[_Address] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(_look_up(hop, socket.AI_ADDRCONFIG))
        except OSError as error:
            found.put(error)

    threading.Thread(target=look_up, name="keyrelay-resolver", daemon=True).start()
    try:
        with watch.guarding(lambda: found.put(OSError(errno.ECANCELED, "the run was ended"))):
            addresses = found.get(timeout=min(timeout_s, watch.left_s))
    except queue.Empty:
        raise NotReachedError(
            f"the name {hop.address!r} was not resolved within {timeout_s:.0f} s; {_NO_NAME}"
        ) from None
    if isinstance(addresses, OSError):
        raise NotReachedError(
            f"the name {hop.address!r} does not resolve: {addresses.strerror}; {_NO_NAME}"
        ) from addresses
    return addresses


def _look_up(hop: Hop, flags: int) -> list[_Address]:
    try:
        rows = socket.getaddrinfo(hop.address, hop.port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError as error:
        # Python encodes names by itself before it asks the resolver (RFC 3490).
        raise socket.gaierror(socket.EAI_NONAME, "no host has such a name") from error
    return [(family, address) for family, _, _, _, address in rows]


def _hang_up(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
