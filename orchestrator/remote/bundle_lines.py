"""The lines of a survey that tell of trust bundles, as ``HeldBundle``: the one in use, and those before.

As everywhere in a survey, the host sends files as they are and everything that can be computed from them is
computed here. A line that follows no grammar is a problem of its file, told once.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from orchestrator.errors import KeyMaterialError
from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import PublicKey, SpkiDigest
from orchestrator.remote.answer_lines import GarbledError, plain
from orchestrator.rotation.observed import LATEST, LONGEST_GRACE, HeldBundle, HeldDelegation, HeldEdge

WORDS = frozenset({"bundle", "loaded", "digest", "edge", "public", "delegation", "denied", "issuer"})
MOST_EDGES = 20_000
"""An agent is given at most 10,000 keys; a key may serve for several servers."""
MOST_KEYS = 20_000
MOST_ISSUER_LINES = 2_000
"""An agent has one issuer, or two while the one is replaced; a certificate is some twenty lines."""
MOST_LOADED = 10
"""A host keeps the one that its programs were told of last, and the one before that in use."""

Reporter = Callable[[str, str, str], None]
"""Is told of a problem: the path, what was found there, and what was wanted."""

_BOUNDS = {
    "loaded": (MOST_LOADED, "bundles that programs may use"),
    "edge": (MOST_EDGES, "edges"),
    "public": (MOST_KEYS, "keys"),
    "delegation": (MOST_EDGES, "delegations"),
    "denied": (MOST_EDGES, "denied keys"),
    "issuer": (MOST_ISSUER_LINES, "lines of issuers"),
}
_LAST_WORDS = {
    "edge": LATEST.timestamp(),
    "denied": LATEST.timestamp(),
    "delegation": LONGEST_GRACE.total_seconds(),
}
"""The largest number that is believed at the end of a line."""
_DELEGATION_FORM = "<server> <issuer's spki-sha256> <grace>"
_KEY_BEGIN = "-----BEGIN PUBLIC KEY-----"
_EDGE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]{0,252}) ([0-9a-f]{64}) (-|0|[1-9][0-9]{0,11})")
_DELEGATION = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]{0,252}) ([0-9a-f]{64}) (0|[1-9][0-9]{0,11})")
_DENIED = re.compile(r"([0-9a-f]{64}) (?:0|[1-9][0-9]{0,11})")
_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]{1,16384}-----END CERTIFICATE-----\n"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PUBLIC_KEY = re.compile(r"-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]{1,8192}-----END PUBLIC KEY-----")


@dataclass(slots=True)
class _Said:
    """What was said of one bundle: where it lies, and the lines of its files."""

    target: str
    digest: str = ""
    lines: dict[str, list[str]] = field(default_factory=dict)

    def of(self, word: str) -> Sequence[str]:
        return self.lines.get(word, ())


class BundleLines:
    """What was said of bundles so far."""

    __slots__ = ("_counts", "_current", "_last", "_loaded", "_totals")

    def __init__(self) -> None:
        self._current: _Said | None = None
        self._loaded: list[_Said] = []
        self._last: _Said | None = None
        self._counts = dict.fromkeys(_BOUNDS, 0)
        self._totals = dict.fromkeys(_BOUNDS, 0)

    def take(self, word: str, rest: str) -> None:
        """Notes a line whose first word is one of ``WORDS``.

        Raises:
            GarbledError: there are more than any honest host has.
        """
        if word in {"bundle", "loaded"}:
            self._counts = {**dict.fromkeys(_BOUNDS, 0), "loaded": self._counts["loaded"]}
        if word in _BOUNDS:
            most, what = _BOUNDS[word]
            counts = word != "public" or rest == _KEY_BEGIN
            self._counts[word] += counts
            self._totals[word] += counts
            if self._counts[word] > most:
                raise GarbledError(f"the answer is garbled: a survey has more than {most} {what}")
            if self._totals[word] > 2 * most:
                raise GarbledError(f"the answer is garbled: its bundles have more than {2 * most} {what}")
        match word:
            case "bundle":
                self._last = _Said(rest)
                self._current = self._current or self._last
            case "loaded":
                self._last = _Said(rest)
                self._loaded.append(self._last)
            case "digest" if self._last is not None:
                self._last.digest = rest
            case _ if self._last is not None:
                self._last.lines.setdefault(word, []).append(rest)
            case _:
                pass

    def current(self, report: Reporter) -> HeldBundle | None:
        """The bundle in use; None: there is none, or not where it should be."""
        said = self._current
        if said is None:
            return None
        position = _position(said.target)
        if position is None:
            report("agent/current", f"a link to {plain(said.target)}", "a link into bundles")
            return None
        if not _DIGEST.fullmatch(said.digest):
            report("agent/current", "a link that leads nowhere", "a link into bundles")
            return None
        return _held(said, position, said.digest, "agent/current", report)

    def loaded(self, report: Reporter) -> tuple[HeldBundle, ...]:
        """Those that programs may use instead, in their order, be all of their files there or not."""
        found = (
            _held(said, position, digest, f"agent/{said.target}", report)
            for said in self._loaded
            if (position := _position(said.target)) is not None
            for digest in [said.digest if _DIGEST.fullmatch(said.digest) else ""]
        )
        return tuple(sorted(found, key=lambda bundle: bundle.position))

    def publics(self) -> Iterator[str]:
        """The public keys of all of them, PEM."""
        for said in (self._current, *self._loaded):
            if said is not None:
                yield from _PUBLIC_KEY.findall("\n".join(said.of("public")))


def spki(pem: str) -> SpkiDigest | None:
    """The digest of a public key in PEM: of its canonical form, or as it stands for a kind unknown here."""
    if (known := public_key(pem)) is not None:
        return known.spki_digest
    if not _PUBLIC_KEY.fullmatch(pem):
        return None
    body = "".join(pem.split("\n")[1:-1])
    try:
        return SpkiDigest(hashlib.sha256(base64.b64decode(body, validate=True)).hexdigest())
    except binascii.Error:
        return None


@lru_cache(maxsize=2 * MOST_KEYS)
def public_key(pem: str) -> PublicKey | None:
    """The public key of a text, if it is one of the kinds known here; bundles repeat them."""
    if not _PUBLIC_KEY.fullmatch(pem):
        return None
    try:
        return PublicKey.from_pem(f"{pem}\n")
    except KeyMaterialError:
        return None


def _position(target: str) -> Position | None:
    folder, _, name = target.partition("/")
    try:
        return Position.parse(name if folder == "bundles" else "")
    except ValueError:
        return None


def _held(said: _Said, position: Position, digest: str, place: str, report: Reporter) -> HeldBundle:
    reader = _Reader(said, place, report)
    return HeldBundle(
        position=position,
        digest=digest,
        edges=tuple(reader.edges()),
        keys=tuple(sorted(set(reader.keys()))),
        delegations=tuple(reader.delegations()),
        denied=tuple(reader.denied()),
        issuers=tuple(sorted(set(reader.issuers()))),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """The files of one bundle, and who is told what is wrong with them."""

    said: _Said
    place: str
    report: Reporter

    def edges(self) -> Iterator[HeldEdge]:
        for found in self._matches(_EDGE, "edge", "edges", "<server> <spki-sha256> <exp>"):
            expires = None if found[3] == "-" else int(found[3])
            yield HeldEdge(server=HostName(found[1]), key=SpkiDigest(found[2]), expires=expires)

    def keys(self) -> Iterator[SpkiDigest]:
        text = "\n".join(self.said.of("public"))
        keys = [spki(block) for block in _PUBLIC_KEY.findall(text)]
        if None in keys or _PUBLIC_KEY.sub("", text).strip():
            found = "a file that holds no public key"
            self.report(f"{self.place}/keys", found, "public keys")
        yield from (key for key in keys if key is not None)

    def delegations(self) -> Iterator[HeldDelegation]:
        for found in self._matches(_DELEGATION, "delegation", "delegations", _DELEGATION_FORM):
            yield HeldDelegation(server=HostName(found[1]), issuer=SpkiDigest(found[2]), grace=int(found[3]))

    def denied(self) -> Iterator[SpkiDigest]:
        for found in self._matches(_DENIED, "denied", "denied", "<spki-sha256> <exp>"):
            yield SpkiDigest(found[1])

    def issuers(self) -> Iterator[SpkiDigest]:
        text = "".join(f"{line}\n" for line in self.said.of("issuer"))
        damaged = bool(_CERTIFICATE.sub("", text).strip())
        for pem in _CERTIFICATE.findall(text):
            try:
                yield parse_certificate(pem).public_key.spki_digest
            except KeyMaterialError:
                damaged = True
        if damaged:
            found = "a file that holds no certificate"
            self.report(f"{self.place}/issuers", found, "certificates")

    def _matches(self, form: re.Pattern[str], word: str, file: str, wanted: str) -> Iterator[re.Match[str]]:
        """The lines that have their form, and end within the calendar; the first other one is a problem."""
        damaged = False
        for number, line in enumerate(self.said.of(word), start=1):
            found = form.fullmatch(line)
            end = line.rpartition(" ")[2]
            if found is not None and (end == "-" or int(end) <= _LAST_WORDS[word]):
                yield found
            elif not damaged:
                damaged = True
                told = f"line {number}: {plain(line)}"
                self.report(f"{self.place}/{file}", told, wanted)
