"""What a survey changes in the record: what a host really holds replaces what we thought.

A folder whose key does not fit its credential counts as unproven: the audit names it, the plan makes a new
key, and the handover to that one erases it. A credential that a server could sign with and that is put away
is remembered in ``cleared``: messages signed with it may still be in flight (S7). One that is not to be seen
is ``missing``, for that proves nothing: the disk it lies on may not be mounted, and a service that loaded it
goes on signing. Only where a person has ended the key, or the server itself remembers that it was removed (an
older ledger has yet to hear of it), it counts as gone.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.rotation.filling import found
from orchestrator.rotation.observed import HeldBundle, HeldCredential, HostSurvey
from orchestrator.rotation.obstacles import met
from orchestrator.rotation.outcomes import install
from orchestrator.rotation.recorded import (
    SIGNING,
    AgentRecord,
    Contact,
    Credential,
    Evidence,
    Installed,
    Intent,
    Placement,
    Recorded,
    Standing,
    TrustLine,
)
from orchestrator.rotation.visits import CredentialId


def surveyed(recorded: Recorded, host: HostName, survey: HostSurvey, at: datetime) -> Recorded:
    """``recorded`` after a survey of one host; only hosts of a playbook have a record to change."""
    intent = recorded.pending.get(host, Intent(host=host))
    contact = replace(recorded.contacts.get(host, Contact()), seen=at, failing_since=None, reason="")
    recorded = recorded.with_contact(host, contact)
    if host in recorded.servers:
        recorded = _server(recorded, host, survey, at)
    if host in recorded.agents:
        before = recorded.agents[host]
        recorded = _agent(recorded, host, survey.bundle, intent, at)
        if survey.untold:
            recorded = recorded.with_agent(host, _untold(recorded, host, before, survey, at))
    return met(found(recorded, host, survey), host, survey).without_pending(host)


def essential(recorded: Recorded, survey: HostSurvey) -> HostSurvey:
    """What of a survey the record can use: a host may write down any number of servers and keys.

    Of its bundles those are the keys and issuers that the ledger knows, with the servers that it knows and
    one of the others.
    """
    if survey.bundle is None and not survey.loaded:
        return survey
    keys = {c.public.spki_digest for c in recorded.credentials.values() if c.public is not None}
    issuers = {issuer.key for issuer in recorded.own_issuers()}
    servers = {
        s for desired in recorded.playbooks.values() for s in desired.servers()
    } | recorded.servers.keys()

    def told(held: HeldBundle) -> HeldBundle:
        edges = {(e.key, e.server if e.server in servers else ""): e for e in held.edges if e.key in keys}
        lines = {
            (d.issuer, d.server if d.server in servers else ""): d
            for d in held.delegations
            if d.issuer in issuers
        }
        usable = len(edges) == len(held.edges) and len(lines) == len(held.delegations)
        if usable and keys.issuperset((*held.keys, *held.denied)):
            return held
        return replace(
            held,
            edges=tuple(edges.values()),
            keys=tuple(key for key in held.keys if key in keys),
            delegations=tuple(lines.values()),
            denied=tuple(key for key in held.denied if key in keys),
        )

    bundle = told(survey.bundle) if survey.bundle is not None else None
    loaded = tuple(map(told, survey.loaded))
    if bundle is survey.bundle and all(
        one is other for one, other in zip(loaded, survey.loaded, strict=True)
    ):
        return survey
    return replace(survey, bundle=bundle, loaded=loaded)


def _server(
    recorded: Recorded,
    server: HostName,
    survey: HostSurvey,
    at: datetime,
) -> Recorded:
    record = recorded.servers[server]
    could_sign = recorded.may_sign(server)
    placements: dict[CredentialId, Placement] = {}
    # One that lies in both places can still be switched to, so the place that is within reach counts.
    for held in sorted(survey.credentials, key=lambda held: not held.disarmed):
        credential = recorded.credentials.get(CredentialId(held.name))
        if credential is None:
            continue
        standing = _standing(held, survey.current, credential.id in could_sign)
        before = record.placements.get(credential.id)
        proven = fits(held, credential)
        certificate = held.certificate_digest or ""
        due = survey.hook_due and standing is Standing.ACTIVE
        foreign = held.key is not None and not proven
        if before is not None and before.standing is standing and (proven or before.claim is None):
            placements[credential.id] = replace(
                before, certificate=certificate, hook_due=due, foreign=foreign
            )
        else:
            placements[credential.id] = Placement(
                standing=standing,
                since=at,
                evidence=Evidence.SURVEYED,
                claim=before.claim if before is not None and proven else None,
                certificate=certificate,
                hook_due=due,
                foreign=foreign,
            )
    signing = {c for c, placement in placements.items() if placement.standing in SIGNING}
    unseen = could_sign - placements.keys()
    erased = {stone.key for stone in survey.ended if stone.how == "removed"}
    missing = {c: record.missing.get(c, at) for c in unseen if not _is_gone(recorded.credentials[c], erased)}
    ended = {**record.cleared, **dict.fromkeys(could_sign - missing.keys(), at)}
    cleared = {c: since for c, since in ended.items() if c not in signing}
    target = placements.get(record.target) if record.target is not None else None
    switched = target is not None and target.standing is Standing.ACTIVE
    after = replace(
        record,
        placements=MappingProxyType(placements),
        cleared=MappingProxyType(cleared),
        missing=MappingProxyType(missing),
        hearsay=frozenset(c for c in record.hearsay & missing.keys() if not _shows(survey, recorded, c)),
        set_back=None if switched else record.set_back,
    )
    return recorded.with_server(server, after)


def _shows(survey: HostSurvey, recorded: Recorded, credential: CredentialId) -> bool:
    """Whether a server has the key, under whatever name: then it is not only agents that tell of it."""
    public = recorded.credentials[credential].public
    return public is not None and any(held.key == public.spki_digest for held in survey.credentials)


def _is_gone(credential: Credential, erased: Collection[SpkiDigest]) -> bool:
    """Whether a key that is not to be seen on a server is not there: a person, or the server, says so."""
    public = credential.public
    return credential.ended is not None or (public is not None and public.spki_digest in erased)


def fits(held: HeldCredential, credential: Credential) -> bool:
    """Whether the private key on the host is the credential's (any key, as long as none is known yet)."""
    if held.key is None:
        return False
    return credential.public is None or credential.public.spki_digest == held.key


