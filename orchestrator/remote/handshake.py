"""From a connected socket to a login: algorithms, the host's key, and ours.

Only algorithms that are sound today are offered: no CBC, no SHA-1, no DSA. The cheapest of them come first,
because the client side of a visit to a thousand hosts is one process. The host's key is checked before the
login, against lines that were there before; nothing is trusted on first use.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from orchestrator.remote.known_hosts import HostRecord, Standing, fingerprint

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
BROKEN = (paramiko.SSHException, EOFError, OSError)
"""What paramiko and its sockets raise when a connection breaks."""


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


class _Packetizer(paramiko.packet.Packetizer):
    """Without the thread that times a handshake; the watchdog does that for the whole visit."""

    def start_handshake(self, timeout: float) -> None:
        """Does nothing."""


def prepared(sock: socket.socket, record: HostRecord) -> paramiko.Transport:
    """A transport over a connected socket that offers what is sound, and first what the host is known by."""
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


def shake_hands(transport: paramiko.Transport, peer: Peer, until: float) -> None:
    """Exchanges keys until the monotonic time ``until``; raises ``NotReachedError``."""
    left = max(0.0, until - monotonic())
    transport.banner_timeout = left
    try:
        transport.start_client(timeout=left)
    except IncompatiblePeer as error:
        raise NotReachedError(f"{peer.where} speaks no SSH that is sound today: {error}") from error
    except BROKEN as error:
        if monotonic() < until:
            hung_up = "closed the connection during the key exchange"
            what = hung_up if transport.remote_version else "does not greet as an SSH server"
            raise NotReachedError(f"{peer.where} {what}", passing=True) from error
    if not transport.initial_kex_done:
        what = "during the key exchange" if transport.remote_version else "instead of an SSH greeting"
        raise NotReachedError(f"{peer.where} said nothing {what} until the time ran out")


def check_host_key(transport: paramiko.Transport, peer: Peer) -> None:
    """Believes the key the host showed only if a line for it says so; raises ``NotReachedError``."""
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


def authenticate(transport: paramiko.Transport, peer: Peer, until: float) -> None:
    """Logs in with the first key that is accepted, until ``until``; raises ``NotReachedError``."""
    for key in peer.keys:
        transport.auth_timeout = max(0.0, until - monotonic())
        try:
            further = transport.auth_publickey(peer.user, key)
        except paramiko.BadAuthenticationType as error:
            raise NotReachedError(
                f"the host takes no keys to log in, but {', '.join(error.allowed_types)}"
            ) from error
        except BROKEN as error:
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
