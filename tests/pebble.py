"""A real ACME server (RFC 8555) on loopback: Let's Encrypt's pebble, with its own DNS, and hosts' port 80."""

import json
import os
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from orchestrator.lab.sshd import free_port

_LOOPBACK = "127.0.0.1"
_TRIES = 600
_TLS = ("-subj", "/CN=localhost", "-days", "30", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "tls.key")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pebble:
    """A running server.

    Attributes:
        directory: its address for clients.
        server_ca: what vouches for that address, PEM.
        root: its root, PEM, made when it started.
        webroot: what every host serves on its port 80.
    """

    directory: str
    server_ca: str
    root: str
    webroot: Path


@contextmanager
def running(folder: Path) -> Iterator[Pebble]:
    """The server, until the end of the block."""
    webroot = folder / "webroot"
    webroot.mkdir(parents=True)
    tls = ["openssl", "req", "-x509", *_CURVE, *_TLS, "-out", "tls.pem"]
    subprocess.run(tls, check=True, capture_output=True, cwd=folder)
    listen, manage, dns = (free_port(_LOOPBACK) for _ in range(3))
    with ThreadingHTTPServer((_LOOPBACK, 0), partial(_Quiet, directory=str(webroot))) as hosts:
        settings = {
            "listenAddress": f"{_LOOPBACK}:{listen}",
            "managementListenAddress": f"{_LOOPBACK}:{manage}",
            "certificate": "tls.pem",
            "privateKey": "tls.key",
            "httpPort": hosts.server_port,
            "tlsPort": 1,
        }
        (folder / "pebble.json").write_text(json.dumps({"pebble": settings}), encoding="utf-8")
        serving = threading.Thread(target=hosts.serve_forever)
        serving.start()
        nowhere = [
            word for flag in ("http01", "https01", "tlsalpn01", "management") for word in (f"-{flag}", "")
        ]
        names = ["pebble-challtestsrv", "-dns01", f"{_LOOPBACK}:{dns}", "-defaultIPv6", "", *nowhere]
        server = ["pebble", "-strict", "-config", "pebble.json", "-dnsserver", f"{_LOOPBACK}:{dns}"]
        try:
            with _process(folder, names, None), _process(folder, server, listen):
                yield Pebble(
                    directory=f"https://{_LOOPBACK}:{listen}/dir",
                    server_ca=(folder / "tls.pem").read_text(encoding="ascii"),
                    root=_root(f"https://{_LOOPBACK}:{manage}/roots/0", folder / "tls.pem"),
                    webroot=webroot,
                )
        finally:
            hosts.shutdown()
            serving.join()


@contextmanager
def _process(folder: Path, words: list[str], port: int | None) -> Iterator[None]:
    """A process that ends with the block; begun once it listens on ``port``."""
    environment = {
        **os.environ,
        "PEBBLE_VA_NOSLEEP": "1",
        "PEBBLE_WFE_NONCEREJECT": "0",
        "PEBBLE_AUTHZREUSE": "0",
    }
    log = folder / f"{words[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        if port is not None:
            _wait_for(port, process, log)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(_TRIES):
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        with closing(socket.socket()) as tried:
            if tried.connect_ex((_LOOPBACK, port)) == 0:
                return
        threading.Event().wait(0.05)
    raise AssertionError(log.read_text(encoding="utf-8", errors="replace"))


def _root(address: str, vouching: Path) -> str:
    trusted = ssl.create_default_context(cafile=str(vouching))
    with urllib.request.urlopen(address, context=trusted) as answer:  # noqa: S310 - on loopback, as made above
        return bytes(answer.read()).decode("ascii")
