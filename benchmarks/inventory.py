"""How fast an inventory of many hosts is read, beside ``ansible-inventory --list`` on the same files.

Every host has variables of its own and stands in two groups; the groups have variables in the inventory and
in ``group_vars/``. Each reading is a process of its own, start and imports included, and rounds alternate,
so that whatever else the machine does meets both. keyrelay also reads the listing that Ansible wrote.

    python benchmarks/inventory.py [--hosts 10000] [--rounds 3]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table

AIM_S = 2.0
SITES = 20
RACKS = 40
PLAIN, LISTED, PEER = "keyrelay, YAML", "keyrelay, the listing", "ansible-inventory --list, YAML"

# Prints how long the reading alone took, in seconds.
LOAD = """
import sys, time
from pathlib import Path
from orchestrator.inventory.yaml_files import load
begun = time.perf_counter()
inventory = load([Path(sys.argv[1])])
took_s = time.perf_counter() - begun
assert len(inventory.hosts) == int(sys.argv[2])
print(took_s)
"""


def lines(hosts: int) -> Iterator[str]:
    """An inventory with ``hosts`` hosts in YAML."""
    yield from ("agents:", "  hosts:")
    for number in range(hosts):
        yield f"    agent-{number:06d}:"
        yield f"      ansible_host: 10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        yield f"      rack: r{number % RACKS}"
        yield f'      asset: "{number:08d}"'
    yield from ("sites:", "  children:")
    for site in range(SITES):
        yield from (f"    site{site:02d}:", f"      vars: {{zone: z{site}}}", "      hosts:")
        yield from (f"        agent-{number:06d}:" for number in range(site, hosts, SITES))


def write(folder: Path, hosts: int) -> Path:
    """The inventory's file, with variable files beside it."""
    file = folder / "hosts.yml"
    file.write_text("\n".join(lines(hosts)) + "\n", encoding="utf-8")
    (folder / "group_vars").mkdir()
    (folder / "group_vars" / "all.yml").write_text("ansible_user: keyrelay\n", encoding="utf-8")
    for site in range(SITES):
        variables = f"dns: [192.0.2.{site}]\n"
        (folder / "group_vars" / f"site{site:02d}.yml").write_text(variables, encoding="utf-8")
    return file


def run(command: list[str], folder: Path) -> tuple[float, str]:
    """How long the command took in seconds, and what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment = {**kept, "HOME": str(folder), "ANSIBLE_HOME": str(folder / ".ansible")}
    begun = perf_counter()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, env=environment
    )
    return perf_counter() - begun, done.stdout


def rounds(folder: Path, hosts: int, count: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Whole times and times of reading alone, in seconds, by what was run."""
    file, listing = write(folder, hosts), folder / "listing" / "inventory.json"
    listing.parent.mkdir()
    whole: dict[str, list[float]] = {PEER: [], PLAIN: [], LISTED: []}
    alone: dict[str, list[float]] = {PLAIN: [], LISTED: []}
    peer = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(file), "--list"]
    for _ in range(count):
        took_s, printed = run(peer, folder)
        whole[PEER].append(took_s)
        listing.write_text(printed, encoding="utf-8")
        for name, source in ((PLAIN, file), (LISTED, listing)):
            took_s, printed = run([sys.executable, "-c", LOAD, str(source), str(hosts)], folder)
            whole[name].append(took_s)
            alone[name].append(float(printed))
    return whole, alone


def report(whole: dict[str, list[float]], alone: dict[str, list[float]]) -> None:
    """Prints a line for each way of reading, the ratio, and whether the aim was met."""
    console = Console()
    table = Table("", *(f"round {number} (s)" for number in range(1, len(whole[PEER]) + 1)))
    table.add_column("median (s)", justify="right")
    table.add_column("reading alone (s)", justify="right")
    for name, times in whole.items():
        reading = f"{statistics.median(alone[name]):.2f}" if name in alone else ""
        table.add_row(name, *(f"{one:.2f}" for one in times), f"{statistics.median(times):.2f}", reading)
    console.print(table)
    ours, theirs = statistics.median(whole[PLAIN]), statistics.median(whole[PEER])
    slowest = max(statistics.median(whole[name]) for name in (PLAIN, LISTED))
    console.print(f"ratio: {theirs / ours:.1f} times as fast as ansible-inventory")
    console.print(f"aim: under {AIM_S} s, {'met' if slowest < AIM_S else 'missed'}")


def main() -> None:
    """Writes the inventory, reads it in turns, prints."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--hosts", type=int, default=10_000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="keyrelay-") as folder:
        report(*rounds(Path(folder).resolve(), options.hosts, options.rounds))


if __name__ == "__main__":
    main()
