"""A service that signs what it is sent: a process that reads its key once, when it starts.

It stands for any service whose running processes and whose files are two things. ``serve`` answers on a Unix
socket: it reads to the end of a request and answers with its signature. On SIGHUP it reads its key anew. With
a number ``LAG`` it does so by itself, after every so many answers. ``ask`` is its client. ``restart`` is what
a service manager does: it ends the service that answers at ``SOCKET`` and begins another one.

    python signing_service.py serve SOCKET KEY LAG
    python signing_service.py restart SOCKET KEY
    python signing_service.py ask SOCKET
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = (sys.executable, "-B", str(Path(__file__).resolve()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service that runs here.

    Attributes:
        pid: of its process.
        ask: the command, for sh, that has it sign standard input.
        reload: the command that has it read its key anew.
    """

    pid: int
    ask: str
    reload: str


@contextmanager
def running(path: Path, key: Path, *, lag: int = 0) -> Iterator[Service]:
    """A service that answers on the socket at ``path`` with the key that ``key`` holds now."""
    process = _start(path, key, lag)
    try:
        yield Service(
            pid=process.pid,
            ask=shlex.join([*_PROGRAM, "ask", str(path)]),
            reload=f"kill -HUP {process.pid}",
        )
    finally:
        process.kill()
        process.wait(30)


def end(path: Path) -> None:
    """Ends the service that ``restart`` began, by its process id."""
    file = path.with_suffix(".pid")
    with suppress(FileNotFoundError):
        pid = int(file.read_text(encoding="ascii"))
        file.unlink()
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            os.kill(pid, signal.SIGKILL)
            # Its end of the connection is closed when it is gone.
            connection.recv(1)


def asked(path: Path, text: bytes) -> bytes:
    """What the service answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return _to_the_end(connection)


def _start(path: Path, key: Path, lag: int) -> subprocess.Popen[bytes]:
    path.unlink(missing_ok=True)
    process = subprocess.Popen(
        [*_PROGRAM, "serve", path, key, str(lag)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"listening\n"
    return process


def _restart(path: Path, key: Path) -> None:
    end(path)
    path.with_suffix(".pid").write_text(f"{_start(path, key, 0).pid}\n", encoding="ascii")


def _serve(path: str, key: str, lag: int) -> None:
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - clients start faster
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa  # noqa: PLC0415 - so do they

    def read() -> ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
        found = serialization.load_pem_private_key(Path(key).read_bytes(), None)
        assert isinstance(found, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        return found

    private = read()

    def reload(*_: object) -> None:
        nonlocal private
        private = read()

    signal.signal(signal.SIGHUP, reload)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        os.write(1, b"listening\n")
        answers = 0
        while True:
            connection, _ = listener.accept()
            with connection:
                request = _to_the_end(connection)
                match private:
                    case ed25519.Ed25519PrivateKey():
                        answer = private.sign(request)
                    case ec.EllipticCurvePrivateKey():
                        answer = private.sign(request, ec.ECDSA(hashes.SHA256()))
                    case rsa.RSAPrivateKey():
                        answer = private.sign(request, padding.PKCS1v15(), hashes.SHA256())
                connection.sendall(answer)
            answers += 1
            if lag and answers % lag == 0:
                reload()


def _to_the_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", path, key, lag]:
            _serve(path, key, int(lag))
        case ["restart", path, key]:
            _restart(Path(path), Path(key))
        case ["ask", path]:
            sys.stdout.buffer.write(asked(Path(path), sys.stdin.buffer.read()))
        case _:
            sys.exit(__doc__)
