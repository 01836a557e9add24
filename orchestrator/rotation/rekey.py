"""When a scope needs a new key, and what that key is to be.

A key stays as long as it is what the playbook asks for, is not due, and nobody outside its scope was ever
given it. A key that a server has lost is brought back from the vault; where it cannot be, it is replaced.
"""

from collections.abc import Mapping
from datetime import datetime

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Random
from orchestrator.policy.desired import Desired, Origin, Policy, Scope
from orchestrator.policy.expiry import due_at
from orchestrator.rotation.events import NewCredential
from orchestrator.rotation.lifecycle import GONE
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import Credential, Recorded
from orchestrator.rotation.surveys import fits
from orchestrator.rotation.visits import CredentialId


def candidate(scope: Scope, desired: Desired, recorded: Recorded) -> Credential | None:
    """The newest credential that servers of the scope are to have, if it is this scope's."""
    targets = {record.target for s in scope.servers if (record := recorded.servers.get(s)) is not None}
    known = [
        credential
        for target in targets
        if target is not None
        and (credential := recorded.credentials[target]).scope == scope.name
        and credential.playbook == desired.playbook
        and credential.state not in GONE
        and not credential.over
    ]
    return max(known, key=lambda c: (c.created, c.id), default=None)


def reason_to_rekey(
    scope: Scope,
    known: Credential | None,
    desired: Desired,
    recorded: Recorded,
    surveys: Mapping[HostName, HostSurvey],
    *,
    now: datetime,
    new_key: bool,
    paused: bool,
) -> str:
    """Why the scope needs a new key; empty when it does not.

    Args:
        scope: the servers that are to share a key.
        known: the key they have, if it is this scope's.
        desired: what the playbook asks.
        recorded: the ledger, the surveys already taken in.
        surveys: of the hosts that could be reached.
        now: the present.
        new_key: whether a new key was asked for, due or not.
        paused: whether the playbook's rollout is paused: then no key comes due, and the one in use is
            prolonged instead (``prolonging.py``).
    """
    if known is None:
        moved = [
            s for s in scope.servers if (r := recorded.servers.get(s)) is not None and r.target is not None
        ]
        targets = [target for s in moved if (target := recorded.servers[s].target) is not None]
        ended = [known for t in targets if (known := recorded.credentials[t]).ended is not None]
        if ended:
            return f"its key is {ended[0].ended}: {ended[0].ended_why}"
        over = [why for t in targets if (why := recorded.credentials[t].over)]
        if over:
            return f"its key is over: {over[0]}"
        foreign = (s for s in moved if recorded.servers[s].playbook != desired.playbook)
        if (server := next(foreign, None)) is not None:
            return f"{server} moves from playbook {recorded.servers[server].playbook!r}"
        return f"{moved[0]} moves into this scope" if moved else "it has no key yet"
    if new_key:
        return "a new key was asked for"
    if not known.key.makes_as(desired.key):
        return f"its key is to be {desired.key.algorithm}, made on the {desired.key.origin}"
    if not known.imported and known.not_after - known.not_before != desired.certificate.lifetime:
        return "its lifetime has changed"
    before = recorded.playbooks.get(desired.playbook)
    if before is not None and not _same_issuer(before, desired):
        return "its certificate is to come from another issuer"
    if any(recorded.is_replaced(recorded.issuer_of(known, server)) for server in known.issuers):
        return "another issuer has replaced the one that certified its key"
    if known.not_before > now + desired.messages.clock_skew:
        return "it was made while the controller's clock was ahead"
    due = due_at(known.id, known.not_before, known.not_after, desired.certificate)
    if not paused and due <= now:
        return "its key is due"
    given = {*known.servers, *known.certificates}
    left = sorted(given - set(scope.servers))
    if left:
        return f"{left[0]} has left it and was given its key"
    return next(filter(None, (_lost(server, known, recorded, surveys) for server in scope.servers)), "")


def _same_issuer(before: Desired, desired: Desired) -> bool:
    if desired.issuer is None or before.issuer is None:
        return desired.issuer is before.issuer
    return desired.issuer.certifies_as(before.issuer)


def _lost(
    server: HostName,
    known: Credential,
    recorded: Recorded,
    surveys: Mapping[HostName, HostSurvey],
) -> str:
    """Why the key cannot be brought back to a server that should have it."""
    survey = surveys.get(server)
    if survey is None or known.public is None:
        return ""
    there = [held for held in survey.credentials if held.name == known.id]
    if any(held.disarmed for held in there):
        return f"{server} keeps it where it puts away old keys"
    held = there[0] if there else None
    if held is not None and not fits(held, known):
        return f"what {server} keeps under its name is not its key"
    if held is None and known.key.origin is Origin.SERVER:
        return f"it was made on {server} and is gone from there"
    if held is None and not known.in_vault:
        return f"{server} lacks it and the vault has no copy"
    issued = known.certificate_digest(server)
    if issued is None and known.key.origin is Origin.CONTROLLER and not known.in_vault:
        return f"{server} has no certificate of it, and the vault no copy to certify"
    if held is None or issued is None:
        return ""
    if held.certificate_digest is None:
        record = recorded.servers.get(server)
        placement = record.placements.get(known.id) if record is not None else None
        staged = placement is not None and placement.claim is not None
        return f"{server} has lost the certificate of it" if staged else ""
    if held.certificate_digest not in {issued, *known.superseded.get(server, ())}:
        return f"{server} keeps another certificate than it was given"
    return ""


def new_credential(scope: Scope, desired: Desired, *, now: datetime, random: Random) -> NewCredential:
    """The credential to make for a scope: an id, and a cryptoperiod that begins now."""
    begin = now.replace(microsecond=0)
    return NewCredential(
        id=CredentialId(random(16).hex()),
        scope=scope.name,
        key=desired.key,
        servers=scope.servers,
        not_before=begin,
        not_after=begin + desired.certificate.lifetime,
        delegated=desired.policy is Policy.DELEGATED,
    )
