"""What stands behind a jump host: a network of its own, and the door to it.

All loopback connections come from 127.0.0.1, so no address tells a jump host's from others. Instead, hosts
behind a jump host listen in a network namespace (``network_namespaces(7)``) with nothing in it but loopback:
nobody outside can connect to them. The jump host's door listens outside; the ``sshd -i`` that it starts for
each connection runs inside, and so do the connections that this ``sshd`` makes for its clients.

The lab runs this file as a program of its own, by path, so that it needs nothing but the standard library::

    python jump.py hold MARKER                           keeps a network until it ends
    python jump.py door MARKER ADDRESS PORT PID COMMAND… starts COMMAND in PID's network for each connection
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys

_CLONE_NEWNET = 0x40000000  # setns(2)
_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 0x1
READY = "ready"


def enter(pid: int) -> None:
    """Moves this thread into the network of a process; sockets that it has already stay where they are.

    Raises:
        OSError: there is no such process, or this user may not.
    """
    with open(f"/proc/{pid}/ns/net", "rb") as network:  # noqa: PTH123 - the program starts quicker without pathlib
        _call("setns", network.fileno(), _CLONE_NEWNET)


def hold() -> None:
    """Makes a network with loopback up, says so, and keeps it."""
    _call("unshare", _CLONE_NEWNET)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
    print(READY, flush=True)  # noqa: T201 - this is how the lab hears of it
    while True:
        signal.pause()


def open_door(address: str, port: int, pid: int, command: list[str]) -> None:
    """Listens here; runs ``command`` in the network of ``pid`` on each connection as stdin and stdout."""
    with socket.create_server((address, port), backlog=128) as listener:
        enter(pid)
        while True:
            connection, _ = listener.accept()
            with connection:
                ends = [(os.POSIX_SPAWN_DUP2, connection.fileno(), end) for end in (0, 1)]
                os.posix_spawn(command[0], command, os.environ, file_actions=ends)
            _reap()


def _reap() -> None:
    """Collects the sessions that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _call(name: str, *arguments: int) -> None:
    """Calls a function of the C library that returns -1 and sets errno on failure."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def main(arguments: list[str]) -> None:
    """Runs as the module's docstring says."""
    match arguments:
        case ["hold", _]:
            hold()
        case ["door", _, address, port, pid, *command] if command:
            open_door(address, int(port), int(pid), command)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
