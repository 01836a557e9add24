"""Which keys log in to a hop, in which order, read once a run.

Keys that are named for the host come first, then what else ssh-agent holds unless ``IdentitiesOnly`` is set;
where none is named, ssh-agent's keys come before OpenSSH's usual files. (``ssh`` would try the agent's other
keys before a named file that the agent does not hold, and be sent away after six.) A certificate beside a key
is tried before the bare key. A key that others can read is refused, as ``ssh`` refuses it.

An encrypted key that ssh-agent holds is used from there. Otherwise its passphrase is asked for, once, and
only when no other key was accepted.
"""

import base64
import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, SSHCertificateType
from paramiko.agent import AgentKey

from orchestrator.keys.secret import Secret
from orchestrator.remote import user_files
from orchestrator.remote.host_certificates import (
    CertificateError,
    Validity,
    authority_of,
    forced_command,
    named_in,
    parse,
)
from orchestrator.remote.key_files import (
    LARGEST_BYTES,
    KeyFile,
    Locked,
    Private,
    Public,
    Unusable,
    read_key_file,
    unlock,
)
from orchestrator.remote.known_hosts import fingerprint
from orchestrator.remote.routes import Hop
from orchestrator.remote.ssh_agent import AgentError, SshAgent, is_certificate

DEFAULT_FILES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_CERTIFICATE_SUFFIX = "-cert.pub"


class LoginKeyError(Exception):
    """There is no key to log in with; the message says what was looked at and why it does not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginKey:
    """One key to try.

    Attributes:
        key: signs; may carry a certificate.
        name: for reasons: its file, or ssh-agent and its comment.
        certificate: what its certificate says, as a sentence; empty: it has none.
        forced: the command that its certificate runs instead of any other; empty: none.
    """

    key: paramiko.PKey
    name: str
    certificate: str = ""
    forced: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to log in with.

    Attributes:
        ready: the keys to try, in their order.
        locked: files whose passphrase must be asked for, to be tried when none of those was accepted.
        notes: what was passed over, and why.
    """

    ready: tuple[LoginKey, ...]
    locked: tuple[str, ...]
    notes: tuple[str, ...]


class LoginKeys:
    """Login keys and agents; reads and asks each once. Safe to use from many threads.

    Args:
        now: tells whether a certificate still holds.
    """

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._files: dict[str, KeyFile] = {}
        self._agents: dict[str, SshAgent | AgentError] = {}

    def choose(self, hop: Hop) -> Choice:
        """The keys for a hop.

        Raises:
            LoginKeyError: there is none at all.
        """
        with self._lock:
            return self._choose(hop)

    def unlock(self, hop: Hop, file: str, passphrase: Secret | None) -> Choice:
        """The keys of a file that ``choose`` called locked; the passphrase is not kept, the key is.

        Args:
            hop: whom they are for.
            file: as ``choose`` named it.
            passphrase: None: there is nobody to ask.

        Raises:
            LoginKeyError: the passphrase is missing or wrong.
        """
        with self._lock:
            if isinstance(self._files[file], Locked):
                if passphrase is None:
                    raise LoginKeyError(
                        f"login key {file} is encrypted, and there is nobody to ask for its passphrase; "
                        f"ssh-add {file} gives it to ssh-agent"
                    )
                self._files[file] = unlock(Path(file), passphrase)
            found = self._files[file]
            if isinstance(found, Unusable):
                raise LoginKeyError(found.reason)
            drawer = _Drawer(hop, {}, self._now())
            drawer.add_file(file, found)
            return drawer.choice()

    def close(self) -> None:
        """Ends the conversations with agents."""
        with self._lock:
            for agent in self._agents.values():
                if isinstance(agent, SshAgent):
                    agent.close()
            self._agents.clear()

    def _choose(self, hop: Hop) -> Choice:
        named = bool(hop.identities)
        files = hop.identities or _usual_files()
        agent = self._agent(hop)
        drawer = _Drawer(hop, {key.blob: key for key in agent} if agent else {}, self._now())
        said = self._agent_said(hop)
        if not named and not hop.identities_only:
            drawer.add_agent()
        for file in files:
            drawer.add_file(file, self._file(file))
        if named and not hop.identities_only:
            drawer.add_agent()
        choice = drawer.choice()
        if not choice.ready and not choice.locked:
            asked = (said,) if hop.agent else ()
            raise LoginKeyError("; ".join((*choice.notes, *(asked if named else (_nothing(said),)))))
        return replace(choice, notes=(*choice.notes, *((said,) if hop.agent and not agent else ())))

    def _file(self, file: str) -> KeyFile:
        if file not in self._files:
            self._files[file] = read_key_file(Path(file))
        return self._files[file]

    def _agent(self, hop: Hop) -> tuple[AgentKey, ...]:
        if hop.agent is None:
            return ()
        if hop.agent not in self._agents:
            try:
                self._agents[hop.agent] = SshAgent(hop.agent)
            except AgentError as error:
                self._agents[hop.agent] = error
        found = self._agents[hop.agent]
        return () if isinstance(found, AgentError) else found.get_keys()

    def _agent_said(self, hop: Hop) -> str:
        """Why there is nothing from an agent; of one that holds keys, nothing of use."""
        found = self._agents.get(hop.agent or "")
        if isinstance(found, AgentError):
            return str(found)
        if hop.agent is None:
            return "there is no ssh-agent (SSH_AUTH_SOCK is not set)"
        return f"ssh-agent at {hop.agent} holds no keys"


