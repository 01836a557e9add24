"""What a host in memory holds, what goes wrong on it, and what it tells of itself."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from orchestrator.errors import KeyMaterialError
from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import TrustBundle
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import SpkiDigest, load_private
from orchestrator.keys.secret import Secret
from orchestrator.policy.stores import digest_of
from orchestrator.rotation.filling import der_digest
from orchestrator.rotation.observed import (
    HeldBundle,
    HeldCredential,
    HeldDelegation,
    HeldEdge,
    HeldStore,
    HeldStores,
    HostSurvey,
    Obstacle,
    Problem,
    StoreState,
    Tombstone,
    Whole,
)
from orchestrator.rotation.visits import Fence

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """One credential's files; None where there is no such file."""

    private_key: Secret | None = None
    certificate_pem: str | None = None
    chain_pem: str | None = None
    request_pem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What is in the stores of one role.

    Attributes:
        manifest: the one in place; empty: it was not carried out in full.
        credential: the one that a server's stores were filled with; None: an agent's.
        places: what is in each of them now.
        written: what was put there.
    """

    manifest: str
    credential: str | None
    places: Mapping[str, HeldStore]
    written: Mapping[str, HeldStore]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """What a host holds.

    Attributes:
        current: the credential in use.
        hook_pending: whether a switch was made and its hook has not run well since.
        came_from: the credential whose hook was last due, and the one that was in use before it.
        locked_by: who holds the host's lock; None: nobody.
        openssl: the version line of its openssl; empty: there is none.
        problems: what a survey reports of owners and modes.
        ended: the keys that have ended, sorted.
        server_stores, agent_stores: what it has elsewhere; None: nothing.
        untold: whether a bundle came, and a hook has not run well since.
        loaded: the bundle that its programs loaded before that (None: none), and the one before that in use.
    """

    fence: Fence | None = None
    current: str | None = None
    credentials: Mapping[str, Folder] = field(default_factory=lambda: _NOTHING)
    disarmed: Mapping[str, Folder] = field(default_factory=lambda: _NOTHING)
    bundle: TrustBundle | None = None
    hook_pending: bool = False
    came_from: tuple[str, str | None] | None = None
    locked_by: str | None = None
    problems: tuple[Problem, ...] = ()
    openssl: str = "OpenSSL 3.0.0 (in memory)"
    ended: tuple[Tombstone, ...] = ()
    server_stores: Filled | None = None
    agent_stores: Filled | None = None
    untold: bool = False
    loaded: tuple[TrustBundle | None, ...] = ()

    @property
    def heeded(self) -> TrustBundle | None:
        """The bundle that its programs go by."""
        return self.loaded[0] if self.untold and self.loaded else self.bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong on one host.

    Attributes:
        unreachable: why no visit gets through.
        refuses: why the host refuses every visit that changes something.
        breaks_after: orders that are done before the connection breaks and their answers are lost; 0: the
            visit arrives and nothing of it is done.
        breaks_at_hook: the connection breaks after the switch, before a hook has run.
        hook_fails: what a hook says before it exits 1.
        store_fails: why no store can be filled.
        obstructs: why no store can be filled, as the host knows before anything is tried.
        breaks_at_store: the connection breaks while stores are filled.
        serves: the key that the service loaded once and for all; None: it follows what is in use.
        skew: how far the host's clock is ahead.
    """

    unreachable: str | None = None
    refuses: str | None = None
    breaks_after: int | None = None
    breaks_at_hook: bool = False
    hook_fails: str | None = None
    store_fails: str | None = None
    obstructs: str | None = None
    breaks_at_store: bool = False
    serves: Secret | None = None
    skew: timedelta = timedelta(0)


NO_FAULTS = Faults()


def survey(state: HostState, obstacles: tuple[Obstacle, ...] = ()) -> HostSurvey:
    """What the host tells of itself."""
    held = [
        _held(name, folder, disarmed=disarmed)
        for folders, disarmed in ((state.credentials, False), (state.disarmed, True))
        for name, folder in folders.items()
    ]
    return HostSurvey(
        user="root",
        openssl=state.openssl,
        fence=(state.fence.generation, state.fence.counter) if state.fence else None,
        current=state.current,
        credentials=tuple(sorted(held, key=lambda credential: (credential.name, credential.disarmed))),
        bundle=None if state.bundle is None else _held_bundle(state.bundle),
        problems=state.problems,
        head=state.fence.head if state.fence else "",
        ended=state.ended,
        hook_due=state.hook_pending,
        server_stores=_held_stores(state.server_stores),
        agent_stores=_held_stores(state.agent_stores),
        obstacles=obstacles,
        untold=state.untold,
        loaded=tuple(_held_before(one, state.bundle) for one in _loaded(state)),
    )


def _loaded(state: HostState) -> tuple[TrustBundle, ...]:
    """The bundles that its programs may use other than the one in use."""
    return tuple(one for one in state.loaded if one is not None)


