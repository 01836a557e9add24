"""audit: visit every host and name each difference; changes nothing, not even the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.errors import UsageError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.operations.asking import Answers, survey
from orchestrator.ports import Clock, Fleet, Ledger, ProgressSink
from orchestrator.rotation.drift import Drift, Finding, classify, leaving, left_behind
from orchestrator.rotation.installing import Manifests


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """Every finding, sorted by host; a host without a difference has the one finding ``ok``."""

    findings: tuple[Finding, ...]
    answers: Answers

    @property
    def drifted(self) -> bool:
        """Whether some host that answered is not as it should be."""
        return any(f.drift not in {Drift.OK, Drift.UNREACHABLE} for f in self.findings)

    @property
    def unreachable(self) -> bool:
        """Whether some host could not be asked."""
        return any(f.drift is Drift.UNREACHABLE for f in self.findings)


def audit(
    endpoints: Mapping[HostName, Endpoint],
    *,
    ledger: Ledger,
    fleet: Fleet,
    clock: Clock,
    progress: ProgressSink,
) -> Audited:
    """Compare every host of every playbook with what was last applied, and look what those that left hold.

    Args:
        endpoints: how the inventory says hosts are reached; the ledger's word for hosts it does not name.
        ledger: is only read.
        fleet: the hosts.
        clock: the present.
        progress: who watches.

    Raises:
        UsageError: no playbook was ever applied.
    """
    recorded = ledger.read()
    if not recorded.playbooks:
        raise UsageError(
            "nothing was applied yet, so there is nothing to audit",
            hint="keyrelay plan PLAYBOOK shows what would be done, keyrelay apply PLAYBOOK does it",
        )
    hosts = {host for desired in recorded.playbooks.values() for host in desired.endpoints} | leaving(
        recorded
    )
    answers = survey(
        fleet,
        [endpoints.get(host, recorded.endpoints[host]) for host in sorted(hosts)],
        progress,
        stores=Manifests.of(recorded),
    )
    found = {
        finding
        for desired in recorded.playbooks.values()
        for finding in classify(desired, recorded, answers.surveys, answers.failures, now=clock.now())
    }
    found |= set(left_behind(recorded, answers.surveys, answers.failures))
    unwell = {finding.host for finding in found if finding.drift is not Drift.OK}
    kept = [f for f in found if f.drift is not Drift.OK or f.host not in unwell]
    return Audited(findings=tuple(sorted(kept, key=lambda f: (f.host, f.drift, f.detail))), answers=answers)
