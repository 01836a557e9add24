"""Faults put into hosts, and into what is believed of them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest.mock import patch

from orchestrator.inventory.model import HostName
from orchestrator.rotation import proofs, settle, surveys
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import Installed, Recorded, Standing
from orchestrator.rotation.visits import CredentialId
from tests import fake_host
from tests.fake_state import Faults, HostState
from tests.model.configurations import fleet
from tests.model.mutant import Patches, Seeds

ONE = fleet(1, 1, new_keys=1)
REVERTING = fleet(1, 1, new_keys=1, reverts=1)
SEEDS = Seeds()


@SEEDS.fault("hosts acknowledge a bundle before it is written", ONE, "S3", "S5", "S6", "S1")
def _acknowledges_first() -> Patches:
    real = fake_host.obey

    def obey(state: HostState, visit: vs.Visit, **how: Any) -> tuple[HostState, rp.Outcome]:
        after, outcome = real(state, visit, **how)
        trusted = any(isinstance(order, vs.Trust) for order in visit.orders)
        return (state if trusted else after), outcome

    yield patch.object(fake_host, "obey", obey)


@SEEDS.fault("takes a lost answer for a good one", ONE, "S3", "S5", "S6", "S1")
def _believes_silence() -> Patches:
    real = proofs.judge

    def judge(recorded: Recorded, orders: tuple[vs.Order, ...], outcome: rp.Outcome) -> rp.Outcome:
        match orders, outcome:
            case (vs.Trust(bundle=bundle, claims=claims),), rp.Failed(host=host, reports=()):
                verdicts = (rp.Verdict.VALID,) * len(claims)
                report = rp.Trusted(
                    position=bundle.position, digest=bundle.digest, verdicts=verdicts, changed=True
                )
                return rp.Changed(host=host, reports=(report,))
            case _:
                return real(recorded, orders, outcome)

    yield patch("orchestrator.operations.handover.judge", judge)


@SEEDS.fault("hosts keep half of a bundle when a visit breaks off", ONE, "S5", "S1")
def _torn() -> Patches:
    real = fake_host.obey

    def obey(state: HostState, visit: vs.Visit, **how: Any) -> tuple[HostState, rp.Outcome]:
        after, outcome = real(state, visit, **how)
        given = [order.bundle for order in visit.orders if isinstance(order, vs.Trust)]
        if given and isinstance(outcome, rp.Failed) and after.bundle is state.bundle:
            return replace(after, bundle=replace(given[0], keys=given[0].keys[:2])), outcome
        return after, outcome

    yield patch.object(fake_host, "obey", obey)


@SEEDS.fault("counts a proof of another bundle", fleet(1, 1, new_keys=1, snapshots=1), "S6")
def _old_proof() -> Patches:
    real = surveys.surveyed

    def surveyed(recorded: Recorded, host: HostName, survey: HostSurvey, at: datetime) -> Recorded:
        after = real(recorded, host, survey, at)
        if host not in recorded.agents:
            return after
        kept = replace(after.agents[host], proven=recorded.agents[host].proven)
        return after.with_agent(host, kept)

    yield patch("orchestrator.rotation.evolve.surveyed", surveyed)
    yield patch.object(settle, "proofs_of", lambda recorded, agent: recorded.agents[agent].proven)


@SEEDS.fault("drops waived agents from the listing", fleet(2, 1, new_keys=1, waivers=1), "S10")
def _forgets_waived() -> Patches:
    real = Recorded.bundles

    def bundles(recorded: Recorded, agent: HostName) -> Iterator[Installed]:
        if not any(agent in rollout.waived for rollout in recorded.rollouts.values()):
            yield from real(recorded, agent)

    yield patch.object(Recorded, "bundles", bundles)


@SEEDS.fault("hosts take an older bundle", fleet(1, 1, new_keys=1, late=1), "S2")
def _goes_back() -> Patches:
    def trust(desk: Any, order: vs.Trust) -> rp.Report:
        desk._become(bundle=order.bundle)
        return rp.Trusted(
            position=order.bundle.position,
            digest=order.bundle.digest,
            verdicts=desk._verdicts(order.bundle, order.claims),
            changed=True,
        )

    def raise_fence(desk: Any) -> None:
        if desk.fence is not None and (desk.state.fence is None or desk.state.fence < desk.fence):
            desk.state = replace(desk.state, fence=desk.fence)

    real = fake_host._closed

    def closed(state: HostState, visit: vs.Visit, faults: Faults) -> str | None:
        given = [order.bundle.position for order in visit.orders if isinstance(order, vs.Trust)]
        older = given and state.bundle is not None and given[0] < state.bundle.position
        return None if older else real(state, visit, faults)

    yield patch.object(fake_host._Desk, "_trust", trust)
    yield patch.object(fake_host._Desk, "raise_fence", raise_fence)
    yield patch.object(fake_host, "_closed", closed)


@SEEDS.fault("hosts obey a controller that was overtaken", fleet(1, 1, new_keys=1, late=1), "S8")
def _stale_fence() -> Patches:
    yield patch.object(fake_host, "_closed", lambda _state, _visit, _faults: None)


@SEEDS.fault("forgets a switch whose answer is lost", REVERTING, "S1", "S3")
def _forgets_switch() -> Patches:
    def certain(recorded: Recorded, server: HostName) -> frozenset[CredentialId]:
        record = recorded.servers.get(server)
        placements = record.placements.items() if record is not None else ()
        signing = {Standing.ACTIVE, Standing.STANDBY}
        return frozenset(c for c, placement in placements if placement.standing in signing)

    yield patch.object(Recorded, "may_sign", certain)


@SEEDS.fault("forgets, when it asks a server, what that could sign with", ONE, "S7")
def _forgets_cleared() -> Patches:
    real = surveys.surveyed

    def surveyed(recorded: Recorded, host: HostName, survey: HostSurvey, at: datetime) -> Recorded:
        after = real(recorded, host, survey, at)
        if host not in recorded.servers:
            return after
        return after.with_server(host, replace(after.servers[host], cleared={}))

    yield patch("orchestrator.rotation.evolve.surveyed", surveyed)
