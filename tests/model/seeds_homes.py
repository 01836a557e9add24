"""Faults put into what protects a fleet from older copies of its home, and into trust in an issuer."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest.mock import patch

from orchestrator.inventory.model import HostName
from orchestrator.operations import planning, restore
from orchestrator.policy.desired import Policy
from orchestrator.rotation import engine, hearsay, meeting, recognition, restoring
from orchestrator.rotation.home_events import HomeRestored, HostsMet
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import Recorded, ServerRecord
from orchestrator.rotation.standing import View
from orchestrator.rotation.tombstones import Endings
from orchestrator.rotation.visits import CredentialId, Fence, Visit
from tests import fake_host
from tests.model.configurations import fleet, whole_runs
from tests.model.mutant import Patches, Seeds

SEEDS = Seeds()
COPIED = fleet(1, 1, new_keys=1, backups=1, faults=0)
BLOWN = fleet(1, 1, compromises=1, backups=1, faults=0)
IMAGED = fleet(1, 1, new_keys=1, snapshots=1, restores=1, faults=0)
Surveys = Mapping[HostName, HostSurvey]


@SEEDS.fault("goes on with an old copy of the ledger", COPIED, "S9")
def _naive_restore() -> Patches:
    yield patch.object(recognition, "_newer", lambda _recorded, _host, _survey: "")
    yield patch.object(planning, "reason_to_stop", lambda _recorded, _surveys, _heads: "")


@SEEDS.fault("sees an old copy by the bundles alone", COPIED, "S8", "S9")
def _raises_sequence_only() -> Patches:
    real = recognition._newer

    def newer(recorded: Recorded, host: HostName, survey: HostSurvey) -> str:
        return real(recorded, host, replace(survey, fence=None))

    yield patch.object(recognition, "_newer", newer)


@SEEDS.fault("tells copies apart by the number of their entries alone", COPIED, "S9")
def _numbers_only() -> Patches:
    real = recognition.reason_to_stop

    def reason(recorded: Recorded, surveys: Surveys, heads: Mapping[int, str]) -> str:
        return real(recorded, {host: replace(told, head="") for host, told in surveys.items()}, heads)

    yield patch.object(planning, "reason_to_stop", reason)


@SEEDS.fault("hosts tell copies apart by the number of their entries alone", COPIED, "S8")
def _fenced_by_numbers() -> Patches:
    real = fake_host._fenced

    def fenced(held: Fence | None, visit: Visit) -> str | None:
        blind = replace(visit.fence, head="") if visit.fence is not None else None
        return real(held, replace(visit, fence=blind, remembers=None))

    yield patch.object(fake_host, "_fenced", fenced)


@SEEDS.fault("restores a copy without a new generation", COPIED, "S8", "S9")
def _same_generation() -> Patches:
    real = restoring.open_generation

    def opened(recorded: Recorded, *seen: Any, **how: Any) -> HomeRestored:
        return replace(real(recorded, *seen, **how), generation=recorded.generation)

    yield patch.object(restore, "open_generation", opened)


@SEEDS.fault("restores a copy without asking what is in use", COPIED, "S1", "S3", "S7")
def _adopts_nothing() -> Patches:
    real = meeting.meet

    def meet(*seen: Any, **how: Any) -> HostsMet:
        return replace(real(*seen, **how), found=(), armed={}, targets={}, ended={}, over={})

    yield patch.object(restore, "meet", meet)


@SEEDS.fault("ignores, when a copy is restored, which keys hosts remember as ended", BLOWN, "S9")
def _ignores_tombstones() -> Patches:
    yield patch.object(hearsay, "_told", lambda _recorded, _sight: iter(()))


@SEEDS.fault("tells hosts of no key that has ended", BLOWN, "S1")
def _tells_of_no_end() -> Patches:
    yield patch.object(Endings, "told", lambda _endings, _credentials: ())


@SEEDS.fault(
    "tells hosts that a key has ended whose messages are on their way",
    whole_runs(fleet(1, 1, joining=True, new_keys=1, reverts=1, backups=1, faults=0)),
    "S1",
)
def _ends_before_messages_do() -> Patches:
    real = Endings.of

    def of(recorded: Recorded, now: datetime) -> Endings:
        return real(replace(recorded, servers=_without_cleared(recorded)), now)

    yield patch.object(Endings, "of", of)


def _without_cleared(recorded: Recorded) -> Mapping[HostName, ServerRecord]:
    return {server: replace(record, cleared={}) for server, record in recorded.servers.items()}


@SEEDS.fault("does not take a person at their word who believes that a key has leaked", BLOWN, "S9")
def _believes_nobody() -> Patches:
    real = meeting.meet

    def meet(*seen: Any, **how: Any) -> HostsMet:
        return real(*seen, **{**how, "believed": ()})

    yield patch.object(restore, "meet", meet)


@SEEDS.fault(
    "goes on, when its home is restored, with a removed key that an old image brought back", IMAGED, "table"
)
def _goes_on_with_removed_key() -> Patches:
    yield patch.object(meeting._Meeting, "_may_go_on", lambda _meeting, _credential, _endings: True)


@SEEDS.fault("denies no key that leaked", fleet(1, 1, Policy.DELEGATED, compromises=1), "L1", "S3")
def _denies_nothing() -> Patches:
    yield patch.object(engine, "wanted_denials", lambda _view, _lines: frozenset())


@SEEDS.fault(
    "lets agents drop an issuer while messages are on their way that only its word makes good",
    fleet(1, 1, Policy.DELEGATED, issuers=1),
    "S7",
)
def _drops_issuer_early() -> Patches:
    real = View.droppable_at

    def at_once(view: View, server: HostName, credential: CredentialId) -> datetime | None:
        return None if real(view, server, credential) is None else view.now

    yield patch.object(View, "droppable_at", at_once)