def _standing(held: HeldCredential, current: str | None, could_sign: bool) -> Standing:  # noqa: FBT001  # a fact, not a mode
    if held.disarmed:
        return Standing.DISARMED
    if current == held.name:
        return Standing.ACTIVE
    if could_sign:
        return Standing.STANDBY
    return Standing.MADE if held.certificate_key is None else Standing.STAGED


def _agent(
    recorded: Recorded,
    agent: HostName,
    held: HeldBundle | None,
    intent: Intent,
    at: datetime,
) -> Recorded:
    record = recorded.agents[agent]
    before = record.installed
    if held is None:
        after = AgentRecord() if before is not None else record
    elif before is not None and held.digest == before.digest and held.position == before.position:
        after = replace(record, untold=False, earlier=())
    elif intent.bundle is not None and held.digest == intent.bundle.digest:
        return install(recorded, agent, intent.bundle, {}, at)
    else:
        after = AgentRecord(installed=_unfamiliar(recorded, held, before, at))
    return recorded.with_agent(agent, after)


def _untold(
    recorded: Recorded, agent: HostName, before: AgentRecord, survey: HostSurvey, at: datetime
) -> AgentRecord:
    """An agent whose programs may not know the bundle that is there, and may use any one of before."""
    after = recorded.agents[agent]
    if after.installed is None:
        return after
    ours = (*before.earlier, *((before.installed,) if before.installed is not None else ()))
    told = (_unfamiliar(recorded, held, before.installed, at) for held in survey.loaded)
    # A bundle that says the same under another number is none of its own; what the ledger gave says more.
    apart = {(one.lines, one.issuers, one.denied): one for one in (*told, *ours, after.installed)}
    earlier = tuple(one for one in apart.values() if one is not after.installed)
    return replace(after, untold=True, earlier=earlier)


def _unfamiliar(recorded: Recorded, held: HeldBundle, before: Installed | None, at: datetime) -> Installed:
    """A bundle that the ledger did not give, or gave long ago: told by its own edges."""
    by_key: dict[SpkiDigest, CredentialId] = {
        credential.public.spki_digest: credential.id
        for credential in recorded.credentials.values()
        if credential.public is not None
    }
    known = {line: line.since for line in before.lines} if before is not None else {}
    issuers = {issuer.key for issuer in recorded.own_issuers()}
    found = {
        TrustLine(server=edge.server, credential=by_key[edge.key])
        for edge in held.edges
        if edge.key in by_key
    } | {TrustLine(server=d.server, issuer=d.issuer) for d in held.delegations if d.issuer in issuers}
    return Installed(
        position=held.position,
        digest=held.digest,
        content="",
        lines=tuple(replace(line, since=known.get(line) or at) for line in sorted(found)),
        evidence=Evidence.SURVEYED,
        issuers=held.issuers,
        denied=tuple(sorted(by_key[key] for key in held.denied if key in by_key)),
    )
