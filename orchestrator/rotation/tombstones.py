"""Which keys hosts are told to remember as ended, so that no older ledger brings them back (S9).

A host learns it in the visit that takes the key from it: an agent when it drops the key, a server when it
erases it. A key is told of once no server uses it or is to have it and none of its messages can be under way,
for as long as agents would accept it. An agent that leaves before that is told of nothing: it may come back
under an older ledger, and has to believe what is still on its way then (S7).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from orchestrator.rotation.belief import believed_until, is_believable
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.observed import MOST_TOMBSTONES, Tombstone
from orchestrator.rotation.recorded import Credential, Recorded
from orchestrator.rotation.visits import CredentialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Endings:
    """The keys that have ended by a record.

    Attributes:
        in_service: the keys that a server may sign with, may have signed a message with that is still valid,
            or is to have.
    """

    recorded: Recorded
    now: datetime
    in_service: frozenset[CredentialId]

    @classmethod
    def of(cls, recorded: Recorded, now: datetime) -> Self:
        """The endings of a record at one instant."""
        signing = {c for server in recorded.servers for c in recorded.may_sign(server)}
        in_flight = {
            credential
            for record in recorded.servers.values()
            for credential, since in record.cleared.items()
            if since + recorded.credentials[credential].in_flight > now
        }
        wanted = {record.target for record in recorded.servers.values() if record.target is not None}
        return cls(recorded=recorded, now=now, in_service=frozenset(signing | in_flight | wanted))

    def told(self, credentials: Iterable[CredentialId]) -> tuple[Tombstone, ...]:
        """The tombstones of those of the credentials that have ended, sorted.

        Of more than a host remembers these are the ones that leaked, and those that last longest.
        """
        known = (self.recorded.credentials[credential] for credential in set(credentials))
        stones = (
            Tombstone(
                key=credential.public.spki_digest,
                how=_how(credential),
                until=_until(believed_until(self.recorded, credential)),
            )
            for credential in known
            if credential.public is not None
            and is_believable(self.recorded, credential, self.now)
            and self._is_over(credential)
        )
        gravest = sorted(stones, key=lambda stone: (stone.how != "compromised", -stone.until, stone.key))
        return tuple(sorted(gravest[:MOST_TOMBSTONES]))

    def _is_over(self, credential: Credential) -> bool:
        return credential.compromised or credential.id not in self.in_service


def _until(expires: datetime) -> int:
    return int(expires.timestamp()) + 1


def _how(credential: Credential) -> Literal["removed", "compromised", "lost"]:
    if credential.ended is None:
        return "removed"
    return "compromised" if credential.ended is KeyState.COMPROMISED else "lost"
