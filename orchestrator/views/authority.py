"""The fleet's root and issuer, and the list of what was revoked."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.keys.material import SpkiDigest
from orchestrator.keys.revocation import Revoked
from orchestrator.operations.crl import Lists
from orchestrator.policy.desired import CommandSpec
from orchestrator.rotation.authority import DueAuthority, Role
from orchestrator.rotation.recorded import Recorded
from orchestrator.views.screen import Answer, Grid, grid
from orchestrator.views.text import count, instant, span, stamp


def show_answer(
    recorded: Recorded, parts: Sequence[DueAuthority], *, where: Mapping[Role, str], now: datetime
) -> Answer:
    """Root and issuer, the newest list of revoked certificates, and plays that others certify.

    Args:
        recorded: the fleet.
        parts: when root, issuer and list are due.
        where: the places of the private keys.
        now: the present.
    """
    due = {one.role: one for one in parts}
    certificates = {
        Role.ROOT: parse_certificate(recorded.root),
        Role.ISSUER: parse_certificate(recorded.issuer),
    }
    others = {
        name: desired.issuer.argv[0] if isinstance(desired.issuer, CommandSpec) else desired.issuer.directory
        for name, desired in sorted(recorded.playbooks.items())
        if desired.issuer is not None
    }
    body: list[str | Grid] = []
    for part, certificate in certificates.items():
        body += [
            f"{part}: {certificate.subject}",
            grid(("", ""), _facts(certificate, due[part], where[part], now)),
            "",
        ]
    lists = dict(sorted(recorded.crls.items(), key=lambda one: one[1].number))
    for key, crl in lists.items():
        told = f"list {crl.number} of {instant(crl.signed)} by {_signer(recorded, key)}"
        body.append(f"{told} has {count(len(_listed(recorded, key)), 'certificate')}")
    body += [
        f"{'lists of issuers' if role is Role.CRL else 'list of the root'}: {_when(due[role], now)}"
        for role in (Role.CRL, Role.ROOT_CRL)
        if role in due
    ]
    if not lists:
        body.append("no list of revoked certificates was signed yet")
    body += [f"{name}: certified by {who}" for name, who in others.items()]
    data: dict[str, Any] = {
        str(part): {
            **_certificate(certificate),
            "due_at": stamp(due[part].due_at),
            "key_is_in": where[part],
            "pem": certificate.pem,
        }
        for part, certificate in certificates.items()
    }
    data["crls"] = [
        {
            "by": _signer(recorded, key),
            "number": crl.number,
            "signed": stamp(crl.signed),
            "next_update": stamp(crl.next_update),
            "sha256": crl.digest,
            "revoked": [_revoked(one) for one in _listed(recorded, key)],
        }
        for key, crl in lists.items()
    ]
    return Answer(data={**data, "other_issuers": others}, body=tuple(body))


def crl_answer(lists: Lists, files: Sequence[Path]) -> Answer:
    """Lists that were signed: where they were written, or themselves.

    Args:
        lists: what was signed.
        files: where; one for all of them or one for each, or none.
    """
    body: list[str | Grid] = []
    for signed in lists.signed:
        new = f"{count(len(signed.revoked), 'certificate')} revoked, {len(signed.added)} new"
        until = f"the next one is due by {instant(signed.next_update)}"
        body.append(f"list {signed.number} of {signed.by.subject}: {new}; {until}")
        rows = [(one.serial, instant(one.at), one.reason, instant(one.ends)) for one in signed.revoked]
        if rows:
            body.append(grid(("serial", "revoked", "reason", "certificate ends"), rows))
    body += [f"written: {file}" for file in files]
    left = tuple(
        f"issuer {one.key[:12]} signs no list any more, so the root has to revoke it: keyrelay ca crl --root"
        for one in lists.orphaned
    )
    pems = tuple(line for signed in lists.signed for line in signed.crl.pem.splitlines())
    return Answer(
        data={
            "lists": [
                {
                    "by": signed.by.subject,
                    "authority": signed.by.public_key.thumbprint,
                    "number": signed.number,
                    "next_update": stamp(signed.next_update),
                    "revoked": [_revoked(one) for one in signed.revoked],
                    "pem": signed.crl.pem,
                }
                for signed in lists.signed
            ],
            "files": [str(file) for file in files],
            "orphaned_issuers": [one.key for one in lists.orphaned],
        },
        body=(*body, *left) if files else pems,
    )


def renewed_answer(renewed: Certificate) -> Answer:
    """A certificate that the authority goes on with."""
    return Answer(
        data={**_certificate(renewed), "pem": renewed.pem},
        body=(f"renewed {renewed.subject}: ends {instant(renewed.not_after)}, serial {renewed.serial:x}",),
    )


def _signer(recorded: Recorded, key: SpkiDigest) -> str:
    if key == parse_certificate(recorded.root).public_key.spki_digest:
        return "the root"
    return "the issuer" if key == recorded.own_issuers()[-1].key else f"issuer {key[:12]}"


def _listed(recorded: Recorded, key: SpkiDigest) -> tuple[Revoked, ...]:
    return tuple(one for one in recorded.revoked.values() if one.issuer == key)


def _facts(certificate: Certificate, due: DueAuthority, where: str, now: datetime) -> list[tuple[str, str]]:
    return [
        ("key", certificate.public_key.thumbprint),
        ("kept in", where),
        ("serial", f"{certificate.serial:x}"),
        ("begins", instant(certificate.not_before)),
        ("ends", f"{instant(certificate.not_after)}, {_end(certificate.not_after, now)}"),
        ("renewal", _when(due, now)),
        ("SHA-256", certificate.fingerprint),
    ]


def _when(one: DueAuthority, now: datetime) -> str:
    return f"due since {span(now - one.due_at)}" if one.due_at <= now else f"due in {span(one.due_at - now)}"


def _end(at: datetime, now: datetime) -> str:
    return f"ended {span(now - at)} ago" if at <= now else f"ends in {span(at - now)}"


def _certificate(certificate: Certificate) -> dict[str, Any]:
    return {
        "subject": certificate.subject,
        "serial": f"{certificate.serial:x}",
        "not_before": stamp(certificate.not_before),
        "not_after": stamp(certificate.not_after),
        "sha256": certificate.fingerprint,
        "thumbprint": certificate.public_key.thumbprint,
    }


def _revoked(one: Revoked) -> dict[str, Any]:
    return {
        "serial": one.serial,
        "revoked": stamp(one.at),
        "reason": one.reason,
        "ends": stamp(one.ends),
    }