def filled(manifest: str, credential: str | None = None, folder: Folder | None = None) -> Filled | None:
    """The stores of a manifest, with a credential's key and certificate in those that are for them."""
    if not manifest:
        return None
    places: dict[str, HeldStore] = {}
    lines = iter(manifest.splitlines()[1:])
    for line in lines:
        _, kind, holds, *words = line.split(" ")
        named = dict(word.split("=", 1) for word in words)
        content = "".join(f"{next(lines)}\n" for _ in range(int(named.get("lines", 0))))
        for place in _places(kind, named):
            held = HeldStore(kind=kind, place=place, state=StoreState.INTACT)
            if holds == "credential" and folder is not None:
                held = replace(held, keys=keys_of(folder), certificates=_certificates_of(folder))
            elif holds == "anchors":
                blocks = content.split("-----END CERTIFICATE-----\n")[:-1]
                pems = (f"{block}-----END CERTIFICATE-----\n" for block in blocks)
                held = replace(held, certificates=tuple(sorted(map(der_digest, pems))))
            places[place] = held
    return Filled(manifest=manifest, credential=credential, places=places, written=places)


def _places(kind: str, named: Mapping[str, str]) -> tuple[str, ...]:
    match kind:
        case "nss":
            return (f"{named['database']} {named['name']}",)
        case "java":
            return (f"{named['keystore']} {named['alias']}",)
        case "system":
            return (f"/usr/local/share/ca-certificates/{named['name']}.crt",)
        case _:
            paths = ("key", "certificate", "chain", "fullchain", "combined", "anchors", "file")
            return tuple(named[path] for path in paths if path in named)


def keys_of(folder: Folder) -> tuple[SpkiDigest, ...]:
    key = _spki(folder.private_key) if folder.private_key is not None else None
    return (key,) if key is not None else ()


def _certificates_of(folder: Folder) -> tuple[str, ...]:
    return (der_digest(folder.certificate_pem),) if folder.certificate_pem is not None else ()


def _held_stores(filled: Filled | None) -> HeldStores | None:
    if filled is None:
        return None
    return HeldStores(
        digest=digest_of(filled.manifest),
        credential=filled.credential,
        places=tuple(sorted(_looked_at(filled, place) for place in filled.written)),
    )


def _looked_at(filled: Filled, place: str) -> HeldStore:
    there, written = filled.places.get(place), filled.written[place]
    if there is None:
        return replace(written, state=StoreState.MISSING, keys=(), certificates=())
    return there if there == written else replace(there, state=StoreState.CHANGED)


def whole(state: HostState) -> Whole:
    """What it tells beyond that when it is asked for all of it."""
    folders = {**state.disarmed, **state.credentials}
    held = [
        load_private(folder.private_key).public
        for folder in folders.values()
        if folder.private_key is not None and _spki(folder.private_key) is not None
    ]
    bundles = (*_loaded(state), *((state.bundle,) if state.bundle is not None else ()))
    trusted = [key.public for bundle in bundles for key in bundle.keys if key.signs]
    return Whole(
        keys={public.spki_digest: public for public in (*held, *trusted)},
        certificates={
            name: (folder.certificate_pem, folder.chain_pem or "")
            for name, folder in folders.items()
            if folder.certificate_pem is not None
        },
    )


def _held(name: str, folder: Folder, *, disarmed: bool) -> HeldCredential:
    pem = folder.certificate_pem
    key, not_after = (None, None) if pem is None else _certificate_facts(pem)
    return HeldCredential(
        name=name,
        disarmed=disarmed,
        key=None if folder.private_key is None else _spki(folder.private_key),
        certificate_key=key,
        certificate_digest=None if pem is None else hashlib.sha256(pem.encode()).hexdigest(),
        not_after=not_after,
    )


def _held_bundle(bundle: TrustBundle) -> HeldBundle:
    edges = [
        HeldEdge(
            server=HostName(server),
            key=key.public.spki_digest,
            expires=None if key.expires is None else int(key.expires.timestamp()),
        )
        for key in bundle.keys
        for server in key.servers
    ]
    return HeldBundle(
        position=bundle.position,
        digest=bundle.digest,
        edges=tuple(sorted(edges, key=lambda edge: (edge.server, edge.key))),
        keys=tuple(key.public.spki_digest for key in bundle.keys if key.signs),
        delegations=tuple(
            HeldDelegation(
                server=HostName(one.server), issuer=one.issuer_key, grace=int(one.grace.total_seconds())
            )
            for one in bundle.delegations
        ),
        denied=tuple(one.key.spki_digest for one in bundle.denied),
        issuers=tuple(sorted(bundle.issuers())),
    )


def _held_before(bundle: TrustBundle, now: TrustBundle | None) -> HeldBundle:
    """A bundle of before; of its keys those that the one in use has not."""
    there = {key.public.spki_digest for key in now.keys if key.signs} if now is not None else set()
    held = _held_bundle(bundle)
    return replace(held, keys=tuple(key for key in held.keys if key not in there))


def _spki(private: Secret) -> SpkiDigest | None:
    return _spki_of(private.reveal())


@lru_cache(maxsize=4096)
def _spki_of(pem: bytes) -> SpkiDigest | None:
    try:
        return load_private(Secret(pem)).public.spki_digest
    except KeyMaterialError:
        return None


@lru_cache(maxsize=4096)
def _certificate_facts(pem: str) -> tuple[SpkiDigest | None, datetime | None]:
    try:
        certificate = parse_certificate(pem)
    except KeyMaterialError:
        return None, None
    return certificate.public_key.spki_digest, certificate.not_after
