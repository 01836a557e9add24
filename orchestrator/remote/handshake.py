"""From a connected socket to a login: algorithms, and our keys; ``host_keys`` judges the host's.

Only algorithms that are sound today are offered: no CBC, no SHA-1, no DSA. The cheapest of them come first,
because the client side of a visit to a thousand hosts is one process.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, NoReturn

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from orchestrator.remote.answer_lines import plain
from orchestrator.remote.host_certificates import SUFFIX
from orchestrator.remote.known_hosts import HostRecord
from orchestrator.remote.login_keys import LoginKey

# paramiko's thread for a connection wakes this often though nothing came; by itself, ten times a second.
_LOOK_AROUND_S = 1.0

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
# paramiko's words for an end of the connection, and for one before anything was said.
_HUNG_UP = ("Negotiation failed", "Server connection dropped")
_NO_GREETING = "Error reading SSH protocol banner"
# What a request to ssh-agent ends with where the login is under way.
_NO_SIGNATURE = ("ssh-agent", "cannot be used for signing")
BROKEN = (paramiko.SSHException, EOFError, OSError)
"""What paramiko and its sockets raise when a connection breaks."""
_MOST_PACKET_BYTES = 256 * 1024  # OpenSSH's own bound
_MOST_GREETING_BYTES = 64 * 1024
_LONGEST_REASON = 2000


class NotReachedError(Exception):
    """The host was not reached: no byte of what was to be asked left for it. The message is one sentence.

    Attributes:
        passing: whether the cause may be gone in a moment, so that trying again makes sense.
        named: whether the reason says at which jump host it arose.
    """

    def __init__(self, reason: str, *, passing: bool = False, named: bool = False) -> None:
        # Hosts have their say in reasons, and reasons are kept.
        self.reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
        super().__init__(self.reason)
        self.passing = passing
        self.named = named


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Whom to expect at the other end, and how to log in.

    Attributes:
        host: the host's name, for reasons.
        where: address and port, for reasons.
        name: what a certificate must call it.
        record: what known_hosts holds of it.
        files: the known_hosts files that were read, for reasons.
        keys: the keys to log in with, in their order.
        now: the present, by which certificates expire.
        accept: writes down a key of a host that is unknown, so that it may be believed; None: it may not.
        unknown: what to do about an unknown key, for reasons.
        vouched: the fingerprint of the key that a person says it has now; empty: nobody has.
        replace: writes that key down in place of those that were known.
    """

    host: str
    where: str
    name: str
    record: HostRecord
    files: str
    user: str
    keys: Sequence[LoginKey]
    now: datetime
    accept: Callable[[str, bytes], None] | None = field(default=None, repr=False)
    unknown: str = ""
    vouched: str = ""
    replace: Callable[[str, bytes], None] | None = field(default=None, repr=False)


class NotAcceptedError(NotReachedError):
    """The host takes none of the keys.

    Attributes:
        tried: their names, in the order in which they were tried.
    """

    def __init__(self, reason: str, tried: Sequence[str]) -> None:
        super().__init__(reason)
        self.tried = tuple(tried)


class _Transport(paramiko.Transport):
    """Offers host key algorithms, certificates among them, in our order."""

    offered: tuple[str, ...] = _HOST_KEYS

    def get_exception(self) -> Exception | None:
        """What ended the connection; a message over which paramiko stumbled counts as malformed."""
        error = super().get_exception()
        if error is None or isinstance(error, BROKEN):
            return error
        malformed = paramiko.SSHException(f"a message of the other side is malformed ({error!r})")
        malformed.__cause__ = error
        return malformed

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        """Fails the opening of a channel with the other side's own words, which paramiko drops."""
        number, code, text = message.get_int(), message.get_int(), message.get_text()
        channels: Any = self
        with channels.lock:
            self.saved_exception = paramiko.ChannelException(code, text)
            event = channels.channel_events.pop(number, None)
            if event is not None:
                channels._channels.delete(number)  # noqa: SLF001 - as paramiko does itself
                event.set()

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """In the order in which they are offered."""
        return self.offered


class _Packetizer(paramiko.packet.Packetizer):
    """Without the thread that times a handshake; the watchdog does that for the whole visit.

    Attributes:
        first_line: what the other side said first, made harmless; None: nothing.
    """

    first_line: str | None = None
    greeted_bytes = 0

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 - paramiko's
        """So many bytes, if they are no more than a packet may have."""
        if n > _MOST_PACKET_BYTES:
            raise paramiko.SSHException(f"a packet of {n} bytes; at most {_MOST_PACKET_BYTES} are allowed")
        return super().read_all(n, check_rekey)

    def _read_timeout(self, timeout: float) -> bytes:
        """What comes before the key exchange, as long as it is not too much."""
        some: bytes = super()._read_timeout(timeout)  # type: ignore[misc]  # the stubs leave it out
        self.greeted_bytes += len(some)
        if self.greeted_bytes > _MOST_GREETING_BYTES:
            self.first_line = self.first_line or "a line without an end"
            raise paramiko.SSHException(f"a greeting of more than {_MOST_GREETING_BYTES} bytes")
        return some

    def readline(self, timeout: float) -> str:
        """A line before the key exchange."""
        try:
            line = super().readline(timeout)
        except UnicodeDecodeError:
            self.first_line = self.first_line or "bytes that are no text"
            raise
        if self.first_line is None:
            self.first_line = plain(line)
        return line

    def start_handshake(self, timeout: float) -> None:
        """Does nothing."""


