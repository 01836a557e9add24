"""Keys that were made ahead, by ``cert create`` or ``cert import``: which of them a rollout takes up.

Such a credential waits in the ledger and in the vault until a plan covers its scope. It is then the scope's
new key, and goes the way of every other: staged, proven by every agent, switched to in waves. One that the
playbook would replace at once is never taken up.
"""

from datetime import datetime

from orchestrator.policy.desired import Desired, PlaybookName, Scope, ScopeName
from orchestrator.policy.expiry import due_at
from orchestrator.rotation.events import CredentialPrepared
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Credential, Recorded


def prepared(event: CredentialPrepared, *, at: datetime) -> Credential:
    """The credential that an event tells of, before it has a key."""
    return Credential(
        id=event.new.id,
        playbook=event.playbook,
        scope=event.new.scope,
        key=event.new.key,
        servers=event.new.servers,
        created=at,
        not_before=event.new.not_before,
        not_after=event.new.not_after,
        in_flight=event.in_flight,
        grace=event.grace,
        state=KeyState.GENERATED,
        state_since=at,
        delegated=event.new.delegated,
        awaits=True,
        imported=event.imported,
    )


def waiting(recorded: Recorded, playbook: PlaybookName, scope: ScopeName) -> tuple[Credential, ...]:
    """The credentials that wait for a scope, the oldest first."""
    found = [
        c for c in recorded.credentials.values() if c.awaits and (c.playbook, c.scope) == (playbook, scope)
    ]
    return tuple(sorted(found, key=lambda c: (c.created, c.id)))


def to_take_up(scope: Scope, desired: Desired, recorded: Recorded, *, now: datetime) -> Credential | None:
    """The credential that is to be the scope's new key, if one waits and fits."""
    found = waiting(recorded, desired.playbook, scope.name)
    return next((c for c in reversed(found) if not unfit(c, scope, desired, now=now)), None)


def unfit(credential: Credential, scope: Scope, desired: Desired, *, now: datetime) -> str:
    """Why a credential that waits cannot be the scope's key; empty: it can."""
    if credential.ended is not None:
        return f"it is {credential.ended}"
    if credential.over:
        return f"it is over: {credential.over}"
    if credential.public is None or not credential.in_vault:
        return "its key was never made"
    if not credential.key.makes_as(desired.key):
        return f"the playbook asks for {desired.key.algorithm}, made on the {desired.key.origin}"
    if (
        not credential.imported
        and credential.not_after - credential.not_before != desired.certificate.lifetime
    ):
        return "the playbook asks for another lifetime"
    due = due_at(credential.id, credential.not_before, credential.not_after, desired.certificate)
    if due <= now:
        return "it would be due for a successor at once"
    left = sorted({*credential.servers, *credential.certificates} - {*scope.servers})
    return f"{left[0]} is not in the scope any more" if left else ""
