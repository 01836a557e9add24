"""How a host differs from what it should be, in named classes: the audit's verdicts.

Three accounts are compared: what the playbook asks (``Desired``), what the ledger says (``Recorded``) and
what the host really holds (``HostSurvey``). A host that could not be asked is never called ok. Nothing here
believes a host about others: whether an agent is orphaned is told from its own edges and from the key that
its server's own survey shows in use.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.policy.desired import Desired, ScopeName
from orchestrator.policy.expiry import due_at
from orchestrator.rotation.belief import believed_servers
from orchestrator.rotation.bundles import Press, wanted_denials, wanted_lines
from orchestrator.rotation.drift_classes import MEANINGS, Drift
from orchestrator.rotation.leaks import leaked_on
from orchestrator.rotation.observed import HeldBundle, HeldCredential, HostSurvey
from orchestrator.rotation.prolonging import kept
from orchestrator.rotation.recorded import Credential, Installed, Recorded, TrustLine
from orchestrator.rotation.standing import View
from orchestrator.rotation.store_drift import store_drift
from orchestrator.rotation.visits import CredentialId

__all__ = ["MEANINGS", "Drift", "Finding", "classify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference on one host; ``detail`` may quote text that the host gave."""

    host: HostName
    drift: Drift
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Audit:
    """The accounts to compare, and what is looked up in them over and over."""

    desired: Desired
    recorded: Recorded
    surveys: Mapping[HostName, HostSurvey]
    now: datetime
    view: View
    by_key: Mapping[SpkiDigest, Credential]
    scope_of: Mapping[HostName, ScopeName]
    press: Press
    leaked: Mapping[HostName, tuple[Credential, ...]]


def classify(
    desired: Desired,
    recorded: Recorded,
    surveys: Mapping[HostName, HostSurvey],
    failures: Mapping[HostName, str],
    *,
    now: datetime,
) -> tuple[Finding, ...]:
    """Every difference on every host of the playbook, sorted by host; one ``ok`` for a host without any.

    Args:
        desired: what the playbook asks.
        recorded: what the ledger says.
        surveys: what the hosts that answered hold.
        failures: the reason for each host that did not answer.
        now: the present.
    """
    by_key = {c.public.spki_digest: c for c in recorded.credentials.values() if c.public is not None}
    view = View.of(recorded, now)
    audit = _Audit(
        desired=desired,
        recorded=recorded,
        surveys=surveys,
        now=now,
        view=view,
        by_key=by_key,
        scope_of={server: scope.name for scope in desired.scopes for server in scope.servers},
        press=Press(recorded),
        leaked=leaked_on(view),
    )
    findings: list[Finding] = []
    for host in sorted(desired.endpoints):
        found = tuple(_host(audit, host, failures))
        findings.extend(found or (Finding(host=host, drift=Drift.OK, detail=MEANINGS[Drift.OK]),))
    return tuple(findings)


def leaving(recorded: Recorded) -> frozenset[HostName]:
    """The hosts that no playbook lists any more, and that may still hold what they were given."""
    listed = {host for desired in recorded.playbooks.values() for host in desired.endpoints}
    known = {*recorded.servers, *recorded.agents} - listed
    return frozenset(host for host in known if not recorded.given_up(host))


def left_behind(
    recorded: Recorded, surveys: Mapping[HostName, HostSurvey], failures: Mapping[HostName, str]
) -> Iterator[Finding]:
    """What hosts that leave still hold; the arguments are ``classify``'s."""
    by_key = {c.public.spki_digest: c for c in recorded.credentials.values() if c.public is not None}
    for host in sorted(leaving(recorded)):
        survey = surveys.get(host)
        if survey is None:
            why = (
                f"it has left, and may still hold what it was given: {failures.get(host, 'it was not asked')}"
            )
            yield Finding(host=host, drift=Drift.UNREACHABLE, detail=why)
            continue
        for held in survey.credentials:
            known = by_key.get(held.key) if held.key is not None else None
            what = "a key" if known is None else _short(known)
            yield Finding(host=host, drift=Drift.PREVIOUS, detail=f"it has left, and still has {what}")
        for server in sorted({edge.server for bundle in survey.trusted() for edge in bundle.edges}):
            detail = f"it has left, and still trusts {server}"
            yield Finding(host=host, drift=Drift.EXTRA_TRUST, detail=detail)


