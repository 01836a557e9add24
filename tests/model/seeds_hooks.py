"""Faults put into what is known of agents' programs that a hook has yet to tell of a bundle."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from orchestrator.rotation import reports as rp
from orchestrator.rotation import surveys
from orchestrator.rotation import visits as vs
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import AgentRecord
from tests import fake_host
from tests.fake_state import NO_FAULTS, Faults, HostState, survey
from tests.model.configurations import fleet
from tests.model.mutant import Patches, Seeds

ONE = fleet(1, 1, hooks=True, new_keys=1)
SEEDS = Seeds()


@SEEDS.fault("hosts report a bundle whose hook has failed as one that came", ONE, "S6")
def _takes_no_notice() -> Patches:
    real = fake_host.obey

    def obey(
        state: HostState, visit: vs.Visit, *, faults: Faults = NO_FAULTS, **how: Any
    ) -> tuple[HostState, rp.Outcome]:
        after, outcome = real(state, visit, faults=faults, **how)
        if faults.hook_fails is not None:
            _, outcome = real(state, visit, **how)
        return after, outcome

    yield patch.object(fake_host, "obey", obey)


@SEEDS.fault("forgets what programs may use while a hook is due", ONE, "S3")
def _forgets_earlier() -> Patches:
    real = surveys._untold

    def untold(*asked: Any) -> AgentRecord:
        return replace(real(*asked), earlier=())

    yield patch.object(surveys, "_untold", untold)


@SEEDS.fault("hosts do not remember that a hook is due", ONE, "S6")
def _loses_mark() -> Patches:
    do = fake_host._Desk.do

    def unmarked(*asked: Any) -> HostSurvey:
        return replace(survey(*asked), untold=False, loaded=())

    def without_mark(desk: Any, order: vs.Order) -> rp.Report:
        if isinstance(order, vs.Check):
            bundle = desk._bundle()
            return rp.Checked(digest=bundle.digest, verdicts=desk._verdicts(bundle, order.claims))
        return do(desk, order)

    yield patch("tests.fake_host.survey", unmarked)
    yield patch.object(fake_host._Desk, "do", without_mark)


@SEEDS.fault(
    "hosts do not tell which bundles programs may use",
    fleet(1, 1, hooks=True, new_keys=2, backups=1, faults=1),
    "S3",
)
def _tells_of_none() -> Patches:
    yield patch("tests.fake_host.survey", lambda *asked: replace(survey(*asked), loaded=()))
