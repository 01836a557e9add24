"""What the outcome of a visit changes in the record.

A report is believed only in as far as it was proven: signatures were verified by the controller
(``proofs.judge``), verdicts count as proof only with the bundle that is certainly in use, and neither
counts when the host's clock is further off than the playbook allows (S7).
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import assert_never

from orchestrator.inventory.model import HostName
from orchestrator.rotation import reports as rp
from orchestrator.rotation.filling import agent_filled, server_filled
from orchestrator.rotation.recorded import (
    SIGNING,
    AgentRecord,
    Contact,
    Evidence,
    Filled,
    Installed,
    Intent,
    Placement,
    Proof,
    Recorded,
    Standing,
    TrustLine,
)
from orchestrator.rotation.visits import Claim, CredentialId


def ended(recorded: Recorded, outcome: rp.Outcome, at: datetime) -> Recorded:
    """``recorded`` after a visit ended; its intent stays pending where the end is not known."""
    host = outcome.host
    intent = recorded.pending.get(host, Intent(host=host))
    match outcome:
        case rp.Unreachable():
            return failing(recorded, host, outcome.reason, at).without_pending(host)
        case rp.Changed() | rp.Unchanged():
            recorded = recorded.with_contact(host, Contact(seen=at, skew=outcome.skew))
            return _reported(recorded, intent, outcome, at).without_pending(host)
        case rp.Refused():
            recorded = failing(recorded, host, outcome.reason, at, skew=outcome.skew)
            return _reported(recorded, intent, outcome, at).without_pending(host)
        case rp.Failed():
            recorded = failing(recorded, host, outcome.reason, at, skew=outcome.skew)
            server = recorded.servers.get(host)
            if server is not None and intent.activates == server.target is not None and outcome.told:
                recorded = recorded.with_server(host, replace(server, set_back=at))
            return _reported(recorded, intent, outcome, at)
        case _:
            assert_never(outcome)


def failing(
    recorded: Recorded,
    host: HostName,
    reason: str,
    at: datetime,
    *,
    skew: timedelta | None = None,
) -> Recorded:
    """``recorded`` with one more failure of a host, keeping when its failures began."""
    before = recorded.contacts.get(host, Contact())
    contact = replace(
        before,
        failing_since=before.failing_since or at,
        reason=reason,
        skew=before.skew if skew is None else skew,
    )
    return recorded.with_contact(host, contact)


def install(
    recorded: Recorded,
    agent: HostName,
    bundle: Installed,
    proven: Mapping[TrustLine, Proof],
    at: datetime,
) -> Recorded:
    """``recorded`` with a bundle on an agent; lines it had before keep the time they came."""
    before = recorded.agents.get(agent, AgentRecord()).installed
    known = {line: line.since for line in before.lines} if before is not None else {}
    lines = tuple(replace(line, since=known.get(line) or at) for line in bundle.lines)
    record = AgentRecord(
        installed=replace(bundle, lines=lines, evidence=Evidence.REPORTED),
        proven=proven,
    )
    return recorded.with_agent(agent, record)


def _reported(
    recorded: Recorded,
    intent: Intent,
    outcome: rp.Changed | rp.Unchanged | rp.Refused | rp.Failed,
    at: datetime,
) -> Recorded:
    host = outcome.host
    in_time = abs(outcome.skew) <= recorded.allowed_skew(host)
    for report in outcome.reports:
        match report:
            case rp.Generated():
                recorded = _place(recorded, host, report.credential, Standing.MADE, at)
            case rp.Staged():
                claim = _claim(recorded, intent, report.credential, report.signature) if in_time else None
                certificate = intent.certificates.get(report.credential, "")
                recorded = _place(recorded, host, report.credential, Standing.STAGED, at, claim, certificate)
            case rp.Activated() | rp.Reverted():
                claim = _claim(recorded, intent, report.credential, report.signature) if in_time else None
                recorded = _switch(recorded, host, report.credential, at, claim)
                filled = Filled(manifest=report.stores, credential=report.credential)
                recorded = server_filled(recorded, host, filled if report.stores else None)
            case rp.Disarmed():
                recorded = _disarmed(recorded, host, report.credentials, at)
                if report.emptied:
                    recorded = server_filled(recorded, host, None)
            case rp.Erased():
                recorded = _erased(recorded, host, report.credentials)
            case rp.Trusted() if intent.bundle is not None:
                proven = _proven(intent, report.verdicts, at) if in_time else {}
                recorded = install(recorded, host, intent.bundle, proven, at)
                stocked = Filled(manifest=report.stores) if report.stores else None
                recorded = agent_filled(recorded, host, stocked)
            case rp.Checked() if in_time:
                recorded = _checked(recorded, intent, report, at)
            case rp.Surveyed() | rp.Signed() | rp.Trusted() | rp.Checked():
                pass
            case _:
                assert_never(report)
    return recorded


def _claim(recorded: Recorded, intent: Intent, credential: CredentialId, signature: str) -> Claim | None:
    challenge = intent.challenges.get(credential)
    public = recorded.credentials[credential].public
    if challenge is None or public is None:
        return None
    return Claim(challenge=challenge, key=public.spki_digest, signature=signature)


def _place(
    recorded: Recorded,
    server: HostName,
    credential: CredentialId,
    standing: Standing,
    at: datetime,
    claim: Claim | None = None,
    certificate: str = "",
) -> Recorded:
    """Record where a credential lies now; a staged one that is in use stays so.

    One that the server missed is found again by that: as long as it is within reach, it may be signed with.
    """
    record = recorded.servers[server]
    if credential in record.missing and standing is Standing.STAGED:
        standing = Standing.STANDBY
    before = record.placements.get(credential)
    kept = before is not None and (
        before.standing is standing
        or (standing in {Standing.STAGED, Standing.MADE} and before.standing in SIGNING | {Standing.STAGED})
    )
    certificate = certificate or (before.certificate if before is not None else "")
    placement = (
        replace(before, claim=claim or before.claim, evidence=Evidence.REPORTED, certificate=certificate)
        if before is not None and kept
        else Placement(
            standing=standing, since=at, evidence=Evidence.REPORTED, claim=claim, certificate=certificate
        )
    )
    found = placement.standing is not Standing.MADE
    after = replace(
        record,
        placements=MappingProxyType({**record.placements, credential: placement}),
        missing=MappingProxyType(
            {c: since for c, since in record.missing.items() if not found or c != credential}
        ),
    )
    return recorded.with_server(server, after)


def _switch(
    recorded: Recorded,
    server: HostName,
    credential: CredentialId,
    at: datetime,
    claim: Claim | None,
) -> Recorded:
    record = recorded.servers[server]
    placements: dict[CredentialId, Placement] = {}
    for name, placement in record.placements.items():
        stands_by = placement.standing is Standing.ACTIVE and name != credential
        placements[name] = replace(placement, standing=Standing.STANDBY, since=at) if stands_by else placement
    before = record.placements.get(credential)
    since = before.since if before is not None and before.standing is Standing.ACTIVE else at
    known = before.claim if before is not None else None
    placements[credential] = Placement(
        standing=Standing.ACTIVE,
        since=since,
        evidence=Evidence.REPORTED,
        claim=claim or known,
        certificate=before.certificate if before is not None else "",
    )
    cleared = {c: ended for c, ended in record.cleared.items() if c != credential}
    missing = {c: since for c, since in record.missing.items() if c != credential}
    after = replace(
        record,
        placements=MappingProxyType(placements),
        cleared=MappingProxyType(cleared),
        missing=MappingProxyType(missing),
        set_back=None if credential == record.target else record.set_back,
    )
    return recorded.with_server(server, after)


def _disarmed(
    recorded: Recorded,
    server: HostName,
    credentials: tuple[CredentialId, ...],
    at: datetime,
) -> Recorded:
    """What it could sign with it cannot from now on; one that it never used has nothing in flight (S7)."""
    could_sign = recorded.may_sign(server)
    for credential in credentials:
        recorded = _place(recorded, server, credential, Standing.DISARMED, at)
    record = recorded.servers[server]
    ended = dict.fromkeys(could_sign & set(credentials), at)
    return recorded.with_server(
        server, replace(record, cleared=MappingProxyType({**record.cleared, **ended}))
    )


def _erased(recorded: Recorded, server: HostName, credentials: tuple[CredentialId, ...]) -> Recorded:
    record = recorded.servers[server]
    left = {c: placement for c, placement in record.placements.items() if c not in credentials}
    filled = recorded.server_stores.get(server)
    if filled is not None and filled.credential in credentials:
        # While another key is in use there, its stores and what holds no key stay.
        left_there = Filled(manifest="", intact=False) if record.target is not None else None
        recorded = server_filled(recorded, server, left_there)
    return recorded.with_server(server, replace(record, placements=MappingProxyType(left)))


def _proven(intent: Intent, verdicts: tuple[rp.Verdict, ...], at: datetime) -> Mapping[TrustLine, Proof]:
    return {
        proof.line: replace(proof, at=at)
        for proof, verdict in zip(intent.proves, verdicts, strict=False)
        if verdict is rp.Verdict.VALID
    }


def _checked(recorded: Recorded, intent: Intent, report: rp.Checked, at: datetime) -> Recorded:
    record = recorded.agents.get(intent.host)
    if record is None or record.installed is None or record.installed.digest != report.digest:
        return recorded
    proven = {**record.proven, **_proven(intent, report.verdicts, at)}
    return recorded.with_agent(intent.host, replace(record, proven=proven))
