"""Writes made-up entries onto a record, as the ledger would."""

from datetime import datetime

from orchestrator.rotation.events import Entry, Event, VisitsEnded, VisitsIntended
from orchestrator.rotation.evolve import evolve
from orchestrator.rotation.recorded import Intent, Recorded
from orchestrator.rotation.reports import Outcome
from tests.fakes import NOON


def after(recorded: Recorded, *events: Event, at: datetime = NOON) -> Recorded:
    for event in events:
        number = recorded.version + 1
        entry = Entry(number=number, at=at, event=event, previous=recorded.head, digest=f"d{number}")
        recorded = evolve(recorded, entry)
    return recorded


def intended(recorded: Recorded, *intents: Intent) -> Recorded:
    return after(recorded, VisitsIntended(intents=intents))


def ended(recorded: Recorded, *outcomes: Outcome, at: datetime = NOON) -> Recorded:
    return after(recorded, VisitsEnded(outcomes=outcomes), at=at)