def _host(audit: _Audit, host: HostName, failures: Mapping[HostName, str]) -> Iterator[Finding]:
    survey = audit.surveys.get(host)
    if survey is None:
        leaked = ", ".join(map(_short, audit.leaked.get(host, ())))
        known = f"; by the ledger it may still hold or trust {leaked}, which leaked" if leaked else ""
        why = failures.get(host, "it was not asked")
        yield Finding(host=host, drift=Drift.UNREACHABLE, detail=why + known)
        return
    told: list[tuple[Drift, str]] = []
    if host in audit.scope_of:
        told.extend(_server(audit, host, survey))
    elif survey.credentials and host not in audit.recorded.servers:
        told.append((Drift.WRONG_POLICY, "it is no server, and holds private keys"))
    told.extend(_agent(audit, host, survey.bundle))
    if survey.untold:
        told.append((Drift.MISMATCH, "its hook has yet to run well: what listens may use an earlier bundle"))
    told.extend(store_drift(audit.view, audit.by_key, host, survey))
    told.extend(
        (Drift.BAD_PERMISSIONS, f"{problem.path}: found {problem.found}, wanted {problem.wanted}")
        for problem in survey.problems
    )
    if survey.unwritable and all(problem.path != survey.unwritable for problem in survey.problems):
        told.append((Drift.BAD_PERMISSIONS, f"{survey.unwritable}: {survey.user} may not write there"))
    for drift, detail in dict.fromkeys(told):
        yield Finding(host=host, drift=drift, detail=detail)


def _server(audit: _Audit, server: HostName, survey: HostSurvey) -> Iterator[tuple[Drift, str]]:
    record = audit.recorded.servers.get(server)
    target = record.target if record is not None else None
    in_use = next((h for h in survey.credentials if h.name == survey.current and not h.disarmed), None)
    if in_use is None or in_use.key is None:
        yield Drift.MISSING, "it has no key in use"
    if survey.hook_due:
        yield Drift.MISMATCH, "its switch was cut short: what signs may use an earlier key or certificate"
    for held in survey.credentials:
        yield from _held(audit, server, held, in_use=held is in_use, target=target)


def _held(
    audit: _Audit,
    server: HostName,
    held: HeldCredential,
    *,
    in_use: bool,
    target: CredentialId | None,
) -> Iterator[tuple[Drift, str]]:
    """What is wrong with one credential on a server."""
    where = "in use" if in_use else ("put away" if held.disarmed else "beside the one in use")
    credential = audit.recorded.credentials.get(CredentialId(held.name))
    owner = audit.by_key.get(held.key) if held.key is not None else None
    if credential is None and owner is None:
        key = f"key {held.key[:12]}" if held.key is not None else "no readable key"
        yield Drift.UNKNOWN_KEY, f"{held.name} ({where}, {key}) is not in the ledger"
        return
    if credential is None or (held.key is not None and owner is not credential):
        yield Drift.MISMATCH, f"{held.name} ({where}) holds another key than its own"
        return
    if held.key is None or (held.certificate_key is not None and held.certificate_key != held.key):
        yield Drift.MISMATCH, f"{held.name} ({where}): key and certificate do not fit"
    issued = credential.certificate_digest(server)
    if held.certificate_digest in credential.superseded.get(server, ()):
        end = f"the one until {_date(credential.ends)} has yet to reach it"
        yield Drift.EXPIRING, f"{held.name} ({where}) has an earlier certificate: {end}"
    elif issued is not None and held.certificate_digest not in {None, issued}:
        yield Drift.MISMATCH, f"{held.name} ({where}): the certificate is not the one it was given"
    if in_use and (told := kept(audit.recorded, credential)):
        yield Drift.EXPIRING, f"its key is {told}"
    if credential.id != target:
        yield Drift.PREVIOUS, f"an earlier key, {_short(credential)}, is {where}"
    elif held.disarmed:
        yield Drift.MISMATCH, f"its key, {_short(credential)}, is put away"
    elif in_use:
        yield from _in_use(audit, server, held, credential)


