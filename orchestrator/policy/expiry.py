"""When a key is due for a successor.

A key's life, from ``not_before`` to ``not_after``, is its cryptoperiod (NIST SP 800-57 part 1, 5.3). A
successor is due once the part ``renew_at`` of it has passed, so that the rest is there for retries: a host
that was away, an operator who sleeps. Keys that were made together come due apart by ``jitter``, each as much
earlier as its own name says, so that not all hosts are visited at once. All arithmetic is exact, in whole
microseconds.
"""

import hashlib
from datetime import datetime, timedelta
from fractions import Fraction

from orchestrator.policy.desired import CertificateSpec

_MICROSECOND = timedelta(microseconds=1)
_DIGEST_BITS = 256


def due_at(name: str, not_before: datetime, not_after: datetime, spec: CertificateSpec) -> datetime:
    """From when on a key is due for a successor.

    Args:
        name: the credential's id, which says how much of the jitter is its own.
        not_before: aware; when the key's life begins.
        not_after: aware; when it ends.
        spec: of the playbook that the key is used under.

    Raises:
        ValueError: the life ends before it begins, or ``renew_at`` is not between 0 and 1.
    """
    if not 0 < spec.renew_at < 1:
        raise ValueError(f"renew_at is {spec.renew_at}, expected a fraction between 0 and 1")
    if not_after <= not_before:
        raise ValueError(f"a key's life from {not_before} to {not_after} is empty")
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest())
    earlier = part_of(spec.jitter, Fraction(drawn, 1 << _DIGEST_BITS))
    return max(not_before, not_before + part_of(not_after - not_before, spec.renew_at) - earlier)


def room(spec: CertificateSpec) -> timedelta:
    """The time from when a key is due at the latest to its end: what its handover has to fit into."""
    return spec.lifetime - part_of(spec.lifetime, spec.renew_at)


def part_of(whole: timedelta, part: Fraction) -> timedelta:
    """The part of a duration, rounded down to the microsecond."""
    return timedelta(microseconds=whole // _MICROSECOND * part.numerator // part.denominator)
