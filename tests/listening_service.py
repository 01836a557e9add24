"""A service that believes what its bundle names: a process that reads the bundle once, when it starts.

It stands for any agent's application whose memory and whose files are two things. ``serve`` answers on a
Unix socket: of a server, a signature and a message it says whether it believes them by its keys.
``tell`` has it load the bundle anew, and ends once it has.

    python listening_service.py serve SOCKET AGENT
    python listening_service.py tell SOCKET
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROGRAM = (sys.executable, "-B", str(Path(__file__).resolve()))


@contextmanager
def listening(path: Path, agent: Path) -> Iterator[None]:
    """A service that answers on the socket at ``path``, with the bundle in use below ``agent`` now."""
    process = subprocess.Popen(
        [*_PROGRAM, "serve", path, agent], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"listening\n"
        yield
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()


def believes(path: Path, server: str, signature: bytes, message: bytes) -> bool:
    """Whether the service believes that a server has sent a message."""
    return _asked(path, {"server": server, "signature": signature.hex(), "message": message.hex()}) == b"yes"


def _asked(path: Path, question: object) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(json.dumps(question).encode())
        connection.shutdown(socket.SHUT_WR)
        return _to_the_end(connection)


def _to_the_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def _serve(path: str, agent: Path) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - clients start faster
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - so do they
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - and they

    def load() -> list[tuple[str, ed25519.Ed25519PublicKey]]:
        try:
            bundle = (agent / "current").resolve(strict=True)
        except FileNotFoundError:
            return []
        keys: list[tuple[str, ed25519.Ed25519PublicKey]] = []
        for edge in (bundle / "edges").read_text(encoding="ascii").splitlines():
            server, spki, *_ = edge.split(" ")
            key = load_pem_public_key((bundle / "keys" / f"{spki}.pem").read_bytes())
            assert isinstance(key, ed25519.Ed25519PublicKey)
            keys.append((server, key))
        return keys

    def believed(question: dict[str, str]) -> bool:
        for server, key in trusted:
            try:
                key.verify(bytes.fromhex(question["signature"]), bytes.fromhex(question["message"]))
            except InvalidSignature:
                continue
            if server == question["server"]:
                return True
        return False

    trusted = load()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        os.write(1, b"listening\n")
        while True:
            connection, _ = listener.accept()
            with connection:
                question = json.loads(_to_the_end(connection))
                if question == "load":
                    trusted = load()
                    connection.sendall(b"yes")
                else:
                    connection.sendall(b"yes" if believed(question) else b"no")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", path, agent]:
            _serve(path, Path(agent))
        case ["tell", path]:
            sys.exit(_asked(Path(path), "load") != b"yes")
        case _:
            sys.exit(__doc__)
