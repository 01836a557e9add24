"""What happens to each host, and why, as told before anything is done, and while it is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Desired, Origin, ScopeName
from orchestrator.rotation.bundles import Press, wanted_denials, wanted_lines
from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.moving import whence
from orchestrator.rotation.observed import HeldCredential, HostSurvey, Obstacle
from orchestrator.rotation.obstacles import held_back
from orchestrator.rotation.recorded import Credential, Recorded, Rollout, Standing, TrustLine
from orchestrator.rotation.refilling import Refilling
from orchestrator.rotation.settle import proof_of
from orchestrator.rotation.standing import View
from orchestrator.rotation.stranding import spared
from orchestrator.rotation.surveys import fits
from orchestrator.rotation.visits import CredentialId
from orchestrator.rotation.walk import step_of


class Role(StrEnum):
    """What a host is in a change."""

    SERVER = "server"
    AGENT = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happens to one host in one role, and why."""

    host: HostName
    role: Role
    what: tuple[str, ...]
    why: str


def changes_left(
    recorded: Recorded, rollout: Rollout, surveys: Mapping[HostName, HostSurvey], *, now: datetime
) -> tuple[Change, ...]:
    """What a rollout that is under way has yet to change; the arguments are ``make_plan``'s."""
    desired = recorded.playbooks[rollout.playbook]
    found = (reason.partition(": ") for reason in rollout.reasons)
    reasons = {ScopeName(scope): why for scope, _, why in found if why}
    if rollout.reverts is not None:
        reasons = {scope.name: rollout.reasons[0] for scope in desired.scopes}
    stores = Refilling.of(recorded, rollout.playbook, surveys)
    return tuple(changes_of(View.of(recorded, now), desired, reasons, stores))


def changes_of(
    view: View,
    desired: Desired,
    reasons: Mapping[ScopeName, str],
    stores: Refilling,
) -> Iterable[Change]:
    """What happens to the hosts of a playbook.

    Args:
        view: of the record, the playbook's rollout under way.
        desired: what the playbook asks for.
        reasons: why its scopes get another key.
        stores: what hosts are to have in their stores.
    """
    recorded = view.recorded
    scope_of = {server: scope.name for scope in desired.scopes for server in scope.servers}
    mine = [server for server in desired.servers() if server in recorded.servers]
    left = {
        **held_back(view, {server: step_of(view, server) for server in mine}),
        **spared(view, desired.playbook),
    }
    for server, record in sorted(recorded.servers.items()):
        if server in left:
            yield Change(host=server, role=Role.SERVER, what=("is left as it is",), why=left[server])
            continue
        if record.given_up or record.playbook != desired.playbook or step_of(view, server) is Step.DONE:
            continue
        refilled = tuple(stores.server(view.manifests, server))
        changes = tuple(_server_changes(view, server, stores.surveys.get(server), refilled))
        what = (*changes, *_unfilled(view, server, Role.SERVER))
        if record.target is None:
            why = "it has left the playbook"
        else:
            otherwise = _OTHER_STORES if what == refilled else "it is not where it should be yet"
            if len(what) == 1 and what[0].startswith(_SIGNS):
                otherwise = "what it signs was not seen by this home yet"
            moves = whence(recorded.running(desired.playbook), server)
            why = moves or reasons.get(scope_of.get(server, ScopeName("")), "") or otherwise
        if what:
            yield Change(host=server, role=Role.SERVER, what=what, why=why)
    press = Press(recorded)
    steps = {
        server: step_of(view, server) for server, record in recorded.servers.items() if not record.given_up
    }
    waived = recorded.waived(desired.playbook)
    for agent in sorted(recorded.agents.keys() - recorded.elsewhere(desired.playbook).keys()):
        contact = recorded.contacts.get(agent)
        away = agent in waived and contact is not None and contact.failing_since is not None
        final = _final(view, agent, desired, steps)
        refilled = tuple(stores.agent(view.manifests, agent))
        change = None if away else _agent_change(view, press, agent, final, desired, refilled)
        if change is not None:
            yield replace(change, what=(*change.what, *_unfilled(view, agent, Role.AGENT)))


def _unfilled(view: View, host: HostName, role: Role) -> tuple[str, ...]:
    """What a host is visited for all the same."""
    return Obstacle.told(view.recorded.obstacles_to(role.value, host))