def prepared(sock: socket.socket | paramiko.Channel, record: HostRecord) -> paramiko.Transport:
    """A transport over a connected socket that offers what is sound, and first what the host is known by."""
    transport = _Transport(sock, packetizer_class=_Packetizer)
    sock.settimeout(_LOOK_AROUND_S)
    options = transport.get_security_options()
    options.kex = _KEX
    options.ciphers = _CIPHERS
    options.digests = _MACS
    options.compression = ("none",)
    transport.offered = _offered(record)
    return transport


def _offered(record: HostRecord) -> tuple[str, ...]:
    """What the host is known by comes first; the rest stays, so that another key can be named."""
    known = {"rsa-sha2" if kind == "ssh-rsa" else kind for kind in record.kinds}
    keys = sorted(_HOST_KEYS, key=lambda name: not name.startswith(tuple(known) or ("-",)))
    certificates = tuple(f"{name}{SUFFIX}" for name in _HOST_KEYS)
    return (*certificates, *keys) if record.authorities else (*keys, *certificates)


def shake_hands(transport: paramiko.Transport, peer: Peer, until: float) -> None:
    """Exchanges keys until the monotonic time ``until``; raises ``NotReachedError``."""
    began = monotonic()
    left = max(0.0, until - began)
    transport.banner_timeout = left
    try:
        transport.start_client(timeout=left)
    except IncompatiblePeer as error:
        raise NotReachedError(
            f"{peer.where} speaks no SSH that is sound today: {plain(str(error))}"
        ) from error
    except BROKEN as error:
        if monotonic() < until:
            what = _why_ended(error, transport)
            raise NotReachedError(f"{peer.where} {what}", passing=True) from error
    if not transport.initial_kex_done:
        waited = f"{monotonic() - began:.0f} s"
        what = (
            f"did not finish the key exchange within {waited}"
            if transport.remote_version
            else f"sent no SSH greeting within {waited}"
        )
        raise NotReachedError(
            f"{peer.where} {what}, and the time ran out; is sshd what listens there, or is the host too busy?"
        )


def _why_ended(error: Exception, transport: paramiko.Transport) -> str:
    """What ended a key exchange, as the end of a sentence about the host."""
    said = str(error)
    if transport.remote_version:
        if isinstance(error, (EOFError, OSError)) or any(words in said for words in _HUNG_UP):
            return "closed the connection during the key exchange"
        return f"broke the rules of SSH during the key exchange, and was hung up on: {plain(said)}"
    first = transport.packetizer.first_line if isinstance(transport.packetizer, _Packetizer) else None
    if first is not None:
        return f"does not greet as an SSH server, but with {first!r}; check the port (ansible_port)"
    if said.startswith(_NO_GREETING):
        return (
            "closed the connection without a greeting; it may have too many logins under way (MaxStartups), "
            "or refuse this machine's address"
        )
    return "does not greet as an SSH server; check the port (ansible_port)"


def authenticate(transport: paramiko.Transport, peer: Peer, until: float) -> LoginKey:
    """Logs in with the first key that is accepted, until ``until``; returns it.

    Raises:
        NotAcceptedError: none of the keys is.
        NotReachedError: the host does not get that far.
    """
    tried: list[str] = []
    began = monotonic()
    for key in peer.keys:
        transport.auth_timeout = max(0.0, until - monotonic())
        tried.append(key.name)
        try:
            further = transport.auth_publickey(peer.user, key.key)
        except paramiko.BadAuthenticationType as error:
            raise NotReachedError(
                f"the host takes no keys to log in, but {plain(', '.join(error.allowed_types))}; keyrelay "
                "has only keys: allow them in its sshd_config (PubkeyAuthentication, AuthenticationMethods)"
            ) from error
        except BROKEN as error:
            if monotonic() >= until:
                silent = f"did not let {peer.user!r} in for {monotonic() - began:.0f} s"
                raise NotReachedError(f"{peer.where} {silent}, and the time ran out") from error
            # A write into a connection that has ended fails before the transport itself takes note.
            refused = isinstance(error, paramiko.AuthenticationException) and transport.is_active()
            if not refused:
                _explain_end(peer, tried, error)
            continue
        if not further:
            return key
        raise NotReachedError(
            f"the host wants more than a key to log in: {plain(', '.join(further))}, and keyrelay has "
            f"nothing but keys; let AuthenticationMethods be publickey for {peer.user!r} in its sshd_config"
        )
    raise NotAcceptedError(f"no such user or key not accepted for {peer.user!r}", tried)


def _explain_end(peer: Peer, tried: Sequence[str], error: Exception) -> NoReturn:
    """Why the connection ended during the login."""
    if isinstance(error, paramiko.SSHException) and any(words in str(error) for words in _NO_SIGNATURE):
        raise NotReachedError(f"ssh-agent did not sign with {tried[-1]}: {error}") from error
    reason = f"{peer.where} closed the connection during the login"
    if len(tried) > 1:
        reason += (
            f", after {len(tried)} keys were tried ({', '.join(tried)}); hosts allow few (MaxAuthTries): "
            "name the right one with ansible_ssh_private_key_file and set IdentitiesOnly"
        )
    raise NotReachedError(reason) from error
