"""Hosts that are ill in different ways at once: whatever is said of an illness names the host that has it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from orchestrator.cli.machine import SystemClock
from orchestrator.lab import Lab
from tests.faults.disks import mounted
from tests.faults.ground import PER_SERVER, Ground, prepared, watched
from tests.faults.program import Ended
from tests.faults.proxy import Fault, Proxies, Way, Wound

MakeLab = Callable[..., Lab]
DEADLINE_S = 6.0
STOPPED, FROZEN, TRICKLING, FULL, HELD, DAMAGED, OPEN, WELL = (f"agent-00{n}" for n in range(1, 9))
ILLNESSES = {
    STOPPED: "connection refused",
    FROZEN: "sent no SSH greeting",
    TRICKLING: "key exchange",
    FULL: "No space left on device",
    HELD: "holds the lock until",
    DAMAGED: "is damaged",
    OPEN: "has mode 777",
}
"""What is told of each host's illness, and of no other's."""


@contextmanager
def ill(ground: Ground, proxies: Proxies) -> Iterator[None]:
    """Each of the agents but one is ill in its own way, until the block is left."""
    lab = ground.lab
    host = lab.host(TRICKLING)
    trickle = Wound(fault=Fault.TRICKLE, way=Way.TO_CONTROLLER, after_bytes=100)
    proxy = proxies.before(host.address, host.port, trickle)
    ground.route(TRICKLING, "127.0.0.1", proxy.listens_on)
    base = {name: lab.host(name).base for name in (HELD, DAMAGED, OPEN)}
    fence = (base[DAMAGED] / "fence").read_text(encoding="ascii")
    end = SystemClock().now() + timedelta(minutes=50)
    lab.stop(STOPPED)
    lab.freeze(FROZEN)
    (base[HELD] / "lock").mkdir(mode=0o700)
    (base[HELD] / "lock" / "owner").write_text(f"{'a' * 32} {int(end.timestamp())}\n", encoding="ascii")
    (base[DAMAGED] / "fence").write_text("fallen\n", encoding="ascii")
    (base[OPEN] / "agent").chmod(0o777)
    try:
        yield
    finally:
        lab.thaw(FROZEN)
        lab.start(STOPPED)
        proxies.heal(proxy)
        (base[HELD] / "lock" / "owner").unlink()
        (base[HELD] / "lock").rmdir()
        (base[DAMAGED] / "fence").write_text(fence, encoding="ascii")
        (base[OPEN] / "agent").chmod(0o755)


def commands(ground: Ground) -> dict[str, tuple[str | Path, ...]]:
    """What people ask for while a handover goes on."""
    inventory = ("-i", ground.lab.inventory_file)
    return {
        "begin": ("apply", PER_SERVER, *inventory, "--yes", "--new-key"),
        "go on": ("apply", PER_SERVER, *inventory, "--yes"),
        "watch": ("watch", "--once", PER_SERVER, *inventory),
        "show": ("rollout", "show"),
        "plan": ("plan", PER_SERVER, *inventory),
        "audit": ("audit", *inventory),
        "prove": ("prove", *inventory),
        "as JSON": ("--json", "apply", PER_SERVER, *inventory, "--yes"),
    }


def test_whatever_is_said_of_hosts_that_are_ill_names_the_one_it_is_said_of(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab(servers=2, agents=8)
    with ExitStack() as stack:
        disk = stack.enter_context(mounted(lab.host(FULL).base))
        ground = stack.enter_context(prepared(lab, tmp_path / "fleet"))
        proxies = stack.enter_context(Proxies())
        ground.apply(PER_SERVER).exited(0)
        stack.enter_context(watched(ground))
        with ill(ground, proxies):
            disk.leave_blocks(0)
            said = {
                what: ground.program(*words, deadline_s=DEADLINE_S)
                for what, words in commands(ground).items()
            }
        for what in ("begin", "go on", "watch", "show"):
            for host, illness in ILLNESSES.items():
                said[what].named(host, illness)
        for what in ("plan", "audit", "prove"):
            for host in (STOPPED, FROZEN, TRICKLING):
                said[what].named(host, ILLNESSES[host])
        for run in (said[what] for what in said if what != "as JSON"):
            for line in (run.out + run.err).splitlines():
                for host, illness in ILLNESSES.items():
                    assert illness not in line or host in line, run.told()
        assert not is_told_of(WELL, said["audit"])
        (told,) = said["as JSON"].exited(3).json["plays"]
        assert [block["host"] for block in told["blocks"]] == list(ILLNESSES)
        assert all(block["since"] for block in told["blocks"])
        for one in (*told["blocks"], *told["unreachable"]):
            assert ILLNESSES[one["host"]] in one["reason"], one
        disk.heal()
        ground.converges(PER_SERVER)


def is_told_of(host: str, run: Ended) -> bool:
    return any(line.startswith(host) for line in run.out.splitlines())
