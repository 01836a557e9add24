"""Files of keys: what one holds, and what came of an import or an export."""

from collections.abc import Sequence

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.formats.contents import Contents, Format
from orchestrator.keys.material import Algorithm
from orchestrator.operations.credentials import Exported
from orchestrator.operations.mismatches import Mismatches
from orchestrator.rotation.recorded import Credential
from orchestrator.views.keys import credential_data, key_of
from orchestrator.views.screen import Answer, Grid, grid
from orchestrator.views.text import count, instant, stamp


def file_answer(file: str, contents: Contents, faults: Sequence[KeyMaterialError]) -> Answer:
    """What a file holds, and what is wrong with it; never a private key itself."""
    keys = [
        *(("private key", key.public) for key in contents.privates),
        *(("public key", key) for key in contents.publics),
    ]
    rows = [(what, key.kind, key.spki_digest) for what, key in keys]
    certified = [
        (
            one.name,
            one.key.kind,
            ", ".join(one.names) or "-",
            one.issuer,
            instant(one.not_before),
            instant(one.not_after),
            one.key.spki_digest,
        )
        for one in contents.certificates
    ]
    locked = "under a password" if contents.encrypted else "in the clear"
    columns = ("certificate of", "key", "names", "issued by", "begins", "ends", "SHA-256 of the key")
    return Answer(
        data={
            "file": file,
            "format": contents.format,
            "encrypted": contents.encrypted,
            "keys": [
                {"half": what.split()[0], "kind": key.kind, "spki_sha256": key.spki_digest}
                for what, key in keys
            ],
            "certificates": [
                {
                    "subject": one.subject,
                    "issuer": one.issuer,
                    "serial": f"{one.serial:x}",
                    "names": list(one.names),
                    "kind": one.key.kind,
                    "spki_sha256": one.key.spki_digest,
                    "not_before": stamp(one.not_before),
                    "not_after": stamp(one.not_after),
                    "is_ca": one.is_ca,
                }
                for one in contents.certificates
            ],
            "faults": [
                {"kind": type(one).__name__.removesuffix("Error"), "message": one.message} for one in faults
            ],
        },
        body=(
            f"{file}: {contents.format}, {locked}",
            *((grid(("", "kind", "SHA-256"), rows),) if rows else ()),
            *((grid(columns, certified),) if certified else ()),
            *(f"wrong: {one.message}" for one in faults),
        ),
    )


def waiting_answer(credential: Credential, verb: str) -> Answer:
    """A key that was made or imported, or dropped again."""
    told = f"{verb} key {key_of(credential)} of {credential.scope}"
    anew = credential.imported and not credential.certificates
    body = (
        told,
        *(("it comes without a certificate: the playbook's issuer certifies it",) if anew else ()),
        f"it waits for the next apply, until {instant(credential.not_after)} at the latest",
    )
    return Answer(data=credential_data(credential), body=body if credential.awaits else (told,))


def exported_answer(exported: Exported, file: str, form: Format) -> Answer:
    """A private key that was written to a file."""
    copy = exported.credential.copies[exported.copy]
    locked = "under its password" if copy.encrypted else "in the clear"
    return Answer(
        data={**credential_data(exported.credential), "copy": exported.copy},
        body=(
            f"key {key_of(exported.credential)} is in {file}, {locked}",
            "it counts as held outside until: keyrelay cert gone KEY FILE",
            *(
                ("NSS and Windows read no ed25519 key; OpenSSL and Java do",)
                if form is Format.PKCS12 and exported.credential.key.algorithm is Algorithm.ED25519
                else ()
            ),
        ),
    )


def gone_answer(credential: Credential) -> Answer:
    """A key of which an exported file is no more."""
    left = count(len(credential.copies), "exported file")
    return Answer(
        data=credential_data(credential),
        body=(f"key {key_of(credential)} is {credential.state}; {left} may exist",),
    )


def mismatches_grid(mismatches: Mismatches) -> Grid:
    """The table of them, a row for each edge."""
    return grid(
        ("agent", "server", "the server uses", "the agent trusts"),
        [
            (one.agent, one.server, ", ".join(one.uses) or "-", ", ".join(one.trusts) or "-")
            for one in mismatches.found
        ],
    )


def mismatches_answer(mismatches: Mismatches, *, asked: bool) -> Answer:
    """The agents whose key is not the server's.

    Args:
        mismatches: what was found.
        asked: whether the hosts were asked, and not the ledger alone.
    """
    table = mismatches_grid(mismatches)
    unknown = [f"not judged: {host}: {why}" for host, why in mismatches.unknown.items()]
    source = "by what the hosts hold" if asked else "by the ledger"
    return Answer(
        data={
            "mismatched": [
                {"agent": one.agent, "server": one.server, "uses": list(one.uses), "trusts": list(one.trusts)}
                for one in mismatches.found
            ],
            "unknown": dict(mismatches.unknown),
        },
        body=(
            table if table.rows else f"every agent trusts the key that its server uses, {source}",
            *unknown,
        ),
    )
