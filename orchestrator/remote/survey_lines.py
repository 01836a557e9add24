"""The lines of a survey as a ``HostSurvey``.

The host sends what it found as it is, PEM included, and everything that can be computed from it is computed
here: digests of keys, a certificate's end. What does not fit is a ``Problem``. A survey that is larger than
any honest one is an error: one host must not hold up the run, nor fill the ledger. Of problems the first are
kept, since one wrong ``chmod`` may make thousands of them.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from orchestrator.errors import KeyMaterialError
from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import PublicKey, SpkiDigest
from orchestrator.remote.answer_lines import GarbledError, plain
from orchestrator.remote.store_lines import WORDS as STORE_WORDS
from orchestrator.remote.store_lines import StoreLines
from orchestrator.rotation.observed import (
    MOST_TOMBSTONES,
    HeldBundle,
    HeldCredential,
    HeldDelegation,
    HeldEdge,
    HostSurvey,
    Problem,
    Tombstone,
    Whole,
)

MOST_PROBLEMS = 100
MOST_CREDENTIALS = 400
MOST_EDGES = 20_000
"""An agent is given at most 10,000 keys; a key may serve for several servers."""
MOST_KEYS = 20_000
MOST_ISSUER_LINES = 2_000
"""An agent has one issuer, or two while the one is replaced; a certificate is some twenty lines."""
LARGEST_CREDENTIAL = 32_768
"""Characters of a certificate, its chain and a public key together; what is longer is none of them."""
LARGEST_REST = 400_000
"""Characters of all other lines, half of them of tombstones."""

_DELEGATION_FORM = "<server> <issuer's spki-sha256> <grace>"
_KEY_BEGIN = "-----BEGIN PUBLIC KEY-----"
_FENCE = re.compile(r"(0|[1-9][0-9]{0,15}) (0|[1-9][0-9]{0,15})(?: (-|[0-9a-f]{64}))?")
_TOMBSTONE = re.compile(r"([0-9a-f]{64}) (removed|compromised|lost) (0|[1-9][0-9]{0,15})")
_CURRENT = re.compile(r"credentials/([A-Za-z0-9._-]{1,200})")
_FOLDER = re.compile(r"server/(credentials|disarmed)/([A-Za-z0-9._-]{1,200})")
_EDGE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]{0,252}) ([0-9a-f]{64}) (-|0|[1-9][0-9]{0,11})")
_DELEGATION = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]{0,252}) ([0-9a-f]{64}) (0|[1-9][0-9]{0,11})")
_DENIED = re.compile(r"([0-9a-f]{64}) (?:0|[1-9][0-9]{0,11})")
_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]{1,16384}-----END CERTIFICATE-----\n"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PUBLIC_KEY = re.compile(r"-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]{1,8192}-----END PUBLIC KEY-----")


@dataclass(slots=True)
class _Folder:
    """What was said of one credential's folder."""

    name: str
    disarmed: bool
    hash: str | None = None
    certificate: list[str] = field(default_factory=list)
    chain: list[str] = field(default_factory=list)
    key: list[str] = field(default_factory=list)
    room: int = LARGEST_CREDENTIAL

    def take(self, word: str, rest: str) -> None:
        if word == "hash":
            self.hash = rest if _DIGEST.fullmatch(rest) else None
            return
        self.room -= len(rest) + 1
        if self.room >= 0:
            {"certificate": self.certificate, "chain": self.chain, "key": self.key}[word].append(rest)


