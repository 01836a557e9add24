"""The lines of a survey as a ``HostSurvey``.

The host sends what it found as it is, PEM included, and everything that can be computed from it is computed
here: digests of keys, a certificate's end. What does not fit is a ``Problem``. A survey that is larger than
any honest one is an error: one host must not hold up the run, nor fill the ledger. Of problems the first are
kept, since one wrong ``chmod`` may make thousands of them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import SpkiDigest
from orchestrator.remote.answer_lines import GarbledError, plain
from orchestrator.remote.bundle_lines import WORDS as BUNDLE_WORDS
from orchestrator.remote.bundle_lines import BundleLines, public_key, spki
from orchestrator.remote.store_lines import WORDS as STORE_WORDS
from orchestrator.remote.store_lines import StoreLines
from orchestrator.rotation.observed import (
    LATEST,
    MOST_TOMBSTONES,
    HeldCredential,
    HostSurvey,
    Problem,
    Tombstone,
    Whole,
)

MOST_PROBLEMS = 100
MOST_CREDENTIALS = 400
LARGEST_CREDENTIAL = 32_768
"""Characters of a certificate, its chain and a public key together; what is longer is none of them."""
LARGEST_REST = 400_000
"""Characters of all other lines, half of them of tombstones."""

_FENCE = re.compile(r"(0|[1-9][0-9]{0,15}) (0|[1-9][0-9]{0,15})(?: (-|[0-9a-f]{64}))?")
_TOMBSTONE = re.compile(r"([0-9a-f]{64}) (removed|compromised|lost) (0|[1-9][0-9]{0,15})")
_CURRENT = re.compile(r"credentials/([A-Za-z0-9._-]{1,200})")
_FOLDER = re.compile(r"server/(credentials|disarmed)/([A-Za-z0-9._-]{1,200})")
_DIGEST = re.compile(r"[0-9a-f]{64}")


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
        self.ended: list[str] = []
        self.problems: dict[str, Problem] = {}
        self.problem_lines = 0
        self.bundles = BundleLines()
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
            case "problem":
                self.problem_lines += 1
                if self.problem_lines <= MOST_PROBLEMS:
                    found_here, _, tail = rest.partition(";")
                    wanted, _, path = tail.partition(";")
                    self.problem(path, found=found_here, wanted=wanted)
            case _ if word in BUNDLE_WORDS:
                self.bundles.take(word, rest)
            case _ if word in STORE_WORDS:
                self.stores.take(word, rest)
            case _:
                self._rest += len(word) + len(rest) + 1
                _bounded(self._rest, LARGEST_REST, "characters in its other lines")
                self.single.setdefault(word, rest)

    def problem(self, path: str, found: str, wanted: str) -> None:
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
    current, fence = _current(notes, credentials), _fence(notes)
    bundle, loaded = notes.bundles.current(notes.problem), notes.bundles.loaded(notes.problem)
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
        loaded=loaded,
    )
    return survey, _whole(notes) if whole else None


def _whole(notes: _Notes) -> Whole:
    texts = (*("\n".join(folder.key) for folder in notes.folders), *notes.bundles.publics())
    keys = [key for text in texts if (key := public_key(text)) is not None]
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
        if found is None or int(found[3]) > LATEST.timestamp():
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
        key=spki("\n".join(folder.key)),
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