def _in_use(
    audit: _Audit,
    server: HostName,
    held: HeldCredential,
    credential: Credential,
) -> Iterator[tuple[Drift, str]]:
    desired, scope = audit.desired, audit.scope_of[server]
    if held.certificate_key is None:
        yield Drift.MISSING, "its key in use has no certificate"
    end = held.not_after or credential.ends
    due = due_at(credential.id, credential.not_before, credential.not_after, desired.certificate)
    if end <= audit.now:
        yield Drift.EXPIRED, f"its certificate ended on {_date(end)}"
    elif due <= audit.now:
        yield Drift.EXPIRING, f"its key is due since {_date(due)}; the certificate ends on {_date(end)}"
    if credential.scope != scope or credential.playbook != desired.playbook:
        yield Drift.WRONG_POLICY, f"its key belongs to scope {credential.scope}, it should be {scope}'s"
    if not credential.key.makes_as(desired.key):
        made = f"{credential.key.algorithm}, made on the {credential.key.origin}"
        wanted = f"{desired.key.algorithm}, made on the {desired.key.origin}"
        yield Drift.WRONG_POLICY, f"its key is {made}; it should be {wanted}"
    for other, survey in sorted(audit.surveys.items()):
        shared = other != server and any(h.key == held.key for h in survey.credentials)
        if shared and audit.scope_of.get(other) != scope:
            yield Drift.WRONG_POLICY, f"{other}, outside its scope, holds its private key too"


def _agent(audit: _Audit, agent: HostName, bundle: HeldBundle | None) -> Iterator[tuple[Drift, str]]:
    listens = {
        server for t in audit.desired.trust_sets if agent in t.agents for server in t.servers
    } | audit.view.listens.get(agent, frozenset())
    lines = wanted_lines(audit.view, agent, {})
    wanted = {
        (line.server, credential.public.spki_digest)
        for line in lines
        if line.credential and (credential := audit.recorded.credentials[line.credential]).public is not None
    }
    if bundle is None:
        if listens:
            yield Drift.MISSING, "it has no trust bundle"
        yield from _orphaned(audit, listens, None)
        return
    record = audit.recorded.agents.get(agent)
    installed = record.installed if record is not None else None
    if installed is not None and bundle.position < installed.position:
        yield Drift.REGRESSED, f"it has bundle {bundle.position} and had {installed.position}"
    elif (
        installed is not None and bundle.position == installed.position and bundle.digest != installed.digest
    ):
        yield Drift.MISMATCH, f"the files of bundle {bundle.position} are not those it was given"
    edges = {(edge.server, edge.key) for edge in bundle.edges}
    if {key for _, key in edges} != set(bundle.keys):
        yield Drift.MISMATCH, "its key files do not fit its edges"
    for server, key in sorted(edges - wanted):
        known = audit.by_key.get(key)
        if known is None:
            yield Drift.UNKNOWN_KEY, f"it trusts {server} with key {key[:12]}, which is not in the ledger"
        else:
            yield Drift.EXTRA_TRUST, f"it trusts {server} with {_short(known)}, and should not"
    yield from _told_by_agents(audit, edges & wanted)
    yield from _delegated(audit, bundle, lines)
    if installed is not None and bundle.digest == installed.digest and _is_outdated(audit, installed, lines):
        yield (
            Drift.PREVIOUS,
            "its issuer's certificate was renewed since, or the grace that it allows changed",
        )
    heard = {server for server, _ in edges}
    for server, key in sorted(wanted - edges):
        earlier = server in heard
        drift = Drift.PREVIOUS if earlier else Drift.MISSING
        yield drift, f"it does not trust {server} with {_short(audit.by_key[key])}"
    ended = sorted(
        {e.server for e in bundle.edges if e.expires is not None and e.expires <= audit.now.timestamp()},
    )
    if ended:
        yield Drift.EXPIRED, f"its trust in {', '.join(ended)} has ended"
    yield from _orphaned(audit, listens, bundle)


