"""cert create, import, export: keys that are made ahead of their handover, and copies that leave.

Neither touches a host. What is made or imported waits until a rollout takes it up (``rotation/ahead.py``), so
that there is no second way by which a key gets onto a server. What is exported is written into the ledger
before a byte of it leaves (S3), and counts as held until a person says that it is destroyed.
"""

from dataclasses import dataclass, replace
from pathlib import PurePath

from cryptography import x509

from orchestrator.errors import RefusedError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.keys.formats.chains import Chain
from orchestrator.keys.formats.contents import Format
from orchestrator.keys.formats.intake import Taken
from orchestrator.keys.formats.writing import write_private
from orchestrator.keys.material import KeyPair, generate, load_private
from orchestrator.keys.secret import Secret
from orchestrator.operations.making import PURPOSE
from orchestrator.policy.desired import Desired, Origin, Scope
from orchestrator.ports import Clock, Entropy, Ledger, Vault
from orchestrator.rotation.ahead import prepared, unfit, waiting
from orchestrator.rotation.events import (
    Certified,
    CredentialDropped,
    CredentialPrepared,
    Event,
    ExportDestroyed,
    KeyDestroyed,
    KeyExported,
    KeyMade,
    KeyMakingIntended,
    NewCredential,
)
from orchestrator.rotation.lookup import credential_named
from orchestrator.rotation.recorded import FOREIGN, Copy, CopyId, Credential, Recorded
from orchestrator.rotation.rekey import new_credential

