"""Hosts that let one log in and then break the rules of SSH: bounded, named, and soon over."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.common import (
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_DATA,
    cMSG_CHANNEL_OPEN_FAILURE,
)

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.secret import Secret
from orchestrator.remote.connection import LOST, TOO_LONG, Answer
from orchestrator.remote.deadlines import Watchdog
from orchestrator.remote.dial import Dialer
from orchestrator.remote.handshake import NotReachedError
from tests.fleet_worlds import SystemClock
from tests.integration.test_connection import entropy

LIMIT_BYTES = 100_000
Breaks = Callable[[Any, int], None]
"""Gets the host's transport, and the number by which the other side knows the channel."""
FIRST = 0


class Host(paramiko.ServerInterface):
    """Lets everybody in; what it does then, ``refuses`` and ``answers`` say."""

    def __init__(self, transport: paramiko.Transport, refuses: Breaks | None, answers: Breaks | None) -> None:
        self.transport, self.refuses, self.answers = transport, refuses, answers

    def get_allowed_auths(self, *_: object) -> str:
        return "publickey"

    def check_auth_publickey(self, *_: object) -> int:
        return AUTH_SUCCESSFUL

    def check_channel_request(self, *_: object) -> int:
        if self.refuses is None:
            return OPEN_SUCCEEDED
        self.refuses(self.transport, FIRST)
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: Any, *_: object) -> bool:
        assert self.answers is not None
        about = (self.transport, channel.remote_chanid)
        after_the_reply = threading.Timer(0.2, self.answers, args=about)
        after_the_reply.daemon = True
        after_the_reply.start()
        return True


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Answer]:
    """Asks a host that breaks the rules."""
    ours, theirs = tmp_path / "key", paramiko.ECDSAKey.generate()
    paramiko.ECDSAKey.generate().write_private_key_file(str(ours))

    def ask(*, refuses: Breaks | None = None, answers: Breaks | None = None) -> Answer:
        with _listening(theirs, refuses, answers) as port, Watchdog() as watchdog:
            known = tmp_path / "known_hosts"
            known.write_text(f"[127.0.0.1]:{port} {theirs.get_name()} {theirs.get_base64()}\n")
            where = Endpoint(
                host=HostName("it"),
                address="127.0.0.1",
                port=port,
                user="root",
                key_file=str(ours),
                known_hosts=str(known),
            )
            watch = watchdog.watch(30)
            connection = Dialer(entropy=entropy, clock=SystemClock()).connect(where, watch)
            try:
                told = Secret(b"x" * 5_000_000)
                return connection.ask("sh", told, watch, limit_bytes=LIMIT_BYTES, complete=lambda _: False)
            finally:
                connection.close()

    return ask


@contextmanager
def _listening(key: paramiko.PKey, refuses: Breaks | None, answers: Breaks | None) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transports: list[paramiko.Transport] = []

        def accept() -> None:
            with suppress(OSError, EOFError, paramiko.SSHException):
                client, _ = server.accept()
                transport = paramiko.Transport(client, default_window_size=8)
                transports.append(transport)
                transport.add_server_key(key)
                transport.start_server(server=Host(transport, refuses, answers))

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for transport in transports:
                transport.close()


def says_no_at_length(transport: Any, channel: int) -> None:
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_OPEN_FAILURE)
    message.add_int(channel)
    message.add_int(OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)
    message.add_string("no\x1b[31m " * 20_000)
    message.add_string("")
    transport._send_message(message)
    threading.Event().wait(1)  # the refusal that paramiko sends itself would come too soon


def test_a_long_refusal_is_told_in_a_few_harmless_words(asked: Callable[..., Answer]) -> None:
    with pytest.raises(NotReachedError) as caught:
        asked(refuses=says_no_at_length)
    assert caught.value.reason.startswith("the host refuses a session: no?[31m no?[31m")
    assert len(caught.value.reason) < 300


def test_a_flood_past_the_window_ends_the_connection_before_much_of_it_is_taken_in(
    asked: Callable[..., Answer],
) -> None:
    taken = 0

    def floods(transport: Any, channel: int) -> None:
        """Takes hardly anything in, and sends what no window allows."""
        nonlocal taken
        with suppress(OSError, EOFError, paramiko.SSHException):
            for _ in range(10_000):
                message = paramiko.Message()
                message.add_byte(cMSG_CHANNEL_DATA)
                message.add_int(channel)
                message.add_string(b"x" * 30_000)
                transport._send_message(message)
                taken += 30_000

    answer = asked(answers=floods)
    assert answer.broken in {TOO_LONG, LOST}
    assert taken < 20_000_000