class _Notes:
    """What was said, by kind, in the order of the lines."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.single: dict[str, str] = {}
        self.folders: list[_Folder] = []
        self.edges: list[str] = []
        self.public: list[str] = []
        self.delegations: list[str] = []
        self.denied: list[str] = []
        self.issuers: list[str] = []
        self.ended: list[str] = []
        self.keys = 0
        self.problems: dict[str, Problem] = {}
        self.problem_lines = 0
        self.stores = StoreLines()
        self._rest = 0

    def take(self, word: str, rest: str) -> None:
        """Notes a line; raises ``GarbledError`` for one too many."""
        match word:
            case "held" if found := _FOLDER.fullmatch(rest):
                self.folders.append(_Folder(name=found[2], disarmed=found[1] == "disarmed"))
                _bounded(len(self.folders), MOST_CREDENTIALS, "credentials")
            case "hash" | "certificate" | "chain" | "key" if self.folders:
                self.folders[-1].take(word, rest)
            case "ended":
                self.ended.append(rest)
                _bounded(len(self.ended), MOST_TOMBSTONES, "ended keys")
            case "edge":
                self.edges.append(rest)
                _bounded(len(self.edges), MOST_EDGES, "edges")
            case "delegation":
                self.delegations.append(rest)
                _bounded(len(self.delegations), MOST_EDGES, "delegations")
            case "denied":
                self.denied.append(rest)
                _bounded(len(self.denied), MOST_EDGES, "denied keys")
            case "issuer":
                self.issuers.append(rest)
                _bounded(len(self.issuers), MOST_ISSUER_LINES, "lines of issuers")
            case "public":
                self.public.append(rest)
                self.keys += rest == _KEY_BEGIN
                _bounded(self.keys, MOST_KEYS, "keys")
            case "problem":
                self.problem_lines += 1
                if self.problem_lines <= MOST_PROBLEMS:
                    found_here, _, tail = rest.partition(";")
                    wanted, _, path = tail.partition(";")
                    self.problem(path, found=found_here, wanted=wanted)
            case _ if word in STORE_WORDS:
                self.stores.take(word, rest)
            case _:
                self._rest += len(word) + len(rest) + 1
                _bounded(self._rest, LARGEST_REST, "characters in its other lines")
                self.single.setdefault(word, rest)

    def problem(self, path: str, *, found: str, wanted: str) -> None:
        """Notes a problem; of one path the first is kept, which names the graver matter."""
        whole = path if path.startswith("/") else f"{self.base}/{path}".removesuffix("/.")
        shown = plain(whole, limit=1000)
        self.problems.setdefault(shown, Problem(path=shown, found=plain(found), wanted=plain(wanted)))


def _bounded(number: int, most: int, what: str) -> None:
    if number > most:
        raise GarbledError(f"the answer is garbled: a survey has more than {most} {what}")


def read_survey(said: Sequence[str], *, base: str, whole: bool = False) -> tuple[HostSurvey, Whole | None]:
    """What the lines of a survey tell; all of it only where that was asked for.

    Args:
        said: the lines of the report.
        base: the base's path, for the paths of problems.
        whole: whether public keys, certificates and chains are wanted as well.

    Raises:
        GarbledError: the survey is larger than any honest one.
    """
    notes = _Notes(base)
    for line in said:
        word, _, rest = line.partition(" ")
        notes.take(word, rest)
    credentials = tuple(sorted(map(_credential, notes.folders), key=lambda held: (held.name, held.disarmed)))
    # These may note problems, so they come before the problems are counted.
    current, fence, bundle = _current(notes, credentials), _fence(notes), _bundle(notes)
    ended = tuple(sorted(_tombstones(notes)))
    if (passed_over := notes.problem_lines - MOST_PROBLEMS) > 0:
        notes.problem("*", found=f"{passed_over} more problems", wanted="none")
    survey = HostSurvey(
        user=plain(notes.single.get("user", "")),
        openssl=plain(notes.single.get("openssl", "")),
        fence=fence[:2] if fence is not None else None,
        current=current,
        credentials=credentials,
        bundle=bundle,
        problems=tuple(sorted(notes.problems.values(), key=lambda problem: problem.path)),
        head=fence[2] if fence is not None else "",
        ended=ended,
        hook_due="due" in notes.single,
        unwritable=plain(notes.single.get("unwritable", ""), limit=1000),
        server_stores=notes.stores.of("server"),
        agent_stores=notes.stores.of("agent"),
        obstacles=notes.stores.obstacles(),
        untold="untold" in notes.single,
    )
    return survey, _whole(notes) if whole else None


def _whole(notes: _Notes) -> Whole:
    texts = ["\n".join(folder.key) for folder in notes.folders] + _PUBLIC_KEY.findall("\n".join(notes.public))
    keys = [key for text in texts if (key := _public(text)) is not None]
    return Whole(
        keys={key.spki_digest: key for key in keys},
        certificates={
            folder.name: ("\n".join([*folder.certificate, ""]), "\n".join([*folder.chain, ""]))
            for folder in notes.folders
            if folder.certificate
        },
    )


def _tombstones(notes: _Notes) -> Iterator[Tombstone]:
    for number, line in enumerate(notes.ended, start=1):
        found = _TOMBSTONE.fullmatch(line)
        if found is None:
            text = f"line {number}: {plain(line)}"
            notes.problem("ended", found=text, wanted="<spki-sha256> <how> <until>")
            continue
        how: Literal["removed", "compromised", "lost"] = "removed"
        match found[2]:
            case "compromised" | "lost" as worse:
                how = worse
            case _:
                pass
        yield Tombstone(key=SpkiDigest(found[1]), how=how, until=int(found[3]))


def _fence(notes: _Notes) -> tuple[int, int, str] | None:
    text = notes.single.get("fence")
    if text is None:
        return None
    found = _FENCE.fullmatch(text)
    if found is None:
        wanted = "a generation, a counter and a digest"
        notes.problem("fence", found=f"the line {plain(text)}", wanted=wanted)
        return None
    return int(found[1]), int(found[2]), (found[3] or "").removeprefix("-")


def _current(notes: _Notes, credentials: Sequence[HeldCredential]) -> str | None:
    target = notes.single.get("current")
    if target is None:
        return None
    found = _CURRENT.fullmatch(target)
    if found is None:
        notes.problem("server/current", found=f"a link to {plain(target)}", wanted="a link into credentials")
        return None
    if not any(held.name == found[1] and not held.disarmed for held in credentials):
        notes.problem("server/current", found="a link that leads nowhere", wanted="a link into credentials")
    return found[1]


def _credential(folder: _Folder) -> HeldCredential:
    certificate_key, not_after = _certificate(folder.certificate)
    return HeldCredential(
        name=folder.name,
        disarmed=folder.disarmed,
        key=_spki("\n".join(folder.key)),
        certificate_key=certificate_key,
        certificate_digest=folder.hash,
        not_after=not_after,
    )


def _certificate(lines: Sequence[str]) -> tuple[SpkiDigest | None, datetime | None]:
    try:
        certificate = parse_certificate("\n".join([*lines, ""]))
    except KeyMaterialError:
        return None, None
    return certificate.public_key.spki_digest, certificate.not_after


def _bundle(notes: _Notes) -> HeldBundle | None:
    target = notes.single.get("bundle")
    if target is None:
        return None
    folder, _, name = target.partition("/")
    try:
        position = Position.parse(name if folder == "bundles" else "")
    except ValueError:
        notes.problem("agent/current", found=f"a link to {plain(target)}", wanted="a link into bundles")
        return None
    digest = notes.single.get("digest", "")
    if not _DIGEST.fullmatch(digest):
        notes.problem("agent/current", found="a link that leads nowhere", wanted="a link into bundles")
        return None
    return HeldBundle(
        position=position,
        digest=digest,
        edges=tuple(_edges(notes)),
        keys=tuple(sorted(set(_keys(notes)))),
        delegations=tuple(_delegations(notes)),
        denied=tuple(_denied(notes)),
        issuers=tuple(sorted(set(_issuers(notes)))),
    )


def _delegations(notes: _Notes) -> Iterator[HeldDelegation]:
    for found in _matches(notes, _DELEGATION, notes.delegations, "delegations", _DELEGATION_FORM):
        yield HeldDelegation(server=HostName(found[1]), issuer=SpkiDigest(found[2]), grace=int(found[3]))


def _denied(notes: _Notes) -> Iterator[SpkiDigest]:
    for found in _matches(notes, _DENIED, notes.denied, "denied", "<spki-sha256> <exp>"):
        yield SpkiDigest(found[1])


def _matches(
    notes: _Notes, form: re.Pattern[str], lines: Sequence[str], file: str, wanted: str
) -> Iterator[re.Match[str]]:
    """The lines that have their form; the first that has not is a problem of the file."""
    damaged = False
    for number, line in enumerate(lines, start=1):
        found = form.fullmatch(line)
        if found is not None:
            yield found
        elif not damaged:
            damaged = True
            notes.problem(f"agent/current/{file}", found=f"line {number}: {plain(line)}", wanted=wanted)


def _issuers(notes: _Notes) -> Iterator[SpkiDigest]:
    text = "".join(f"{line}\n" for line in notes.issuers)
    damaged = bool(_CERTIFICATE.sub("", text).strip())
    for pem in _CERTIFICATE.findall(text):
        try:
            yield parse_certificate(pem).public_key.spki_digest
        except KeyMaterialError:
            damaged = True
    if damaged:
        notes.problem(
            "agent/current/issuers", found="a file that holds no certificate", wanted="certificates"
        )


def _edges(notes: _Notes) -> Iterator[HeldEdge]:
    for found in _matches(notes, _EDGE, notes.edges, "edges", "<server> <spki-sha256> <exp>"):
        expires = None if found[3] == "-" else int(found[3])
        yield HeldEdge(server=HostName(found[1]), key=SpkiDigest(found[2]), expires=expires)


def _keys(notes: _Notes) -> Iterator[SpkiDigest]:
    text = "\n".join(notes.public)
    keys = [_spki(block) for block in _PUBLIC_KEY.findall(text)]
    if None in keys or _PUBLIC_KEY.sub("", text).strip():
        notes.problem("agent/current/keys", found="a file that holds no public key", wanted="public keys")
    yield from (key for key in keys if key is not None)


def _spki(pem: str) -> SpkiDigest | None:
    """The digest of a public key in PEM: of its canonical form, or as it stands for a kind unknown here."""
    if (known := _public(pem)) is not None:
        return known.spki_digest
    if not _PUBLIC_KEY.fullmatch(pem):
        return None
    body = "".join(pem.split("\n")[1:-1])
    try:
        return SpkiDigest(hashlib.sha256(base64.b64decode(body, validate=True)).hexdigest())
    except binascii.Error:
        return None


def _public(pem: str) -> PublicKey | None:
    """The public key of a text, if it is one of the kinds known here."""
    if not _PUBLIC_KEY.fullmatch(pem):
        return None
    try:
        return PublicKey.from_pem(f"{pem}\n")
    except KeyMaterialError:
        return None
