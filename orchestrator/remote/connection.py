"""One SSH connection to one host: paramiko, told what it must and must not do.

Only algorithms that are sound today are offered: no CBC, no SHA-1, no DSA. The cheapest of them come first,
because the client side of a visit to a thousand hosts is one process. The host's key is checked before the
login, against lines that were there before; nothing is trusted on first use. ssh-agent, ``ssh_config`` and
jump hosts play no part.

paramiko's and the socket's exceptions end here: ``NotReachedError`` promises that no byte of what was to be
asked left for the host, and a connection that breaks later makes an ``Answer`` that says so.
"""

import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from orchestrator.keys.secret import Secret
from orchestrator.remote.deadlines import Watch
from orchestrator.remote.known_hosts import HostRecord, Standing, fingerprint

STDERR_LIMIT_BYTES = 4096
_KEEPALIVE_S = 15
# paramiko wakes this often to look around; its own default costs a tenth of a core with 200 connections.
_LOOK_AROUND_S = 1.0
_POLL_S = 1.0
_AFTER_THE_END_S = 0.5
_CHUNK_BYTES = 32_000

_KEX = (
    "curve25519-sha256@libssh.org",
    "mlkem768x25519-sha256",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
)
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_HOST_KEYS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
_BROKEN = (paramiko.SSHException, EOFError, OSError)

# What goes wrong is told by outcomes; without a handler, logging would print it to stderr besides.
_log = logging.getLogger("paramiko")
_log.addHandler(logging.NullHandler())
_log.setLevel(logging.CRITICAL + 1)


class NotReachedError(Exception):
    """The host was not reached: no byte of what was to be asked left for it. The message is one sentence.

    Attributes:
        passing: whether the cause may be gone in a moment, so that trying again makes sense.
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passing = passing


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Whom to expect at the other end, and how to log in.

    Attributes:
        host: the host's name, for reasons.
        where: address and port, for reasons.
        record: what known_hosts holds of it.
        files: the known_hosts files that were read, for reasons.
        keys: the keys to log in with, in their order.
    """

    host: str
    where: str
    record: HostRecord
    files: str
    user: str
    keys: Sequence[paramiko.PKey]


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


class _Packetizer(paramiko.packet.Packetizer):
    """Without the thread that times a handshake; the watchdog does that for the whole visit."""

    def start_handshake(self, timeout: float) -> None:
        """Does nothing."""


class Connection:
    """A logged-in connection; asks one thing at a time. Made by ``Connection.log_in``."""

    def __init__(self, transport: paramiko.Transport, sock: socket.socket) -> None:
        self._transport = transport
        self._socket = sock

    @classmethod
    def log_in(cls, sock: socket.socket, peer: Peer, watch: Watch, *, timeout_s: float) -> "Connection":
        """Shakes hands over a connected socket, checks the host's key, and logs in.

        The socket is owned from here on and closed when this fails. Handshake and login together have
        ``timeout_s`` seconds; the watch's deadline holds besides.

        Raises:
            NotReachedError: the host is not who it should be, does not let us in, or says nothing.
        """
        transport = _prepared(sock, peer.record)
        connection = cls(transport, sock)
        until = monotonic() + min(timeout_s, watch.left_s)
        try:
            with watch.guarding(connection.close):
                _shake_hands(transport, peer, until)
                _check_host_key(transport, peer)
                _authenticate(transport, peer, until)
        except NotReachedError:
            connection.close()
            raise
        transport.set_keepalive(_KEEPALIVE_S)
        return connection

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as can be told without asking the host."""
        return self._transport.is_active()

    def ask(
        self,
        command: str,
        message: Secret,
        watch: Watch,
        *,
        limit_bytes: int,
        complete: Callable[[bytes], bool],
    ) -> Answer:
        """Runs a command with ``message`` on its stdin and gathers what it says.

        stdout is read until ``complete`` says that all of it, as far as it came, is the whole answer, until
        it ends, or until it is longer than ``limit_bytes``.

        Raises:
            NotReachedError: the command was not started; nothing of the message left.
        """
        with watch.guarding(self.close):
            channel = self._start(
                command, watch, window_bytes=limit_bytes + STDERR_LIMIT_BYTES + _CHUNK_BYTES
            )
            try:
                broken = self._send(channel, message.reveal(), watch, limit_bytes)
                answer = self._receive(channel, watch, limit_bytes, complete)
            finally:
                _close_channel(channel)
        if answer.broken is None and broken is not None and not complete(answer.stdout):
            return replace(answer, broken=broken)
        return answer

    def close(self) -> None:
        """Ends the connection at once; safe from any thread and more than once."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._transport.close()
        self._socket.close()

    def _start(self, command: str, watch: Watch, *, window_bytes: int) -> paramiko.Channel:
        try:
            # The window takes a whole answer, so that the host never waits for us to read while we write.
            channel = self._transport.open_session(window_size=window_bytes, timeout=watch.left_s)
            channel.settimeout(_POLL_S)
            channel.exec_command(command)
        except paramiko.ChannelException as error:
            raise NotReachedError(f"the host refuses a session: {error.text}") from error
        except _BROKEN as error:
            reason = (
                "the connection was lost before the visit began"
                if not self.alive
                else "the host runs no commands"
            )
            raise NotReachedError(_late(watch) or reason, passing=not self.alive) from error
        return channel

    def _send(self, channel: paramiko.Channel, data: bytes, watch: Watch, limit_bytes: int) -> str | None:
        """Writes; returns why not all of it could be. A host that stops listening may still answer."""
        sent = 0
        try:
            while sent < len(data):
                try:
                    count = channel.send(data[sent : sent + _CHUNK_BYTES])
                except TimeoutError:
                    count = 0
                    if len(channel.in_buffer) <= limit_bytes and not watch.expired and not channel.closed:
                        continue
                if count == 0:
                    return "the host stopped listening before everything was said"
                sent += count
            channel.shutdown_write()
        except _BROKEN:
            return "the host stopped listening before everything was said"
        return None

    def _receive(
        self, channel: paramiko.Channel, watch: Watch, limit_bytes: int, complete: Callable[[bytes], bool]
    ) -> Answer:
        stdout, stderr = bytearray(), bytearray()
        ended = False
        while True:
            try:
                chunk = channel.recv(_CHUNK_BYTES)
            except TimeoutError:
                chunk = None
            except _BROKEN:
                chunk = b""
            while channel.recv_stderr_ready():
                stderr += channel.recv_stderr(_CHUNK_BYTES)[: STDERR_LIMIT_BYTES - len(stderr)]
            if not chunk and (ended or chunk is not None or watch.expired):
                break
            stdout += chunk or b""
            if len(stdout) > limit_bytes:
                return Answer(stdout=bytes(stdout), stderr=bytes(stderr), broken="the answer is too long")
            if not ended and complete(bytes(stdout)):
                ended = True
                channel.settimeout(_AFTER_THE_END_S)
        if ended:
            return Answer(stdout=bytes(stdout), stderr=bytes(stderr))
        if not watch.expired:
            channel.status_event.wait(min(_POLL_S, watch.left_s))
        status = channel.exit_status if channel.exit_status >= 0 else None
        broken = _late(watch)
        if broken is None and status is None:
            broken = "the connection was lost before the answer ended"
        return Answer(stdout=bytes(stdout), stderr=bytes(stderr), exit_status=status, broken=broken)


