"""Whether a host is who it should be, judged between key exchange and login.

Its key or certificate is held against lines that were there before; a key is believed on first use only where
the operator said so, and is written down then.
"""

from shlex import quote

import paramiko

from orchestrator.remote.handshake import NotReachedError, Peer
from orchestrator.remote.host_certificates import (
    CertificateError,
    authority_of,
    check_host_certificate,
    parse,
)
from orchestrator.remote.known_hosts import Standing, fingerprint


def check_host_key(transport: paramiko.Transport, peer: Peer) -> None:
    """Believes the key the host showed only if a line for it says so; raises ``NotReachedError``."""
    key = transport.host_key
    if key is None:
        raise NotReachedError(f"{peer.where} closed the connection during the key exchange", passing=True)
    blob = key.asbytes()
    shown = getattr(key, "public_blob", None)
    _refuse_revoked(peer, blob, None if shown is None else shown.key_blob)
    failing = "" if shown is None else _certificate_problem(peer, shown.key_blob)
    if shown is not None and not failing:
        return
    found = f"found {fingerprint(blob)}"
    match peer.record.standing(blob):
        case Standing.KNOWN:
            return
        case Standing.CHANGED:
            same = [line for line in peer.record.keys if line.kind == key.get_name()] or peer.record.keys
            reason = (
                f"changed: {found}, expected {same[0].fingerprint} ({same[0].place}); {_what_to_do(peer)}"
            )
        case _ if not peer.record.authorities and peer.accept is not None:
            peer.accept(key.get_name(), blob)
            return
        case _:
            reason = f"is unknown: {found}, nothing for {peer.record.name} in {peer.files}"
            if failing:
                reason += f"; its certificate {failing}"
            elif peer.record.authorities:
                place = peer.record.authorities[0].place
                reason += f" but a @cert-authority ({place}), and it shows no certificate"
            elif peer.unknown:
                reason += f"; {peer.unknown}"
    raise NotReachedError(f"host key of {peer.host!r} {reason}")


def _what_to_do(peer: Peer) -> str:
    """How a host's new key comes to be believed, once a person knows that it is its own."""
    files = dict.fromkeys(line.place.file for line in peer.record.keys)
    forget = " and ".join(f"ssh-keygen -f {quote(file)} -R {quote(peer.record.name)}" for file in files)
    return (
        "somebody may be in between: ask the host itself, at its console, for the fingerprint; "
        f"if the new key is its own, forget the old one with {forget}, and add the new one"
    )


def _refuse_revoked(peer: Peer, blob: bytes, certificate: bytes | None) -> None:
    """Refuses a revoked key, a revoked certificate, and every certificate of a revoked authority."""
    shown = {blob} if certificate is None else {blob, certificate}
    if certificate is not None:
        try:
            shown.add(authority_of(parse(certificate)))
        except CertificateError as error:
            raise NotReachedError(f"host certificate of {peer.host!r} {error}") from error
    for line in peer.record.revoked:
        if line.blob in shown:
            raise NotReachedError(
                f"host key of {peer.host!r} is revoked: found {line.fingerprint} ({line.place})"
            )


def _certificate_problem(peer: Peer, blob: bytes) -> str:
    """Why a certificate does not let the key be believed; empty if it does.

    One by an unknown authority says nothing against the key itself; one that fails otherwise ends it here.
    """
    certificate = parse(blob)
    authorities = {line.blob: line for line in peer.record.authorities}
    try:
        check_host_certificate(certificate, name=peer.name, authorities=authorities, now=peer.now)
    except CertificateError as error:
        signer = authorities.get(authority_of(certificate))
        if signer is None:
            return str(error)
        raise NotReachedError(
            f"host certificate of {peer.host!r} {error} (its authority: {signer.place})"
        ) from error
    return ""