def _told_by_agents(
    audit: _Audit, edges: Collection[tuple[HostName, SpkiDigest]]
) -> Iterator[tuple[Drift, str]]:
    """The keys that it trusts a server with, for which a restored ledger has the word of agents alone."""
    for server, key in sorted(edges):
        known = audit.by_key[key]
        if known.id in audit.recorded.servers[server].hearsay:
            name = _short(known)
            told = f"it trusts {server} with {name}, which only agents tell of: if it is none of {server}'s"
            yield Drift.UNKNOWN_KEY, f"{told}, say keyrelay compromise {name.removeprefix('key ')}"


def _is_outdated(audit: _Audit, installed: Installed, lines: frozenset[TrustLine]) -> bool:
    """Whether a bundle lets the right issuers vouch for the right servers, but by an earlier certificate."""
    if not any(line.issuer for line in lines) or lines != frozenset(installed.lines) or not installed.content:
        return False
    denied = wanted_denials(audit.view, lines) | set(installed.denied)
    return audit.press.bundle(lines, denied)[1].content != installed.content


def _delegated(audit: _Audit, bundle: HeldBundle, lines: frozenset[TrustLine]) -> Iterator[tuple[Drift, str]]:
    """How what issuers may vouch for, and the keys that are denied, differ from what they should be."""
    granted = {(one.server, one.issuer) for one in bundle.delegations}
    wanted = {(line.server, line.issuer) for line in lines if line.issuer}
    if {issuer for _, issuer in granted} != set(bundle.issuers):
        yield Drift.MISMATCH, "its issuers' certificates do not fit its delegations"
    for server, issuer in sorted(granted - wanted):
        yield Drift.EXTRA_TRUST, f"it believes issuer {issuer[:12]} of {server}, and should not"
    for server, issuer in sorted(wanted - granted):
        yield Drift.MISSING, f"it does not believe issuer {issuer[:12]} of {server}"
    for name in sorted(wanted_denials(audit.view, lines)):
        public = audit.recorded.credentials[name].public
        if public is not None and public.spki_digest not in bundle.denied:
            yield (
                Drift.EXTRA_TRUST,
                f"it does not deny {_short(audit.recorded.credentials[name])}, which leaked",
            )


def _orphaned(
    audit: _Audit, listens: set[HostName], bundle: HeldBundle | None
) -> Iterator[tuple[Drift, str]]:
    using: dict[HostName, SpkiDigest] = {}
    for server in sorted(listens & audit.surveys.keys()):
        survey = audit.surveys[server]
        for held in survey.credentials:
            if held.name == survey.current and held.key is not None and not held.disarmed:
                using[server] = held.key
    believed = (
        believed_servers(bundle, using, audit.by_key, audit.recorded, audit.now)
        if bundle is not None
        else frozenset[HostName]()
    )
    for server, key in using.items():
        if server not in believed:
            yield Drift.ORPHANED, f"it does not trust the key {server} uses now ({key[:12]})"


def _short(credential: Credential) -> str:
    name = credential.public.thumbprint[:10] if credential.public is not None else credential.id[:10]
    return f"key {name}"


def _date(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%SZ")
