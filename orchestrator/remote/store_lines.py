"""The lines of a survey that tell of stores, as ``HeldStores``.

As everywhere in a survey, the host sends what it found and everything that can be computed from it is
computed here. Lines that follow no grammar are passed over: then a store is missing from what is told, and
whoever compares that with the manifest finds out.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import SpkiDigest
from orchestrator.remote.answer_lines import GarbledError, plain
from orchestrator.rotation.observed import HeldStore, HeldStores, Obstacle, StoreState

WORDS = frozenset({"stores", "store", "stored-key", "stored-leaf", "stored-certificate", "obstacle"})
MOST_PLACES = 1_000
"""A manifest has at most 16 stores, of four files or a few dozen entries each."""
LARGEST_STORES = 1_000_000
"""Characters of all these lines."""

_STORES = re.compile(r"(server|agent) (-|[0-9a-f]{64}) (-|[0-9a-f]{32})")
_PLACE = r"([A-Za-z0-9._+@/-]{1,400}(?: [A-Za-z0-9._-]{1,100})?)"
_STORE = re.compile(rf"(pem|pkcs12|nss|java|system|template) (intact|changed|missing|unreadable) {_PLACE}")
_OBSTACLE = re.compile(rf"(server|agent) {_PLACE};(.+)")
_BODY = re.compile(r"[A-Za-z0-9+/]{1,16384}={0,2}")


@dataclass(slots=True)
class _Place:
    """What was said of one file or entry."""

    kind: str
    state: StoreState
    place: str
    contents: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Role:
    """What was said of a host in one of its roles."""

    digest: str
    credential: str | None
    places: list[_Place] = field(default_factory=list)


class StoreLines:
    """What was said of stores so far."""

    __slots__ = ("_last", "_obstacles", "_places", "_roles", "_room")

    def __init__(self) -> None:
        self._roles: dict[str, _Role] = {}
        self._last: _Role | None = None
        self._obstacles: list[Obstacle] = []
        self._places = 0
        self._room = LARGEST_STORES

    def take(self, word: str, rest: str) -> None:
        """Notes a line whose first word is one of ``WORDS``.

        Raises:
            GarbledError: there are more than any honest host has.
        """
        self._room -= len(word) + len(rest) + 1
        self._places += word in {"store", "obstacle"}
        if self._room < 0 or self._places > MOST_PLACES:
            raise GarbledError(f"the answer is garbled: a survey has more than {MOST_PLACES} stores")
        match word:
            case "stores" if found := _STORES.fullmatch(rest):
                credential = None if found[3] == "-" else found[3]
                self._last = _Role(digest=found[2].removeprefix("-"), credential=credential)
                self._roles.setdefault(found[1], self._last)
            case "store" if self._last is not None and (found := _STORE.fullmatch(rest)):
                place = _Place(kind=found[1], state=StoreState(found[2]), place=found[3])
                self._last.places.append(place)
            case "obstacle":
                if found := _OBSTACLE.fullmatch(rest):
                    role: Literal["server", "agent"] = "server" if found[1] == "server" else "agent"
                    self._obstacles.append(
                        Obstacle(role=role, place=found[2], reason=plain(found[3], limit=1000))
                    )
            case _ if self._last is not None and self._last.places and _BODY.fullmatch(rest):
                self._last.places[-1].contents.append((word, rest))
            case _:
                pass

    def obstacles(self) -> tuple[Obstacle, ...]:
        """What keeps manifests from being carried out that the host was asked about."""
        return tuple(sorted(self._obstacles))

    def of(self, role: Literal["server", "agent"]) -> HeldStores | None:
        """What the host has put elsewhere in this role; None: nothing."""
        said = self._roles.get(role)
        if said is None:
            return None
        places = tuple(sorted(map(_held, said.places)))
        return HeldStores(digest=said.digest, credential=said.credential, places=places)


def _held(said: _Place) -> HeldStore:
    return HeldStore(
        kind=said.kind,
        place=said.place,
        state=said.state,
        keys=tuple(sorted(set(_keys(said)))),
        certificates=tuple(sorted(set(_certificates(said)))),
    )


def _keys(said: _Place) -> Iterator[SpkiDigest]:
    for word, body in said.contents:
        if word == "stored-key" and (der := _decoded(body)) is not None:
            yield SpkiDigest(hashlib.sha256(der).hexdigest())
        if word == "stored-leaf":
            try:
                lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
                pem = f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
                yield parse_certificate(pem).public_key.spki_digest
            except KeyMaterialError:
                continue


def _certificates(said: _Place) -> Iterator[str]:
    for word, body in said.contents:
        if word != "stored-key" and (der := _decoded(body)) is not None:
            yield hashlib.sha256(der).hexdigest()


def _decoded(body: str) -> bytes | None:
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        return None
