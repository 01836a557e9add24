"""When a credential is due for a successor, and how urgent that is.

A credential's life, from ``not_before`` to ``not_after``, is its cryptoperiod (NIST SP 800-57 part 1, 5.3). A
successor is due once the part ``renew_at`` of it has passed, so that the rest is there for retries: a host
that was away, an operator who sleeps. All arithmetic is exact, in whole microseconds.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction

_MICROSECOND = timedelta(microseconds=1)


class Urgency(StrEnum):
    """How near a credential is to its end, the most urgent first."""

    EXPIRED = "expired"
    """Its certificate has ended."""
    DUE = "due"
    """A successor should be on its way."""
    EXPIRING = "expiring"
    """It comes due within the time asked about."""
    OK = "ok"

    @property
    def rank(self) -> int:
        """0 for the most urgent."""
        return list(Urgency).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One credential's dates, judged at one moment.

    Attributes:
        credential: its id.
        due: from when on a successor is due.
        ends: its ``not_after``.
        left: from the moment of judging to ``ends``; negative when it has expired.
    """

    credential: str
    due: datetime
    ends: datetime
    left: timedelta
    urgency: Urgency

    @property
    def needs_action(self) -> bool:
        """Whether ``keyrelay due`` reports it with exit code 4."""
        return self.urgency is not Urgency.OK

    def order(self) -> tuple[int, datetime, str]:
        """The key that sorts the most urgent first."""
        return self.urgency.rank, self.ends, self.credential


def due_at(not_before: datetime, not_after: datetime, renew_at: Fraction) -> datetime:
    """When the part ``renew_at`` of the cryptoperiod has passed, rounded down to the microsecond.

    Args:
        not_before: aware; when the credential's life begins.
        not_after: aware; when it ends.
        renew_at: between 0 and 1.

    Raises:
        ValueError: the life ends before it begins, or ``renew_at`` is not between 0 and 1.
    """
    if not 0 < renew_at < 1:
        raise ValueError(f"renew_at is {renew_at}, expected a fraction between 0 and 1")
    if not_after <= not_before:
        raise ValueError(f"a credential's life from {not_before} to {not_after} is empty")
    return not_before + part_of(not_after - not_before, renew_at)


def part_of(life: timedelta, part: Fraction) -> timedelta:
    """The part of a duration, rounded down to the microsecond."""
    return timedelta(microseconds=life // _MICROSECOND * part.numerator // part.denominator)


def judge(
    credential: str,
    *,
    not_before: datetime,
    not_after: datetime,
    renew_at: Fraction,
    now: datetime,
    within: timedelta = timedelta(),
) -> Due:
    """How urgent one credential is at ``now``.

    An instant belongs to what begins with it: at its due date a credential is due, at its end it has
    expired.

    Args:
        credential: its id.
        not_before: aware; when its life begins.
        not_after: aware; when it ends.
        renew_at: the part of its life after which a successor is due; between 0 and 1.
        now: aware.
        within: how far to look ahead; a credential that comes due until then is ``EXPIRING``.

    Raises:
        ValueError: as ``due_at``.
    """
    due = due_at(not_before, not_after, renew_at)
    urgency = _urgency(due=due, ends=not_after, now=now, within=within)
    return Due(credential=credential, due=due, ends=not_after, left=not_after - now, urgency=urgency)


def _urgency(*, due: datetime, ends: datetime, now: datetime, within: timedelta) -> Urgency:
    if now >= ends:
        return Urgency.EXPIRED
    if now >= due:
        return Urgency.DUE
    # The dates may lie near the end of the calendar, so compare what is left and add nothing to now.
    return Urgency.EXPIRING if due - now <= within else Urgency.OK
