"""What one host of twenty that is dead, or that trickles, costs the nineteen others.

Twenty names for one real host of the lab, surveyed at once. In some rounds one of the twenty lies behind a
proxy that lets nothing through after the greeting, or twenty bytes a second. Rounds alternate, so that
whatever else the machine does meets all of them. What counts is when the last of the nineteen has answered.

    python benchmarks/dead_host.py [--rounds 9]
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from orchestrator.lab import Lab
from orchestrator.remote.dial import Patience
from orchestrator.remote.fleet import SshFleet
from orchestrator.rotation.reports import Unchanged
from orchestrator.rotation.visits import Survey, Visit
from tests.faults.proxy import Fault, Proxies, Way, Wound
from tests.faults.visiting import CLOCK, ENTROPY, endpoint, timed

OTHERS = 19
ODD = "odd"
DEADLINE = timedelta(seconds=20)
AIM = 1.2
AFTER_BYTES = 100


def last_of_the_others(visits: Sequence[Visit]) -> float:
    """Seconds until the last of the nineteen has answered; the twentieth is not waited for."""
    seconds = DEADLINE.total_seconds()
    patience = Patience(connect_s=seconds, log_in_s=seconds)
    with closing(SshFleet(clock=CLOCK, entropy=ENTROPY, deadline=DEADLINE, patience=patience)) as fleet:
        ended = timed(fleet, visits, until=OTHERS, without=ODD)
    wrong = [one.outcome for one in ended.values() if not isinstance(one.outcome, Unchanged)]
    if wrong:
        sys.exit(f"{wrong[0].host} ended as {wrong[0]}")
    return max(one.after_s for one in ended.values())


def main() -> None:
    """Brings the lab up, measures, prints, and takes the lab down."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=9)
    rounds = arguments.parse_args().rounds
    with (
        tempfile.TemporaryDirectory(prefix="keyrelay-", ignore_cleanup_errors=True) as name,
        Proxies() as proxies,
    ):
        lab = Lab.up(Path(name).resolve() / "lab", servers=1, agents=1)
        try:
            measure(lab, proxies, rounds)
        finally:
            lab.down()


def measure(lab: Lab, proxies: Proxies, rounds: int) -> None:
    """Alternates; a round before the first, not counted, warms every cache there is."""
    host = lab.hosts[0]
    others = [endpoint(lab, f"host-{number}") for number in range(OTHERS)]
    odd = {"all well": endpoint(lab, ODD)}
    for label, fault in (("one dead", Fault.STALL), ("one trickling", Fault.TRICKLE)):
        wound = Wound(fault=fault, way=Way.TO_CONTROLLER, after_bytes=AFTER_BYTES)
        odd[label] = endpoint(lab, ODD, port=proxies.before(host.address, host.port, wound).listens_on)
    took: dict[str, list[float]] = {label: [] for label in odd}
    for number in range(rounds + 1):
        for label, twentieth in odd.items():
            visits = [Visit(endpoint=at, orders=(Survey(),)) for at in (twentieth, *others)]
            seconds = last_of_the_others(visits)
            if number:
                took[label].append(seconds)
    medians = {label: statistics.median(seconds) for label, seconds in took.items()}
    table = Table("20 hosts", "median s until 19 have answered", "ratio", f"aim: at most {AIM:g}")
    for label, median in medians.items():
        ratio = median / medians["all well"]
        table.add_row(label, f"{median:.2f}", f"{ratio:.2f}", "met" if ratio <= AIM else "missed")
    Console().print(table)


if __name__ == "__main__":
    main()
