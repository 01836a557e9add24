"""The real program, killed at random instants, on real hosts; every few kills a run is let to its end.

100 kills by default, ``make faults-long`` makes 2,000. Where an instant falls depends on the machine, so two
runs are never the same: it is the sum that counts.
"""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes import SeededEntropy
from tests.faults.ground import LOG, PER_SERVER, SHARED, Ground
from tests.faults.lanes import LONG, MakeLab, in_each, lanes

KILLS = 2000 if LONG else 100
LANES = 4
MOST_IN_A_ROW = 5


@dataclass(slots=True)
class Dice:
    """Random choices that begin the same way in every run."""

    random: SeededEntropy

    def below(self, bound: int) -> int:
        return int.from_bytes(self.random(4)) % bound

    def part(self) -> float:
        return self.below(10_000) / 10_000


@dataclass(slots=True)
class Quota:
    """How many kills are left, for several lanes."""

    left: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left >= 0

    def give_back(self) -> None:
        with self.lock:
            self.left += 1


def kill_at_random(ground: Ground, quota: Quota, busy_s: float, whole_s: float) -> None:
    """Begins handovers, kills them and the runs that go on with them; converges every few kills."""
    dice = Dice(SeededEntropy(f"kills {ground.folder.name}"))
    playbook = SHARED
    while quota.left > 0:
        change = dice.below(3)
        if change == 0:
            playbook = PER_SERVER if playbook == SHARED else SHARED
        words = () if change == 0 else ("--new-key",)
        for _ in range(1 + dice.below(MOST_IN_A_ROW)):
            if not quota.take():
                break
            # Most of a handover's time is spent waiting for messages in flight: most kills fall elsewhere.
            within_s = whole_s if dice.below(4) == 0 else busy_s
            run = ground.apply(playbook, *words, kill_after_s=dice.part() * within_s)
            if not run.killed:
                run.exited(0)
                quota.give_back()
            words = ()
        ground.converges(playbook)
        LOG.info("%s converged, with %d kills left", ground.folder.name, max(0, quota.left))


def test_killed_at_random_again_and_again_it_ends_what_it_began_and_no_agent_is_ever_without_its_server(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    with lanes(make_lab, tmp_path, LANES, agents=3) as grounds:
        whole_s = grounds[0].apply(SHARED, "--new-key").exited(0).seconds
        quota = Quota(KILLS)
        in_each(grounds, lambda ground: kill_at_random(ground, quota, whole_s / 3, whole_s))
        assert quota.left <= 0
