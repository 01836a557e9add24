"""One SSH connection to one host, over which one thing at a time is asked.

paramiko does the protocol, ``handshake`` tells it what it must and must not do. The connection may lie in a
tunnel through another one.

paramiko's and the socket's exceptions end here: ``NotReachedError`` promises that no byte of what was to be
asked left for the host, and a connection that breaks later makes an ``Answer`` that says so.
"""

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import paramiko
from paramiko.buffered_pipe import BufferedPipe

from orchestrator.keys.secret import Secret
from orchestrator.remote.answer_lines import plain
from orchestrator.remote.deadlines import Watch
from orchestrator.remote.handshake import (
    BROKEN,
    NotReachedError,
    Peer,
    authenticate,
    prepared,
    shake_hands,
)
from orchestrator.remote.host_keys import check_host_key
from orchestrator.remote.login_keys import LoginKey

Wire = socket.socket | paramiko.Channel
"""What a connection runs over: a socket, or a tunnel through another connection."""

TOO_LONG = "the answer is too long"
LOST = "the connection was lost before the answer ended"
STDERR_LIMIT_BYTES = 4096
_KEEPALIVE_S = 15
_POLL_S = 1.0
_AFTER_THE_END_S = 0.5
_CHUNK_BYTES = 32_000
_PROHIBITED = 1
_NO_REASON = ("", "connect failed", "open failed")

# What goes wrong is told by outcomes; without a handler, logging would print it to stderr besides.
_log = logging.getLogger("paramiko")
_log.addHandler(logging.NullHandler())
_log.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
        stdout: at most one chunk longer than the limit.
        stderr: its first bytes.
        exit_status: None: the host did not say.
        broken: why nothing more came, where the answer did not end by itself.
    """

    stdout: bytes
    stderr: bytes = b""
    exit_status: int | None = None
    broken: str | None = None


class _Inlet(BufferedPipe):  # type: ignore[type-arg]  # it is generic in the stubs alone
    """What has come and was not read yet; paramiko does not hold a host to the window that it was given."""

    def __init__(self, window_bytes: int) -> None:
        super().__init__()
        self._window_bytes = window_bytes

    def feed(self, data: bytes | str) -> None:
        """Takes in what came; ends the connection where that is more than there is room for."""
        if len(self) + len(data) > self._window_bytes:
            raise paramiko.SSHException("more came than the window allows")
        super().feed(data)


class TunnelLostError(NotReachedError):
    """The connection to a jump host broke, or it does not answer; another one may."""


class Connection:
    """A logged-in connection; asks one thing at a time. Made by ``Connection.log_in``."""

    def __init__(self, transport: paramiko.Transport, wire: Wire, user: str) -> None:
        self._transport = transport
        self._wire = wire
        self._user = user
        self._key: LoginKey | None = None

    @classmethod
    def log_in(cls, wire: Wire, peer: Peer, watch: Watch, *, timeout_s: float) -> "Connection":
        """Shakes hands over something connected, checks the host's key, and logs in.

        The wire is owned from here on and closed when this fails. Handshake and login together have
        ``timeout_s`` seconds; the watch's deadline holds besides.

        Raises:
            NotReachedError: the host is not who it should be, does not let us in, or says nothing.
        """
        transport = prepared(wire, peer.record)
        connection = cls(transport, wire, peer.user)
        until = monotonic() + min(timeout_s, watch.left_s)
        try:
            with watch.guarding(connection.close):
                shake_hands(transport, peer, until)
                check_host_key(transport, peer)
                connection._key = authenticate(transport, peer, until)
        except NotReachedError:
            connection.close()
            raise
        transport.set_keepalive(_KEEPALIVE_S)
        return connection

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as can be told without asking the host."""
        return self._transport.is_active()

    @property
    def user(self) -> str:
        """Who logged in."""
        return self._user

    @property
    def forced(self) -> str:
        """That something else runs than what is asked for, where the certificate says so; or empty."""
        if self._key is None or not self._key.forced:
            return ""
        said = f"{self._key.name} has force-command {self._key.forced!r}"
        return f"something else ran than what was asked for: {said}"

    def tunnel(self, address: str, port: int, watch: Watch, *, timeout_s: float) -> paramiko.Channel:
        """A connection from this host to another, as ``ssh -W`` makes it.

        Raises:
            NotReachedError: this host does not make it; says whether it may not, cannot, or does not answer.
        """
        limit = min(timeout_s, watch.left_s)
        try:
            return self._transport.open_channel(
                "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=limit
            )
        except paramiko.ChannelException as error:
            if error.code == _PROHIBITED:
                reason = "does not forward connections (AllowTcpForwarding, PermitOpen or restrict)"
            else:
                said = plain(error.text)
                why = "and does not say why" if said.lower() in _NO_REASON else f"and says {said!r}"
                reason = f"cannot connect to {address} port {port}, {why}"
            raise NotReachedError(reason, passing=False) from error
        except BROKEN as error:
            raise TunnelLostError("does not answer any more" if self.alive else "was lost") from error

    def ask(
        self,
        command: str,
        message: Secret,
        watch: Watch,
        *,
        limit_bytes: int,
        complete: Callable[[bytearray], bool],
        before: Callable[[paramiko.Channel, Watch], None] | None = None,
    ) -> Answer:
        """Runs a command with ``message`` on its stdin and gathers what it says.

        ``before`` waits, after the command has begun, until it may be told the message; what it raises, this
        raises. stdout is read until ``complete`` says that all of it, as far as it came, is the whole answer,
        until it ends, or until it is longer than ``limit_bytes``.

        Raises:
            NotReachedError: the command was not started; nothing of the message left.
        """
        with watch.guarding(self.close):
            channel = self._start(
                command, watch, window_bytes=limit_bytes + STDERR_LIMIT_BYTES + _CHUNK_BYTES
            )
            try:
                if before is not None:
                    before(channel, watch)
                _send(channel, message.reveal(), watch, limit_bytes)
                return _receive(channel, watch, limit_bytes, complete)
            finally:
                with suppress(*BROKEN):
                    channel.close()

    def close(self) -> None:
        """Ends the connection at once; safe from any thread and more than once."""
        if isinstance(self._wire, paramiko.Channel):
            # The end of a tunnel is told to the jump host, which may not listen; nobody waits for that.
            threading.Thread(target=self._close_tunnel, name="keyrelay-tunnel-end", daemon=True).start()
            return
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        self._transport.close()
        self._wire.close()

    def _close_tunnel(self) -> None:
        with suppress(*BROKEN):
            self._transport.close()
            self._wire.close()

    def _start(self, command: str, watch: Watch, *, window_bytes: int) -> paramiko.Channel:
        began = monotonic()
        try:
            # The window takes a whole answer, so that the host never waits for us to read while we write.
            channel = self._transport.open_session(window_size=window_bytes, timeout=watch.left_s)
            channel.in_buffer, channel.in_stderr_buffer = _Inlet(window_bytes), _Inlet(window_bytes)
            channel.settimeout(_POLL_S)
            channel.exec_command(command)
        except paramiko.ChannelException as error:
            raise NotReachedError(f"the host refuses a session: {plain(error.text)}") from error
        except BROKEN as error:
            lost = "the connection was lost before the visit began"
            raise NotReachedError(
                _late(watch, began, "while a session began")
                or ("the host runs no commands" if self.alive else lost)
            ) from error
        return channel


