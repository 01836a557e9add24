"""Where else on a host a key must appear: the files, keystores and databases that programs read.

A play's ``install:`` becomes these values, which are recorded with what it asks for. What one host has to do
for them is its *manifest*: canonical text, known by its digest, so that "the stores are as they should be"
is one comparison. ``docs/reference/host-protocol.md`` tells its grammar; hosts read nothing else.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Literal, assert_never

from orchestrator.inventory.model import HostName


class Holds(StrEnum):
    """What is put into a store."""

    CREDENTIAL = "credential"
    """The key in use and its certificate; on servers."""
    ANCHORS = "anchors"
    """The certificates that the servers' chains end at; on agents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may read a file, and whether it may take the place of one that keyrelay did not write.

    Attributes:
        owner, group: names on the host; empty: those of the user that keyrelay works as there.
        mode: three octal digits.
        adopt: whether what is at its place, and not ours, is replaced; otherwise the host refuses.
    """

    owner: str = ""
    group: str = ""
    mode: str
    adopt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PemFiles:
    """The credential as files in PEM, each only where it has a path.

    Attributes:
        chain: the certificates that certified it, without its own.
        fullchain: its certificate and the chain after it.
        combined: the key, and the full chain after it.
    """

    key: str = ""
    certificate: str = ""
    chain: str = ""
    fullchain: str = ""
    combined: str = ""
    access: Access
    kind: Literal["pem"] = "pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class PemAnchors:
    """The anchors as one file in PEM, whose path is in ``anchors``."""

    anchors: str
    access: Access
    kind: Literal["pem-anchors"] = "pem-anchors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs12:
    """The credential as a file of PKCS#12.

    Attributes:
        password_file: on the host; made there, with a password at random, if it is missing.
        alias: the friendly name of the key.
    """

    file: str
    password_file: str
    alias: str
    access: Access
    kind: Literal["pkcs12"] = "pkcs12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nss:
    """Entries in a database of NSS (``cert9.db``) that is there already.

    Attributes:
        database: its folder.
        name: the nickname; each anchor's has a ``-`` and the beginning of its digest behind it.
        password_file: on the host; empty: the database has no password.
        adopt: as ``Access.adopt``, for an entry of that name.
    """

    database: str
    name: str
    holds: Holds
    password_file: str = ""
    adopt: bool = False
    kind: Literal["nss"] = "nss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """Entries in a keystore of Java, which is made if it is missing.

    Attributes:
        password_file: as ``Pkcs12.password_file``.
        alias: as ``Nss.name``.
        access: of a keystore that is made; one that is there keeps its own. ``adopt`` is for an entry of
            that alias.
    """

    keystore: str
    password_file: str
    alias: str
    holds: Holds
    access: Access
    kind: Literal["java"] = "java"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The anchors among those that the whole host trusts.

    Attributes:
        name: of the files, as ``Nss.name``, without their ending.
    """

    name: str
    adopt: bool = False
    kind: Literal["system"] = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A file that a template became for each host (``Stores.texts``)."""

    file: str
    access: Access
    kind: Literal["template"] = "template"


Store = PemFiles | PemAnchors | Pkcs12 | Nss | Java | System | Rendered


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What one play installs.

    Attributes:
        server, agent: on each of its servers, on each of its agents.
        texts: what a ``Rendered`` file holds, by host and path; recorded, so it holds no secret.
    """

    server: tuple[Store, ...] = ()
    agent: tuple[Store, ...] = ()
    texts: Mapping[HostName, Mapping[str, str]] = field(default_factory=dict)


NO_STORES = Stores()


def places(store: Store) -> tuple[str, ...]:
    """What the store alone may write to; on one host, stores with a place in common would undo each other.

    Paths of files; ``PATH NAME`` for an entry among others; ``system NAME``. The first names the store.
    """
    match store:
        case PemFiles():
            parts = (store.key, store.certificate, store.chain, store.fullchain, store.combined)
            return tuple(filter(None, parts))
        case PemAnchors():
            return (store.anchors,)
        case Pkcs12() | Rendered():
            return (store.file,)
        case Nss():
            return (f"{store.database} {store.name}",)
        case Java():
            return (f"{store.keystore} {store.alias}",)
        case System():
            return (f"system {store.name}",)
        case _:
            assert_never(store)


def key_places(store: Store) -> tuple[str, ...]:
    """Those of its places that hold a private key."""
    if holds(store) is not Holds.CREDENTIAL:
        return ()
    if isinstance(store, PemFiles):
        return tuple(filter(None, (store.key, store.combined)))
    return places(store)


