"""A host's answer as an ``Outcome``: total, whatever bytes came.

The host reports its orders one after the other. A report that does not follow the grammar, names another
bundle than was sent, or accepts the decoy among the claims makes the visit ``Failed``: the host may have
changed, and its word is worth nothing.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import assert_never

from orchestrator.policy.stores import digest_of
from orchestrator.remote.answer_lines import GarbledError, between_markers, plain
from orchestrator.remote.survey_lines import read_survey
from orchestrator.rotation.reports import (
    Activated,
    Changed,
    Checked,
    Disarmed,
    Erased,
    Failed,
    Generated,
    Outcome,
    Refused,
    Report,
    Reverted,
    Signed,
    Staged,
    Surveyed,
    Trusted,
    Unchanged,
    Verdict,
)
from orchestrator.rotation.visits import (
    Activate,
    Check,
    Claim,
    CredentialId,
    Disarm,
    Erase,
    Generate,
    Order,
    Revert,
    Sign,
    Stage,
    Survey,
    Trust,
    Visit,
)

ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
"""An answer is never longer; whoever reads one stops there, and ``decode`` finds no end marker.

The largest is the survey of an agent: 10,000 keys of RSA-2048 at 514 bytes (of Ed25519: 134) and 20,000 edges
to names of 64 characters at 150 bytes are 8.1 million bytes; where its programs may use
two bundles of before, whose keys are told only where they differ, twice the edges again make 14.1 million.
"""

_REASON_CHARACTERS = 2200
_NOISE_BYTES = 300
_SIGNATURE = re.compile(r"([0-9a-f]{2}){1,512}")
_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SECONDS = re.compile(r"[0-9]{1,11}")
_REQUEST = re.compile(
    r"-----BEGIN CERTIFICATE REQUEST-----\n[A-Za-z0-9+/=\n]{1,16384}-----END [A-Z ]+-----\n"
)
_LAST_SECOND = 253402300798  # the last but one of the year 9999
_ENDINGS = {"done changed": True, "done unchanged": False}


def decode(visit: Visit, *, marker: str, stdout: bytes, sent_at: datetime, received_at: datetime) -> Outcome:
    """How the visit ended, from whatever bytes came back; never raises on account of them.

    Args:
        visit: what was asked.
        marker: as given to ``encode``.
        stdout: all that the host wrote to standard output, noise of start-up files included.
        sent_at: when the first byte was sent.
        received_at: when the last byte arrived.
    """
    host = visit.endpoint.host
    answer = between_markers(stdout[:ANSWER_LIMIT_BYTES], marker)
    if not answer.begun:
        return Failed(host=host, reason=_no_answer(stdout))
    reading = _Reading(visit)
    skew = timedelta(0)
    try:
        skew = _skew(answer.lines, sent_at, received_at)
        stopped = reading.take(answer.lines)
    except GarbledError as error:
        return Failed(host=host, reason=str(error), reports=tuple(reading.reports), skew=skew)
    reports = tuple(reading.reports)
    match stopped:
        case _ if not answer.ended:
            reason = "the answer breaks off: the visit was cut, or the host's answer is too long"
            return Failed(host=host, reason=reason, reports=reports, skew=skew)
        case ("refused" | "fenced" as word, reason):
            fenced = word == "fenced"
            return Refused(host=host, reason=reason, reports=reports, skew=skew, fenced=fenced)
        case ("failed", reason):
            return Failed(host=host, reason=reason, reports=reports, skew=skew, told=True)
        case ("finished", _) if len(reports) == len(visit.orders):
            ending = Changed if any(report.changed for report in reports) else Unchanged
            return ending(host=host, reports=reports, skew=skew)
        case _:
            reason = "the answer is garbled: it ends before its last order"
            return Failed(host=host, reason=reason, reports=reports, skew=skew)


class _Reading:
    """The reports read so far; they outlast the error that ends the reading."""

    __slots__ = ("reports", "visit")

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.reports: list[Report] = []

    def take(self, lines: Sequence[str]) -> tuple[str, str]:
        """Reads reports until the line that ends them: its word and its reason; raises ``GarbledError``."""
        said: list[str] = []
        begun = False
        for line in lines:
            word, _, rest = line.partition(" ")
            if word in ("refused", "fenced", "failed", "finished"):
                return word, plain(rest, limit=_REASON_CHARACTERS)
            if word == "order":
                self._expect(rest)
                said, begun = [], True
            elif word == "done" and begun:
                if line not in _ENDINGS:
                    raise GarbledError(f"the answer is garbled: an order ends with {plain(line)}")
                order = self.visit.orders[len(self.reports)]
                self.reports.append(
                    _report(order, said, changed=_ENDINGS[line], base=self.visit.endpoint.base)
                )
                begun = False
            else:
                said.append(line)
        return "", ""

    def _expect(self, heading: str) -> None:
        number = len(self.reports)
        if number >= len(self.visit.orders) or heading != f"{number + 1} {self.visit.orders[number].kind}":
            raise GarbledError(f"the answer is garbled: it reports order {plain(heading)}")


def _report(order: Order, said: Sequence[str], *, changed: bool, base: str) -> Report:
    match order:
        case Survey():
            survey, whole = read_survey(said, base=base, whole=order.whole)
            return Surveyed(survey=survey, whole=whole)
        case Generate():
            return Generated(credential=order.credential, request_pem=_request(said), changed=changed)
        case Stage():
            return Staged(credential=order.credential, signature=_signature(said), changed=changed)
        case Trust():
            return _trusted(order, said, changed=changed)
        case Activate():
            return Activated(
                credential=order.credential,
                signature=_signature(said),
                changed=changed,
                stores=_stores(order.stores, said),
            )
        case Revert():
            return Reverted(
                credential=order.credential,
                signature=_signature(said),
                changed=changed,
                stores=_stores(order.stores, said),
            )
        case Disarm():
            emptied = order.in_use is None
            return Disarmed(credentials=order.credentials, changed=changed, emptied=emptied)
        case Erase():
            return Erased(credentials=order.credentials, changed=changed)
        case Sign():
            credential = CredentialId(_value(said, "credential", _ID))
            return Signed(credential=credential, signature=_signature(said))
        case Check():
            digest = _value(said, "digest", _DIGEST)
            return Checked(digest=digest, verdicts=_verdicts(order.claims, said))
        case _:
            assert_never(order)


def _trusted(order: Trust, said: Sequence[str], *, changed: bool) -> Trusted:
    position = order.bundle.position
    if f"position {position}" not in said or f"digest {order.bundle.digest}" not in said:
        raise GarbledError(f"the host does not report bundle {position} with the digest that was sent")
    return Trusted(
        position=position,
        digest=order.bundle.digest,
        verdicts=_verdicts(order.claims, said),
        changed=changed,
        stores=_stores(order.stores, said),
    )


def _stores(manifest: str, said: Sequence[str]) -> str:
    """The digest of the manifest, once the host has told that this one is in place."""
    digest = digest_of(manifest)
    if f"stores {digest or '-'}" not in said:
        raise GarbledError("the host does not report the stores with the manifest that was sent")
    return digest


def _verdicts(claims: Sequence[Claim], said: Sequence[str]) -> tuple[Verdict, ...]:
    """The verdicts on the claims, once those on the decoys after them have proven that forgeries are seen."""
    words = [line.removeprefix("verdict ") for line in said if line.startswith("verdict ")]
    known: Mapping[str, Verdict] = {str(verdict): verdict for verdict in Verdict}
    vouched = next((number for number, claim in enumerate(claims) if claim.voucher is not None), None)
    decoys = bool(claims) + (vouched is not None)
    if len(words) != len(claims) + decoys or not known.keys() >= set(words):
        raise GarbledError("the answer is garbled: its verdicts are not those that were asked for")
    verdicts = tuple(known[word] for word in words)
    if not claims:
        return ()
    # An edge that is missing or expired is found before any signature is looked at.
    reached = verdicts[0] in (Verdict.VALID, Verdict.INVALID)
    if verdicts[len(claims)] is not (Verdict.INVALID if reached else verdicts[0]):
        raise GarbledError("its openssl accepts a forged signature")
    if vouched is not None:
        # Whether the issuer may vouch, and for which keys, is found before its signature is looked at.
        looked_up = verdicts[vouched] in (Verdict.UNTRUSTED, Verdict.DENIED)
        if verdicts[-1] is not (verdicts[vouched] if looked_up else Verdict.UNCERTIFIED):
            raise GarbledError("its openssl accepts a forged certificate")
    return verdicts[: len(claims)]


def _value(said: Sequence[str], word: str, form: re.Pattern[str]) -> str:
    for line in said:
        if line.startswith(f"{word} ") and form.fullmatch(line, len(word) + 1):
            return line[len(word) + 1 :]
    raise GarbledError(f"the answer is garbled: a report has no {word}")


def _signature(said: Sequence[str]) -> str:
    return _value(said, "signature", _SIGNATURE)


def _request(said: Sequence[str]) -> str:
    text = "".join(f"{line.removeprefix('request ')}\n" for line in said if line.startswith("request "))
    if not _REQUEST.fullmatch(text):
        raise GarbledError("the answer is garbled: a report has no request")
    return text


def _skew(lines: Sequence[str], sent_at: datetime, received_at: datetime) -> timedelta:
    """How far the host's second lies outside the visit; it covers all instants from its start to its end."""
    word, _, seconds = lines[0].partition(" ") if lines else ("", "", "")
    if word in ("refused", "fenced", ""):
        return timedelta(0)
    if word != "time" or not _SECONDS.fullmatch(seconds) or int(seconds) > _LAST_SECOND:
        raise GarbledError("the answer is garbled: it does not begin with the host's time")
    start = datetime.fromtimestamp(int(seconds), tz=UTC)
    if start > received_at:
        return start - received_at
    return min(start + timedelta(seconds=1) - sent_at, timedelta(0))


def _no_answer(stdout: bytes) -> str:
    noise = plain(stdout[:_NOISE_BYTES].decode(errors="replace"))
    return (
        f"the host did not begin to answer; it printed: {noise}"
        if noise
        else "the host did not begin to answer"
    )
