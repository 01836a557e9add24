"""What of an outcome is believed: proof instead of self-report.

The controller checks every signature that a server says it made, against the key it should have made it
with, and every verdict and digest that an agent reports, before any of it is recorded.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import PublicKey
from orchestrator.policy.stores import digest_of
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.visits import Challenge, Claim

_CREDENTIAL = re.compile(r"\b(?:the key of |credential )?(?P<id>[0-9a-f]{32})\b")

NAMED = 3
"""So many servers are named in a reason; the others are counted."""


def judge(recorded: Recorded, orders: tuple[vs.Order, ...], outcome: rp.Outcome) -> rp.Outcome:
    """The outcome of a visit with these orders, as far as it is proven.

    Returns:
        The outcome itself; ``Failed`` without the unproven reports where one does not verify; ``Refused``
        with all reports where an agent could not verify what some servers signed, so that its other verdicts
        count and only those servers wait for it (S6); and where the host's clock is further off than the
        playbook allows (S7), so that what was done stands and nothing counts as proven. Reasons call keys by
        the names that people know.
    """
    if isinstance(outcome, rp.Unreachable):
        return outcome
    if isinstance(outcome, rp.Refused | rp.Failed):
        outcome = replace(outcome, reason=with_names(recorded, outcome.reason))
    proven: list[rp.Report] = []
    unverified: dict[HostName, rp.Verdict] = {}
    allowed = recorded.allowed_skew(outcome.host)
    clock = "" if abs(outcome.skew) <= allowed else _clock(outcome.skew, allowed)
    for order, report in zip(orders, outcome.reports, strict=False):
        fault = _fault(recorded, order, report)
        if fault:
            # A wrong clock explains many a verdict, and no verdict explains a wrong clock.
            fault = f"{clock}; and {fault}" if clock else fault
            if isinstance(outcome, rp.Refused) and isinstance(order, vs.READING):
                return replace(outcome, reason=fault, reports=tuple(proven))
            return rp.Failed(host=outcome.host, reason=fault, reports=tuple(proven), skew=outcome.skew)
        unverified |= _unverified(order, report)
        proven.append(report)
    done = isinstance(outcome, rp.Changed | rp.Unchanged)
    if len(outcome.reports) > len(orders) or (done and len(outcome.reports) < len(orders)):
        reason = f"it reported on {len(outcome.reports)} of {len(orders)} orders"
        return rp.Failed(host=outcome.host, reason=reason, reports=tuple(proven), skew=outcome.skew)
    if done and (clock or unverified):
        return rp.Refused(
            host=outcome.host,
            reason="; and ".join(filter(None, (clock, _disbelieving(unverified)))),
            reports=outcome.reports,
            skew=outcome.skew,
            unverified={} if clock else unverified,
        )
    return outcome


def disbelief(server: HostName, verdict: rp.Verdict) -> str:
    """What an agent that could not verify a server's signature is said to hold it up by."""
    return _disbelieving({server: verdict})


def _clock(off: timedelta, allowed: timedelta) -> str:
    way = "ahead" if off > timedelta(0) else "behind"
    off_s, allowed_s = abs(off).total_seconds(), allowed.total_seconds()
    return f"its clock is {off_s:.0f} s {way}; messages.clock_skew allows {allowed_s:.0f} s"


def _fault(recorded: Recorded, order: vs.Order, report: rp.Report) -> str:
    """Why a report is not believed; empty when it is."""
    match order, report:
        case vs.Stage(), rp.Staged():
            return fault_of_signature(recorded, order.credential, order.challenge, report.signature)
        case vs.Activate(), rp.Activated():
            unsigned = fault_of_signature(recorded, order.credential, order.challenge, report.signature)
            return unsigned or _unfilled(order.stores, report.stores)
        case vs.Revert(), rp.Reverted():
            return fault_of_signature(recorded, order.credential, order.challenge, report.signature)
        case vs.Sign(), rp.Signed():
            return fault_of_signature(recorded, report.credential, order.challenge, report.signature)
        case vs.Trust(), rp.Trusted():
            if (report.position, report.digest) != (order.bundle.position, order.bundle.digest):
                return f"it uses bundle {report.position} ({report.digest[:12]}), not the one it was given"
            return _uncounted(order.claims, report.verdicts) or _unfilled(order.stores, report.stores)
        case vs.Disarm(in_use=None), rp.Disarmed(emptied=False):
            return "it leaves, and did not say that its stores are empty"
        case vs.Check(), rp.Checked():
            return _uncounted(order.claims, report.verdicts)
        case _:
            return "" if order.kind == report.kind else f"it answered {report.kind} to {order.kind}"


def fault_of_signature(
    recorded: Recorded, credential: vs.CredentialId, challenge: Challenge, signature: str
) -> str:
    """Why a signature (hex) does not show that a server signs with a credential; empty when it does."""
    known = recorded.credentials.get(credential)
    if known is not None and known.public is not None and signs(known.public, challenge, signature):
        return ""
    used = next(
        (c for c in recorded.credentials.values() if c.public and signs(c.public, challenge, signature)), None
    )
    if known is None or used is None:
        return "its signature over a fresh nonce does not verify with the key it should have"
    return f"it still signs with {name_of(used)}, not with {name_of(known)}"


def with_names(recorded: Recorded, reason: str) -> str:
    """What a host said, with the credentials that it knows by their ids called as people call keys."""

    def named(found: re.Match[str]) -> str:
        known = recorded.credentials.get(vs.CredentialId(found["id"]))
        if known is None or known.public is None:
            return found[0]
        return f"key {known.public.thumbprint[:10]}"

    return _CREDENTIAL.sub(named, reason)


def signs(public: PublicKey, challenge: Challenge, signature: str) -> bool:
    """Whether ``signature`` (hex) over the challenge was made with this key."""
    try:
        raw = bytes.fromhex(signature)
    except ValueError:
        return False
    return public.verify(raw, challenge.text())


def _unfilled(manifest: str, told: str) -> str:
    wanted = digest_of(manifest)
    if told == wanted:
        return ""
    return f"its stores are filled by manifest {told[:12] or 'none'}, not by {wanted[:12] or 'none'}"


def _uncounted(claims: tuple[Claim, ...], verdicts: tuple[rp.Verdict, ...]) -> str:
    if len(claims) == len(verdicts):
        return ""
    return f"it gave {len(verdicts)} verdicts on {len(claims)} signatures"


def _unverified(order: vs.Order, report: rp.Report) -> Mapping[HostName, rp.Verdict]:
    """The servers whose signatures an agent could not verify."""
    match order, report:
        case (vs.Trust(claims=claims), rp.Trusted(verdicts=verdicts)) | (
            vs.Check(claims=claims),
            rp.Checked(verdicts=verdicts),
        ):
            told = zip(claims, verdicts, strict=True)
            return {c.challenge.server: verdict for c, verdict in told if verdict is not rp.Verdict.VALID}
        case _:
            return {}


def _disbelieving(unverified: Mapping[HostName, rp.Verdict]) -> str:
    if not unverified:
        return ""
    wrong = [f"{server} ({verdict})" for server, verdict in unverified.items()]
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return "it could not verify the signature of " + ", ".join(wrong[:NAMED]) + more