def _prepared(sock: socket.socket, record: HostRecord) -> paramiko.Transport:
    transport = paramiko.Transport(sock, packetizer_class=_Packetizer)
    sock.settimeout(_LOOK_AROUND_S)
    options = transport.get_security_options()
    options.kex = _KEX
    options.ciphers = _CIPHERS
    options.digests = _MACS
    options.compression = ("none",)
    # What the host is known by comes first; the rest stays, so that another key can be named.
    known = {"rsa-sha2" if kind == "ssh-rsa" else kind for kind in record.kinds}
    options.key_types = sorted(_HOST_KEYS, key=lambda name: not name.startswith(tuple(known) or ("-",)))
    return transport


def _shake_hands(transport: paramiko.Transport, peer: Peer, until: float) -> None:
    left = max(0.0, until - monotonic())
    transport.banner_timeout = left
    try:
        transport.start_client(timeout=left)
    except IncompatiblePeer as error:
        raise NotReachedError(f"{peer.where} speaks no SSH that is sound today: {error}") from error
    except _BROKEN as error:
        if monotonic() < until:
            greeted = bool(transport.remote_version)
            what = (
                "closed the connection during the key exchange"
                if greeted
                else "does not greet as an SSH server"
            )
            raise NotReachedError(f"{peer.where} {what}", passing=True) from error
    if not transport.initial_kex_done:
        what = "during the key exchange" if transport.remote_version else "instead of an SSH greeting"
        raise NotReachedError(f"{peer.where} said nothing {what} until the time ran out")


def _check_host_key(transport: paramiko.Transport, peer: Peer) -> None:
    key = transport.host_key
    if key is None:
        raise NotReachedError(f"{peer.where} closed the connection during the key exchange", passing=True)
    blob = key.asbytes()
    found = f"found {fingerprint(blob)}"
    match peer.record.standing(blob):
        case Standing.KNOWN:
            return
        case Standing.REVOKED:
            line = next(line for line in peer.record.revoked if line.blob == blob)
            reason = f"is revoked: {found} ({line.place})"
        case Standing.CHANGED:
            same = [line for line in peer.record.keys if line.kind == key.get_name()] or peer.record.keys
            reason = f"changed: {found}, expected {same[0].fingerprint} ({same[0].place})"
        case Standing.UNKNOWN:
            reason = f"is unknown: {found}, nothing for {peer.record.name} in {peer.files}"
            if peer.record.authorities:
                reason += (
                    f" but a @cert-authority, which is not supported ({peer.record.authorities[0].place})"
                )
    raise NotReachedError(f"host key of {peer.host!r} {reason}")


def _authenticate(transport: paramiko.Transport, peer: Peer, until: float) -> None:
    for key in peer.keys:
        transport.auth_timeout = max(0.0, until - monotonic())
        try:
            further = transport.auth_publickey(peer.user, key)
        except paramiko.BadAuthenticationType as error:
            raise NotReachedError(
                f"the host takes no keys to log in, but {', '.join(error.allowed_types)}"
            ) from error
        except _BROKEN as error:
            if monotonic() >= until:
                raise NotReachedError(
                    f"{peer.where} said nothing during the login until the time ran out"
                ) from error
            if not transport.is_active():
                raise NotReachedError(f"{peer.where} closed the connection during the login") from error
            continue
        if not further:
            return
        raise NotReachedError(f"the host wants more than a key to log in: {', '.join(further)}")
    raise NotReachedError(f"no such user or key not accepted for {peer.user!r}")


def _close_channel(channel: paramiko.Channel) -> None:
    with suppress(*_BROKEN):
        channel.close()


def _late(watch: Watch) -> str | None:
    if not watch.expired:
        return None
    return "the run was ended" if watch.stopped else "the visit's time ran out"
