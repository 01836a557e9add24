"""What each server is to end up with: the keys that scopes have, wait for, or need anew."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Random
from orchestrator.policy.desired import Desired, ScopeName
from orchestrator.rotation.ahead import to_take_up
from orchestrator.rotation.events import NewCredential
from orchestrator.rotation.moving import received_by
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.rekey import candidate, new_credential, reason_to_rekey
from orchestrator.rotation.visits import CredentialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """A choice of targets.

    Attributes:
        targets: for each server of the playbook, those that have left it included; None: it leaves. Not for
            one that goes to a playbook that begins in the same go.
        new: the credentials among them that are to be made.
        reasons: why scopes get another key than they had.
    """

    targets: Mapping[HostName, CredentialId | None]
    new: tuple[NewCredential, ...]
    reasons: Mapping[ScopeName, str]

    def without(self, servers: Collection[HostName], desired: Desired, recorded: Recorded) -> "Targets":
        """The same, where these servers keep the targets that they have; what nobody gets is not made."""
        kept = {server: recorded.servers[server].target for server in servers}
        targets = {**self.targets, **kept}
        moved = {scope.name for scope in desired.scopes if not kept.keys() >= {*scope.servers}}
        return Targets(
            targets=MappingProxyType(targets),
            new=tuple(made for made in self.new if made.id in targets.values()),
            reasons={scope: reason for scope, reason in self.reasons.items() if scope in moved},
        )


def choose(
    desired: Desired,
    recorded: Recorded,
    surveys: Mapping[HostName, HostSurvey],
    *,
    now: datetime,
    random: Random,
    new_key: bool,
    beside: Sequence[Desired] = (),
) -> Targets:
    """What the servers of a playbook are to have, as it is asked for; the arguments are ``make_plan``'s.

    ``beside`` is what other playbooks ask for that begin in the same go.
    """
    new: list[NewCredential] = []
    reasons: dict[ScopeName, str] = {}
    running = recorded.running(desired.playbook)
    paused = running is not None and bool(running.paused)
    going = received_by(beside)
    targets: dict[HostName, CredentialId | None] = {
        server: None
        for server, record in recorded.servers.items()
        if record.playbook == desired.playbook
        and not record.given_up
        and server not in going
        and (record.target is not None or record.placements or record.missing)
    }
    for scope in desired.scopes:
        known = candidate(scope, desired, recorded)
        reason = reason_to_rekey(
            scope, known, desired, recorded, surveys, now=now, new_key=new_key, paused=paused
        )
        ahead = to_take_up(scope, desired, recorded, now=now)
        if ahead is not None and not reason and not paused:
            reason = (
                "an imported key waits for it" if ahead.imported else "a key that was made ahead waits for it"
            )
        if reason:
            reasons[scope.name] = reason
            if ahead is None:
                new.append(new_credential(scope, desired, now=now, random=random))
            target = ahead.id if ahead is not None else new[-1].id
        elif known is not None:
            target = known.id
        targets |= dict.fromkeys(scope.servers, target)
    return Targets(targets=targets, new=tuple(new), reasons=reasons)
