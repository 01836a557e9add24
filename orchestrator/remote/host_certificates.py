"""Host certificates: whether a certificate that a host shows speaks for that host.

OpenSSH's certificates (``PROTOCOL.certkeys`` in its sources) carry a host's key, the names it may bear and a
time, signed by an authority that a line ``@cert-authority`` in known_hosts names. That the host holds the
key has been proven by the key exchange; what the certificate says is judged here. Pure.
"""

import base64
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

from orchestrator.remote.answer_lines import plain
from orchestrator.remote.known_hosts import fingerprint
from orchestrator.remote.ssh_config import matches

SUFFIX = "-cert-v01@openssh.com"
"""How the names of certificates' types end."""

_ALWAYS = 2**64 - 1
_LAST_SECOND = 253402300799  # of the year 9999
_SHA1_SIGNATURE = b"\x00\x00\x00\x07ssh-rsa"


class CertificateError(Exception):
    """A certificate does not hold; the message says why, as the end of a sentence about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when to when a certificate holds; None: without an end on that side."""

    begins: datetime | None
    ends: datetime | None

    @classmethod
    def of(cls, certificate: SSHCertificate) -> "Validity":
        """As the certificate says."""
        return cls(begins=_instant(certificate.valid_after or None), ends=_instant(certificate.valid_before))

    def check(self, now: datetime) -> None:
        """Raises ``CertificateError`` unless ``now`` lies within."""
        if self.ends is not None and now >= self.ends:
            raise CertificateError(f"expired at {self.ends:%Y-%m-%d %H:%M:%SZ}")
        if self.begins is not None and now < self.begins:
            raise CertificateError(f"is not valid before {self.begins:%Y-%m-%d %H:%M:%SZ}")


def parse(blob: bytes) -> SSHCertificate:
    """A certificate from its bytes as they travel.

    Raises:
        CertificateError: it is none, or of a kind that is not supported.
    """
    length = int.from_bytes(blob[:4], "big")
    line = blob[4 : 4 + length] + b" " + base64.b64encode(blob)
    try:
        found = load_ssh_public_identity(line)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError("is damaged or of a kind that cannot be used") from error
    if not isinstance(found, SSHCertificate):
        raise CertificateError("is a plain key")
    return found


def authority_of(certificate: SSHCertificate) -> bytes:
    """The key that signed it, as it travels.

    Raises:
        CertificateError: it is damaged, or of a kind that is not supported.
    """
    try:
        line = certificate.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError("is signed by a key that cannot be used") from error
    return base64.b64decode(line.split()[1])


def named_in(certificate: SSHCertificate) -> str:
    """The names that a certificate holds for, parted by commas; empty: it has none."""
    return plain(", ".join(name.decode(errors="replace") for name in certificate.valid_principals))


def forced_command(certificate: SSHCertificate) -> str:
    """What a user's certificate runs instead of any other command; empty: nothing."""
    return plain(certificate.critical_options.get(b"force-command", b"").decode(errors="replace"))


def check_host_certificate(
    certificate: SSHCertificate, *, name: str, authorities: Collection[bytes], now: datetime
) -> None:
    """Checks that a certificate lets its key speak for a host.

    Args:
        certificate: as the host showed it.
        name: what the host is called: its name or address, or its ``HostKeyAlias``.
        authorities: the keys that may certify it, as they travel.
        now: the present.

    Raises:
        CertificateError: it does not; says why.
    """
    signer = authority_of(certificate)
    if signer not in authorities:
        raise CertificateError(f"is signed by {fingerprint(signer)}, which no @cert-authority line names")
    try:
        certificate.verify_cert_signature()
    except (InvalidSignature, ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError("is not signed by the authority it names") from error
    if _signed_with_sha1(certificate):
        raise CertificateError("is signed with SHA-1")
    if certificate.type is not SSHCertificateType.HOST:
        raise CertificateError("is one for users, not for hosts")
    if certificate.critical_options:
        options = ", ".join(sorted(name.decode(errors="replace") for name in certificate.critical_options))
        raise CertificateError(f"has critical options that are not known: {plain(options)}")
    Validity.of(certificate).check(now)
    names = [principal.decode(errors="replace") for principal in certificate.valid_principals]
    if not any(matches(name, (pattern.lower(),)) for pattern in names if not pattern.startswith("!")):
        raise CertificateError(f"is for {named_in(certificate) or 'no name at all'}, not for {name}")


def _signed_with_sha1(certificate: SSHCertificate) -> bool:
    """Whether the signature's type, the first string in a certificate's last string, is ``ssh-rsa``."""
    blob = base64.b64decode(certificate.public_bytes().split()[1])
    signer = authority_of(certificate)
    behind = blob[blob.rindex(signer) + len(signer) :]
    return behind[4:].startswith(_SHA1_SIGNATURE)


def _instant(seconds: int | None) -> datetime | None:
    if seconds is None or seconds == _ALWAYS:
        return None
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), tz=UTC)
