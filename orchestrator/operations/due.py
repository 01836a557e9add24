"""due: which keys want a successor, from the ledger alone."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.inventory.model import HostName
from orchestrator.policy.expiry import due_at
from orchestrator.ports import Clock, Ledger
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Credential

IN_SERVICE = frozenset({KeyState.PUBLISHED, KeyState.READY, KeyState.ACTIVE})


@dataclass(frozen=True, slots=True, kw_only=True)
class DueKey:
    """A key in service, when its successor is due, and when its certificate ends."""

    credential: Credential
    servers: tuple[HostName, ...]
    due_at: datetime
    ends_at: datetime

    def overdue(self, now: datetime) -> bool:
        """Whether a successor is due now."""
        return self.due_at <= now


def due(ledger: Ledger, clock: Clock, *, within: timedelta = timedelta(0)) -> tuple[DueKey, ...]:
    """Keys of servers that are due now or within a time, the most urgent first."""
    recorded = ledger.read()
    until = clock.now() + within
    found: list[DueKey] = []
    for credential in recorded.credentials.values():
        servers = tuple(s for s, record in sorted(recorded.servers.items()) if record.target == credential.id)
        if not servers or credential.state not in IN_SERVICE:
            continue
        renew_at = recorded.playbooks[credential.playbook].certificate.renew_at
        at = due_at(credential.not_before, credential.not_after, renew_at)
        if at <= until:
            found.append(
                DueKey(credential=credential, servers=servers, due_at=at, ends_at=credential.ends),
            )
    return tuple(
        sorted(found, key=lambda d: (d.due_at.replace(microsecond=0), d.credential.scope, d.credential.id))
    )