class _Drawer:
    """The keys for one hop, being gathered."""

    def __init__(self, hop: Hop, agent: dict[bytes, AgentKey], now: datetime) -> None:
        self.notes: list[str] = []
        self._hop = hop
        self._agent = agent
        self._now = now
        self._ready: list[LoginKey] = []
        self._locked: list[str] = []
        self._seen: set[bytes] = set()
        self._certified: set[str] = set()
        self._named = tuple(self._read_certificates(hop.certificates, needed=True))

    def choice(self) -> Choice:
        strange = [name for name, _ in self._named if name not in self._certified and not self._locked]
        others = [f"certificate {name} is for none of these keys" for name in strange]
        return Choice(ready=tuple(self._ready), locked=tuple(self._locked), notes=(*self.notes, *others))

    def add_agent(self) -> None:
        """All that the agent holds; its certificates first."""
        for key in sorted(self._agent.values(), key=lambda key: not is_certificate(key)):
            what = "certificate" if is_certificate(key) else "key"
            bare = _certified(key.blob) if is_certificate(key) else key.blob
            comment = f" {key.comment!r}" if key.comment else ""
            name = f"ssh-agent's {what}{comment} ({fingerprint(bare)})"
            if is_certificate(key):
                self._add_certificate(key.blob, _with_certificate(key, key.blob), name)
            else:
                self._add_matching(self._named, key)
                self._add(key.blob, key, name)

    def add_file(self, file: str, found: KeyFile) -> None:
        """What a file holds; by way of the agent where that is the only way."""
        match found:
            case Private(key=key):
                self._add_with_certificates(file, key, f"login key {file}")
            case Locked(blob=blob) | Public(blob=blob) if blob in self._agent:
                held = self._agent[blob]
                self._add_with_certificates(file, held, f"login key {file} in ssh-agent")
            case Locked():
                self._locked.append(file)
            case Public():
                self.notes.append(
                    f"login key {file} is a public key, and no ssh-agent holds its private one; give it to "
                    "ssh-agent with ssh-add, or name its own file"
                )
            case Unusable(reason=reason):
                self.notes.append(reason)

    def _add_with_certificates(self, file: str, key: paramiko.PKey, name: str) -> None:
        beside = tuple(self._read_certificates((f"{file.removesuffix('.pub')}{_CERTIFICATE_SUFFIX}",)))
        self._add_matching((*beside, *self._named), key)
        self.notes += [
            f"certificate {certificate} is not for the key beside it"
            for certificate, _ in beside
            if certificate not in self._certified
        ]
        self._add(key.asbytes(), key, name)

    def _add_matching(self, certificates: Iterable[tuple[str, bytes]], key: paramiko.PKey) -> None:
        """A key with those of some certificates that are its own."""
        bare = key.blob if isinstance(key, AgentKey) else key.asbytes()
        for certificate, blob in certificates:
            if _certified(blob) == bare:
                self._certified.add(certificate)
                self._add_certificate(blob, _with_certificate(key, blob), f"certificate {certificate}")

    def _read_certificates(
        self, names: Iterable[str], *, needed: bool = False
    ) -> Iterator[tuple[str, bytes]]:
        """The certificates in some files, which may be missing unless they are ``needed``."""
        for name in names:
            try:
                text = user_files.read(Path(name), limit_bytes=LARGEST_BYTES).decode()
                yield name, paramiko.pkey.PublicBlob.from_string(text).key_blob
            except (FileNotFoundError, NotADirectoryError):
                if needed:
                    self.notes.append(f"certificate {name} does not exist")
            except OSError as error:
                self.notes.append(f"certificate {name} cannot be read: {error.strerror}")
            except ValueError:
                self.notes.append(f"certificate {name} is damaged or cannot be read")

    def _add_certificate(self, blob: bytes, key: paramiko.PKey, name: str) -> None:
        try:
            certificate = parse(blob)
            Validity.of(certificate).check(self._now)
        except CertificateError as error:
            self.notes.append(f"{name} {error}: have it signed anew")
            return
        if certificate.type is not SSHCertificateType.USER:
            self.notes.append(f"{name} is one for hosts, not for users: have it signed anew, without -h")
            return
        signer = fingerprint(authority_of(certificate))
        says = f"{name} is for {named_in(certificate) or 'any user'}, signed by {signer}"
        self._add(blob, key, name, certificate=says, forced=forced_command(certificate))

    def _add(
        self, blob: bytes, key: paramiko.PKey, name: str, *, certificate: str = "", forced: str = ""
    ) -> None:
        if blob not in self._seen:
            self._seen.add(blob)
            self._ready.append(LoginKey(key=key, name=name, certificate=certificate, forced=forced))


def _usual_files() -> tuple[str, ...]:
    """OpenSSH's own files of keys, as far as they exist."""
    try:
        paths = [user_files.expanded(name) for name in DEFAULT_FILES]
    except OSError:
        return ()
    return tuple(str(path) for path in paths if user_files.exists(path))


def _certified(blob: bytes) -> bytes:
    """The key in a certificate, as it travels; empty if it is none."""
    try:
        line = parse(blob).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except CertificateError:
        return b""
    return base64.b64decode(line.split()[1])


def _with_certificate(key: paramiko.PKey, blob: bytes) -> paramiko.PKey:
    """Another object for the same key that shows a certificate."""
    twin = AgentKey(key.agent, key.blob, key.comment) if isinstance(key, AgentKey) else copy.copy(key)
    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode("ascii")
    twin.public_blob = paramiko.pkey.PublicBlob(kind, blob)
    return twin


def _nothing(agent_said: str) -> str:
    return (
        f"there is no key to log in with: none of {', '.join(DEFAULT_FILES)} can be used, and {agent_said}; "
        "name one with ansible_ssh_private_key_file"
    )