def _send(channel: paramiko.Channel, data: bytes, watch: Watch, limit_bytes: int) -> None:
    """Writes as much as the host takes; one that stops listening may still answer."""
    sent = 0
    with suppress(*BROKEN):
        while sent < len(data):
            try:
                count = channel.send(data[sent : sent + _CHUNK_BYTES])
            except TimeoutError:
                if len(channel.in_buffer) > limit_bytes or watch.expired:
                    return
                continue
            if count == 0:
                return
            sent += count
        channel.shutdown_write()


def _receive(
    channel: paramiko.Channel, watch: Watch, limit_bytes: int, complete: Callable[[bytearray], bool]
) -> Answer:
    stdout, stderr = bytearray(), bytearray()
    ended, heard_at = False, monotonic()
    while True:
        try:
            chunk = channel.recv(_CHUNK_BYTES)
        except TimeoutError:
            if ended or watch.expired:
                break
            chunk = None
        except BROKEN:
            chunk = b""
        while channel.recv_stderr_ready():
            stderr += channel.recv_stderr(_CHUNK_BYTES)[: STDERR_LIMIT_BYTES - len(stderr)]
        if chunk == b"":
            break
        if chunk:
            stdout += chunk
            heard_at = monotonic()
        if len(stdout) > limit_bytes:
            return Answer(stdout=bytes(stdout), stderr=bytes(stderr), broken=TOO_LONG)
        if not ended and complete(stdout):
            ended = True
            channel.settimeout(_AFTER_THE_END_S)
    if ended:
        return Answer(stdout=bytes(stdout), stderr=bytes(stderr))
    if not watch.expired:
        channel.status_event.wait(min(_POLL_S, watch.left_s))
    status = channel.exit_status if channel.exit_status >= 0 else None
    broken = _late(watch, heard_at, "while its answer was waited for")
    if broken is None and status is None:
        broken = LOST
    return Answer(stdout=bytes(stdout), stderr=bytes(stderr), exit_status=status, broken=broken)


def _late(watch: Watch, heard_at: float, when: str) -> str | None:
    """That the visit is over, when that was, and for how long the host had said nothing by then."""
    if not watch.expired:
        return None
    if watch.stopped:
        return "the run was ended"
    return f"the visit's time ran out {when}; the host had said nothing for {monotonic() - heard_at:.0f} s"