_ROOT = PurePath("/")
_WITH_CERTIFICATES = frozenset({Format.PEM, Format.PKCS12, Format.JWK, Format.JWKS})
"""The formats in which a private key goes along with its certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where keys and the record of them are, and what making one needs."""

    ledger: Ledger
    vault: Vault
    clock: Clock
    entropy: Entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An exported key: what to write, and how the ledger knows it."""

    credential: Credential
    copy: CopyId
    data: Secret


def create(store: Store, desired: Desired, scope: Scope) -> Credential:
    """Make a key for a scope, ahead of its handover; what waits for the scope already is dropped.

    Raises:
        RefusedError: the playbook wants keys to be made on servers.
    """
    _refuse_made_there(desired)
    now = store.clock.now()
    new = new_credential(scope, desired, now=now, random=store.entropy)
    pair = generate(desired.key.algorithm, random=store.entropy)
    return _prepared(store, desired, new, pair, imported=False, certificates={})


def take_in(store: Store, desired: Desired, scope: Scope, taken: Taken, *, certify_anew: bool) -> Credential:
    """Let an existing key wait to be the next one of a scope; what waits for the scope already is dropped.

    Args:
        store: where it is put.
        desired: the playbook.
        scope: whose key it is to be.
        taken: the key, and its certificate where there is one.
        certify_anew: leave the certificate out: the playbook's issuer certifies the key, for the playbook's
            lifetime from now on.

    Raises:
        RefusedError: the playbook asks for other keys; the certificate is not for all servers of the scope,
            or is due for renewal; the ledger knows the key already.
    """
    _refuse_made_there(desired)
    public, now = taken.pair.public, store.clock.now()
    known = next((c for c in store.ledger.read().credentials.values() if c.public == public), None)
    if known is not None:
        raise RefusedError(
            f"the ledger knows this key already: it is {known.state} in {known.scope}",
            hint="a key stands in the ledger once, and one that was given up there is not taken again, though"
            " no host may have had it; make another one",
        )
    new = replace(
        new_credential(scope, desired, now=now, random=store.entropy),
        key=replace(desired.key, algorithm=public.algorithm),
    )
    certificates: dict[HostName, Chain] = {}
    if taken.chain is not None and not certify_anew:
        _refuse_certificate(taken.chain, scope, new)
        leaf = taken.chain.leaf
        if leaf.not_after <= leaf.not_before:
            raise RefusedError("the certificate ends when it begins")
        new = replace(new, not_before=leaf.not_before, not_after=leaf.not_after)
        certificates = dict.fromkeys(scope.servers, taken.chain)
    event = _event(desired, new, imported=True)
    trial = replace(prepared(event, at=now), public=public, in_vault=True)
    if why := unfit(trial, scope, desired, now=now):
        raise RefusedError(
            f"the key cannot be the next one of {scope.name}: {why}",
            hint=""
            if taken.chain is None or certify_anew
            else "with --recertify its certificate is left out",
        )
    return _prepared(store, desired, new, taken.pair, imported=True, certificates=certificates)


def drop(store: Store, key: str, *, reason: str) -> Credential:
    """Give up a key that waits, and destroy it in the vault.

    Raises:
        UsageError: no such key, or several.
        RefusedError: it does not wait for a rollout.
    """
    recorded = store.ledger.read()
    known = credential_named(recorded, key)
    if not known.awaits:
        raise RefusedError(
            f"the key does not wait for a rollout: it is {known.state}",
            hint="a key in use is replaced: keyrelay apply --new-key",
        )
    recorded = _dropped(store, recorded, [known], reason)
    return recorded.credentials[known.id]


def export(
    store: Store,
    key: str,
    *,
    form: Format,
    file: str,
    purpose: str,
    password: Secret | None,
    server: HostName | None = None,
    chained: bool = True,
) -> Exported:
    """The private key of a credential with its certificate, for a file; recorded before it is returned.

    Args:
        store: where it is.
        key: a thumbprint, or its beginning.
        form: what to write.
        file: where it will be written, for the ledger.
        purpose: for the ledger.
        password: None: in the clear.
        server: whose certificate goes along; None: the only one there is.
        chained: whether its chain goes along too.

    Raises:
        UsageError: no such key, or several; no such certificate; it is not said which one of several.
        RefusedError: the key may not be exported, was ended, or is not in the vault.
    """
    recorded = store.ledger.read()
    known = credential_named(recorded, key)
    refuse_unexportable(recorded, known)
    pair = load_private(store.vault.open(known.id, PURPOSE))
    chain = certificates_of(known, server)
    if not chain and known.certificates and form in _WITH_CERTIFICATES:
        raise UsageError(
            f"--server is missing: {', '.join(sorted(known.certificates))} have certificates of their own",
            hint="say whose certificate goes along with the key",
        )
    name = server or (known.servers[0] if len(known.servers) == 1 else known.scope)
    data = write_private(
        form, pair, chain if chained else chain[:1], password, name=name, random=store.entropy
    )
    copy = CopyId(store.entropy(4).hex())
    event = KeyExported(
        credential=known.id, copy=copy, file=file, purpose=purpose, encrypted=password is not None
    )
    after = store.ledger.append([event], onto=recorded, at=store.clock.now())
    return Exported(credential=after.credentials[known.id], copy=copy, data=data)


def refuse_unexportable(recorded: Recorded, credential: Credential) -> None:
    """Raises ``RefusedError`` where a private key may not, or cannot, be written to a file."""
    playbook = recorded.playbooks.get(credential.playbook)
    if not credential.key.exportable or (playbook is not None and not playbook.key.exportable):
        raise RefusedError(
            f"the key of {credential.scope} may not be exported: its playbook says exportable: no",
            hint="a key made under exportable: no never leaves; change the playbook for its successor",
        )
    if credential.ended is not None:
        raise RefusedError(f"the key is {credential.ended}: {credential.ended_why}")
    if credential.key.origin is Origin.SERVER:
        raise RefusedError("the key was made on its server, which it never leaves")
    if credential.public is None or not credential.in_vault:
        raise RefusedError("the vault does not have this key")


def certificates_of(credential: Credential, server: HostName | None) -> tuple[x509.Certificate, ...]:
    """The certificate of a key for a server, and its chain up to and without the root.

    Args:
        credential: the key.
        server: None: the only certificate there is, for one server or for all; where there are several, none.

    Raises:
        UsageError: the key is not certified for that server.
    """
    if server is None and len({*credential.certificates.values()}) == 1:
        server = min(credential.certificates)
    if server is None:
        return ()
    if server not in credential.certificates:
        known = ", ".join(sorted(credential.certificates)) or "nobody"
        raise UsageError(f"the key is not certified for {server!r}; it is for {known}")
    pem = credential.certificates[server] + credential.chains.get(server, "")
    return tuple(x509.load_pem_x509_certificates(pem.encode()))


def destroyed(
    ledger: Ledger, clock: Clock, key: str, file: str, *, reason: str, folder: PurePath = _ROOT
) -> Credential:
    """A person says that an exported file is no more.

    Args:
        ledger: what knows of it.
        clock: the present.
        key: a thumbprint, or its beginning.
        file: its path, its name alone where no other has that, or its id.
        reason: the person's.
        folder: where a relative path begins.

    Raises:
        UsageError: no such key, or no such file.
    """
    recorded = ledger.read()
    known = credential_named(recorded, key)
    found = [name for name, copy in known.copies.items() if {file, str(folder / file)} & {name, copy.file}]
    if not found:
        found = [name for name, copy in known.copies.items() if PurePath(copy.file).name == file]
        if len({known.copies[name].file for name in found}) > 1:
            found = []
    if not found:
        told = ", ".join(copy.file for copy in known.copies.values()) or "none"
        raise UsageError(f"the key was not exported to {file!r}; files that may exist: {told}")
    events = [ExportDestroyed(credential=known.id, copy=copy, reason=reason) for copy in found]
    return ledger.append(events, onto=recorded, at=clock.now()).credentials[known.id]


def copies_of(credential: Credential) -> tuple[tuple[CopyId, Copy], ...]:
    """The files that a key was exported to, the oldest first."""
    return tuple(sorted(credential.copies.items(), key=lambda item: item[1].since))


def _refuse_made_there(desired: Desired) -> None:
    if desired.key.origin is Origin.SERVER:
        raise RefusedError(
            f"playbook {desired.playbook!r} has its keys made on the servers, which they never leave",
            hint="to bring a key from elsewhere, say origin: controller",
        )


def _refuse_certificate(chain: Chain, scope: Scope, new: NewCredential) -> None:
    if new.delegated:
        raise RefusedError(
            "with policy delegated agents believe what the issuer certifies, and no other certificate",
            hint="with --recertify the issuer certifies the key",
        )
    names = {name.lower() for name in chain.leaf.names}
    missing = [server for server in scope.servers if server.lower() not in names]
    if missing:
        told = ", ".join(chain.leaf.names) or "no name"
        raise RefusedError(
            f"the certificate is for {told}; {scope.name} needs {', '.join(missing)}",
            hint="with --recertify the playbook's issuer certifies the key for its servers",
        )


def _prepared(
    store: Store,
    desired: Desired,
    new: NewCredential,
    pair: KeyPair,
    *,
    imported: bool,
    certificates: dict[HostName, Chain],
) -> Credential:
    """Write what is about to be, put the key away, write that it is."""
    recorded = store.ledger.read()
    earlier = waiting(recorded, desired.playbook, new.scope)
    if earlier:
        recorded = _dropped(store, recorded, earlier, "another key is made for its scope")
    events: list[Event] = [_event(desired, new, imported=imported), KeyMakingIntended(credential=new.id)]
    recorded = store.ledger.append(events, onto=recorded, at=store.clock.now())
    store.vault.put(new.id, PURPOSE, pair.private)
    made: list[Event] = [KeyMade(credential=new.id, public=pair.public)]
    made += [_certified(new, server, chain) for server, chain in certificates.items()]
    return store.ledger.append(made, onto=recorded, at=store.clock.now()).credentials[new.id]


def _certified(new: NewCredential, server: HostName, chain: Chain) -> Certified:
    leaf, *above = (one.pem for one in (chain.leaf, *chain.without_root))
    return Certified(
        credential=new.id, server=server, certificate_pem=leaf, chain_pem="".join(above), issuer=FOREIGN
    )


def _dropped(
    store: Store, recorded: Recorded, known: list[Credential] | tuple[Credential, ...], reason: str
) -> Recorded:
    dropped: list[Event] = [CredentialDropped(credential=one.id, reason=reason) for one in known]
    recorded = store.ledger.append(dropped, onto=recorded, at=store.clock.now())
    store.vault.destroy(*(one.id for one in known))
    gone = [KeyDestroyed(credential=one.id) for one in known if one.in_vault]
    return store.ledger.append(gone, onto=recorded, at=store.clock.now()) if gone else recorded


def _event(desired: Desired, new: NewCredential, *, imported: bool) -> CredentialPrepared:
    return CredentialPrepared(
        playbook=desired.playbook,
        new=new,
        in_flight=desired.messages.in_flight,
        grace=desired.certificate.grace,
        imported=imported,
    )