def covers(store: Store, place: str) -> bool:
    """Whether a place that a host tells of is the store's; anchors, and a chain in NSS, have their own."""
    if place in places(store):
        return True
    match store:
        case System():
            named = re.fullmatch(r".*/(.+?)(-[0-9a-f]{16})?\.[a-z]+", place)
            return named is not None and named[1] == store.name
        case Nss() | Java():
            entry, _, digest = place.rpartition("-")
            return entry == places(store)[0] and re.fullmatch("[0-9a-f]{16}", digest) is not None
        case _:
            return False


def password_file(store: Store) -> str:
    """The file that it reads its password from, which stores may share; empty: none."""
    return store.password_file if isinstance(store, (Pkcs12, Nss, Java)) else ""


def paths(store: Store) -> tuple[str, ...]:
    """Every path on the host that it names, those of folders too."""
    match store:
        case PemFiles() | PemAnchors() | Rendered() | Pkcs12():
            named = places(store)
        case Nss():
            named = (store.database,)
        case Java():
            named = (store.keystore,)
        case System():
            named = ()
        case _:
            assert_never(store)
    return (*named, *filter(None, (password_file(store),)))


def holds(store: Store) -> Holds | None:
    """What is put into a store; None: a text of the operator's."""
    match store:
        case PemFiles() | Pkcs12():
            return Holds.CREDENTIAL
        case PemAnchors() | System():
            return Holds.ANCHORS
        case Rendered():
            return None
        case Nss() | Java():
            return store.holds
        case _:
            assert_never(store)


def find_clash(stores: Sequence[Store]) -> tuple[int, str] | None:
    """The first store, by its number, that would undo another, and the place of both; None: each has its own.

    Entries of one keystore or database stand beside each other, and stores may share a file of a password. No
    file is put into the folder of a database of NSS, which has files of its own there.
    """
    shared = {path for store in stores for path in paths(store) if path not in places(store)}
    databases = tuple(f"{store.database}/" for store in stores if isinstance(store, Nss))
    seen: set[str] = set()
    for number, store in enumerate(stores):
        for place in places(store):
            inside = not isinstance(store, Nss) and place.startswith(databases)
            if place in seen or place in shared or inside:
                return number, place
            seen.add(place)
    return None


_NEWLINE = "\n"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n")


def certificates_of(pem: str) -> tuple[str, ...]:
    """The certificates in a PEM file, sorted, each once; what stands between them is left out."""
    return tuple(sorted(set(_CERTIFICATE.findall(pem.replace("\r\n", "\n")))))


def entry_of(store: Store, *, anchors: str, texts: Mapping[str, str]) -> str:
    """What one store is to hold, as its part of a manifest.

    A line ``store KIND HOLDS NAME=VALUE…`` with no blank in a value; content follows it as the number of
    lines that its last word, ``lines=NUMBER``, says.

    Args:
        store: the one.
        anchors: certificates in PEM.
        texts: what each ``Rendered`` file holds, by its path; ends with a newline.

    Raises:
        KeyError: there is no text for its file.
    """
    kind = "pem" if isinstance(store, PemAnchors) else store.kind
    what = holds(store)
    begin = " ".join(("store", kind, what or "text", *_words(store)))
    if what is Holds.CREDENTIAL:
        return f"{begin}\n"
    content = "".join(certificates_of(anchors)) if what is Holds.ANCHORS else texts[places(store)[0]]
    return f"{begin} lines={content.count(_NEWLINE)}\n{content}"


def make_manifest(entries: Iterable[str]) -> str:
    """What one host has to do for all its stores, whatever their order; empty without any.

    Args:
        entries: as ``entry_of`` gives them, with no place in common; those that are equal count as one.
    """
    told = sorted(set(entries))
    return "".join(("keyrelay stores 1\n", *told)) if told else ""


def digest_of(manifest: str) -> str:
    """What a manifest is known by: SHA-256 (hex) of its bytes; empty for the empty one."""
    return hashlib.sha256(manifest.encode()).hexdigest() if manifest else ""


def _words(value: Store | Access) -> Iterator[str]:
    """The fields that say something, in their order."""
    for name in (f.name for f in fields(value) if f.name not in {"kind", "holds"}):
        match getattr(value, name):
            case Access() as access:
                yield from _words(access)
            case True:
                yield f"{name}=yes"
            case str(text) if text:
                yield f"{name}={text}"
