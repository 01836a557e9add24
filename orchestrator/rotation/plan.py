"""What would change, and why: the plan as a value, which ``plan`` prints and ``apply`` carries out.

A plan only chooses targets, one for each server; how to get there is the engine's. What is told of each host
is worked out on the record as it will be once the rollout has started, so it is what the engine will do.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Random
from orchestrator.policy.desired import Desired, ScopeName
from orchestrator.rotation.capabilities import refuse_unable_hosts, unwritable_hosts
from orchestrator.rotation.changes import Change, changes_of
from orchestrator.rotation.events import RolloutStarted
from orchestrator.rotation.evolve import supposing
from orchestrator.rotation.history import too_tight
from orchestrator.rotation.installing import refuse_clashes
from orchestrator.rotation.moving import refuse_foreign_servers
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recognition import refuse_newer_hosts
from orchestrator.rotation.recorded import Recorded, RolloutId
from orchestrator.rotation.refilling import Refilling
from orchestrator.rotation.standing import View
from orchestrator.rotation.stranding import Stranding, strandings
from orchestrator.rotation.targets import Targets, choose
from orchestrator.rotation.visits import CredentialId
from orchestrator.rotation.waves import cut_waves


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What ``apply`` would do.

    Attributes:
        start: the event that starts it; None: nothing to start (nothing to do, or ``resumes``).
        resumes: the unfinished rollout that would be gone on with.
        changes: every host that would change; empty: nothing to do.
        reasons: why new keys are made and hosts are visited, a sentence each.
        renews_only: whether all of it follows from what was applied before: keys that came due, drift that
            is mended, a rollout that goes on. Otherwise the playbook or the inventory has changed.
        warnings: what may go wrong though nothing is refused.
        strandings: servers that were asked and would get another key in place of one that they miss; in this
            plan they keep what they were to have.
    """

    desired: Desired
    start: RolloutStarted | None
    resumes: RolloutId | None
    changes: tuple[Change, ...]
    reasons: tuple[str, ...]
    renews_only: bool
    warnings: tuple[str, ...] = ()
    strandings: tuple[Stranding, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what would be done, and where; the same as long as the same would be done."""
        told = [
            self.desired.playbook,
            self.desired.policy,
            repr((self.desired.key, self.desired.certificate, self.desired.messages, self.desired.rollout)),
            sorted(self.desired.hooks.items()),
            sorted(self.desired.trusted_hooks.items()),
            sorted(self.desired.prove_commands.items()),
            repr(self.desired.prove_within),
            repr((self.desired.stores.server, self.desired.stores.agent)),
            [[host, sorted(texts.items())] for host, texts in sorted(self.desired.stores.texts.items())],
            [repr(endpoint) for _, endpoint in sorted(self.desired.endpoints.items())],
            [[scope.name, *scope.servers] for scope in self.desired.scopes],
            [[list(t.servers), list(t.agents)] for t in self.desired.trust_sets],
            [[change.host, change.role, list(change.what), change.why] for change in self.changes],
            list(self.reasons),
        ]
        return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()


def make_plan(
    desired: Desired,
    recorded: Recorded,
    surveys: Mapping[HostName, HostSurvey],
    *,
    now: datetime,
    random: Random,
    new_key: bool = False,
) -> Plan:
    """What has to change so that the fleet is as desired.

    Args:
        desired: the playbook over the inventory.
        recorded: the ledger, the surveys already taken in.
        surveys: of the hosts that could be reached.
        now: the present.
        random: for the ids of new credentials and of the rollout.
        new_key: make a new key for every scope, due or not.

    Raises:
        RefusedError: the ledger is older than the fleet (S9), a server belongs to another playbook, or what
            is newly asked for is beyond a host's openssl.
    """
    (plan,) = make_plans((desired,), recorded, surveys, now=now, random=random, new_key=new_key)
    return plan


def make_plans(
    wanted: Sequence[Desired],
    recorded: Recorded,
    surveys: Mapping[HostName, HostSurvey],
    *,
    now: datetime,
    random: Random,
    new_key: bool = False,
) -> tuple[Plan, ...]:
    """The plans of playbooks that begin in the same go (``moving.py``), in their order.

    Arguments and errors are ``make_plan``'s.
    """
    refuse_newer_hosts(recorded, surveys)
    beginnings: list[_Beginning] = []
    for desired in wanted:
        beside = [other for other in wanted if other is not desired]
        refuse_foreign_servers(desired, recorded, beside)
        given = recorded
        for other in beside:
            given = given.asked_for(other)
        refuse_clashes(desired, given)
        repeats = _asks_the_same(desired, recorded)
        if not repeats:
            refuse_unable_hosts(desired, surveys)
        asked = choose(desired, recorded, surveys, now=now, random=random, new_key=new_key, beside=beside)
        beginnings.append(_begin(desired, recorded, asked, now=now, random=random, repeats=repeats))
    after = recorded
    for one in beginnings:
        after = after if one.goes_on else supposing(after, [one.start], at=now)
    view = View.of(after, now)
    return tuple(_plan(one, recorded, view, surveys) for one in beginnings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beginning:
    """What a playbook would begin with.

    Attributes:
        goes_on: whether nothing else is asked for than before, so that there may be nothing to begin.
        repeats, stranded: ``Plan.renews_only``, ``Plan.strandings``.
    """

    start: RolloutStarted
    goes_on: bool
    repeats: bool
    reasons: Mapping[ScopeName, str]
    stranded: tuple[Stranding, ...]


def _begin(
    desired: Desired, recorded: Recorded, asked: Targets, *, now: datetime, random: Random, repeats: bool
) -> _Beginning:
    stranded = tuple(strandings(View.of(recorded, now), asked.targets))
    chosen = asked.without({one.server for one in stranded}, desired, recorded)
    return _Beginning(
        start=RolloutStarted(
            rollout=RolloutId(random(8).hex()),
            desired=desired,
            new=chosen.new,
            targets=chosen.targets,
            reasons=tuple(f"{scope}: {reason}" for scope, reason in chosen.reasons.items()),
            waves=_waves(desired, recorded, chosen.targets),
        ),
        goes_on=repeats and not chosen.new and _has_targets(recorded, chosen.targets),
        repeats=repeats,
        reasons=chosen.reasons,
        stranded=stranded,
    )


def _plan(
    begins: _Beginning, recorded: Recorded, after: View, surveys: Mapping[HostName, HostSurvey]
) -> Plan:
    """The plan, told by the record as it will be.

    Args:
        begins: what the playbook begins with.
        recorded: the ledger.
        after: of the ledger once everything that is asked for in the same go has begun.
        surveys: of the hosts that could be reached.
    """
    start, desired = begins.start, begins.start.desired
    running = recorded.running(desired.playbook)
    stores = Refilling.of(recorded, desired.playbook, surveys)
    changes = tuple(changes_of(after, desired, begins.reasons, stores))
    told_of = {s for scope in desired.scopes if scope.name in begins.reasons for s in scope.servers}
    joining = after.recorded.rollouts[start.rollout].received if not begins.goes_on else {}
    mine = (c for c in changes if c.host not in start.targets or c.host in joining.keys() - told_of)
    told = tuple(sorted({*start.reasons, *(f"{c.host}: {c.why}" for c in mine)}))
    starts = not begins.goes_on or (running is None and changes)
    return Plan(
        desired=desired,
        start=replace(start, reasons=told) if starts else None,
        resumes=running.id if running is not None and begins.goes_on else None,
        changes=changes,
        reasons=told,
        renews_only=begins.repeats,
        warnings=tuple(
            filter(
                None,
                (
                    too_tight(desired, recorded),
                    unwritable_hosts(desired, surveys, {change.host for change in changes}),
                ),
            )
        ),
        strandings=tuple(one for one in begins.stranded if one.server in surveys),
    )


def _waves(
    desired: Desired,
    recorded: Recorded,
    targets: Mapping[HostName, CredentialId | None],
) -> tuple[tuple[HostName, ...], ...]:
    """The servers that leave a key they may be signing with for another one."""
    switching = [s for s in desired.servers() if recorded.may_sign(s) - {targets[s]}]
    return cut_waves(switching, desired.rollout)


def _asks_the_same(desired: Desired, recorded: Recorded) -> bool:
    """Whether the playbook, over the inventory, asks what it asked when it was last applied."""
    before = recorded.playbooks.get(desired.playbook)
    if before is None:
        return False
    return replace(desired, digest="", endpoints={}) == replace(before, digest="", endpoints={})


def _has_targets(recorded: Recorded, targets: Mapping[HostName, CredentialId | None]) -> bool:
    """Whether every server is to have what it was to have already."""
    return dict(targets) == {s: r.target for s, r in recorded.servers.items() if s in targets}
