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

_ASK_THERE = "somebody may be in between: ask the host itself, at its console, for the fingerprint"
_VOUCH = "say so with --host-key (keyrelay reinstall, keyrelay restore)"


def check_host_key(transport: paramiko.Transport, peer: Peer) -> None:
    """Believes the key the host showed only if a line for it says so; raises ``NotReachedError``."""
    key = transport.host_key
    if key is None:
        raise NotReachedError(f"{peer.where} closed the connection during the key exchange", passing=True)
    blob = key.asbytes()
    shown = getattr(key, "public_blob", None)
    _refuse_revoked(peer, blob, None if shown is None else shown.key_blob)
    if peer.vouched and peer.vouched != fingerprint(blob):
        raise NotReachedError(
            f"host key of {peer.host!r} is not the one that was vouched for: found {fingerprint(blob)}, "
            f"expected {peer.vouched}"
        )
    failing = "" if shown is None else _certificate_problem(peer, shown.key_blob)
    if shown is not None and not failing:
        return
    found = f"found {fingerprint(blob)}"
    if peer.vouched and peer.record.standing(blob) is not Standing.KNOWN and peer.replace is not None:
        peer.replace(key.get_name(), blob)
        return
    match peer.record.standing(blob):
        case Standing.KNOWN:
            return
        case Standing.CHANGED:
            same, *_ = [line for line in peer.record.keys if line.kind == key.get_name()]
            reason = (
                f"changed: {found}, expected {same.fingerprint} ({same.place})"
                f"{_first_use(peer, blob)}; {_ASK_THERE}; if the new key is its own, {_forget(peer)}, "
                "and add the new one"
            )
        case Standing.OTHER_TYPE:
            known = peer.record.keys[0]
            reason = (
                f"is of another type than the known one: {found} ({key.get_name()}), expected "
                f"{known.fingerprint} ({known.kind}, {known.place}){_first_use(peer, blob)}; {_ASK_THERE}; "
                f"if the key is its own, {_VOUCH}, or add it there"
            )
        case _ if not peer.record.authorities and peer.accept is not None:
            peer.accept(key.get_name(), blob)
            return
        case _:
            reason = f"is unknown: {found}, nothing for {peer.record.name} in {peer.files}"
            if peer.record.without_port:
                reason += f" but another key without the port ({peer.record.without_port[0].place})"
            if failing:
                reason += f"; its certificate {failing}{_first_use(peer, blob)}"
            elif peer.record.authorities:
                place = peer.record.authorities[0].place
                reason += f" but a @cert-authority ({place}), and it shows no certificate"
                reason += _first_use(peer, blob)
            elif peer.unknown:
                reason += f"; {peer.unknown}"
    raise NotReachedError(f"host key of {peer.host!r} {reason}")


def _first_use(peer: Peer, blob: bytes) -> str:
    """That the key was believed on first use, which does not count; empty if it was not."""
    for line in peer.record.passed_over:
        if line.blob == blob:
            return f"; that it was believed on first use ({line.place}) does not count beside this"
    return ""


def _forget(peer: Peer) -> str:
    """How a host's old key is forgotten, once a person knows that the new one is its own."""
    files = dict.fromkeys(line.place.file for line in peer.record.keys)
    forget = " and ".join(f"ssh-keygen -f {quote(file)} -R {quote(peer.record.name)}" for file in files)
    return f"{_VOUCH}, or forget the old one with {forget}"


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
                f"host key of {peer.host!r} is revoked: found {line.fingerprint} ({line.place}); "
                "give the host a new key, for whoever holds this one can pose as it"
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
            f"host certificate of {peer.host!r} {error} (its authority: {signer.place}); have its key signed "
            f"anew with ssh-keygen -s AUTHORITY -h -I ID -n {quote(peer.name)}"
        ) from error
    return ""
