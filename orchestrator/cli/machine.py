"""The machine that keyrelay runs on: the one place that reads its clock, waits, and draws randomness."""

import os
import time
from datetime import UTC, datetime

_LONGEST_NAP_S = 1.0


class SystemClock:
    """The port ``Clock`` over the machine's."""

    def now(self) -> datetime:
        """The present, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the Clock port itself

    def wait_until(self, instant: datetime) -> None:
        """Sleep in naps, so that a clock that is set meanwhile is noticed."""
        while (left_s := (instant - self.now()).total_seconds()) > 0:
            time.sleep(min(left_s, _LONGEST_NAP_S))  # noqa: TID251 - the Clock port itself


def system_entropy(size_bytes: int) -> bytes:
    """The port ``Entropy`` over the kernel's generator (getrandom(2))."""
    return os.urandom(size_bytes)  # noqa: TID251 - the Entropy port itself