def _server_changes(
    view: View, server: HostName, survey: HostSurvey | None, refilled: Iterable[str]
) -> Iterable[str]:
    record = view.recorded.servers[server]
    outgoing = view.outgoing(server)
    if record.target is None:
        if outgoing:
            yield f"stops signing and erases {_names(view, outgoing)}"
        yield from refilled
        return
    target = view.recorded.credentials[record.target]
    placement = record.placements.get(target.id)
    if placement is None or placement.claim is None:
        made = "makes" if target.key.origin is Origin.SERVER and target.public is None else "gets"
        has = survey is not None and any(_is_whole(held, target, server) for held in survey.credentials)
        yield f"{_SIGNS} {name_of(target)}, which it has" if has else f"{made} {name_of(target)}"
    if placement is not None and placement.hook_due:
        yield "ends the switch that was cut short"
    if placement is None or placement.standing is not Standing.ACTIVE:
        yield "switches to it once its agents have proven it"
    yield from refilled
    if outgoing:
        yield f"puts away and erases {_names(view, outgoing)}"


def _is_whole(held: HeldCredential, target: Credential, server: HostName) -> bool:
    """Whether a visit that stages the target leaves it as it is, and has the server sign with it."""
    certified = held.certificate_digest == target.certificate_digest(server)
    return held.name == target.id and fits(held, target) and certified and not held.disarmed


def _final(
    view: View, agent: HostName, desired: Desired, steps: Mapping[HostName, Step]
) -> frozenset[TrustLine]:
    """What the agent is to trust in the end; for servers of other playbooks, what it is to trust now."""
    servers = view.recorded.servers
    heard = view.listens.get(agent, frozenset()) & servers.keys()
    mine = {server for server in heard if servers[server].playbook == desired.playbook}
    final = {line for server in mine if (line := view.target_line(server)) is not None}
    if heard - mine:
        final |= {line for line in wanted_lines(view, agent, steps) if line.server in heard - mine}
    return frozenset(final)


def _is_to_prove(view: View, agent: HostName, line: TrustLine, desired: Desired) -> bool:
    """Whether an agent has yet to verify what the server signs, as far as this playbook brings that about."""
    mine = view.recorded.servers[line.server].playbook == desired.playbook
    due = line == view.target_line(line.server) and (mine or view.staged(line.server))
    return due and view.ended(line.server) is None and proof_of(view.recorded, agent, line.server) is None


_SIGNS = "signs anew with"
_AGAIN = "gets its trust bundle again"
_UNTOLD = "runs the hook that has yet to tell its programs of their bundle"
_OTHER_STORES = "its stores are not as they should be"


def _agent_change(
    view: View,
    press: Press,
    agent: HostName,
    final: frozenset[TrustLine],
    desired: Desired,
    refilled: tuple[str, ...],
) -> Change | None:
    recorded = view.recorded
    denied = wanted_denials(view, final)
    have = {line for bundle in recorded.bundles(agent) for line in bundle.lines}
    added, dropped = sorted(final - have), sorted(have - final)
    what: list[str] = []
    if added:
        what.append(f"trusts {_lines(view, added)}, and proves it")
    if dropped:
        what.append(f"drops {_lines(view, dropped)}")
    if have and (newly := denied - {c for bundle in recorded.bundles(agent) for c in bundle.denied}):
        what.append(f"denies {_names(view, newly)}")
    what.extend(refilled)
    if recorded.agents[agent].untold:
        what.append(_UNTOLD)
    if not what and have:
        current = recorded.settled_bundle(agent)
        # What it denies for longer than needed goes with its next bundle, and is no reason for one.
        kept = denied | set(current.denied if current is not None else ())
        _, installed = press.bundle(final, kept)
        if current is None or current.content != installed.content:
            what.append(_AGAIN)
        elif any(_is_to_prove(view, agent, line, desired) for line in final):
            what.append("proves its trust bundle")
    if not what:
        return None
    why = "its servers change keys" if agent in view.listens else "it listens to no server any more"
    if refilled and not (added or dropped or denied):
        why = _OTHER_STORES
    if what == [_UNTOLD]:
        why = "its programs may use an earlier trust bundle"
    elif added and not have:
        why = "it has no trust bundle"
    elif what == [_AGAIN]:
        why = "its trust bundle is not as it should be"
    return Change(host=agent, role=Role.AGENT, what=tuple(what), why=why)


def _names(view: View, credentials: Iterable[CredentialId]) -> str:
    return ", ".join(sorted(name_of(view.recorded.credentials[c]) for c in credentials))


def _lines(view: View, lines: Iterable[TrustLine]) -> str:
    servers: dict[str, list[HostName]] = {}
    for line in lines:
        known = view.recorded.credentials.get(line.credential)
        what = name_of(known) if known is not None else f"whatever issuer {line.issuer[:12]} certifies"
        servers.setdefault(what, []).append(line.server)
    return "; ".join(sorted(f"{what} for {', '.join(names)}" for what, names in servers.items()))
